# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Arenas: sparse pages that programs reach by 32-bit pointers, and who may reach them.

Owns which pages are there, which are free to give out, and what an access to one that is not there
does: x86 jumps over it (PROBE_MEM32), a load gives 0. Source: kernel/bpf/arena.c,
kernel/bpf/range_tree.c, arch/x86/net/bpf_jit_comp.c; arena globals as libbpf 1.5 places them, at
the start. Kernel functions are harness.sim.arenafuncs'.
"""

from typing import TYPE_CHECKING

from harness.bpf.elf import ARENA
from harness.bpf.isa import Insn
from harness.bpf.mapdef import MapType
from harness.bpf.program import Program, RefKind
from harness.sim.mapkinds.place import Place, refused
from harness.sim.memory import FORMATS, LoadHook, Region, StoreHook
from harness.sim.signals import Fault, Unsupported

if TYPE_CHECKING:
    from harness.sim.machine import Machine

PAGE_BYTES = 4096
# addr_space_cast: a mov with this offset; the immediate of the one that makes a kernel pointer
CAST = 1
TO_KERNEL = 1
_MOV = 0xBF
_M32 = 0xFFFF_FFFF
_MMAPABLE, _SEGV_ON_FAULT, _NO_USER_CONV = 1 << 10, 1 << 17, 1 << 18
_FLAGS = _MMAPABLE | _SEGV_ON_FAULT | _NO_USER_CONV
_4G = 1 << 32
# where the arena is mapped when the object does not say: the kernel's choice, somewhere up there
_SOMEWHERE = 0x7EFE_1000_0000
# upper halves of what a 32-bit pointer and a 16-bit offset add up to
_KEYS = (0, 1, _M32)


class Arena:
    """One arena. Pages go by number: bits 12 to 31 of their address, in user space and here."""

    ordered = True
    has_content = False
    lookup = update = delete = items = content = refused("operations")
    push = pop = peek = refused("operations")

    def __init__(self, place: Place) -> None:
        self.place = place
        self.count = place.definition.max_entries
        self.start = place.definition.map_extra or _SOMEWHERE
        self.end = self.start + self.count * PAGE_BYTES
        self.refusal = _refusal(place)
        # page number -> content, of pages that are there
        self.pages: dict[int, bytearray] = {}
        # program -> whether it may reach them
        self.users: dict[str, bool] = {}
        # first and last page (counted from the start) that nobody has, in the order in which the
        # kernel's tree came to hold them
        self._free: list[tuple[int, int]] = [(0, self.count - 1)]

    @property
    def converts(self) -> bool:
        """Whether addr_space_cast makes addresses of user space."""
        return not self.place.definition.flags & _NO_USER_CONV

    def user(self, value: int) -> int:
        """cast_user: the address in user space of a kernel pointer; NULL stays NULL."""
        low = value & _M32
        return self.start & ~_M32 | low if low and self.converts else low

    # ---- which pages are free -------------------------------------------------------------

    def index(self, address: int) -> int:
        """compute_pgoff(): page of an address, counted from the start."""
        return ((address - self.start) & _M32) // PAGE_BYTES

    def first_fit(self, count: int) -> int | None:
        """Lowest place for `count` pages: maple tree, until 6.12."""
        return min((a for a, b in self._free if b - a + 1 >= count), default=None)

    def best_fit(self, count: int) -> int | None:
        """__find_range(): in the smallest range that is big enough, of equal ones the newest."""
        fits = [(b - a, -at, a) for at, (a, b) in enumerate(self._free) if b - a + 1 >= count]
        return min(fits)[2] if fits else None

    def is_free(self, first: int, count: int) -> bool:
        """is_range_tree_set(): whether nobody has any of these pages."""
        return any(a <= first and first + count - 1 <= b for a, b in self._free)

    def take(self, first: int, count: int) -> None:
        """range_tree_clear()."""
        last = first + count - 1
        for piece in sorted(p for p in self._free if p[0] <= last and p[1] >= first):
            self._free.remove(piece)
            if piece[0] < first:
                self._free.append((piece[0], first - 1))
            if piece[1] > last:
                self._free.append((last + 1, piece[1]))

    def give(self, first: int, count: int) -> None:
        """range_tree_set()."""
        if self.is_free(first, count):
            return
        self.take(first, count)
        last = first + count - 1
        for piece in [p for p in self._free if p[1] == first - 1 or p[0] == last + 1]:
            self._free.remove(piece)
            first, last = min(first, piece[0]), max(last, piece[1])
        self._free.append((first, last))

    # ---- pages ----------------------------------------------------------------------------

    def populate(self, first: int, count: int) -> None:
        """Make pages of zeros. Raises Unsupported over the simulator's memory."""
        self.place.memory.charge(count * PAGE_BYTES)
        number = (self.start & _M32) // PAGE_BYTES + first
        for page in range(number, number + count):
            self.pages[page] = bytearray(PAGE_BYTES)

    def drop(self, first: int, count: int) -> None:
        """Take pages away; those that are not there do not matter."""
        number = (self.start & _M32) // PAGE_BYTES + first
        for page in range(number, number + count):
            if self.pages.pop(page, None) is not None:
                self.place.memory.charge(-PAGE_BYTES)

    def has(self, address: int, size: int) -> bool:
        """Whether all of these bytes are there. The address is that of a kernel pointer."""
        first, last = address // PAGE_BYTES, (address + size - 1) // PAGE_BYTES
        return first in self.pages and (first == last or last in self.pages)

    def load(self, address: int, size: int) -> int:
        """Value at a kernel pointer; 0 where a page is missing."""
        if not self.has(address, size):
            return 0
        return int.from_bytes(
            bytes(self.pages[at // PAGE_BYTES][at % PAGE_BYTES] for at in _span(address, size)),
            "little",
        )

    def store(self, address: int, size: int, value: int) -> None:
        """Write at a kernel pointer; nothing where a page is missing."""
        if self.has(address, size):
            data = (value & ((1 << size * 8) - 1)).to_bytes(size, "little")
            for at, byte in zip(_span(address, size), data, strict=True):
                self.pages[at // PAGE_BYTES][at % PAGE_BYTES] = byte

    def fill(self, data: bytes) -> None:
        """Libbpf writes the initial content of arena globals through its mapping."""
        pages = -(-len(data) // PAGE_BYTES)
        if pages > self.count:
            self.refusal = f"{ARENA} of {len(data)} bytes does not fit into {self.count} pages"
            return
        self.take(0, pages)
        self.populate(0, pages)
        for at, byte in enumerate(data, self.start & _M32):
            self.pages[at // PAGE_BYTES][at % PAGE_BYTES] = byte


def _span(address: int, size: int) -> range:
    return range(address, address + size)


def _refusal(place: Place) -> str:
    """arena_map_alloc(): why BPF_MAP_CREATE does not make this map, "" where it does."""
    wanted, size = place.definition, place.definition.max_entries * PAGE_BYTES
    sized = wanted.key_size or wanted.value_size or not wanted.max_entries
    flags = not wanted.flags & _MMAPABLE or wanted.flags & ~_FLAGS
    if sized or flags or wanted.map_extra % PAGE_BYTES:
        return f"map {place.name}: no arena can be made of this definition (EINVAL)"
    if size > _4G:
        return f"map {place.name}: arena of more than 4 GiB (E2BIG)"
    if wanted.map_extra >> 32 != (wanted.map_extra + size - 1) >> 32:
        return f"map {place.name}: arena crosses a 4 GiB boundary of user space (ERANGE)"
    return ""


# ---- who may reach them -------------------------------------------------------------------------


def install(machine: "Machine") -> None:
    """Give a machine whose object has an arena the addresses that arena pointers hold."""
    arena = _arena(machine)
    if arena is None:
        return
    if machine.obj.arena is not None and not arena.refusal:
        arena.fill(machine.obj.arena.data)
    for key in _KEYS:
        window = Region("arena", key << 32, bytearray())
        # an access that runs over the end of a window is one of missing pages
        window.high = _4G + max(FORMATS)
        window.load = _loader(machine, arena, key)
        window.store = _storer(machine, arena, key)
        machine.memory.regions[key] = window


def _arena(machine: "Machine") -> Arena | None:
    return next((m for m in machine.maps.values() if isinstance(m, Arena)), None)


def of(machine: "Machine", program: Program) -> Arena | None:
    """The arena that a program is associated with: the one it refers to."""
    used = [r for r in program.refs.values() if r.kind in (RefKind.MAP, RefKind.GLOBAL)]
    for ref in used:
        definition = machine.obj.map(ref.name)
        if ref.name == ARENA or (definition is not None and definition.type == MapType.ARENA):
            arena = _arena(machine)
            if arena is None:
                raise Unsupported("global variables in an arena that the object does not define")
            return arena
    return None


def is_cast(insn: Insn) -> bool:
    """Whether an instruction is addr_space_cast."""
    return insn.code == _MOV and insn.off == CAST


def concerns(machine: "Machine", program: Program) -> bool:
    """Whether only the reference engine does a program: its object has an arena, or it casts.

    Raises Fault for an object whose arena no kernel makes.
    """
    arena = _arena(machine)
    if arena is not None and arena.refusal:
        raise Fault(arena.refusal)
    return arena is not None or any(map(is_cast, program.insns))


def globals_of(machine: "Machine", section: str) -> Region:
    """Where the variables of `section` are: addresses of user space, to be cast before use."""
    arena = _arena(machine)
    if section != ARENA or arena is None:
        raise Unsupported(f"global variables in section {section}")
    return Region(section, arena.start, bytearray())


def _check(machine: "Machine", arena: Arena, address: int, size: int, what: str) -> None:
    """A small number is a pointer only to programs that have an arena."""
    program = machine.frames[-1].program
    if program.name not in arena.users:
        arena.users[program.name] = of(machine, program) is not None
    if not arena.users[program.name]:
        raise Fault(f"{what} of {size} bytes at 0x{address:x}: not a pointer")


def _loader(machine: "Machine", arena: Arena, key: int) -> LoadHook:
    def load(offset: int, size: int) -> int:
        _check(machine, arena, key << 32 | offset, size, "load")
        return 0 if key else arena.load(offset, size)

    return load


def _storer(machine: "Machine", arena: Arena, key: int) -> StoreHook:
    def store(offset: int, size: int, value: int) -> None:
        _check(machine, arena, key << 32 | offset, size, "store")
        if not key:
            arena.store(offset, size, value)

    return store


def check_signed(machine: "Machine", address: int) -> None:
    """6.12 has no sign-extending loads from an arena. Raises Fault in the verifier's words."""
    if address >> 32 in _KEYS and not machine.profile.late_arena and _arena(machine) is not None:
        raise Fault("sign extending loads from arena are not supported yet")


def check_fetch(machine: "Machine", address: int, size: int) -> None:
    """What an atomic operation on a missing page leaves in its register depends on the kernel."""
    arena = _arena(machine) if address >> 32 in _KEYS else None
    if arena is not None and (address >> 32 or not arena.has(address, size)):
        raise Unsupported("atomic operation that fetches from an arena page that is not there")
