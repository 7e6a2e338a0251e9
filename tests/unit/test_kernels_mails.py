# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Series as mailing lists give them: order, answers, versions, encodings, broken lines."""

import base64
import gzip
import quopri
import subprocess

import pytest

from harness.errors import UsageError
from harness.kernels import mails, patchset

FILE = "one\ntwo\nthree\n\nfive \u00e4\nsix\n"
NAME = "kernel/bpf/x.c"


def _diff(old, new, name=NAME):
    hunk = f"@@ -1,3 +1,3 @@\n one\n-{old}\n+{new}\n three\n"
    return f"--- a/{name}\n+++ b/{name}\n{hunk}-- \n2.39.5\n\n"


FIRST, SECOND, THIRD = _diff("two", "TWO"), _diff("TWO", "Two"), _diff("Two", "tWo")


def _mail(subject, body, headers="", number=1):
    return (
        f"From mboxrd@z Thu Jan  1 00:00:0{number % 10} 1970\nFrom: a <a@example.org>\n"
        f"Subject: {subject}\nMessage-ID: <{number}@example.org>\n{headers}\nWords.\n---\n{body}\n"
    )


@pytest.fixture
def box(tmp_path):
    path = tmp_path / "t.mbox"

    def read(*found, pack=lambda data: data):
        text = "".join(found)
        path.write_bytes(pack(text if isinstance(text, bytes) else text.encode()))
        return patchset.read([path])

    return read


def _applied(patches):
    content = {NAME: FILE.encode(), "README": b"x\n"}
    return patchset.apply(patches, content.get)[NAME].decode()


def test_a_thread_of_a_list_is_put_in_order(box, capsys):
    found = box(
        _mail("[PATCH bpf-next v3 3/3] third", THIRD, number=4),
        _mail("[PATCH bpf-next v3 0/3] cover letter", "Nothing to apply.\n a/x | 2 +-", number=1),
        _mail("Re: [PATCH bpf-next v3 2/3] second", f"> {FIRST}\nI would rather:\n{FIRST}", "", 5),
        _mail("[PATCH bpf-next v3 2/3] second", SECOND, number=3),
        _mail("[PATCH bpf-next v3 1/3]\n first", FIRST, number=2),
        _mail("Re: [PATCH bpf-next v3 0/3] cover letter", "> Nothing\nAcked-by: b", number=6),
    )
    assert [patch.subject.partition("] ")[2] for patch in found] == ["first", "second", "third"]
    assert _applied(found) == FILE.replace("two", "tWo")
    assert "t.mbox: 1 answers with a patch left out" in capsys.readouterr().err


def test_the_newest_version_counts(box, capsys):
    found = box(
        _mail("[PATCH v2 1/1] old", _diff("two", "old"), number=1),
        _mail("[PATCH v3 1/1] new", FIRST, number=2),
    )
    assert [patch.subject for patch in found] == ["[PATCH v3 1/1] new"]
    assert "1 patches before v3 left out" in capsys.readouterr().err


def test_a_mail_that_came_twice_counts_once(box):
    mail = _mail("[PATCH 1/2] a", FIRST, number=1)
    found = box(mail, mail, _mail("[PATCH 2/2] b", SECOND, number=2))
    assert len(found) == 2


def test_a_series_with_a_hole_is_named(box):
    with pytest.raises(UsageError, match=r"not the whole series: patch 2/4, 4/4 is not there"):
        box(_mail("[PATCH 1/4] a", FIRST, number=1), _mail("[PATCH 3/4] c", SECOND, number=3))


def test_two_series_in_one_mailbox_are_told_apart_by_nobody(box):
    with pytest.raises(UsageError, match=r"two mails are patch 1: '\[PATCH 1/2\] a', "):
        box(_mail("[PATCH 1/2] a", FIRST, number=1), _mail("[PATCH 1/2] b", SECOND, number=2))


def test_one_patch_of_a_series_may_stand_alone(tmp_path):
    for number, body in ((2, SECOND), (1, FIRST)):
        (tmp_path / f"000{number}-x.patch").write_text(_mail(f"[PATCH {number}/9] x", body))
    found = patchset.read([tmp_path])
    assert [patch.subject for patch in found] == ["[PATCH 1/9] x", "[PATCH 2/9] x"]


