# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The loop over a batch of packets as LLVM IR.

Owns what happens to a packet between two runs as long as Python has nothing to do with it: the
frame is copied, the context's fields are set, the program runs, a throw goes to its callback. As
soon as Python had a part in a run, Python finishes it (harness.sim.engines.native_batch).
"""

from harness.sim.engines import native_layout as at
from harness.sim.engines.native_facts import Facts
from harness.sim.engines.native_text import GUEST, OWN, SIZES, Text, pointer

_ONE_FRAME = (1 << at.LIVE_SHIFT) + 1
_TYPE_OFFSET = 12
_VLAN_TYPES = (0x8100, 0x88A8)
_FIRST_ETHERTYPE = 0x600


def loop(main: Facts, callback: Facts | None, *, returns_cookie: bool) -> str:
    """`@batch`: runs packets INDEX to COUNT - 1, or as many as it can by itself.

    Gives DONE, or why INDEX is where it stopped.
    """
    text = Text()
    text.label("start")
    text.add(f"%first = load i64, ptr {text.cell(at.INDEX)}{OWN}")
    text.add(f"%count = load i64, ptr {text.cell(at.COUNT)}{OWN}")
    text.add("br label %loop")
    text.label("loop")
    text.add("%i = phi i64 [ %first, %start ], [ %next, %done ]")
    text.write(at.INDEX, "%i")
    ends = text.op("icmp uge i64 %i, %count")
    text.add(f"br i1 {ends}, label %end, label %packet")
    text.label("end")
    text.add(f"ret i64 {at.DONE}")
    text.label("not_run")
    text.add(f"ret i64 {at.NOT_RUN}")
    text.label("packet")
    _packet(text)
    _run(text, main)
    _throw(text, callback, returns_cookie=returns_cookie)
    _store_result(text)
    return "\n".join(["define i64 @batch(ptr %st) {", *text.lines, "}"])


def _element(text: Text, array: int, width: int = 8) -> str:
    """Address of the packet's item in an array."""
    base = pointer(text, "%st", array)
    return text.op(f"getelementptr i8, ptr {base}, i64 {text.op(f'mul i64 %i, {width}')}")


def _packet(text: Text) -> None:
    """Put the frame into the packet's region, and what is said about it into the context."""
    offset = text.op(f"load i64, ptr {_element(text, at.OFFSETS)}{OWN}")
    length = text.op(f"load i64, ptr {_element(text, at.LENGTHS)}{OWN}")
    short = text.op(f"icmp ult i64 {length}, {text.read(at.SHORTEST)}")
    long = text.op(f"icmp ugt i64 {length}, {text.read(at.LONGEST)}")
    text.add(f"br i1 {text.op(f'or i1 {short}, {long}')}, label %not_run, label %typed")
    text.label("typed")
    frame = text.op(f"getelementptr i8, ptr {pointer(text, '%st', at.DATA)}, i64 {offset}")
    place = text.op(f"getelementptr i8, ptr {frame}, i64 {_TYPE_OFFSET}")
    kind = text.op(f"load i16, ptr {place}, align 1{OWN}")
    text.add(f"%type = call i16 @llvm.bswap.i16(i16 {kind})")
    tags = [text.op(f"icmp eq i16 %type, {number}") for number in _VLAN_TYPES]
    tagged = text.op(f"or i1 {tags[0]}, {tags[1]}")
    strips = text.op(f"icmp ne i64 {text.read(at.STRIPS)}, 0")
    text.add(f"br i1 {text.op(f'and i1 {tagged}, {strips}')}, label %not_run, label %copy")
    text.label("copy")
    hidden = text.read(at.HIDDEN)
    source = text.op(f"getelementptr i8, ptr {frame}, i64 {hidden}")
    host = pointer(text, "%st", at.PACKET_HOST)
    text.add(f"%size = sub i64 {length}, {hidden}")
    text.add(
        f"call void @llvm.memcpy.p0.p0.i64(ptr {host}, ptr {source}, i64 %size, i1 false){GUEST}"
    )
    start = text.read(at.PACKET)
    _region(text, start)
    end = text.op(f"add i64 {start}, %size")
    known = text.op(f"icmp uge i16 %type, {_FIRST_ETHERTYPE}")
    for slot, value in (
        (at.END_SLOT, end),
        (at.LENGTH_SLOT, "%size"),
        (at.PROTOCOL_SLOT, text.op(f"zext i16 {kind} to i64")),
    ):
        place = text.op(f"mul i64 {text.read(slot)}, 8")
        cell = text.op(f"getelementptr i8, ptr {text.cell(at.SLOTS)}, i64 {place}")
        text.add(f"store i64 {value}, ptr {cell}{OWN}")
    place = text.op(f"mul i64 {text.read(at.PROTOCOL_SLOT)}, 8")
    cell = text.op(f"getelementptr i8, ptr {text.cell(at.VALID)}, i64 {place}")
    text.add(f"store i64 {text.op(f'zext i1 {known} to i64')}, ptr {cell}{OWN}")


