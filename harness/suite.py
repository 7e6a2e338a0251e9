# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Objects -> Cases, from the declaration tags in the object: the list of cases is data.

Owns which programs are cases, on which hooks, with which input, and the selection by `-k`. What
a tag says is harness.tags' business; compiling is harness.build's.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from harness import expected, kerneltags
from harness.bpf.elf import Function, Object, read_object
from harness.bpf.link import RefKind, link
from harness.bpf.sections import kind_of, program_type
from harness.build import OBJECT_SUFFIX, PROGS, SOURCE_SUFFIX, build, sources_of
from harness.errors import ObjectError, UsageError
from harness.expected import Given, Sidecars
from harness.frames import DEFAULT_FRAME, parse_input
from harness.hooks import HOOKS
from harness.model import Case, Companion, Input, Loading, Verdict
from harness.tags import OURS, Claims, parse_tags

# Programs that take kernels down: a directory of this name must be named to be read.
APART = "kernel-bugs"
_THROW = "bpf_throw"
# Types whose programs start with a frame; the others get no input unless a tag gives one.
_PACKET_TYPES = {"xdp", "tc", "cgroup_skb"}
# Types that BPF_PROG_TEST_RUN can run at all (bpf_prog_ops.test_run in the kernel).
_RUNNABLE = {"xdp", "tc", "cgroup_skb", "syscall", "raw_tp", "socket_filter", "flow_dissector"}
# Kernel functions that the test run of a tracing program calls.
_TEST_RUN_CALLS = re.compile(r"(fentry|fexit)/bpf_fentry_test[1-8]")
# Lengths of a frame that a live hook's veth carries; above 1514 only with a VLAN tag.
_WIRE_BYTES = range(15, 1519)
# A section may narrow the direction.
_ATTACH = {
    "tcx/ingress": ("test_run", "tcx-ingress"),
    "tcx/egress": ("test_run", "tcx-egress"),
    "tc/ingress": ("test_run", "tcx-ingress"),
    "tc/egress": ("test_run", "tcx-egress"),
}


def collect(paths: Sequence[str | Path] = (), expect: Sequence[str | Path] = ()) -> list[Case]:
    """Return the cases of objects, sources (compiled first) and directories of sources.

    Without `paths`: everything in progs/. A directory stands for all below it but APART, which
    must be named. Sorted by object, then by place in the object. `expect`: sidecars that do not
    lie beside their object (harness.sidecar).
    Raises UsageError or ObjectError for what is no object, does not compile or has a wrong tag.
    """
    if "" in paths:  # Path() would take it for this directory
        raise UsageError("an empty path", fix='name a file or a directory; "." is this one')
    sidecars = Sidecars(expect)
    objects = {path.resolve(): how for path, *how in _objects(paths or (PROGS,))}
    found = [
        case
        for path in sorted(objects)
        for case in cases_of(path, *objects[path], sidecars=sidecars)
    ]
    sidecars.require_used()
    owners: dict[str, str] = {}
    for case in found:
        if owners.setdefault(case.id, case.object) != case.object:
            message = f"two cases are called {case.id}: in {owners[case.id]} and {case.object}"
            raise UsageError(message, fix="give one of them, or name a file otherwise")
    return found


def _objects(paths: Iterable[str | Path]) -> Iterator[tuple[Path, Path | None, Path]]:
    """Each object, what its ids are relative to, and what it was made from."""
    for path in map(Path, paths):
        if path.is_dir():
            sources = _without_apart(sources_of(path), path.resolve())
            built = build(sources)
            ready = _without_apart(sorted(path.rglob("*" + OBJECT_SUFFIX)), path)
            if not built and not ready:
                raise UsageError(f"{path}: no BPF programs below it", fix="give a .bpf.c or .bpf.o")
            yield from ((file, None, source) for file, source in zip(built, sources, strict=True))
            yield from ((file, path, file) for file in ready)
        elif path.name.endswith(SOURCE_SUFFIX):
            yield build([path])[0], None, path
        else:
            yield path, None, path


def _without_apart(files: Iterable[Path], directory: Path) -> list[Path]:
    return [file for file in files if APART not in file.relative_to(directory).parts]


