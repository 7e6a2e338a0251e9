# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The kernel that libbpf would ask, as options of `bpfthrow sim`; every engine sees the same."""

import json

import pytest
from libbpf_witness import small_types

from harness import cli

KERNEL = """
struct place { long before; int field; }; struct place p; enum level { LOW = 40 }; enum level l;
struct rq { int cpu; }; struct rq runqueues;
__attribute__((used)) void bpf_throw(unsigned long long cookie) { asm volatile(""); }
"""
PROGRAM = """
#include <bpf/bpf_core_read.h>
struct place { int field; } __attribute__((preserve_access_index));
struct gone { int nothing; } __attribute__((preserve_access_index));
struct rq { int cpu; }; extern const struct rq runqueues __weak __ksym;
extern int LINUX_KERNEL_VERSION __kconfig; extern int CONFIG_HZ __kconfig __weak;
extern _Bool CONFIG_SMP __kconfig __weak; extern int CONFIG_OTHER __kconfig __weak;
SEC("tc") int offset(struct __sk_buff *s) {
    bpf_throw(bpf_core_field_offset(((struct place *)0)->field)); return 0; }
SEC("tc") int guarded(struct __sk_buff *s) { struct gone *g = (void *)s;
    if (s->len > 1000) return g->nothing; bpf_throw(bpf_core_field_exists(g->nothing) + 7);
    return 0; }
SEC("tc") int version(struct __sk_buff *s) { return LINUX_KERNEL_VERSION; }
SEC("tc") int config(struct __sk_buff *s) { return CONFIG_HZ + CONFIG_SMP; }
SEC("tc") int other(struct __sk_buff *s) { return CONFIG_OTHER + 3; }
SEC("tc") int variable(struct __sk_buff *s) { return &runqueues != 0; }
SEC("tc") int reads(struct __sk_buff *s) { return runqueues.cpu; }
"""
ENGINES = ("reference", "source")


@pytest.fixture
def sim(compiled, tmp_path, capsys):
    """Run `bpfthrow sim` on a program: (exit code, observation)."""
    types = small_types(tmp_path, KERNEL)

    def run(program, *options):
        words = [str(types) if o == "TYPES" else o for o in options]
        code = cli.main(["sim", str(compiled(PROGRAM)), "--prog", program, "--json", *words])
        return code, json.loads(capsys.readouterr().out)

    return run


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("program", "options", "retval"),
    [
        ("offset", ["--btf", "TYPES"], 8),
        ("guarded", ["--btf", "TYPES"], 7),
        ("variable", ["--btf", "TYPES"], 1),
        ("version", [], 0x060C00),
        ("version", ["--profile", "7.3"], 0x070300),
        ("version", ["--release", "6.1.176"], 0x0601B0),
        ("config", [], 251),
        ("config", ["--kconfig", "CONFIG_HZ=1000"], 1001),
    ],
)
def test_what_is_given_decides(sim, engine, program, options, retval):
    code, seen = sim(program, "--engine", engine, *options)
    assert (code, seen["verdict"], seen["retval"]) == (0, "ran", retval)


def test_a_configuration_file_says_what_is_off(sim, tmp_path):
    config = tmp_path / "config"
    config.write_text("CONFIG_HZ=100\n# CONFIG_SMP is not set\n")
    assert sim("config", "--kconfig", str(config))[1]["retval"] == 100
    assert sim("other", "--kconfig", str(config))[1]["retval"] == 3


@pytest.mark.parametrize(
    ("program", "options", "message"),
    [
        ("guarded", [], "CO-RE relocation field_exists of struct gone.nothing: no types"),
        ("other", [], "CONFIG_OTHER: no value of it is given"),
        ("version", ["--profile", "series-v1"], "LINUX_KERNEL_VERSION: no kernel release is given"),
        ("variable", [], "extern runqueues"),
        ("reads", ["--btf", "TYPES"], "kernel variable runqueues"),
    ],
)
def test_what_is_not_given_is_unsupported(sim, program, options, message):
    code, seen = sim(program, *options)
    assert (code, seen["verdict"]) == (1, "unsupported")
    assert message in seen["message"]


def test_poison_is_a_fault_where_it_is_reached(sim):
    code, seen = sim("guarded", "--btf", "TYPES", "--packet", "eth ipv4 udp payload=2000")
    assert (code, seen["verdict"]) == (1, "rejected")
    assert "invalid func unknown#195896080: CO-RE relocation field_byte_offset" in seen["message"]
