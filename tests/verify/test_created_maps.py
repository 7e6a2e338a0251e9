# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Maps that no kernel makes: what is certain of them, and what is left open."""

from types import SimpleNamespace

import pytest

from harness.bpf.mapdef import MapDef, MapType
from harness.verify import created_maps
from harness.verify.prediction import NotModelled, Rejection


def check(kind, key, value, entries):
    created_maps.check(SimpleNamespace(maps=(MapDef("m", kind, key, value, entries),)))


@pytest.mark.parametrize(
    ("kind", "key", "value", "entries", "errno", "why"),
    [
        (MapType.HASH, 4, 4, 0, 22, "no entries"),
        (MapType.ARRAY, 4, 4, 0, 22, "no entries"),
        (MapType.QUEUE, 0, 4, 0, 22, "no entries"),
        (MapType.ARRAY, 8, 4, 1, 22, "keys of 8 bytes"),
        (MapType.PROG_ARRAY, 2, 4, 1, 22, "keys of 2 bytes"),
        (MapType.LRU_HASH, 0, 4, 1, 22, "no key"),
        (MapType.PERCPU_HASH, 4, 0, 1, 22, "no value"),
        (MapType.STACK, 4, 4, 1, 22, "a queue or stack has none"),
        (MapType.ARRAY, 4, 1 << 31, 1, 7, "values of 2147483648 bytes"),
    ],
)
def test_no_kernel_makes_it(kind, key, value, entries, errno, why):
    with pytest.raises(Rejection) as caught:
        check(kind, key, value, entries)
    assert caught.value.errno == errno
    assert why in caught.value.why
    assert caught.value.message.startswith("map 'm': failed to create: ")


@pytest.mark.parametrize(
    ("kind", "key", "value", "entries"),
    [
        (MapType.HASH, 4, 4, 1),
        (MapType.ARRAY, 4, 1 << 20, 64),
        (MapType.QUEUE, 0, 4, 1),
        # as many entries as there are CPUs; as many as there are tasks
        (MapType.PERF_EVENT_ARRAY, 4, 4, 0),
        (MapType.TASK_STORAGE, 4, 8, 0),
    ],
)
def test_it_is_made(kind, key, value, entries):
    check(kind, key, value, entries)


def test_a_map_type_that_came_later_is_not_known():
    with pytest.raises(NotModelled, match="maps of type 60870, as m is"):
        check(60870, 4, 4, 1)


def test_whether_there_is_memory_is_not_known():
    with pytest.raises(NotModelled, match="memory for the map m"):
        check(MapType.ARRAY, 4, 1 << 20, 1 << 20)
