# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""CO-RE: whether a type of the program and a type of the kernel are the same thing.

Owns the three relations of libbpf (bpf_core_fields_are_compat, bpf_core_types_are_compat and
bpf_core_types_match in tools/lib/bpf/relo_core.c). What is done with the answer is
harness.bpf.core's business.
"""

from dataclasses import dataclass

from harness.bpf.btf import COMPOSITES, ENUMS, Btf, Kind, Type, essential
from harness.errors import ObjectError

_MAX_DEPTH = 32
# comparisons for one relocation; a kernel's largest struct needs some thousands
_MAX_STEPS = 200_000


def same_kind(local: Kind, target: Kind) -> bool:
    """Kinds are equal; enums of 32 and 64 bits are one kind."""
    return local is target or (local in ENUMS and target in ENUMS)


@dataclass(slots=True)
class Pair:
    """The program's types and the kernel's, and how long they may be compared."""

    local: Btf
    target: Btf
    _steps: int = _MAX_STEPS

    def step(self) -> None:
        """Count one comparison. Raises ObjectError for types that are made to take for ever."""
        self._steps -= 1
        if self._steps < 0:
            raise ObjectError(f"CO-RE: types need more than {_MAX_STEPS} comparisons")

    def candidates(self, type_id: int) -> list[int]:
        """Types of the kernel with the essential name and the kind of a local type."""
        found = self.local.type(type_id)
        ids = self.target.named(essential(found.name), flavours=True)
        return [i for i in ids if same_kind(found.kind, self.target.kind(i))]

    def fields_compatible(self, local_id: int, target_id: int) -> bool:
        """Whether a field of the one type may be read as the other. Widths do not matter."""
        for _ in range(_MAX_DEPTH):
            self.step()
            local, target = self.local.resolve(local_id), self.target.resolve(target_id)
            if local.kind in COMPOSITES and target.kind in COMPOSITES:
                return True
            if not same_kind(local.kind, target.kind):
                return False
            if local.kind is Kind.ARRAY:
                local_id, target_id = local.type_id, target.type_id
                continue
            return _field(local, target)
        raise ObjectError("CO-RE: arrays nest too deep")

    def compatible(self, local_id: int, target_id: int, level: int = _MAX_DEPTH) -> bool:
        """The relation of type_exists, type_size and type_id: names below the root do not count."""
        if not same_kind(self.local.type(local_id).kind, self.target.type(target_id).kind):
            return False
        for _ in range(_MAX_DEPTH):
            self.step()
            local, target = self.local.resolve(local_id), self.target.resolve(target_id)
            if not same_kind(local.kind, target.kind):
                return False
            if local.kind is Kind.FUNC_PROTO and not self._parameters(local, target, level):
                return False
            if local.kind in (Kind.PTR, Kind.ARRAY):
                local_id, target_id = local.type_id, target.type_id
            elif local.kind is Kind.FUNC_PROTO:
                local_id = self.local.resolve(local.type_id).id
                target_id = self.target.resolve(target.type_id).id
            elif local.kind is Kind.INT:
                return not local.bit_offset and not target.bit_offset
            else:
                return local.kind in _PLAIN
        raise ObjectError("CO-RE: types nest too deep")

    def _parameters(self, local: Type, target: Type, level: int) -> bool:
        if local.vlen != target.vlen:
            return False
        if level <= 0:
            raise ObjectError("CO-RE: function types nest too deep")
        pairs = zip(local.members, target.members, strict=True)
        return all(
            self.compatible(
                self.local.resolve(ours.type_id).id,
                self.target.resolve(theirs.type_id).id,
                level - 1,
            )
            for ours, theirs in pairs
        )

    def matches(
        self, local_id: int, target_id: int, *, behind: bool = False, level: int = _MAX_DEPTH
    ) -> bool:
        """The relation of type_matches; `behind`: there is a pointer between the root and here."""
        if level <= 0:
            raise ObjectError("CO-RE: types nest too deep")
        for _ in range(_MAX_DEPTH):
            self.step()
            local, target = self.local.resolve(local_id), self.target.resolve(target_id)
            if not _names_match(local.name, target.name):
                return False
            if local.kind not in _FOLLOWED:
                return self._ends_match(local, target, behind=behind, level=level)
            if local.kind is not target.kind or local.count != target.count:
                return False
            if local.kind is Kind.FUNC_PROTO and not self._all_match(local, target, behind, level):
                return False
            behind = behind or local.kind is Kind.PTR
            local_id, target_id = local.type_id, target.type_id
        raise ObjectError("CO-RE: types nest too deep")

    def _all_match(self, local: Type, target: Type, behind: bool, level: int) -> bool:
        return local.vlen == target.vlen and all(
            self.matches(ours.type_id, theirs.type_id, behind=behind, level=level - 1)
            for ours, theirs in zip(local.members, target.members, strict=True)
        )

    def _ends_match(self, local: Type, target: Type, *, behind: bool, level: int) -> bool:
        kinds = (local.kind, target.kind)
        if local.kind in ENUMS:
            return target.kind in ENUMS and self._enums_match(local, target)
        if local.kind is Kind.INT:
            same = local.size_bytes == target.size_bytes and local.signed == target.signed
            return target.kind is Kind.INT and same
        if local.kind is Kind.FWD:
            if target.kind is Kind.FWD:
                return local.flag == target.flag
            return behind and kinds[1] is (Kind.UNION if local.flag else Kind.STRUCT)
        if local.kind not in COMPOSITES:
            return kinds == (Kind.VOID, Kind.VOID)
        if behind:
            forward = target.kind is Kind.FWD and target.flag == (local.kind is Kind.UNION)
            return local.kind is target.kind or forward
        return local.kind is target.kind and self._members_match(local, target, level)

    def _members_match(self, local: Type, target: Type, level: int) -> bool:
        """Every member has a partner of the same name; any of several will do."""
        return local.vlen <= target.vlen and all(
            any(
                self.matches(ours.type_id, theirs.type_id, level=level - 1)
                for theirs in target.members
                if self._named_alike(ours.name, theirs.name)
            )
            for ours in local.members
        )

    def _named_alike(self, ours: str, theirs: str) -> bool:
        self.step()
        return _names_match(ours, theirs)

    def _enums_match(self, local: Type, target: Type) -> bool:
        names = {essential(each.name) for each in target.values}
        return (
            local.size_bytes == target.size_bytes
            and local.vlen <= target.vlen
            and all(essential(each.name) in names for each in local.values)
        )


_PLAIN = frozenset({Kind.VOID, Kind.FWD}) | COMPOSITES | ENUMS
_FOLLOWED = frozenset({Kind.PTR, Kind.ARRAY, Kind.FUNC_PROTO})


def _names_match(local: str, target: str) -> bool:
    return essential(local) == essential(target)


def _field(local: Type, target: Type) -> bool:
    if local.kind in (Kind.PTR, Kind.FLOAT):
        return True
    if local.kind is Kind.INT:
        return not local.bit_offset and not target.bit_offset
    if local.kind in ENUMS or local.kind is Kind.FWD:
        ours, theirs = essential(local.name), essential(target.name)
        return not ours or not theirs or ours == theirs
    return False
