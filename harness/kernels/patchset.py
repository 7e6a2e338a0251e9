# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A series of patches: read from files, directories and mboxes, applied all or not at all.

git apply does the work, without fuzz, in a scratch directory that holds only the files concerned;
the source tree is touched by nobody here.
"""

import itertools
import re
import subprocess
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness import tools
from harness.errors import UsageError
from harness.kernels import mails
from harness.kernels.mails import Mail
from harness.reading import read_asked, require_size

# what git apply says of a hunk that does not fit, and of text that is no patch
_FAILED = re.compile(r"^error: patch failed: (.+):(\d+)$", re.MULTILINE)
_CORRUPT = re.compile(r"^error: (?:corrupt patch|patch fragment without header)", re.MULTILINE)
_DIFF_LINE = re.compile(r"diff --git a/(.+) b/\1")
_RENAME = re.compile(r"(?:rename|copy) (?:from|to) (.+)")
_DIFF = re.compile(r"^(?:diff --git |--- \S)", re.MULTILINE)
_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_SUFFIXES = (".patch", ".diff", ".mbox", ".mbx", ".eml")
_GZIP = b"\x1f\x8b"
_MAX_BYTES = 64 << 20
# lines of a hunk that does not fit that are shown
_HUNK_LINES = 16


@dataclass(frozen=True, slots=True)
class Patch:
    """One patch."""

    # first line of its message, or the file's name
    subject: str
    # file it came from
    origin: str
    # the mail's body, or the file
    text: str
    # sent as format=flowed, which may have changed its lines
    flowed: bool = False

    def files(self) -> list[str]:
        """Paths that it reads or writes, without a/ and b/. UsageError for one out of the tree."""
        found = list(_named(self.text))
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


def _named(text: str) -> Iterator[str]:
    """Paths in the headers of a patch's diffs; what hunks and messages say is none."""
    lines = list(_outside_hunks(text))
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        plain, renamed = _DIFF_LINE.fullmatch(line), _RENAME.fullmatch(line)
        if plain or renamed:
            yield (plain or renamed)[1]  # type: ignore[index]
        elif line.startswith("--- ") and following.startswith("+++ "):
            for each in (line, following):
                name = each[4:].partition("\t")[0]
                if name != "/dev/null":
                    yield name.partition("/")[2]


def _outside_hunks(text: str) -> Iterator[str]:
    old = new = 0
    for line in text.split("\n"):
        hunk = _HUNK.match(line)
        if old > 0 or new > 0:
            old -= line[:1] in ("", " ", "-")
            new -= line[:1] in ("", " ", "+")
        elif hunk:
            old, new = int(hunk[2] or 1), int(hunk[3] or 1)
        else:
            yield line


def _read(path: Path) -> list[Patch]:
    if path.is_dir():
        files = [each for each in sorted(path.iterdir()) if each.suffix in _SUFFIXES]
        return [patch for each in files for patch in _read(each)]
    data = _unzipped(read_asked(path, _MAX_BYTES), path)
    found = _series(mails.read(data, str(path)), path) if mails.is_mail(data) else []
    text = data.decode(errors="surrogateescape")
    if text.count("\r\n") == text.count("\n"):
        text = text.replace("\r\n", "\n")
    if found or data.startswith(b"From ") or not _DIFF.search(text):
        return found
    return [Patch(path.name, str(path), text)]


def _unzipped(data: bytes, path: Path) -> bytes:
    if not data.startswith(_GZIP):
        return data
    try:
        unpacked = zlib.decompressobj(wbits=31).decompress(data, _MAX_BYTES + 1)
    except zlib.error as error:
        raise UsageError(f"{path}: not a whole gzip file: {error}") from error
    require_size(unpacked, _MAX_BYTES, f"{path}, unpacked")
    return unpacked


