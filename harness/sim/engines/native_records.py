# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Walking over the records of a pcap file in machine code: harness.sim.pcap's loop again.

With the packets themselves run natively, reading them in Python would take most of the time.
"""

import ctypes
from array import array

from harness.sim.batch import Batch
from harness.sim.engines.native import FULL, compile_text

_RECORD_BYTES = 16
_MAX_PACKET_BYTES = 262_144
_NS = 1_000_000_000
_ARGUMENTS = (ctypes.c_void_p, *[ctypes.c_int64] * 3, *[ctypes.c_void_p] * 5)

# %result: bytes of whole records, a length that is wrong
_TEXT = f"""
declare i32 @llvm.bswap.i32(i32)

define internal i64 @field(ptr %record, i64 %at, i1 %swap) alwaysinline {{
  %cell = getelementptr i8, ptr %record, i64 %at
  %plain = load i32, ptr %cell, align 1
  %swapped = call i32 @llvm.bswap.i32(i32 %plain)
  %value = select i1 %swap, i32 %swapped, i32 %plain
  %wide = zext i32 %value to i64
  ret i64 %wide
}}

define i64 @records(ptr %data, i64 %size, i64 %unit, i64 %big, ptr %offsets, ptr %lengths,
                    ptr %originals, ptr %times, ptr %result) {{
start:
  %swap = icmp ne i64 %big, 0
  br label %loop
loop:
  %at = phi i64 [ 0, %start ], [ %end, %keep ]
  %i = phi i64 [ 0, %start ], [ %next, %keep ]
  %first = add i64 %at, {_RECORD_BYTES}
  %fits = icmp ule i64 %first, %size
  br i1 %fits, label %record, label %done
record:
  %head = getelementptr i8, ptr %data, i64 %at
  %seconds = call i64 @field(ptr %head, i64 0, i1 %swap)
  %fraction = call i64 @field(ptr %head, i64 4, i1 %swap)
  %captured = call i64 @field(ptr %head, i64 8, i1 %swap)
  %wire = call i64 @field(ptr %head, i64 12, i1 %swap)
  %big_one = icmp ugt i64 %captured, {_MAX_PACKET_BYTES}
  br i1 %big_one, label %done, label %whole
whole:
  %end = add i64 %first, %captured
  %inside = icmp ule i64 %end, %size
  br i1 %inside, label %keep, label %done
keep:
  %o = getelementptr i64, ptr %offsets, i64 %i
  store i64 %first, ptr %o
  %l = getelementptr i64, ptr %lengths, i64 %i
  store i64 %captured, ptr %l
  %w = getelementptr i64, ptr %originals, i64 %i
  store i64 %wire, ptr %w
  %whole_ns = mul i64 %seconds, {_NS}
  %part_ns = mul i64 %fraction, %unit
  %ns = add i64 %whole_ns, %part_ns
  %t = getelementptr i64, ptr %times, i64 %i
  store i64 %ns, ptr %t
  %next = add i64 %i, 1
  br label %loop
done:
  %wrong = phi i64 [ 0, %loop ], [ %captured, %record ], [ 0, %whole ]
  store i64 %at, ptr %result
  %second = getelementptr i64, ptr %result, i64 1
  store i64 %wrong, ptr %second
  ret i64 %i
}}
"""


def records(data: bytes, order: str, unit_ns: int) -> tuple[int, Batch, int]:
    """Walk over whole records: how many bytes they take, the packets, and a length that is wrong.

    As harness.sim.pcap does it. `order` is "<" or ">".
    """
    walk = compile_text(_TEXT, FULL).function("records", *_ARGUMENTS)
    room = bytes(8 * (len(data) // _RECORD_BYTES))
    batch = Batch(data, *(array("Q", room) for _ in range(4)))
    arrays = (batch.offsets, batch.lengths, batch.originals, batch.times_ns)
    result = array("Q", [0, 0])
    places = [part.buffer_info()[0] for part in (*arrays, result)]
    count = walk(ctypes.c_char_p(data), len(data), unit_ns, order == ">", *places)
    for part in arrays:
        del part[count:]
    return result[0], batch, result[1]
