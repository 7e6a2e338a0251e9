# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Helpers that programs call by number: maps, time, callbacks, ring buffer, tail call.

Owns the table of all helpers and their results (kernel/bpf/helpers.c, kernel/trace/bpf_trace.c);
those that touch packets are in harness.sim.packets. Time and random numbers are seeded, so every
run gives the same values. A number that is not in the table is unsupported when it is reached.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from harness.bpf.mapdef import MapType
from harness.sim import packets, resources, text
from harness.sim.alu import M32, M64, signed
from harness.sim.maps import ARRAYS, E2BIG, EAGAIN, EINVAL, ENOENT, HASHES, QUEUES, Map
from harness.sim.signals import Fault, Unsupported
from harness.sim.trace import value

if TYPE_CHECKING:
    from harness.sim.machine import Machine

_MAX_LOOPS = 8 << 20
_CLOCK_STEP_NS = 1_000
_USER_SPACE_BYTES = 1 << 47


def _values(machine: "Machine", address: int) -> Map:
    used = machine.map_at(address)
    if used.definition.type not in ARRAYS | HASHES:
        raise Fault(f"map {used.name} of type {used.definition.type_name} has no such operation")
    return used


def _key(machine: "Machine", used: Map, address: int) -> bytes:
    return machine.memory.read(address, used.definition.key_size)


def _map_lookup(machine: "Machine", address: int, key: int) -> int:
    used = _values(machine, address)
    return used.lookup(_key(machine, used, key))


def _map_update(machine: "Machine", address: int, key: int, data: int, flags: int) -> int:
    used = _values(machine, address)
    content = machine.memory.read(data, used.definition.value_size)
    return used.update(_key(machine, used, key), content, flags)


def _map_delete(machine: "Machine", address: int, key: int) -> int:
    used = _values(machine, address)
    return used.delete(_key(machine, used, key))


def _map_lookup_percpu(machine: "Machine", address: int, key: int, cpu: int) -> int:
    return _map_lookup(machine, address, key) if cpu & M32 == 0 else 0


def _for_each(machine: "Machine", address: int, callback: int, context: int, flags: int) -> int:
    used = _values(machine, address)
    if flags:
        return EINVAL
    count = 0
    ordered = used.is_array or len(used.values) < 2
    for key, region in used.items():
        count += 1
        copy = machine.memory.region(f"key of {used.name}", bytearray(key))
        stop = machine.callback(callback, [address, copy.address, region.address, context])
        machine.memory.release(copy)
        if stop and not ordered:
            raise Unsupported(f"stopping before the end of map {used.name}, which has no order")
        if stop:
            break
    return count


def _loop(machine: "Machine", times: int, callback: int, context: int, flags: int) -> int:
    if flags:
        return EINVAL
    if times & M32 > _MAX_LOOPS:
        return E2BIG
    for index in range(times & M32):
        if machine.callback(callback, [index, context]):
            return index + 1
    return times & M32


def _queue(machine: "Machine", address: int) -> Map:
    used = machine.map_at(address)
    if used.definition.type not in QUEUES:
        raise Fault(f"map {used.name} is no queue and no stack")
    return used


def _push(machine: "Machine", address: int, data: int, flags: int) -> int:
    used = _queue(machine, address)
    return used.push(machine.memory.read(data, used.definition.value_size), flags)


def _take(*, remove: bool) -> Callable[["Machine", int, int], int]:
    def take(machine: "Machine", address: int, target: int) -> int:
        used = _queue(machine, address)
        found = used.take(remove=remove)
        machine.memory.write(target, found or bytes(used.definition.value_size))
        return ENOENT if found is None else 0

    return take


def _ring(machine: "Machine", address: int) -> Map:
    used = machine.map_at(address)
    if used.definition.type != MapType.RINGBUF:
        raise Fault(f"map {used.name} is no ring buffer")
    return used


def _ringbuf_output(machine: "Machine", address: int, data: int, size: int, _flags: int) -> int:
    machine.memory.read(data, size)
    return 0 if _ring(machine, address).reserve(size) else EAGAIN


def _ringbuf_reserve(machine: "Machine", address: int, size: int, flags: int) -> int:
    ring = _ring(machine, address)
    if flags or not ring.reserve(size):
        return 0
    record = machine.memory.region("ring buffer record", bytearray(size))
    machine.resources.acquire(
        resources.RINGBUF, record.address, f"of {ring.name}", lambda: machine.memory.release(record)
    )
    return record.address


def _ringbuf_end(machine: "Machine", sample: int, _flags: int) -> None:
    machine.resources.release(resources.RINGBUF, sample).drop()


def _tail_call(machine: "Machine", context: int, address: int, index: int) -> None:
    used = machine.map_at(address)
    if used.definition.type != MapType.PROG_ARRAY:
        raise Fault(f"map {used.name} is no program array")
    machine.tail_call(context, used.programs.get(index & M32))


def _ktime(machine: "Machine") -> int:
    machine.clock_ns += _CLOCK_STEP_NS
    return machine.clock_ns


def _prandom(machine: "Machine") -> int:
    return machine.random.getrandbits(32)


def _zero(_machine: "Machine") -> int:
    return 0


def _process(_machine: "Machine", *_args: int) -> int:
    raise Unsupported("who runs the program (process, name) is not known")