def _series(box: Iterable[Mail], path: Path) -> list[Patch]:
    """The series of a mailbox in its order: mails come in any order, with answers in between."""
    found = [mail for mail in dict.fromkeys(box) if _DIFF.search(mail.text)]
    answers = [mail for mail in found if mail.reply]
    found = [mail for mail in found if not mail.reply]
    newest = max((mail.version for mail in found), default=1)
    older = [mail for mail in found if mail.version < newest]
    for left_out, what in ((answers, "answers with a patch"), (older, f"patches before v{newest}")):
        if left_out:
            tools.say(f"{path.name}: {len(left_out)} {what} left out")
    found = sorted((m for m in found if m.version == newest), key=lambda mail: mail.number)
    _check_whole(found, path)
    return [Patch(mail.subject, str(path), mail.text, mail.flowed) for mail in found]


def _check_whole(found: list[Mail], path: Path) -> None:
    numbered = [mail for mail in found if mail.total]
    for one, other in itertools.pairwise(numbered):
        if one.number == other.number:
            raise UsageError(
                f"{path}: two mails are patch {one.number}: {one.subject!r}, {other.subject!r}",
                fix="one series in one mailbox: give them as files of their own",
            )
    if len(numbered) < 2:
        return
    total = max(mail.total for mail in numbered)
    missing = set(range(1, total + 1)) - {mail.number for mail in numbered}
    if missing:
        words = ", ".join(f"{number}/{total}" for number in sorted(missing))
        raise UsageError(
            f"{path}: not the whole series: patch {words} is not there",
            fix="fetch the thread again, or give the patches as files of their own",
        )


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


def _git_apply(patch: Patch, tree: Path, *options: str) -> tuple[int, str]:
    done = subprocess.run(
        [tools.need("git"), "apply", "--whitespace=nowarn", *options, "-"],
        cwd=tree,
        input=patch.text.encode(errors="surrogateescape"),
        # a repository further up would change what paths mean
        env={"PATH": "/usr/bin:/bin", "GIT_CEILING_DIRECTORIES": str(tree.parent), "LC_ALL": "C"},
        capture_output=True,
        check=False,
    )
    return done.returncode, done.stderr.decode(errors="replace").strip()


def _apply(patch: Patch, tree: Path) -> None:
    code, words = _git_apply(patch, tree)
    if code == 0:
        return
    if _git_apply(patch, tree, "--reverse", "--check")[0] == 0:
        raise UsageError(
            f"{patch.origin}: {patch.subject!r} is in the source already", fix="leave it out"
        )
    failed = _FAILED.search(words)
    where = f"{failed[1]}, line {failed[2]}" if failed else words.splitlines()[0]
    hunk = _hunk(patch.text, failed[1], int(failed[2])) if failed else []
    lines = "".join(f"\n    {line}" for line in hunk)
    raise UsageError(
        f"{patch.origin}: {patch.subject!r} does not apply: {where}{lines}",
        fix=_fix(patch, mangled=_CORRUPT.search(words) is not None),
    )


def _hunk(text: str, name: str, line: int) -> list[str]:
    """The hunk of a file that begins at a line of it, cut where it is long."""
    lines, there = text.split("\n"), False
    for index, each in enumerate(lines):
        hunk = _HUNK.match(each)
        if hunk and there and int(hunk[1]) == line:
            end = next(_ends(lines, index + 1), len(lines))
            shown = lines[index:end]
            left = len(shown) - _HUNK_LINES
            return [*shown[:_HUNK_LINES], f"({left} more lines)"] if left > 0 else shown
        if each.startswith(("--- ", "+++ ")) and not each.endswith("/dev/null"):
            there = each[4:].partition("\t")[0].partition("/")[2] == name
    return []


def _ends(lines: list[str], start: int) -> Iterator[int]:
    for index in range(start, len(lines)):
        if not lines[index].startswith((" ", "+", "-", "\\")) or lines[index] == "-- ":
            yield index


def _fix(patch: Patch, *, mangled: bool) -> str:
    if mangled or patch.flowed:
        return (
            "a mailer changed the lines of this patch (wrapped, or format=flowed): take the series"
            " from the list's archive or from git; nothing was changed"
        )
    return "rebase the series on this source (--source); nothing was changed"
