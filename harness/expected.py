# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a sidecar says, put together with the objects that it speaks of.

Owns which sidecar goes with which object, and what must be there: programs, objects, functions,
maps, constants. The file's own form is harness.sidecar's, cases are harness.suite's.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import kerneltags, sidecar
from harness.bpf.elf import Function, Object, read_object
from harness.bpf.mapdef import MapType
from harness.bpf.sections import attach_target, kind_of
from harness.build import SOURCE_SUFFIX, build
from harness.errors import ObjectError, UsageError
from harness.hooks import HOOKS
from harness.model import Companion, TailCall
from harness.sidecar import Attached, Entry, Sidecar
from harness.sidewords import Place
from harness.tags import OURS, Claims

# a kind of program that attaches to a function and the feature that a machine must have for it
KINDS = {"freplace": "freplace", "fentry": "fentry", "fexit": "fentry", "fmod_ret": "fentry"}
# those that a tag can name
BY_TAG = {"freplace", "fentry", "fexit"}


@dataclass(frozen=True, slots=True)
class Given:
    """One case of a sidecar, with everything that it names found."""

    name: str
    obj: Object
    program: Function
    claims: Claims
    companions: tuple[Companion, ...]
    tail_calls: tuple[TailCall, ...]
    entry: Entry
    # path of the object that the sidecar speaks of
    own: str


class Sidecars:
    """The files that were named, and those that lie beside an object."""

    def __init__(self, named: Iterable[str | Path] = ()) -> None:
        files = [sidecar.read(Path(name)) for name in named]
        self._named = {sidecar.stem(file.object): file for file in files}
        self._unused = dict(self._named)

    def of(self, obj: Path, origin: Path) -> Sidecar | None:
        """The one for an object that was made from `origin`, or is `origin`."""
        stem = sidecar.stem(obj.name)
        if stem in self._named:
            self._unused.pop(stem, None)
            return self._named[stem]
        found = sidecar.beside(origin)
        return sidecar.read(found) if found is not None else None

    def require_used(self) -> None:
        """Refuse a file that was named and goes with no object."""
        for file in self._unused.values():
            raise UsageError(
                f"{file.path}: speaks of {file.object}, which is not among what runs",
                fix='give the path of that object, too, or name another one by object = "..."',
            )


def tagged(obj: Object) -> list[str]:
    """Programs that say something themselves; in objects of the kernel's selftests all do."""
    if kerneltags.is_style(tag for program in obj.programs for tag in program.tags):
        return [program.name for program in obj.programs]
    return [p.name for p in obj.programs if any(tag.startswith(OURS) for tag in p.tags)]


def read(file: Sidecar, own: Object, claims: Mapping[str, Claims], origin: Path) -> Iterator[Given]:
    """The cases that a sidecar makes of an object. Raises UsageError with file, line and key.

    `claims`: what tags claim of programs that have any; those are cases without the file, too.
    `origin`: the source that the object was made from, beside which others may lie, or itself.
    """
    objects = {"": own, Path(own.path).name: own}
    used: set[str] = set()
    for entry in file.entries:
        if entry.object not in objects:
            objects[entry.object] = _beside(own, entry, origin)
        obj = objects[entry.object]
        companions = tuple(_companion(each, own, obj) for each in entry.attached)
        used |= {each.program for each in entry.attached}
        if obj is own:
            used |= {entry.program, *(each.program for each in entry.tail_calls)}
        made = entry.claims(claims.get(entry.program) if obj is own else None)
        _require_names(entry, obj, made)
        made.unsupported += _absent(entry, obj)
        program = _program(obj, entry.program, entry.at("program"))
        calls, path = entry.tail_calls, str(own.path)
        yield Given(entry.name, obj, program, made, companions, calls, entry, path)
    names = [program.name for program in own.programs if program.name not in claims]
    forgotten = [name for name in names if name not in used and not file.is_left_out(name)]
    if forgotten:
        raise file.place.wrong(
            f"says nothing of {', '.join(forgotten)}",
            f'give each a case, or leave it out by name or pattern: left_out = ["{forgotten[0]}"]',
        )


