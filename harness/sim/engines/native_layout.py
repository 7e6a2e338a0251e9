# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What native code and Python share: one block of memory per machine, and numbers with a meaning.

All offsets are bytes from the start of the block; every cell has 8 bytes. Owns no behaviour.

The block: cells, then the region table, then one record for each live frame. The table is a cache
of harness.sim.memory: entry `region number % TABLE_ENTRIES`, filled by Python when an access
misses. The limits of an entry are compared with `address - base`, so that one comparison checks
region and bounds at once; 0 sends every access of that size to the slow path.
"""

from harness.sim.memory import TAG

# cells
BUDGET, VALUE, CALLBACK, DEPTH, KNOWN, FLOOR = range(0, 48, 8)
EXIT_KIND, EXIT_PC, FAST_THROW, HELD = range(48, 80, 8)
# address of the stack of the function that is entered
FRAME = 192
# R0 to R10
REGISTERS = 96

TABLE = 256
TABLE_ENTRIES = 64
ENTRY_BYTES = 64
# of an entry: synthetic address, host address; limits for 1, 2, 4, 8 bytes, 4 bytes each
ENTRY_BASE, ENTRY_HOST, ENTRY_LOADS, ENTRY_STORES = 0, 8, 16, 32

RECORDS = TABLE + TABLE_ENTRIES * ENTRY_BYTES
RECORD_BYTES = 32
# of a record: address of the frame's stack, host addresses of its bytes and their shadow, function
RECORD_FRAME, RECORD_DATA, RECORD_SHADOW, RECORD_FUNCTION = range(0, 32, 8)

TAG_BITS = TAG << 56

# what native code asks of Python: first argument of the callback
LOAD, STORE, OUTSIDE, STEP, ADDRESS, CALL, REPLACE, RETURN = range(8)

# status of a native function or a callback, its third result
OK, EMPTY, FAULT, RAISED, THROWN, REPLACED = range(6)

# why a native function ended with FAULT: low byte of EXIT_KIND; what it is about is above
NO_BUDGET, NOT_INITIALISED, TOO_DEEP, RUNS_OFF = range(4)

# depth: frames of the chain (see Machine's limit), and all live frames above
LIVE_SHIFT = 16
CHAIN_MASK = (1 << LIVE_SHIFT) - 1
