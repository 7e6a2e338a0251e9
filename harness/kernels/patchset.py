# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A series of patches: read from files, directories and mboxes, applied all or not at all.

git apply does the work, without fuzz, in a scratch directory that holds only the files concerned;
the source tree is touched by nobody here.
"""

import email
import email.policy
import mailbox
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path, PurePosixPath

from harness import tools
from harness.errors import UsageError

# what git apply says of a hunk that does not fit
_FAILED = re.compile(r"^error: patch failed: (.+):(\d+)$", re.MULTILINE)
_FILE_LINE = re.compile(r"^(?:---|\+\+\+) ([^\t\n]+)", re.MULTILINE)
_RENAME = re.compile(r"^(?:rename|copy) (?:from|to) (.+)$", re.MULTILINE)
_DIFF = re.compile(r"^(?:diff --git |--- \S)", re.MULTILINE)
_ORDER = re.compile(r"\[[^\]]*?(\d+)/\d+[^\]]*\]")
_MAX_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Patch:
    """One patch."""

    # first line of its message, or the file's name
    subject: str
    # file it came from
    origin: str
    # the mail's body, or the file
    text: str

    def files(self) -> list[str]:
        """Paths that it reads or writes, without a/ and b/. UsageError for one out of the tree."""
        names = [line for line in _FILE_LINE.findall(self.text) if line != "/dev/null"]
        found = [name.partition("/")[2] for name in names] + _RENAME.findall(self.text)
        for name in found:
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or not path.parts or ".git" in path.parts:
                raise UsageError(f"{self.origin}: {self.subject}: path out of the tree: {name!r}")
        return list(dict.fromkeys(found))


def read(paths: Iterable[Path]) -> list[Patch]:
    """The patches of files, directories (*.patch, *.diff by name) and mboxes, in order.

    A cover letter, which changes nothing, is left out. UsageError where there is no patch.
    """
    found = [patch for path in paths for patch in _read(path)]
    if not found:
        raise UsageError(
            "no patch in what --patches names", fix="a .patch file, a directory of them, or an mbox"
        )
    for patch in found:
        patch.files()
    return found


def _read(path: Path) -> list[Patch]:
    if path.is_dir():
        files = [each for each in sorted(path.iterdir()) if each.suffix in (".patch", ".diff")]
        return [patch for each in files for patch in _read(each)]
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise UsageError(f"{path}: larger than {_MAX_BYTES >> 20} MB")
        text = path.read_bytes().decode(errors="surrogateescape")
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    if text.startswith("From "):
        return _of_mbox(path)
    return [Patch(path.name, str(path), text)] if _DIFF.search(text) else []


def _of_mbox(path: Path) -> list[Patch]:
    def parse(file: object) -> EmailMessage:
        return email.message_from_binary_file(file, policy=email.policy.default)  # type: ignore[call-overload,no-any-return]

    box = mailbox.mbox(str(path), factory=parse, create=False)  # type: ignore[arg-type]
    try:
        mails = [_of_mail(mail, str(path)) for mail in box]  # type: ignore[arg-type]
    except (LookupError, ValueError) as error:
        raise UsageError(f"{path}: not a mailbox that can be read: {error}") from error
    finally:
        box.close()
    patches = [each for each in mails if _DIFF.search(each[1].text)]
    return [patch for _, patch in sorted(patches, key=lambda each: each[0])]


def _of_mail(mail: EmailMessage, origin: str) -> tuple[int, Patch]:
    """Place in its series and patch; mails come in any order from a list's archive."""
    subject = " ".join(str(mail.get("Subject", "without a subject")).split())
    part = mail.get_body(("plain",)) if mail.is_multipart() else mail
    text = str(part.get_content()) if part is not None else ""
    number = _ORDER.search(subject)
    return int(number[1]) if number else 1, Patch(subject, origin, text.replace("\r\n", "\n"))


def apply(
    patches: Iterable[Patch], original: Callable[[str], bytes | None]
) -> dict[str, bytes | None]:
    """Every file that the series touches as it is afterwards; None: it is not there any more.

    `original` gives a file of the unpatched tree, None where there is none. UsageError that names
    the patch, and the file and line of the first hunk that does not fit.
    """
    patches = list(patches)
    names = list(dict.fromkeys(name for patch in patches for name in patch.files()))
    with tempfile.TemporaryDirectory(prefix="series-") as scratch:
        tree = Path(scratch) / "tree"
        tree.mkdir()
        for name in names:
            content = original(name)
            if content is not None:
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                (tree / name).write_bytes(content)
        for patch in patches:
            _apply(patch, tree)
        return {name: _content(tree / name) for name in names}


def _content(path: Path) -> bytes | None:
    if path.is_symlink():
        raise UsageError(f"the series makes a symbolic link: {path.name}", fix="leave it out")
    return path.read_bytes() if path.is_file() else None


def _apply(patch: Patch, tree: Path) -> None:
    done = subprocess.run(
        [tools.need("git"), "apply", "--whitespace=nowarn", "-"],
        cwd=tree,
        input=patch.text.encode(errors="surrogateescape"),
        # a repository further up would change what paths mean
        env={"PATH": "/usr/bin:/bin", "GIT_CEILING_DIRECTORIES": str(tree.parent), "LC_ALL": "C"},
        capture_output=True,
        check=False,
    )
    if done.returncode == 0:
        return
    words = done.stderr.decode(errors="replace").strip()
    failed = _FAILED.search(words)
    where = f"{failed[1]}, line {failed[2]}" if failed else words.splitlines()[0]
    raise UsageError(
        f"{patch.origin}: {patch.subject!r} does not apply: {where}",
        fix="rebase the series on this source (--source); nothing was changed",
    )