def cases_of(
    object_path: str | Path,
    base: Path | None = None,
    origin: Path | None = None,
    *,
    sidecars: Sidecars | None = None,
) -> list[Case]:
    """Return the cases of one object, one per program, input and hook.

    `base`: directory that ids are relative to; None: the one above the object's own. `origin`:
    the source that it was made from, beside which its sidecar may lie. A program whose tag says
    that it is only a target or companion is no case. Raises ObjectError, UsageError.
    """
    path = Path(object_path)
    obj = read_object(path)
    stem = _stem(path, base)
    sidecar = (sidecars or Sidecars()).of(path, origin or path)
    claims = _claims_of(obj)
    made: list[Case] = []
    if sidecar is not None:
        claims = {name: claims[name] for name in expected.tagged(obj)}
        for given in expected.read(sidecar, obj, dict(claims), origin or path):
            made += _cases_given(given, stem)
            if given.obj is obj:
                claims.pop(given.program.name, None)
    cases = [
        case
        for program in obj.programs
        if program.name in claims and not claims[program.name].is_target
        for case in _cases_of_program(obj, program, claims[program.name], stem)
    ]
    cases += made
    along = _loaded_along(cases)
    return [replace(case, loading=replace(case.loading, along=along)) for case in cases]


def _loaded_along(cases: Sequence[Case]) -> tuple[str, ...]:
    """Programs in "?" sections that the others of the object can be loaded with."""
    if any(case.crashes for case in cases):
        return ()  # whose load it was that took the kernel down must stay clear
    apart = {case.program for case in cases if not _sure_to_load(case)}
    found = dict.fromkeys(case.program for case in cases if case.section.startswith("?"))
    return tuple(name for name in found if name not in apart)


def _sure_to_load(case: Case) -> bool:
    claimed = (case.expectation, *(expectation for _, expectation in case.per_series))
    loads = all(expectation.verdict is Verdict.RAN for expectation in claimed)
    extra = set(case.needs) - {"throw", HOOKS[case.hook].needs}
    return loads and not case.loading.alone and not extra


def _claims_of(obj: Object) -> dict[str, Claims]:
    tags = [tag for program in obj.programs for tag in program.tags]
    foreign = not any(tag.startswith(OURS) for tag in tags)
    parse = kerneltags.parse_kernel_tags if kerneltags.is_style(tags) else parse_tags
    found = {p.name: parse(p.tags, f"{obj.path}: program {p.name!r}") for p in obj.programs}
    for program in obj.programs:
        # whoever knows our tags says which programs are companions
        needy = foreign and _needs_target(program.section)
        if needy and program.section.removeprefix("?").count("/") == 0:
            why = f"section {program.section!r} names nothing to attach to"
            found[program.name].unsupported.append(why)
        found[program.name].is_foreign = foreign
    return found


def _needs_target(section: str) -> bool:
    return kind_of(section) in expected.KINDS


def _stem(path: Path, base: Path | None) -> str:
    name = path.name.removesuffix(OBJECT_SUFFIX).removesuffix(".o")
    if base is not None and path.resolve().parent != base.resolve():
        topic = path.resolve().parent.relative_to(base.resolve()).as_posix()
    else:
        topic = path.resolve().parent.name
    return f"{topic}/{name}"


def _cases_given(given: Given, stem: str) -> list[Case]:
    """The cases of one entry of a sidecar."""
    try:
        return _cases_of_program(given.obj, given.program, given.claims, stem, given)
    except ObjectError as error:
        message = error.message.removeprefix(f"{_where(given.obj, given.program)}: ")
        raise given.entry.place.wrong(message.replace(f"tag {OURS}", ""), error.fix) from None


def _where(obj: Object, program: Function) -> str:
    return f"{obj.path}: program {program.name!r}"


