# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Programs that attach to functions of the same object: which of them may."""

import subprocess

import pytest

from harness import build
from harness.bpf.elf import read_object
from harness.bpf.environment import Environment
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


def _program(section):
    return f'SEC("{section}") int other(void *ctx) {{ return 0; }}'


@pytest.mark.parametrize(
    ("section", "name"),
    [
        ("fentry/no_such_function", "no_such_function"),
        ("fmod_ret/no_such_function", "no_such_function"),
        ("tp_btf/no_such_point", "btf_trace_no_such_point"),
        ("iter/no_such_thing", "bpf_iter_no_such_thing"),
    ],
)
def test_what_a_kernel_may_lack_is_unknown_without_its_types(predicted, section, name):
    found = predicted(_program(section), "7.3")
    assert found.verdict is Verdict.UNKNOWN
    assert found.why == f"whether there is a {name}: no types of a kernel are given"


@pytest.mark.parametrize("section", ["fentry/bpf_fentry_test1", "tp_btf/sched_switch"])
def test_what_every_kernel_has_needs_no_types(predicted, section):
    assert predicted(_program(section), "7.3").verdict is Verdict.ACCEPT


_KERNEL = """
struct both { long a, b; };
int plain(int x) { return x; }
int any_number(const char *format, ...) __attribute__((section(".ksyms")));
int by_value(struct both x) { return x.a; }
int security_hook(int x) { return x; }
int calls(void) { return any_number("x", 1); }
"""


@pytest.fixture(scope="module")
def types(tmp_path_factory):
    """Types of a kernel that has four functions."""
    where = tmp_path_factory.mktemp("types")
    (where / "vmlinux.c").write_text(_KERNEL)
    argv = [build.find_clang(), "-target", "bpf", "-g", "-O1", "-c", "vmlinux.c", "-o", "vmlinux.o"]
    subprocess.run(argv, cwd=where, check=True)
    return Environment(read_object(where / "vmlinux.o").btf)


@pytest.mark.parametrize(
    ("section", "why"),
    [
        ("fentry/plain", ""),
        ("fexit/away", "away is not in vmlinux: a module may have it"),
        ("fentry/any_number", "whether a program may look at the arguments of any_number()"),
        ("fentry/by_value", "whether a program may look at the arguments of by_value()"),
        ("fmod_ret/plain", "whether the kernel lets others change what plain() returns"),
        ("fmod_ret/security_hook", ""),
    ],
)
def test_functions_of_a_kernel_with_known_types(compiled, types, section, why):
    found = predict(read_object(compiled(_program(section))), "other", "7.3", environment=types)
    assert found.why == why
    assert found.verdict is (Verdict.UNKNOWN if why else Verdict.ACCEPT)