def _trace_printk(machine: "Machine", form: int, size: int, *args: int | None) -> int:
    shown = text.expand(machine.memory, machine.memory.read(form, size), list(args))
    if shown is None:
        return EINVAL
    machine.trace.say(f"bpf_printk: {shown.strip()}")
    return len(shown.encode())


def _strncmp(machine: "Machine", left: int, size: int, right: int) -> int:
    first = machine.memory.read(left, size)
    second = text.string_at(machine.memory, right, size) + b"\0"
    for a, b in zip(first, second.ljust(size, b"\0"), strict=False):
        if a != b or not a:
            return (a > b) - (a < b)
    return 0


def _copy_from_user(machine: "Machine", target: int, size: int, source: int) -> int:
    """No user memory here: NULL faults, anything else would be a guess."""
    if source:
        raise Unsupported("bpf_copy_from_user from a user address")
    machine.memory.write(target, bytes(size))
    return -14


def _probe_read(machine: "Machine", target: int, size: int, source: int) -> int:
    """A user address is out of range; what else could be read is only known of our own memory."""
    if source < _USER_SPACE_BYTES:
        machine.memory.write(target, bytes(size))
        return -34  # ERANGE
    try:
        data = machine.memory.read(source, size)
    except Fault as fault:
        raise Unsupported("bpf_probe_read_kernel of an address outside the program") from fault
    machine.memory.write(target, data)
    return 0


def _spin_lock(machine: "Machine", lock: int) -> int:
    held = machine.resources.newest(resources.SPIN_LOCK, resources.RES_SPIN_LOCK)
    if held is not None:
        raise Fault(f"a lock is held already: {machine.resources.describe(held)}")
    machine.memory.find(lock, 4, "lock")
    machine.resources.acquire(resources.SPIN_LOCK, lock)
    return 0


def _spin_unlock(machine: "Machine", lock: int) -> int:
    machine.resources.release(resources.SPIN_LOCK, lock)
    return 0


# number -> (name, arguments, function)
HELPERS: dict[int, tuple[str, int, Callable[..., int | None]]] = {
    1: ("bpf_map_lookup_elem", 2, _map_lookup),
    2: ("bpf_map_update_elem", 4, _map_update),
    3: ("bpf_map_delete_elem", 2, _map_delete),
    5: ("bpf_ktime_get_ns", 0, _ktime),
    6: ("bpf_trace_printk", 2, _trace_printk),
    7: ("bpf_get_prandom_u32", 0, _prandom),
    8: ("bpf_get_smp_processor_id", 0, _zero),
    12: ("bpf_tail_call", 3, _tail_call),
    14: ("bpf_get_current_pid_tgid", 0, _process),
    15: ("bpf_get_current_uid_gid", 0, _zero),
    16: ("bpf_get_current_comm", 2, _process),
    42: ("bpf_get_numa_node_id", 0, _zero),
    87: ("bpf_map_push_elem", 3, _push),
    88: ("bpf_map_pop_elem", 2, _take(remove=True)),
    89: ("bpf_map_peek_elem", 2, _take(remove=False)),
    93: ("bpf_spin_lock", 1, _spin_lock),
    94: ("bpf_spin_unlock", 1, _spin_unlock),
    113: ("bpf_probe_read_kernel", 3, _probe_read),
    125: ("bpf_ktime_get_boot_ns", 0, _ktime),
    130: ("bpf_ringbuf_output", 4, _ringbuf_output),
    131: ("bpf_ringbuf_reserve", 3, _ringbuf_reserve),
    132: ("bpf_ringbuf_submit", 2, _ringbuf_end),
    133: ("bpf_ringbuf_discard", 2, _ringbuf_end),
    148: ("bpf_copy_from_user", 3, _copy_from_user),
    160: ("bpf_ktime_get_coarse_ns", 0, _ktime),
    164: ("bpf_for_each_map_elem", 4, _for_each),
    181: ("bpf_loop", 4, _loop),
    182: ("bpf_strncmp", 3, _strncmp),
    195: ("bpf_map_lookup_percpu_elem", 3, _map_lookup_percpu),
    **packets.HELPERS,
}
# helpers that return a pointer, a count of 64 bits or nothing: no sign to extend
_VARIADIC = frozenset({6})


def arguments(number: int) -> int:
    """How many registers a call looks at, from R1 on."""
    if number in _VARIADIC:
        return 5
    return HELPERS[number][1] if number in HELPERS else 0


def bind(machine: "Machine", number: int) -> Callable[[list[Any]], int | None]:
    """Make a call of helper `number` that checks and passes its arguments."""
    if number not in HELPERS:

        def unknown(_args: list[Any]) -> int | None:
            raise Unsupported(f"helper {number}")

        return unknown
    name, count, function = HELPERS[number]

    def call(args: list[Any]) -> int | None:
        given = args[:count]
        if None in given:
            raise Fault(f"{name}: R{given.index(None) + 1} is not initialised")
        rest = args[count:] if number in _VARIADIC else []
        result = function(machine, *given, *rest)
        if machine.trace.on and number != 6:
            _say(machine, name, given, result)
        return None if result is None else result & M64

    return call


def _say(machine: "Machine", name: str, given: list[int], result: int | None) -> None:
    if result is None:
        outcome = ": no target, the program goes on" if name == "bpf_tail_call" else ""
    else:
        outcome = f" = {machine.trace.show(result) if result > 0 else value(signed(result))}"
    machine.trace.call(name, given, result, outcome)
