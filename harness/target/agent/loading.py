# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""From an object file to programs and maps in the kernel, and out again.

bpftool loads the whole object once; libbpf where programs in "?" sections are taken along. What
that leaves open goes through libbpf, program by program: the other programs in "?" sections, and
objects of which one program is refused. Attaches nothing.
"""

import os
import re
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from harness.errors import UsageError, WorldError
from harness.model import Loading
from harness.target.agent import libbpf, maps, spawn, syscall, verifierlog
from harness.target.agent.libbpf import pin_name
from harness.target.agent.verifierlog import Refusal

_SLOT = re.compile(r"failed to initialize slot \[\d+\] to prog '([^']+)'")


class Program(NamedTuple):
    """A loaded program. `pin` is its path on bpffs."""

    name: str
    fd: int
    type: int
    id: int
    pin: str
    loader: str
    # maps loaded together with it; readable ones only
    maps: tuple[maps.Map, ...]
    # every map of the same load, by pin name: what a companion shares
    map_fds: dict[str, int]
    # what the verifier counted or logged, in its own lines; "" where nobody asked
    statistics: str = ""


@dataclass(slots=True)
class Loaded:
    """One object in the kernel. close() unloads everything."""

    path: str
    directory: str
    programs: dict[str, Program | Refusal] = field(default_factory=dict)
    # names of all programs, or empty where the machine has no libbpf to ask
    names: tuple[str, ...] = ()
    # ids of maps whose content cannot be put back, and of maps through which others are reached
    lasting: set[int] = field(default_factory=set)
    leading: set[int] = field(default_factory=set)
    # a program ran that may have used one of the lasting maps: good for no other case
    spent: bool = False
    # ask the verifier for its statistics: then libbpf loads, not bpftool
    statistics: bool = False
    # nothing is loaded before somebody asks for it, and then alone
    alone: bool = False
    stack: ExitStack = field(default_factory=ExitStack)

    def program(self, name: str, how: Loading = Loading()) -> Program | Refusal:  # noqa: B008  # frozen
        """The program `name`, loaded now if it was not before; then as `how` says."""
        if name not in self.programs:
            if self.names and name not in self.names:
                raise UsageError(
                    f"{self.path} has no program {name!r}", fix=f"one of: {', '.join(self.names)}"
                )
            self.programs[name] = _load_alone(self, name, how)
        return self.programs[name]

    def spend(self, program: Program, *, companions: bool) -> None:
        """Note that `program` is about to run, and other programs of the object with it or not."""
        if self.lasting and not self.spent:
            uses = syscall.program_maps(program.fd)
            self.spent = companions or not uses.isdisjoint(self.lasting | self.leading)

    def close(self) -> None:
        """Unpin and close."""
        self.stack.close()


def load(
    path: str,
    directory: str,
    *,
    statistics: bool = False,
    alone: bool = False,
    along: tuple[str, ...] = (),
) -> Loaded:
    """Load the object at `path`; pins live in `directory` on bpffs until close().

    `along`: programs in "?" sections to load with the others, unless one of all is refused.
    """
    if not Path(path).is_file():
        raise WorldError(f"{path}: no such object on the machine", fix="push it first")
    loaded = Loaded(path, directory, statistics=statistics, alone=alone)
    loaded.names, automatic = _names(path)
    Path(directory).mkdir(parents=True)
    loaded.stack.callback(remove_tree, directory)
    try:
        if along and not alone:
            together = (*automatic, *along)
            if _load_by_libbpf(loaded, set(together), together) is None:
                return loaded
        if not loaded.names or (automatic and not alone):
            _load_all(loaded, automatic)
    except BaseException:
        loaded.close()
        raise
    return loaded


def _names(path: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    try:
        with libbpf.opened(path) as handle:
            found = libbpf.members(handle)
    except (OSError, WorldError):
        return (), ()  # bpftool will say what is wrong with it
    automatic = tuple(m.name for m in found if m.automatic)
    return tuple(m.name for m in found), automatic


def _load_all(loaded: Loaded, automatic: tuple[str, ...]) -> None:
    if len(automatic) < len(loaded.names) or (loaded.statistics and automatic):
        # bpftool loadall then loads, but fails to pin what was not to be loaded (7.5, 7.7); and it
        # asks for statistics only together with every register of every instruction
        refusal = _load_by_libbpf(loaded, set(automatic), automatic)
        if refusal is not None and len(automatic) == 1:
            loaded.programs[automatic[0]] = refusal
        return
    pins = f"{loaded.directory}/all"
    done = spawn.batch().run("prog", "loadall", loaded.path, pins, "pinmaps", f"{pins}/maps")
    log = done.stderr + done.stdout
    if done.status == 0:
        _adopt(loaded, pins)
    elif not loaded.names:
        _refuse_unopened(loaded, log)
    elif len(automatic) == 1:
        loaded.programs[automatic[0]] = _refused_by_bpftool(loaded, automatic[0], log)
    # else one by one, so that the refused one does not hide the others


def _refused_by_bpftool(loaded: Loaded, name: str, log: str) -> Program | Refusal:
    message = verifierlog.useful_line(log, name)
    code = verifierlog.load_errno(log)
    if code is None:
        # libbpf itself refused; bpftool does not print what it returned
        again = _load_alone(loaded, name, Loading())
        if isinstance(again, Program):
            return again
        code = again.errno
    return Refusal(message, code, log, spawn.loader())


def _refuse_unopened(loaded: Loaded, log: str) -> None:
    libbpf.library()  # without one this is not known to be the object's fault: WorldError
    raise UsageError(
        f"{loaded.path}: {verifierlog.useful_line(log)}",
        fix="compile it with clang -target bpf -g",
    )


def _adopt(loaded: Loaded, pins: str) -> None:
    found, fds = _open_maps(loaded, f"{pins}/maps")
    for name in _entries(pins):
        if name != "maps":
            pin = f"{pins}/{name}"
            fd = syscall.obj_get(pin)
            loaded.stack.callback(os.close, fd)
            info = syscall.prog_info(fd)
            loaded.programs[name] = Program(
                name, fd, info.type, info.id, pin, spawn.loader(), found, fds
            )


def _entries(directory: str) -> list[str]:
    where = Path(directory)
    return sorted(path.name for path in where.iterdir()) if where.is_dir() else []


def _open_maps(loaded: Loaded, directory: str) -> tuple[tuple[maps.Map, ...], dict[str, int]]:
    names = _entries(directory)
    return _take_maps(loaded, {name: syscall.obj_get(f"{directory}/{name}") for name in names})


def _take_maps(
    loaded: Loaded, opened: dict[str, int]
) -> tuple[tuple[maps.Map, ...], dict[str, int]]:
    found: list[maps.Map] = []
    for name, fd in opened.items():
        loaded.stack.callback(os.close, fd)
        info = syscall.map_info(fd)
        if maps.keeps_state(info):
            loaded.lasting.add(info.id)
        elif maps.leads_on(info):
            loaded.leading.add(info.id)
        entry = maps.open_map(fd, pin_name(name), info)
        if entry is not None:
            found.append(entry)
    return tuple(found), {pin_name(name): fd for name, fd in opened.items()}


def _load_alone(loaded: Loaded, name: str, how: Loading) -> Program | Refusal:
    wanted = {name, *how.beside}
    while True:
        refusal = _load_by_libbpf(loaded, wanted, (name,), how)
        if refusal is None:
            return loaded.programs[name]
        # a prog array of the object wants more programs in its slots
        more = set(_SLOT.findall(refusal.log)) - wanted
        if not more:
            return refusal
        wanted |= more


def _load_by_libbpf(
    loaded: Loaded,
    wanted: set[str],
    keep: tuple[str, ...],
    how: Loading = Loading(),  # noqa: B008  # frozen
) -> Refusal | None:
    """Load `wanted` together and hold on to `keep` and the maps beyond libbpf's object."""
    level = how.log_level | (libbpf.LOG_STATISTICS if loaded.statistics else 0)
    with libbpf.opened(loaded.path) as handle:
        libbpf.select(handle, wanted)
        if how.flags:
            libbpf.add_flags(handle, keep[0], how.flags)
        counted = libbpf.ask_log(handle, keep, level) if level or how.alone else {}
        refusal = libbpf.load(handle, keep[0])
        if refusal is not None:
            if loaded.statistics and not how.log_level:
                return _refused_in_full(loaded, wanted, keep, how)
            said = counted[keep[0]].value.decode(errors="replace") if counted else ""
            return _with_log(refusal, said)
        directory = f"{loaded.directory}/{keep[0]}"
        fds = libbpf.map_fds(handle)
        found, shared = _take_maps(loaded, fds)
        # pinned: a prog array lives as long as some user reference does
        Path(f"{directory}/maps").mkdir(parents=True)
        for name, fd in shared.items():
            syscall.obj_pin(fd, f"{directory}/maps/{name}")
        members = {member.name: member for member in libbpf.members(handle)}
        for name in keep:
            fd = libbpf.program_fd(members[name])
            loaded.stack.callback(os.close, fd)
            # bpftool net attach wants a path
            pin = f"{directory}/{name}"
            syscall.obj_pin(fd, pin)
            info = syscall.prog_info(fd)
            loader = libbpf.library().loader
            said = counted[name].value.decode(errors="replace") if name in counted else ""
            loaded.programs[name] = Program(
                name, fd, info.type, info.id, pin, loader, found, shared, said
            )
    return None


def _with_log(refusal: Refusal, verifier: str) -> Refusal:
    if not verifier:
        return refusal
    message = verifierlog.last_word(verifier) or refusal.message
    return refusal._replace(message=message, log=verifier + refusal.log)


def _refused_in_full(
    loaded: Loaded, wanted: set[str], keep: tuple[str, ...], how: Loading
) -> Refusal | None:
    loaded.statistics = False  # the whole log, this time
    try:
        return _load_by_libbpf(loaded, wanted, keep, how)
    finally:
        loaded.statistics = True


def remove_tree(directory: str) -> None:
    """Remove a directory of pins."""
    for where, _, files in os.walk(directory, topdown=False):
        for name in files:
            Path(where, name).unlink()
        Path(where).rmdir()
