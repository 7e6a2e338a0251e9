# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Mailboxes as a mailing list's archive gives them: mails out of a file, their text as it was sent.

Owns separators and quoting of mboxes, encodings, format=flowed (RFC 3676), attachments, and what a
subject says of a mail's place in a series. Does not know what a patch is.
"""

import email
import email.policy
import re
from dataclasses import dataclass
from email.message import EmailMessage, MIMEPart
from typing import TYPE_CHECKING, Any

from harness.errors import UsageError

if TYPE_CHECKING:
    Part = MIMEPart[Any, Any]  # not generic before Python 3.13

# "From somebody Mon Sep 17 00:00:00 2001": a line of a text that begins with From has no date
_SEPARATOR = re.compile(rb"^From \S+ .*\b\d{1,2}:\d{2}(?::\d{2})?\b.*\b\d{4}.*\n", re.MULTILINE)
_QUOTED_FROM = re.compile(rb"^>(>*From )", re.MULTILINE)
_HEADER = re.compile(
    rb"(?:From|To|Cc|Subject|Date|Message-ID|Return-Path|Received|Delivered-To|MIME-Version"
    rb"|Content-Type|X-[\w-]+): ",
    re.IGNORECASE,
)
_REPLY = re.compile(r"(?:re|aw|antw|sv|vs|fwd?|wg)\s*(?:\[\d+\])?\s*:", re.IGNORECASE)
_TAG = re.compile(r"\[[^\]]*\]")
_PLACE = re.compile(r"\b(\d+)/(\d+)\b")
_VERSION = re.compile(r"\bv(\d+)\b", re.IGNORECASE)
_ATTACHED = ("text/x-patch", "text/x-diff", "application/x-patch", "application/x-diff")
_BROKEN = (LookupError, ValueError, TypeError, AttributeError)


@dataclass(frozen=True, slots=True)
class Mail:
    """One mail."""

    # on one line
    subject: str
    # body, decoded; lines end in \n
    text: str
    # of [PATCH v3 2/5]: 2, 5, 3; 1, 0 and 1 where the subject does not say
    number: int = 1
    total: int = 0
    version: int = 1
    # an answer to another mail
    reply: bool = False
    # a mailer may have broken its lines (format=flowed)
    flowed: bool = False


def is_mail(data: bytes) -> bool:
    """Whether a file begins as an mbox or as the headers of a single mail."""
    return data.startswith(b"From ") or _HEADER.match(data) is not None


def read(data: bytes, origin: str) -> list[Mail]:
    """The mails of an mbox, or of a file with a single one, in its order. UsageError: broken."""
    try:
        return [_mail(each) for each in _split(data)]
    except _BROKEN as error:
        raise UsageError(f"{origin}: not a mailbox that can be read: {error}") from error


def _split(data: bytes) -> list[bytes]:
    data = data.replace(b"\r\n", b"\n")
    if not data.startswith(b"From "):
        return [data]
    starts = [(match.start(), match.end()) for match in _SEPARATOR.finditer(data)]
    if not starts or starts[0][0] != 0:
        starts.insert(0, (0, data.find(b"\n") + 1 or len(data)))
    ends = [start for start, _ in starts[1:]] + [len(data)]
    return [
        # the empty line before a separator is the mbox's
        _QUOTED_FROM.sub(rb"\1", re.sub(rb"\n\n\Z", b"\n", data[body:end]))
        for (_, body), end in zip(starts, ends, strict=True)
    ]


def _mail(data: bytes) -> Mail:
    message = email.message_from_bytes(data, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    subject = " ".join(str(message.get("Subject", "without a subject")).split())
    part = message.get_body(("plain",)) if message.is_multipart() else message
    texts = [] if part is None else [_text(part)]
    texts += [_text(each) for each in message.walk() if _is_attached(each)]
    tags = " ".join(_TAG.findall(subject))
    place, version = _PLACE.search(tags), _VERSION.search(tags)
    return Mail(
        subject,
        "\n".join(texts),
        number=int(place[1]) if place else 1,
        total=int(place[2]) if place else 0,
        version=int(version[1]) if version else 1,
        reply=_REPLY.match(subject) is not None,
        flowed=part is not None and _is_flowed(part),
    )


def _is_attached(part: "Part") -> bool:
    name = part.get_filename("")
    return part.is_attachment() and (
        part.get_content_type() in _ATTACHED or name.endswith((".patch", ".diff"))
    )


def _is_flowed(part: "Part") -> bool:
    return str(part.get_param("format", "")).lower() == "flowed"


def _text(part: "Part") -> str:
    data = part.get_payload(decode=True)
    assert isinstance(data, bytes)
    try:
        text = data.decode(str(part.get_content_charset("utf-8")))
    except (LookupError, UnicodeDecodeError):
        # a charset that nobody knows, or not the one it claims: the bytes as they are
        text = data.decode("utf-8", "surrogateescape")
    text = text.replace("\r\n", "\n")
    if _is_flowed(part):
        delete = str(part.get_param("delsp", "")).lower() == "yes"
        return unflow(text, delete_space=delete)
    return text


def unflow(text: str, *, delete_space: bool = False) -> str:
    """Lines as they were before format=flowed: unstuffed and joined (RFC 3676, 4.1 to 4.4).

    `delete_space`: DelSp=yes, the space of a soft break does not belong to the text.
    """
    made: list[str] = []
    pending = ""
    for line in text.split("\n"):
        if line == "-- ":  # a signature's separator is no soft break
            made += [pending, line] if pending else [line]
            pending = ""
            continue
        bare = line.removeprefix(" ")
        if bare.endswith(" "):
            pending += bare[:-1] if delete_space else bare
        else:
            made.append(pending + bare)
            pending = ""
    return "\n".join([*made, pending] if pending else made)