def _cases_of_program(
    obj: Object, program: Function, claims: Claims, stem: str, given: Given | None = None
) -> list[Case]:
    where = _where(obj, program)
    companions = (
        given.companions
        if given
        else tuple(expected.companion(obj, name, where) for name in claims.companions)
    )
    name = f"{stem}/{given.name if given else program.name}"
    hooks = _hooks_of(program, claims, where)
    inputs = _inputs_of(program, claims, where)
    needs = _needs_of(obj, program, claims, companions)
    loading = _loading_of(obj, program, claims)
    unsupported = "; ".join(dict.fromkeys(claims.unsupported))
    values = {name: _at_width(obj, name, value, where) for name, value in claims.globals.items()}
    cases = []
    # hooks outside: the agent keeps a program attached while only the input changes
    for hook in hooks:
        feature = HOOKS[hook].needs
        for data in inputs:
            _require_sendable(data, hook, where)
            general = claims.expectation(data.name, values)
            only_default = len(inputs) == 1 and data.name == "default"
            case = Case(
                id=name + ("" if only_default else f":{data.name}"),
                object=str(obj.path),
                program=program.name,
                section=program.section,
                hook=hook,
                input=data,
                repeat=claims.repeat,
                expectation=general,
                per_series=claims.per_series(general, data.name, values),
                needs=needs if not feature or feature in needs else (*needs, feature),
                companions=companions,
                tail_calls=given.tail_calls if given else (),
                traced=tuple(claims.traced),
                crashes=claims.crashes,
                loading=loading,
                unsupported=unsupported,
                description=claims.description,
                left_out=tuple(claims.left_out),
                claimed_of=given.own if given else "",
                claimed_in=given.entry.place.file if given else "",
            )
            cases.append(case)
    return cases


def _loading_of(obj: Object, program: Function, claims: Claims) -> Loading:
    if not claims.alone:
        return Loading()
    beside = tuple(name for name in _auxiliary(obj) if name != program.name)
    return Loading(True, beside, log_level=claims.log_level, flags=claims.flags)


def _auxiliary(obj: Object) -> list[str]:
    return [p.name for p in obj.programs if kerneltags.is_auxiliary(p.tags)]


def _require_sendable(data: Input, hook: str, where: str) -> None:
    if not HOOKS[hook].live or data.packet is None or len(data.packet) in _WIRE_BYTES:
        return
    limits = f"{_WIRE_BYTES.start} to {_WIRE_BYTES.stop - 1}"
    size = len(data.packet)
    message = f"{where}: input {data.name!r}: {size} bytes do not go over the wire of {hook}"
    raise ObjectError(message, fix=f'{limits} do; __hook("test_run") takes other lengths')


def hooks_of_section(section: str) -> tuple[str, ...]:
    """Return the hooks a program of this section can run on; "load" where none can run it."""
    plain = section.removeprefix("?")
    if plain in _ATTACH:
        return _ATTACH[plain]
    kind = program_type(plain)
    live = tuple(hook.name for hook in HOOKS.values() if kind and hook.prog_type == kind)
    return ("test_run", *live) if kind in _RUNNABLE else ("load",)


def _hooks_of(program: Function, claims: Claims, where: str) -> tuple[str, ...]:
    kind = program.section.removeprefix("?").partition("/")[0]
    if claims.is_foreign and _needs_target(program.section):
        if "test_run" in claims.hooks and not _TEST_RUN_CALLS.fullmatch(program.section):
            claims.unsupported.append(f"test runs of section {program.section!r}")
            return ("load",)
        return tuple(claims.hooks) or ("load",)
    if kind == "freplace" or (
        program.section[:1] == "?" and kind_of(program.section) in expected.BY_TAG
    ):
        fix = "tag it __target and name it in another program's __with(...)"
        raise ObjectError(f"{where}: {kind} programs do not run by themselves", fix=fix)
    usual = hooks_of_section(program.section)
    # loading and a tracing program's test run are for who asks
    asked = ("test_run",) if _TEST_RUN_CALLS.fullmatch(program.section) else ()
    allowed = (*usual, *asked, "load")
    if claims.alone and not set(claims.hooks) <= set(allowed):
        claims.unsupported.append(f"test runs of section {program.section!r}")
        return ("load",)
    for hook in claims.hooks:
        if hook not in HOOKS:
            fix = f"hooks: {', '.join(HOOKS)}"
            raise ObjectError(f"{where}: tag bpfthrow:hook={hook}: no such hook", fix=fix)
        if hook not in allowed:
            fix = f"section {program.section!r} runs on: {', '.join(dict.fromkeys(allowed))}"
            raise ObjectError(f"{where}: cannot run on hook {hook!r}", fix=fix)
    if claims.hooks:
        return tuple(dict.fromkeys(claims.hooks))
    # who is refused is refused on every hook alike
    return usual[:1] if claims.verdict is Verdict.REJECTED else usual


