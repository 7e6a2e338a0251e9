# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What no kernel takes of an object's types and globals, because of members that it looks after.

Source: btf_parse_struct_metas() and btf_parse_fields() in kernel/bpf/btf.c, bpf_map_mmap() in
kernel/bpf/syscall.c; map_is_mmapable() and bpf_object__populate_internal_map() in libbpf 1.5, which
goes on without types where the kernel refuses them: what is said then depends on what needs them
first.
"""

from collections import Counter

from harness.bpf.btf import Btf, Kind, Type
from harness.bpf.elf import DataSection, Object
from harness.bpf.special import fields, spans
from harness.errors import ObjectError
from harness.verify.prediction import Category, NotModelled, Rejection

# what makes the kernel look into a struct at all, as a member of its own
_LOOKED_FOR = frozenset({
    "bpf_spin_lock", "bpf_res_spin_lock", "bpf_list_head", "bpf_list_node", "bpf_rb_root",
    "bpf_rb_node", "bpf_refcount",
})  # fmt: skip
_ONCE = ("bpf_spin_lock", "bpf_res_spin_lock", "bpf_refcount")
_LOCKS = frozenset({"bpf_spin_lock", "bpf_res_spin_lock"})
# of other members a map takes no notice
_NODES = frozenset({"bpf_list_node", "bpf_rb_node"})
_ENOTSUPP = 524
_OWNERS = frozenset({"bpf_list_head", "bpf_rb_root"})


def require_taken(obj: Object) -> None:
    """Raise NotModelled for an object whose types no kernel takes, Rejection for its globals."""
    for section in obj.sections:
        _check_globals(obj, section)
    for struct in obj.btf.of_kind(Kind.STRUCT):
        problem = _problem(obj.btf, struct)
        if problem:
            raise NotModelled(
                f"struct {struct.name} {problem}: the kernel refuses the object's types (BTF), and "
                "what needs them is refused after that"
            )


def _check_globals(obj: Object, section: DataSection) -> None:
    exported = next((each.name for each in section.variables if each.exported), "")
    if not exported:
        return
    for variable in section.variables:
        kinds = [kind for kind, _, _ in spans(obj.btf, variable.type_id) if kind not in _NODES]
        if kinds:
            raise Rejection(
                Category.PROGRAM_STRUCTURE,
                f"map '{{{{.*}}}}': failed to re-mmap() contents: -{_ENOTSUPP}",
                errno=_ENOTSUPP,
                why=f"{section.name} has {variable.name} ({kinds[0]}), and {exported} can be seen "
                "from outside of the object: libbpf maps such a section into memory, and the "
                "kernel lets nobody map a lock, a list or a pointer of its own (libbpf says so)",
                fix=f"make all variables of {section.name} static or __hidden",
            )


def _problem(btf: Btf, struct: Type) -> str:
    try:
        direct = {btf.resolve(member.type_id).name for member in struct.members}
        if struct.name in _LOOKED_FOR or not direct & _LOOKED_FOR:
            return ""
        kinds = Counter(field.kind for field in fields(btf, struct))
    except ObjectError:
        return ""  # a type that nothing can be said about
    for kind in _ONCE:
        if kinds[kind] > 1:
            return f"has more than one {kind}"
    if kinds["bpf_list_node"] and kinds["bpf_rb_node"] and not kinds["bpf_refcount"]:
        return "has nodes of a list and of a tree, but no bpf_refcount"
    if kinds.keys() & _OWNERS and not kinds.keys() & _LOCKS:
        return "has a list or a tree, but no lock for it"
    return ""
