# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What the verifier reads off the C types of a function: its arguments and whether it returns.

Source: btf_prepare_func_args() and what it calls, kernel/bpf/btf.c of 6.12 and 7.3. Used for a
global function where it is called and where it is verified, and for the exception callback.
"""

from dataclasses import dataclass

from harness.bpf.btf import MODIFIERS, Btf, Kind, Type
from harness.bpf.elf import Object
from harness.bpf.program import LinkedFunction
from harness.bpf.sections import program_type
from harness.verify.prediction import Category, NotModelled, Rejection, Subject
from harness.verify.rules import Rules, rules_of

MAX_REGISTERS = 5
_EOPNOTSUPP = 95
_ONLY_SCALARS = "Only those are supported."
# what an argument is taken for
SCALAR, CTX, MEM, DYNPTR, TRUSTED, UNTRUSTED, ARENA = (
    "scalar", "ctx", "mem", "dynptr", "trusted", "untrusted", "arena",
)  # fmt: skip
_TAGS = frozenset({"ctx", "trusted", "nonnull", "nullable", "arena"})
# program type -> names of the struct that its programs get (BPF_PROG_TYPE() in bpf_types.h)
_SKB, _PT_REGS = frozenset({"__sk_buff", "sk_buff"}), frozenset({"bpf_user_pt_regs_t", "pt_regs"})
_CONTEXTS: dict[str, frozenset[str]] = {
    **dict.fromkeys(
        ("tc", "sched_act", "socket_filter", "cgroup_skb", "lwt_in", "lwt_out", "lwt_xmit",
         "sk_skb", "flow_dissector"), _SKB),
    "xdp": frozenset({"xdp_md", "xdp_buff"}),
    "kprobe": _PT_REGS,
    "perf_event": frozenset({"bpf_perf_event_data"}),
    "raw_tp": frozenset({"bpf_raw_tracepoint_args"}),
    "raw_tp_writable": frozenset({"bpf_raw_tracepoint_args"}),
    "sock_ops": frozenset({"bpf_sock_ops"}),
    "cgroup_sock": frozenset({"bpf_sock"}),
    "cgroup_sock_addr": frozenset({"bpf_sock_addr"}),
    "cgroup_device": frozenset({"bpf_cgroup_dev_ctx"}),
    "cgroup_sysctl": frozenset({"bpf_sysctl"}),
    "cgroup_sockopt": frozenset({"bpf_sockopt"}),
    "sk_msg": frozenset({"sk_msg_md"}),
    "sk_lookup": frozenset({"bpf_sk_lookup"}),
    "sk_reuseport": frozenset({"sk_reuseport_md"}),
    "netfilter": frozenset({"bpf_nf_ctx"}),
}  # fmt: skip
# types whose context may be declared as u64 * or anything else behind __arg_ctx
_U64_CONTEXT = frozenset({
    "raw_tp", "raw_tp_writable", "fentry", "fexit", "fmod_ret", "tp_btf", "lsm", "struct_ops",
})  # fmt: skip
_ANY_CONTEXT = frozenset({"tracepoint", "syscall", "freplace"})


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument: SCALAR, CTX, MEM, DYNPTR, TRUSTED, UNTRUSTED or ARENA."""

    kind: str
    # bytes of MEM
    size_bytes: int = 0
    # a null pointer may be passed, so that the function must test
    nullable: bool = False
    # BTF type of the object that TRUSTED and UNTRUSTED point to
    type_id: int = 0


@dataclass(frozen=True, slots=True)
class Signature:
    """What a function takes and gives."""

    arguments: tuple[Argument, ...]
    returns_void: bool = False


def signature(subject: Subject, function: LinkedFunction) -> Signature | None:
    """Signature of one function.

    None: of a static function whose types the verifier does not understand, which is no error.
    Raises Rejection for a global one of that kind, NotModelled where it is not known what a
    kernel makes of it. The rejection has no `pc`: the caller knows where it stands.
    """
    record = type_of(subject.obj, function)
    if record is None:
        raise NotModelled(f"two functions are called {function.name!r}: which types are meant?")
    return _Reader(subject, function, record).read()


def check_callback(subject: Subject) -> None:
    """What do_check_common() wants of the exception callback's types. Raises as `signature`."""
    if subject.program.exception_callback is None:
        return
    function = subject.program.functions[subject.program.exception_callback]
    try:
        _check_callback(function.name, signature(subject, function))
    except Rejection as error:
        error.pc = function.start
        raise