def _inputs_of(program: Function, claims: Claims, where: str) -> tuple[Input, ...]:
    if not claims.inputs:
        takes_packet = program_type(program.section) in _PACKET_TYPES
        if claims.alone and "test_run" in claims.hooks:
            takes_packet |= program_type(program.section) in ("socket_filter", "flow_dissector")
            claims.inputs.append(kerneltags.packet() if takes_packet else Input())
        else:
            claims.inputs.append(parse_input(DEFAULT_FRAME) if takes_packet else Input())
    names = {data.name for data in claims.inputs}
    stray = [name for name in claims.retval_of if name not in names]
    if stray:
        tag = f"bpfthrow:retval={stray[0]}=..."
        fix = f"inputs: {', '.join(sorted(names))}"
        raise ObjectError(f"{where}: tag {tag}: no input of that name", fix=fix)
    return tuple(claims.inputs)


def _needs_of(
    obj: Object, program: Function, claims: Claims, companions: tuple[Companion, ...]
) -> tuple[str, ...]:
    # An object is loaded at once: one throwing program is enough to refuse it.
    others = _auxiliary(obj) if claims.alone else [p.name for p in obj.programs if p.autoload]
    loaded = {*others, program.name}
    throws = any(_throws(obj, name) for name in sorted(loaded)) or any(
        _throws(read_object(each.object) if each.object else obj, each.program)
        for each in companions
    )
    needs = ["throw"] if throws else []
    needs += [expected.KINDS[companion.kind] for companion in companions]
    needs += [how.partition(":")[0] for how in claims.traced]
    return tuple(dict.fromkeys([*needs, *claims.needs]))


def _throws(obj: Object, name: str) -> bool:
    if obj.program(name).exception_callbacks:
        return True
    try:
        refs = link(obj, name).refs.values()
    except ObjectError:
        # libbpf will refuse it too; whether it would throw is then a matter of the object
        return any(extern.name == _THROW for extern in obj.externs)
    return any(ref.kind is RefKind.KFUNC and ref.name == _THROW for ref in refs)


def _at_width(obj: Object, name: str, value: int, where: str) -> int:
    variables = {v.name: v for section in obj.sections for v in section.variables}
    if name not in variables:
        fix = f"globals: {', '.join(sorted(variables)) or 'none'}"
        raise ObjectError(f"{where}: tag bpfthrow:global={name}: no such variable", fix=fix)
    bits = variables[name].size_bytes * 8
    if not -(1 << (bits - 1)) <= value < 1 << bits:
        raise ObjectError(f"{where}: tag bpfthrow:global={name}={value}: needs over {bits} bits")
    return value & ((1 << bits) - 1)


# ---- selection ------------------------------------------------------------------------------

_WORD = re.compile(r"[()]|[^\s()]+")


def select(cases: Sequence[Case], expr: str) -> list[Case]:
    """Return the cases that `expr` names: words with and, or, not and parentheses, as pytest -k.

    A word matches where it is part of the id, the hook or the section, whatever its case; one that
    is the whole id of a case matches only that. Raises UsageError for what is no expression.
    """
    if not expr.strip():
        return list(cases)
    words: list[str] = []

    def python_of(match: re.Match[str]) -> str:
        token = match[0]
        if token in ("and", "or", "not", "(", ")"):
            return f" {token} "
        words.append(token.lower())
        return f" w{len(words) - 1} "

    try:
        tree = ast.parse(_WORD.sub(python_of, expr).strip(), mode="eval").body
    except SyntaxError:
        fix = "words joined by and, or, not: -k 'throw and not xdp'"
        raise UsageError(f"-k {expr!r} is not an expression", fix=fix) from None
    whole = {case.id.lower() for case in cases}.intersection(words)
    return [case for case in cases if _matches(tree, [_has(case, w, whole) for w in words])]


def _has(case: Case, word: str, whole: set[str]) -> bool:
    if word in whole:
        return case.id.lower() == word
    return word in f"{case.id} {case.hook} {case.section} {case.description}".lower()


def _matches(node: ast.expr, held: list[bool]) -> bool:
    match node:
        case ast.BoolOp(op=ast.And(), values=values):
            return all(_matches(value, held) for value in values)
        case ast.BoolOp(values=values):
            return any(_matches(value, held) for value in values)
        case ast.UnaryOp(operand=operand):
            return not _matches(operand, held)
        case ast.Name(id=name):
            return held[int(name[1:])]
    raise UsageError(f"-k: cannot read {ast.unparse(node)!r}", fix="join words by and, or, not")
