# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Programs that attach to functions of the same object: which of them may."""

import pytest

from harness.bpf.elf import read_object
from harness.series import SERIES
from harness.verify.predict import predict
from harness.verify.prediction import Verdict

CALLBACK = """
int handler(__u64 cookie) { return 1; }
__noinline int called(int x) { barrier(); return x; }
SEC("tc") __exception_cb(handler)
int entry(struct __sk_buff *skb) { bpf_throw(called(3)); return 0; }
"""
FITS = 'SEC("?freplace/called") int other(int x) { return 3; }'
FITS_NOT = 'SEC("?freplace/called") int other(__u64 x) { return 3; }'
REPLACES = 'SEC("?freplace/handler") int other(__u64 cookie) { return 3; }'
ENTERS = 'SEC("?fentry/handler") int other(__u64 *ctx) { return 0; }'
LEAVES = 'SEC("?fexit/handler") int other(__u64 *ctx) { return 0; }'
WORDS = "{} programs cannot attach to exception callback"


@pytest.fixture
def predicted(compiled):
    def run(text, series):
        return predict(read_object(compiled(CALLBACK + text)), "other", series)

    return run


@pytest.mark.parametrize("series", SERIES)
def test_callback_is_left_alone(predicted, series):
    tracing = "Tracing" if series == "7.3" else "FENTRY/FEXIT"
    for text, name in ((REPLACES, "Extension"), (ENTERS, tracing), (LEAVES, tracing)):
        found = predicted(text, series)
        assert (found.verdict, found.errno) == (Verdict.REJECT, 22)
        assert found.message == WORDS.format(name)


@pytest.mark.parametrize("series", SERIES)
def test_function_is_replaced_by_one_like_it(predicted, series):
    assert predicted(FITS, series).verdict is Verdict.ACCEPT
    unknown = predicted(FITS_NOT, series)
    assert (unknown.verdict, "types of called()" in unknown.why) == (Verdict.UNKNOWN, True)


def test_replaced_function_must_be_there(predicted):
    found = predicted('SEC("?freplace/away") int other(int x) { return 3; }', "7.3")
    assert found.why == "the replaced function away() is not in this object"