@pytest.mark.parametrize("charset", ["utf-8", "iso-8859-1", "x-unknown", "us-ascii"])
@pytest.mark.parametrize("how", ["base64", "quoted-printable", "8bit"])
def test_encodings_are_undone(box, charset, how):
    body = f"Words.\n---\n--- a/{NAME}\n+++ b/{NAME}\n@@ -4,3 +4,3 @@\n \n five \u00e4\n-six\n+6=\n"
    data = body.encode(charset if charset.startswith("iso") else "utf-8")
    coded = {"base64": base64.encodebytes, "quoted-printable": quopri.encodestring}
    headers = (
        f"Content-Type: text/plain; charset={charset}\nContent-Transfer-Encoding: {how}\n"
        "Subject: =?utf-8?q?=5BPATCH_1/1=5D_=C3=A4?=\n"
    )
    mail = b"From x Mon Sep 17 00:00:00 2001\n" + headers.encode() + b"\n"
    path = mail + coded.get(how, bytes)(data)
    (patch,) = box("", pack=lambda _: path)
    assert patch.subject == "[PATCH 1/1] \u00e4"
    assert _applied([patch]) == FILE.replace("six", "6=")


def test_an_mbox_may_be_packed_and_have_the_other_line_ends(box):
    found = box(_mail("[PATCH] a", FIRST).replace("\n", "\r\n"), pack=gzip.compress)
    assert _applied(found) == FILE.replace("two", "TWO")


def test_a_broken_archive_is_named(box):
    with pytest.raises(UsageError, match=r"t\.mbox: not a whole gzip file"):
        box(pack=lambda _: gzip.compress(b"x")[:4] + b"\xff" * 20)


def test_an_archive_that_grows_without_end(box, monkeypatch):
    monkeypatch.setattr(patchset, "_MAX_BYTES", 1 << 16)
    with pytest.raises(UsageError, match="t.mbox, unpacked: larger than 65536 bytes"):
        box(pack=lambda _: gzip.compress(bytes(1 << 20)))


def test_a_line_of_a_message_may_begin_with_from(box):
    words = "From 7.1 on nobody calls this.\n\nFrom here 10:00 it is quiet.\n"
    found = box(
        _mail("[PATCH 2/2] b", words + SECOND, number=2),
        _mail("[PATCH 1/2] a", words.replace("From", ">From") + FIRST, number=1),
    )
    assert [patch.subject for patch in found] == ["[PATCH 1/2] a", "[PATCH 2/2] b"]
    assert "\nFrom 7.1 on" in found[0].text
    assert _applied(found) == FILE.replace("two", "Two")


def test_a_single_mail_without_an_mbox_around_it(tmp_path):
    path = tmp_path / "x.eml"
    path.write_text(_mail("[PATCH] a", FIRST).partition("\n")[2])
    (patch,) = patchset.read([tmp_path])
    assert patch.subject == "[PATCH] a"


def test_a_patch_with_quilts_headers_and_no_empty_line(tmp_path):
    path = tmp_path / "x.patch"
    path.write_text(f"From: a\n{FIRST}")
    assert _applied(patchset.read([path])) == FILE.replace("two", "TWO")


def test_an_attached_patch_is_found(box):
    headers = 'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="b"\n'
    body = (
        "--b\nContent-Type: text/plain\n\nSee below.\n--b\nContent-Type: text/x-patch; name=x.patch"
        f'\nContent-Disposition: attachment; filename="x.patch"\n\n{FIRST}\n--b--\n'
    )
    text = _mail("[PATCH] a", body, headers).replace("\nWords.\n---\n", "\n")
    assert _applied(box(text)) == FILE.replace("two", "TWO")


# ---- format=flowed -------------------------------------------------------------------------

FLOWED = "Content-Type: text/plain; charset=utf-8; format=flowed"


def _flow(text):
    """As a mailer does (RFC 3676, 4.2): trailing space gone, stuffed, long lines broken."""
    lines = []
    for each in text.split("\n"):
        line = each if each == "-- " else each.rstrip(" ")
        line = f" {line}" if line.startswith((" ", ">", "From ")) else line
        while len(line) > 30 and " " in line[12:28]:
            at = line.rindex(" ", 12, 28) + 1
            lines.append(line[:at])
            line = line[at:]
        lines.append(line)
    return "\n".join(lines)


@pytest.mark.parametrize("delsp", ["", "; delsp=yes"])
def test_flowed_lines_are_joined_and_unstuffed(box, delsp):
    new = "a much longer line, which the mailer breaks in two or three places"
    flowed = _flow(_diff("two", new))
    assert max(map(len, flowed.split("\n"))) < 34
    if delsp:
        lines = flowed.split("\n")
        flowed = "\n".join(
            f"{each} " if each.endswith(" ") and each != "-- " else each for each in lines
        )
    found = box(_mail("[PATCH] a", flowed, f"{FLOWED}{delsp}\n"))
    assert _applied(found) == FILE.replace("two", new)