def _check_callback(name: str, found: Signature | None) -> None:
    if found is None:
        raise NotModelled(f"the types of the static function {name}()")
    if found.returns_void:
        raise _refusal(
            "exception cb cannot return void",
            f"the exception callback {name}() returns nothing",
            "let it return an integer: the program's return value",
        )
    if [each.kind for each in found.arguments] != [SCALAR]:
        raise _refusal(
            "exception cb only supports single integer argument",
            f"the exception callback {name}() takes something else than one integer",
            f"declare it as: int {name}(__u64 cookie)",
        )


def type_of(obj: Object, function: LinkedFunction) -> Type | None:
    """BTF record of a function; None where the object has several of its name that differ."""
    found = set()
    for each in (*obj.programs, *obj.functions):
        if each.name == function.name:
            found.add(obj.ext.functions.get(each.section, {}).get(each.offset, 0))
    records = [t for t in found if t]
    if len(records) == 1:
        return obj.btf.type(records[0])
    protos = {obj.btf.type(t).type_id for t in records}
    return obj.btf.type(records[0]) if len(protos) == 1 else None


class _Reader:
    """One reading of one function's types."""

    def __init__(self, subject: Subject, function: LinkedFunction, record: Type) -> None:
        self.btf: Btf = subject.obj.btf
        self.rules: Rules = rules_of(subject.profile)
        self.program_type = program_type(subject.program.section)
        self.name = function.name
        self.is_global = function.linkage == "global"
        self.is_main = function.start == 0
        self.record = record
        self.proto = self.btf.type(record.type_id)

    def read(self) -> Signature | None:
        members = self.proto.members
        if len(members) > MAX_REGISTERS:
            self._refuse_many(len(members))
            return None
        returned = self._plain(self.proto.type_id)
        void = returned is None
        if (void and not self.rules.void_globals) or not (void or _is_scalar(returned)):
            self._refuse_return(returned)
            return None
        arguments = []
        for at, member in enumerate(members):
            argument = self._argument(at, member.type_id)
            if argument is None:
                return None
            arguments.append(argument)
        return Signature(tuple(arguments), returns_void=void)

    def _refuse_many(self, count: int) -> None:
        if not self.is_global:
            if self.rules.stack_arguments:
                raise NotModelled(f"{self.name}() takes {count} arguments, some on the stack")
            return
        raise _refusal(
            self.rules.too_many_arguments.format(name=self.name, count=count),
            f"{self.name}() is global and takes more than {MAX_REGISTERS} arguments",
            "pass a pointer to a struct, or make the function static",
        )

    def _refuse_return(self, returned: Type | None) -> None:
        if not self.is_global:
            return
        tagged = returned is not None and returned.kind is Kind.PTR
        if tagged and self.rules.void_globals and self._type_tags(returned):
            raise NotModelled(f"{self.name}() returns a pointer with type tags")
        raise _refusal(
            self.rules.bad_return.format(name=self.name),
            f"{self.name}() is global and returns "
            + ("nothing" if returned is None else f"a {returned.kind.name.lower()}"),
            "let it return an integer"
            + ("" if self.rules.void_globals or returned is not None else " (0 will do)"),
            errno=self.rules.bad_return_errno,
        )

    def _type_tags(self, pointer: Type | None) -> bool:
        target = pointer.type_id if pointer is not None else 0
        return bool(target) and self.btf.type(target).kind is Kind.TYPE_TAG

    def _argument(self, at: int, type_id: int) -> Argument | None:
        tags = self._tags(at)
        found = self._plain(type_id)
        if found is not None and found.kind is Kind.PTR:
            pointer = self._pointer(at, found, tags)
            if pointer is not None or not self.is_global:
                return pointer
        if tags:
            raise _refusal(f"arg#{at} has pointer tag, but is not a pointer type",
                           f"argument {at + 1} of {self.name}() is no pointer", "drop the tag",
                           )  # fmt: skip
        if found is not None and _is_scalar(found):
            return Argument(SCALAR)
        if not self.is_global:
            return None
        kind = found.kind.name if found is not None else "void"
        raise _refusal(
            f"Arg#{at} type {kind} in {self.name}() is not supported yet.",
            f"argument {at + 1} of the global function {self.name}() is neither an integer "
            "nor a pointer",
            "pass a pointer to it",
        )

    def _tags(self, at: int) -> frozenset[str]:
        found = set()
        for tag in self.btf.of_kind(Kind.DECL_TAG):
            if tag.type_id != self.record.id or tag.component != at:
                continue
            if tag.name.startswith("arg:"):
                found.add(tag.name.removeprefix("arg:"))
        if found and not self.is_global:
            raise _refusal(
                f"arg#{at} type tag is not supported in static functions",
                f"argument {at + 1} of the static function {self.name}() has an arg: tag",
                "drop the tag, or make the function global",
                errno=_EOPNOTSUPP,
            )
        if found - _TAGS - self.rules.more_argument_tags:
            raise _refusal(
                f"arg#{at} has unsupported set of tags",
                f"argument {at + 1} of {self.name}() has a tag that no kernel knows",
                "drop the tag",
                errno=_EOPNOTSUPP,
            )
        return frozenset(found)

    def _pointer(self, at: int, pointer: Type, tags: frozenset[str]) -> Argument | None:
        if "ctx" in tags or self._is_context(pointer):
            self._alone(at, tags, {"ctx"})
            if "ctx" in tags:
                self._check_context(at, pointer)
            return Argument(CTX)
        target = self._plain(pointer.type_id)
        if target is not None and target.kind is Kind.STRUCT and target.name == "bpf_dynptr":
            self._alone(at, tags, set())
            return Argument(DYNPTR)
        for tag, kind in (("trusted", TRUSTED), ("untrusted", UNTRUSTED)):
            if tag in tags:
                self._alone(at, tags, {tag, "nullable"})
                type_id = target.id if target is not None else 0
                return Argument(kind, nullable="nullable" in tags, type_id=type_id)
        if "arena" in tags:
            self._alone(at, tags, {"arena"})
            return Argument(ARENA)
        if not self.is_global:
            return None
        self._alone(at, tags, {"nonnull"})
        return self._memory(at, target, nullable="nonnull" not in tags)

    def _memory(self, at: int, target: Type | None, *, nullable: bool) -> Argument:
        if target is None or target.kind in {Kind.FWD, Kind.FUNC_PROTO}:
            what = "UNKNOWN" if target is None else target.kind.name
            name = target.name if target is not None else ""
            raise _refusal(
                f"arg#{at} reference type('{what} {name}') size cannot be determined: "
                "{{-?[0-9]+}}",
                f"argument {at + 1} of the global function {self.name}() points to something "
                "of unknown size",
                "declare the type that it points to, or make the function static",
            )
        return Argument(MEM, size_bytes=self.btf.size_of(target.id), nullable=nullable)

    def _alone(self, at: int, tags: frozenset[str], allowed: set[str]) -> None:
        if tags - allowed:
            raise _refusal(
                "arg#%d {{has invalid combination of tags|cannot be combined}}" % at,  # noqa: UP031
                f"the tags on argument {at + 1} of {self.name}() do not go together",
                "keep one of them",
            )

    def _is_context(self, pointer: Type) -> bool:
        names = _CONTEXTS.get(self.program_type, frozenset())
        if self.program_type == "freplace" and pointer.type_id:
            raise NotModelled("whether an argument is the context depends on the replaced program")
        found = self.btf.type(pointer.type_id) if pointer.type_id else None
        while found is not None and found.kind is not Kind.STRUCT:
            if self.program_type == "kprobe" and found.name == "bpf_user_pt_regs_t":
                return True
            if not found.type_id or found.kind not in MODIFIERS:
                return False
            found = self.btf.type(found.type_id)
        return found is not None and found.name in names

    def _check_context(self, at: int, pointer: Type) -> None:
        """What __arg_ctx stands on: void, the type's own struct, u64 where the context is that."""
        target = self._plain(pointer.type_id)
        if target is None or self.program_type in _ANY_CONTEXT or self._is_context(pointer):
            return
        if self.program_type in _U64_CONTEXT and target.kind is Kind.INT and target.size_bytes == 8:
            return
        raise NotModelled(f"argument {at + 1} of {self.name}(): __arg_ctx on {target.name!r}")

    def _plain(self, type_id: int) -> Type | None:
        """The type without typedefs and qualifiers; None: void."""
        found = self.btf.resolve(type_id)
        return None if found.kind is Kind.VOID else found


def _is_scalar(record: Type | None) -> bool:
    return record is not None and record.kind in {Kind.INT, Kind.ENUM, Kind.ENUM64}


def _refusal(message: str, why: str, fix: str, errno: int = 22) -> Rejection:
    return Rejection(Category.CALL_TYPE, message, errno=errno, why=why, fix=fix)
