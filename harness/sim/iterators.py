# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Open-coded iterators: numbers and bits (kernel/bpf/bpf_iter.c, kernel/bpf/helpers.c).

Owns their results and the rule of their life: made once, asked while alive, destroyed once.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.sim import resources
from harness.sim.alu import M32, M64, signed
from harness.sim.signals import Fault, Unsupported

if TYPE_CHECKING:
    from harness.sim.machine import Machine

_E2BIG, _EINVAL = -7 & M64, -22 & M64
_MAX_LOOPS = 8 << 20
_MAX_WORDS = 511  # BITS_ITER_NR_WORDS_MAX
# struct bpf_iter_bits_kern: u64 of bits or a pointer to them, int nr_bits, int bit
_BITS = 8


def _made(machine: "Machine", iterator: int, name: str) -> None:
    """It counts as an iterator until it is destroyed, also when making it failed."""
    if machine.resources.find(resources.ITERATOR, iterator) is not None:
        raise Fault(f"expected uninitialized iter_{name} as arg #0")

    def drop() -> None:
        _DESTROY[name](machine, iterator)

    machine.resources.acquire(resources.ITERATOR, iterator, name, drop)


def _alive(machine: "Machine", iterator: int, name: str) -> None:
    found = machine.resources.find(resources.ITERATOR, iterator)
    if found is None or found.what != name:
        raise Fault(f"expected an initialized iter_{name} as arg #0")


def _ended(name: str) -> Callable[["Machine", int], None]:
    def destroy(machine: "Machine", iterator: int) -> None:
        _alive(machine, iterator, name)
        machine.resources.release(resources.ITERATOR, iterator).drop()

    return destroy


def _num_new(machine: "Machine", iterator: int, start: int, end: int) -> int:
    _made(machine, iterator, "num")
    first, last = signed(start, 32), signed(end, 32)
    problem = _EINVAL if first > last else _E2BIG if last - first > _MAX_LOOPS else 0
    state = (0, 0) if problem else (first - 1, last)
    machine.memory.write(iterator, b"".join(_s32(number) for number in state))
    return problem


def _num_next(machine: "Machine", iterator: int) -> int:
    _alive(machine, iterator, "num")
    state = machine.memory.read(iterator, 8)
    current, end = (int.from_bytes(part, "little", signed=True) for part in (state[:4], state[4:]))
    following = signed(current + 1, 32)  # wraps, so that INT_MIN can be the first value
    if following >= end:
        machine.memory.write(iterator, bytes(8))
        return 0
    machine.memory.write(iterator, _s32(following))
    return iterator


def _num_destroy(machine: "Machine", iterator: int) -> None:
    machine.memory.write(iterator, bytes(8))


def _bits_new(machine: "Machine", iterator: int, source: int, words: int) -> int:
    _made(machine, iterator, "bits")
    count = words & M32
    problem = _EINVAL if not source or not count else _E2BIG if count > _MAX_WORDS else 0
    if not problem:
        try:
            content = machine.memory.read(source, count * 8)
        except Fault as fault:
            raise Unsupported("bpf_iter_bits_new of an address outside the program") from fault
        machine.bits[iterator] = int.from_bytes(content, "little")
    size = 0 if problem else count * 64
    machine.memory.write(iterator, bytes(_BITS) + _s32(size) + _s32(-1))
    return problem


def _bits_next(machine: "Machine", iterator: int) -> int:
    _alive(machine, iterator, "bits")
    state = machine.memory.read(iterator + _BITS, 8)
    size, bit = (int.from_bytes(part, "little", signed=True) for part in (state[:4], state[4:]))
    if not size or bit >= size:
        return 0
    if bit < -1 or iterator not in machine.bits:
        raise Fault("the program wrote over its bpf_iter_bits")
    rest = machine.bits[iterator] >> (bit + 1)
    found = bit + (rest & -rest).bit_length() if rest else size
    machine.memory.write(iterator + _BITS + 4, _s32(found))
    return iterator + _BITS + 4 if found < size else 0


def _bits_destroy(machine: "Machine", iterator: int) -> None:
    machine.bits.pop(iterator, None)


def _s32(number: int) -> bytes:
    return (number & M32).to_bytes(4, "little")


_DESTROY: dict[str, Callable[["Machine", int], None]] = {
    "num": _num_destroy,
    "bits": _bits_destroy,
}
# name -> (arguments, function)
KFUNCS: dict[str, tuple[int, Callable[..., int | None]]] = {
    "bpf_iter_num_new": (3, _num_new),
    "bpf_iter_num_next": (1, _num_next),
    "bpf_iter_num_destroy": (1, _ended("num")),
    "bpf_iter_bits_new": (3, _bits_new),
    "bpf_iter_bits_next": (1, _bits_next),
    "bpf_iter_bits_destroy": (1, _ended("bits")),
}
# called so often that the trace is better off without them
QUIET = frozenset({"bpf_iter_num_next", "bpf_iter_bits_next"})