def test_a_signature_is_no_soft_break():
    assert mails.unflow("a \nb\n-- \nme") == "a b\n-- \nme"
    assert mails.unflow("a \n-- \nme \n") == "a \n-- \nme "


def test_lines_that_a_mailer_broke_are_said_to_be(box):
    broken = FIRST.replace("+TWO", "+TWO and\nmore of it")
    found = box(_mail("[PATCH] a", broken))
    with pytest.raises(UsageError, match="does not apply") as caught:
        _applied(found)
    assert "a mailer changed the lines" in caught.value.fix
    assert "nothing was changed" in caught.value.fix


# ---- patches -------------------------------------------------------------------------------


def test_the_hunk_that_does_not_fit_is_shown(tmp_path):
    path = tmp_path / "late.patch"
    path.write_text(SECOND)
    with pytest.raises(UsageError) as caught:
        _applied(patchset.read([path]))
    words = f"does not apply: {NAME}, line 1\n    @@ -1,3 +1,3 @@\n     one\n    -TWO\n    +Two"
    assert words in caught.value.message
    assert "2.39.5" not in caught.value.message


def test_a_patch_that_the_source_has_already(tmp_path):
    path = tmp_path / "x.patch"
    path.write_text(_diff("old", "two"))
    with pytest.raises(UsageError, match="is in the source already"):
        _applied(patchset.read([path]))


def test_a_long_hunk_is_cut(tmp_path):
    path = tmp_path / "long.patch"
    path.write_text(
        f"--- a/{NAME}\n+++ b/{NAME}\n@@ -2,1 +2,30 @@\n-nine\n" + "+line\n" * 30 + "-- \n2.39\n"
    )
    with pytest.raises(UsageError) as caught:
        _applied(patchset.read([path]))
    assert caught.value.message.endswith("\n    (16 more lines)")


def test_what_hunks_and_messages_say_names_no_file(tmp_path):
    path = tmp_path / "x.patch"
    path.write_text(
        "A message with --- a/nothing\n\n--- ../../in/prose\nand more\n\n"
        f"--- a/{NAME}\n+++ b/{NAME}\n@@ -1,2 +1,2 @@\n one\n-- ../x\n+++ /y\n"
        "diff --git a/empty b/empty\nnew file mode 100644\nindex 000..e69\n"
    )
    (patch,) = patchset.read([path])
    assert patch.files() == [NAME, "empty"]


def test_a_file_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "x.patch"
    path.write_text(_diff("a", "b", "kernel/bpf/gone.c"))
    with pytest.raises(UsageError, match=r"does not apply: .*gone\.c: No such file"):
        patchset.apply(patchset.read([path]), lambda _: None)


def test_what_git_writes_is_read(tmp_path):
    """format-patch of a real repository, with a cover letter, a rename, and a new file."""
    tree, out = tmp_path / "tree", tmp_path / "out"
    (tree / "kernel/bpf").mkdir(parents=True)
    (tree / NAME).write_text(FILE)
    git = ["git", "-C", str(tree), "-c", "user.name=\u00c4", "-c", "user.email=a@example.org"]

    def run(*words):
        subprocess.run([*git, *words], check=True, capture_output=True)

    run("init", "-q")
    run("add", ".")
    run("commit", "-qm", "base")
    (tree / NAME).write_text(FILE.replace("two", "TWO"))
    run("commit", "-qam", "first\n\nFrom 7.1 on.\n")
    (tree / NAME).rename(tree / "kernel/bpf/y.c")
    (tree / "kernel/bpf/new.c").write_text("new\n")
    (tree / "empty").write_text("")
    run("add", ".")
    run("commit", "-qam", "second \u00e4")
    run("format-patch", "-v2", "--cover-letter", "-o", str(out), "HEAD~2")
    one_by_one = patchset.read([out])
    together = tmp_path / "all.mbox"
    together.write_bytes(b"".join(path.read_bytes() for path in sorted(out.iterdir())[::-1]))
    for found in (one_by_one, patchset.read([together])):
        assert [each.subject for each in found] == [
            "[PATCH v2 1/2] first",
            "[PATCH v2 2/2] second \u00e4",
        ]
        content = patchset.apply(found, {NAME: FILE.encode()}.get)
        assert content == {
            NAME: None,
            "kernel/bpf/y.c": FILE.replace("two", "TWO").encode(),
            "kernel/bpf/new.c": b"new\n",
            "empty": b"",
        }