def _beside(own: Object, entry: Entry, origin: Path) -> Object:
    path = Path(own.path).with_name(entry.object)
    source = origin.with_name(sidecar.stem(entry.object) + SOURCE_SUFFIX)
    if origin.name.endswith(SOURCE_SUFFIX) and source.is_file():
        path = build([source])[0]
    try:
        return read_object(path)
    except ObjectError as error:
        raise entry.at("object").wrong(error.message, error.fix) from None


def _program(obj: Object, name: str, place: Place) -> Function:
    found = next((program for program in obj.programs if program.name == name), None)
    if found is None:
        names = ", ".join(program.name for program in obj.programs)
        raise place.wrong(f"{Path(obj.path).name} has no program {name!r}", f"programs: {names}")
    return found


def companion(obj: Object, name: str, where: str) -> Companion:
    """A program of the same object that a tag names. Raises ObjectError."""
    found = next((program for program in obj.programs if program.name == name), None)
    if found is None:
        names = ", ".join(program.name for program in obj.programs)
        raise ObjectError(f"{where}: tag bpfthrow:with={name}: no such program", fix=names)
    kind = kind_of(found.section)
    target = attach_target(found.section)
    if kind not in KINDS or not target or not found.section.startswith("?"):
        fix = "its section must read " + " or ".join(f"?{each}/FUNCTION" for each in KINDS)
        message = f"{where}: companion {name!r} is in section {found.section!r}"
        raise ObjectError(message, fix=fix)
    return Companion(name, kind, target)


def _companion(attached: Attached, own: Object, main: Object) -> Companion:
    """A program of the sidecar's own object, whichever object the main program is in."""
    program = _program(own, attached.program, attached.place)
    kind = kind_of(program.section)
    if kind not in KINDS:
        raise attached.place.wrong(
            f"{program.name!r} in section {program.section!r} attaches to no function",
            f"sections: {', '.join(f'?{each}' for each in KINDS)}",
        )
    if not program.section.startswith("?"):
        raise attached.place.wrong(
            f"{program.name!r} in section {program.section!r} would be loaded before its target",
            f'SEC("?{program.section}") leaves that to who attaches it',
        )
    target = attached.target or attach_target(program.section)
    if not target:
        raise attached.place.wrong(
            f"section {program.section!r} names nothing to attach to", 'add target = "FUNCTION"'
        )
    return Companion(program.name, kind, target, str(own.path) if own is not main else "")


def _require_names(entry: Entry, obj: Object, claims: Claims) -> None:
    for hook in claims.hooks:
        if hook not in HOOKS:
            raise entry.at("hook").wrong(f"no hook {hook!r}", f"hooks: {', '.join(HOOKS)}")
    for call in entry.tail_calls:
        _program(obj, call.program, entry.at("tail_calls"))
        arrays = {each.name: each for each in obj.maps if each.type == MapType.PROG_ARRAY}
        found = arrays.get(call.map)
        if found is None:
            message = f"{Path(obj.path).name} has no prog array {call.map!r}"
            names = ", ".join(arrays) or "none"
            raise entry.at("tail_calls").wrong(message, f"prog arrays: {names}")
        if call.index >= found.max_entries:
            message = f"{call.map} has {found.max_entries} slots"
            raise entry.at("tail_calls").wrong(message, "name a program for each slot, in order")


def _absent(entry: Entry, obj: Object) -> Sequence[str]:
    """Why there is no such case in this object."""
    found = []
    for name, wanted in entry.only_if:
        value = constant(obj, name)
        if value is None:
            message = f"{Path(obj.path).name} has no constant {name!r}"
            raise entry.at("only_if").wrong(message, "a `const volatile` of the object")
        if value != wanted:
            found.append(f"{name} is {value} in this object, and the case is for {wanted}")
    return found


def constant(obj: Object, name: str) -> int | None:
    """Value that a constant or variable begins with; None where the object has none."""
    for section in obj.sections:
        for variable in section.variables:
            if variable.name == name:
                end = variable.offset + variable.size_bytes
                return int.from_bytes(section.data[variable.offset : end], "little")
    return None