def _region(text: Text, start: str) -> None:
    """Enter the packet into the region table."""
    offset = text.read(at.PACKET_ENTRY)
    entry = text.op(f"getelementptr i8, ptr %st, i64 {offset}")
    text.add(f"store i64 {start}, ptr {entry}{OWN}")
    host_cell = text.op(f"getelementptr i8, ptr {entry}, i64 {at.ENTRY_HOST}")
    text.add(f"store i64 {text.read(at.PACKET_HOST)}, ptr {host_cell}{OWN}")
    for index, size in enumerate(SIZES):
        fits = text.op(f"icmp uge i64 %size, {size}")
        limit = text.op(f"sub i64 %size, {size - 1}")
        limit = text.op(f"select i1 {fits}, i64 {limit}, i64 0")
        narrow = text.op(f"trunc i64 {limit} to i32")
        for kind in (at.ENTRY_LOADS, at.ENTRY_STORES):
            cell = text.op(f"getelementptr i8, ptr {entry}, i64 {kind + 4 * index}")
            text.add(f"store i32 {narrow}, ptr {cell}{OWN}")


def _call(text: Text, facts: Facts, argument: str, budget: str) -> tuple[str, str, str]:
    """Run a function in the only frame: value, budget, status."""
    frame = text.op(f"call i64 @stack_address(ptr %st, i64 0, i64 {budget})")
    made = text.op(
        f"call fastcc %r @f{facts.index}(ptr %st, i64 {argument}, i64 0, i64 0, i64 0, i64 0, "
        f"i64 {frame}, i64 {_ONE_FRAME}, i64 {budget})"
    )
    value, left, status = (text.op(f"extractvalue %r {made}, {i}") for i in range(3))
    for cell, result in ((at.RESULT, value), (at.BUDGET, left), (at.STATUS, status)):
        text.write(cell, result)
    return value, left, status


def _run(text: Text, main: Facts) -> None:
    """The program, as Machine.run() would; goes on at `ended` where Python had no part in it."""
    context = text.read(at.RUN_CONTEXT)
    for cell, value in (
        (at.CONTEXT, context), (at.STAGE, 0), (at.OWNED, 0), (at.FAST_THROW, 1), (at.HELD, 0),
    ):  # fmt: skip
        text.write(cell, value)
    value, left, status = _call(text, main, context, text.read(at.RUN_BUDGET))
    text.add(f"%left = add i64 {left}, 0")
    text.add(f"%status = add i64 {status}, 0")
    text.add(f"%value = add i64 {value}, 0")
    owned = text.op(f"icmp ne i64 {text.read(at.OWNED)}, 0")
    text.add(f"br i1 {owned}, label %not_finished, label %ended")
    text.label("not_finished")
    text.add(f"ret i64 {at.NOT_FINISHED}")
    text.label("ended")
    text.add(
        f"switch i64 %status, label %not_finished [ i64 {at.OK}, label %returned "
        f"i64 {at.THROWN}, label %thrown ]"
    )


def _throw(text: Text, callback: Facts | None, *, returns_cookie: bool) -> None:
    """The exception callback in place of the program."""
    text.label("thrown")
    text.add(f"%cookie = load i64, ptr {text.cell(at.VALUE)}{OWN}")
    text.add(f"store i64 %cookie, ptr {_element(text, at.COOKIES)}{OWN}")
    text.add(f"store i8 1, ptr {_element(text, at.THREW, 1)}{OWN}")
    if callback is None:
        text.add(f"%caught = add i64 {'%cookie' if returns_cookie else '0'}, 0")
        text.add("br label %caught_end")
        text.label("caught_end")
        text.add("br label %store")
        return
    text.write(at.STAGE, 1)
    text.write(at.FAST_THROW, 0)
    value, _, status = _call(text, callback, "%cookie", "%left")
    text.add(f"%caught = add i64 {value}, 0")
    owned = text.op(f"icmp ne i64 {text.read(at.OWNED)}, 0")
    bad = text.op(f"icmp ne i64 {status}, 0")
    text.add(f"br i1 {text.op(f'or i1 {owned}, {bad}')}, label %not_finished, label %caught_end")
    text.label("caught_end")
    text.add("br label %store")


def _store_result(text: Text) -> None:
    text.label("returned")
    text.add("br label %store")
    text.label("store")
    result = text.op("phi i64 [ %value, %returned ], [ %caught, %caught_end ]")
    cut = text.op(f"and i64 {result}, {(1 << 32) - 1}")
    text.add(f"store i64 {cut}, ptr {_element(text, at.RETVALS)}{OWN}")
    text.add("br label %done")
    text.label("done")
    text.add("%next = add i64 %i, 1")
    text.add("br label %loop")
