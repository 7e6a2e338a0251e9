# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What native code and Python share: one block of memory per machine, and numbers with a meaning.

All offsets are bytes from the start of the block; every cell has 8 bytes. Owns no behaviour.

The block: cells, then the region table, then one record for each live frame. The table is a cache
of harness.sim.memory: entry `region number % TABLE_ENTRIES`, filled by Python when an access
misses. The limits of an entry are compared with `address - base`, so that one comparison checks
region and bounds at once; 0 sends every access of that size to the slow path.
"""

from harness.sim.frames import MAX_LIVE_FRAMES
from harness.sim.memory import TAG

# cells
BUDGET, VALUE, CALLBACK, DEPTH, KNOWN, FLOOR = range(0, 48, 8)
EXIT_KIND, EXIT_PC, FAST_THROW, HELD = range(48, 80, 8)
# address of a context whose fields are in SLOTS, or NO_CONTEXT
CONTEXT = 80
NO_CONTEXT = 1 << 63
# address of the stack of the function that is entered
FRAME = 192
# R0 to R10
REGISTERS = 96

TABLE = 256
TABLE_ENTRIES = 64
ENTRY_BYTES = 64
# of an entry: synthetic address, host address; limits for 1, 2, 4, 8 bytes, 4 bytes each
ENTRY_BASE, ENTRY_HOST, ENTRY_LOADS, ENTRY_STORES = 0, 8, 16, 32

# one for each live frame, from index 1 on
RECORD_COUNT = MAX_LIVE_FRAMES + 2
RECORDS = TABLE + TABLE_ENTRIES * ENTRY_BYTES
RECORD_BYTES = 32
# of a record: address of the frame's stack, host addresses of its bytes and their shadow, function
RECORD_FRAME, RECORD_DATA, RECORD_SHADOW, RECORD_FUNCTION = range(0, 32, 8)

TAG_BITS = TAG << 56

# what native code asks of Python: first argument of the callback
LOAD, STORE, OUTSIDE, STEP, ADDRESS, CALL, REPLACE, RETURN = range(8)

# status of a native function or a callback, its third result
OK, EMPTY, FAULT, RAISED, THROWN, REPLACED, ENDED = range(7)

# why a native function ended with FAULT: low byte of EXIT_KIND; what it is about is above
NO_BUDGET, NOT_INITIALISED, TOO_DEEP, RUNS_OFF = range(4)

# depth: frames of the chain (see Machine's limit), and all live frames above
LIVE_SHIFT = 16
CHAIN_MASK = (1 << LIVE_SHIFT) - 1

# fields of a context by offset / 4: value, and whether it may be used; the last one is for nobody
CONTEXT_BYTES = 256
SLOT_COUNT = CONTEXT_BYTES // 4 + 1
SLOTS = RECORDS + RECORD_COUNT * RECORD_BYTES
VALID = SLOTS + 8 * SLOT_COUNT

# batches of packets: host addresses of the arrays, index and count of packets
BATCH = VALID + 8 * SLOT_COUNT
DATA, OFFSETS, LENGTHS, RETVALS, THREW, COOKIES, INDEX, COUNT = range(BATCH, BATCH + 64, 8)
# bounds of a frame's length, bytes of it that the program does not see, whether tags are taken out
SHORTEST, LONGEST, HIDDEN, STRIPS = range(BATCH + 64, BATCH + 96, 8)
# of the packet: synthetic and host address, entry in the table; slots of data_end, len, protocol
PACKET, PACKET_HOST, PACKET_ENTRY, END_SLOT, LENGTH_SLOT, PROTOCOL_SLOT = range(
    BATCH + 96, BATCH + 144, 8
)
# of each run: context, budget; what came of it where Python has to finish it
RUN_CONTEXT, RUN_BUDGET, STATUS, RESULT = range(BATCH + 144, BATCH + 176, 8)
# 1 while the exception callback runs; 1 once Python made a context and packet of its own
STAGE, OWNED = range(BATCH + 176, BATCH + 192, 8)
BLOCK_BYTES = BATCH + 192

# why a batch ends: all done; a packet to be run by Python, or to be finished by Python
DONE, NOT_RUN, NOT_FINISHED = range(3)
