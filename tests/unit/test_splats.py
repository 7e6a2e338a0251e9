# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
import datetime as dt
from pathlib import Path

import pytest

from harness.errors import UsageError, WorldError
from harness.target.splats import Report, described, find_splats, load_rules, reports

DATA = Path(__file__).parent.parent / "data" / "kernel-log"
TODAY = dt.date(2026, 11, 22)

DENY = """
[[deny]]
name = "warning"
pattern = '^WARNING: '
[[deny]]
name = "panic"
pattern = '^Kernel panic'
consequence = true
"""
ALLOW = """
[[allow]]
pattern = 'known_function'
reason = "fixed upstream, not yet in this kernel"
link = "https://lore.kernel.org/bpf/x"
expires = 2027-01-01
"""


def write(tmp_path, text):
    path = tmp_path / "splats.toml"
    path.write_text(text)
    return path


def splats(log, rules=None):
    return find_splats(log, rules or load_rules(), TODAY)


def test_our_own_rules_are_valid_today():
    """An expired allowance turns this red, on purpose."""
    assert find_splats("", load_rules(), dt.datetime.now(tz=dt.UTC).date()) == ()


@pytest.mark.parametrize(
    ("name", "title", "functions"),
    [
        ("6.12-null-dereference", "BUG: kernel NULL pointer dereference", "jit_subprogs < bpf_"),
        ("6.12-rcu-leak", "Voluntary context switch within RCU", "rcu_note_context_switch < __sch"),
        ("6.18-verifier-bug", "verifier bug: scc exit", "do_check_common < bpf_check"),
        ("7.3-verifier-bug", "verifier bug: scc exit", "bpf_update_branch_counts < do_check_"),
        ("7.3-protection-fault", "Oops: general protection fault", "bpf_jit_subprogs < bpf_fixup"),
    ],
)  # fmt: skip
def test_recorded(name, title, functions):
    """One event is one splat, though it prints a warning, a trace and a panic."""
    (splat,) = splats((DATA / f"{name}.log").read_text())
    assert splat.startswith(title)
    assert f"\n  in {functions}" in splat


@pytest.mark.parametrize("name", ["6.12-clean", "7.3-boot"])
def test_recorded_clean(name):
    assert splats((DATA / f"{name}.log").read_text()) == ()


def test_warning_line_is_quoted_below_its_title():
    (splat,) = splats((DATA / "6.18-verifier-bug.log").read_text())
    assert splat.splitlines()[1].startswith("  WARNING: CPU: 0 PID: 128 at kernel/bpf/verifier.c")


def test_two_events_are_two():
    first = (DATA / "6.18-verifier-bug.log").read_text()
    second = (DATA / "6.12-null-dereference.log").read_text()
    assert len(splats(first + second)) == 2


@pytest.mark.parametrize(
    "line",
    [
        "WARNING: CPU: 0 PID: 9 at kernel/bpf/helpers.c:2812 bpf_throw+0x1/0x2",
        "WARNING: kernel/bpf/states.c:207 at f+0x1/0x2, CPU#0: x/1",
        "WARNING: possible circular locking dependency detected",
        "BUG: KASAN: slab-use-after-free in f+0x1/0x2",
        "BUG: sleeping function called from invalid context at mm/x.c:1",
        "BUG: scheduling while atomic: x/1/0x00000002",
        "BUG: unable to handle page fault for address: ffff",
        "kernel BUG at net/core/dev.c:1!",
        "watchdog: BUG: soft lockup - CPU#0 stuck for 22s! [x:1]",
        "rcu: INFO: rcu_preempt self-detected stall on CPU",
        "INFO: task x:1 blocked for more than 120 seconds.",
        "UBSAN: array-index-out-of-bounds in kernel/bpf/core.c:1:2",
        "A call to BPF exception callback should never return",
        "refcount_t: underflow; use-after-free.",
        "general protection fault, maybe for address 0x0: 0000 [#1]",
        "Kernel panic - not syncing: sysrq triggered crash",
        "traps: PANIC: double fault, error_code: 0x0",
        "[?] the kernel log overran: records were lost",
        "unregister_netdevice: waiting for veth0 to become free. Usage count = 2",
    ],
)
@pytest.mark.parametrize("prefix", ["", "[    4.446547] ", "[    4.4][  T132] ", "4,99,4446547,-;"])
def test_one_line_is_enough(prefix, line):
    assert splats(f"{prefix}harmless\n{prefix}{line}\n{prefix}after\n") == (line,)


@pytest.mark.parametrize(
    "line",
    [
        "NMI watchdog: Perf NMI watchdog permanently disabled",
        "Illegal XDP return value 64 on prog main (id 3) dev veth0, expect packet loss!",
        "Invalid ELF header magic: != \x7fELF",
        "random: crng init done",
        "libbpf says WARNING: in the middle",
        "veth0: renamed from debug",
    ],
)
def test_harmless(line):
    assert splats(f"[    1.0] {line}\n") == ()


def test_program_names_lose_their_hash():
    log = (
        "WARNING: x\nCall Trace:\n <TASK>\n ? guess+0x1/0x2\n"
        " bpf_prog_6deef7357e7b4530_main+0x24/0x30\n bpf_test_run+0x1/0x2\n </TASK>\n"
    )
    assert splats(log) == ("WARNING: x\n  in bpf_prog_main < bpf_test_run",)


def test_unreadable_log_is_not_clean():
    with pytest.raises(WorldError, match="nobody can say"):
        splats(None)


def test_allowed(tmp_path):
    rules = load_rules(write(tmp_path, DENY + ALLOW))
    log = "WARNING: x\n known_function+0x1/0x2\n </TASK>\n"
    assert splats(log, rules) == ()
    assert splats(log.replace("known", "other"), rules)


def test_panic_after_an_allowed_warning_counts(tmp_path):
    rules = load_rules(write(tmp_path, DENY + ALLOW))
    log = "WARNING: x\n known_function+0x1/0x2\n </TASK>\nKernel panic - not syncing: y\n"
    assert splats(log, rules) == ("Kernel panic - not syncing: y",)


def test_panic_belongs_to_the_oops_before_it(tmp_path):
    rules = load_rules(write(tmp_path, DENY))
    assert splats("WARNING: x\n </TASK>\nKernel panic - y\n", rules) == ("WARNING: x",)


def test_expired_allowance_is_an_error(tmp_path):
    rules = load_rules(write(tmp_path, DENY + ALLOW))
    with pytest.raises(UsageError, match="expired on 2027-01-01"):
        find_splats("clean", rules, dt.date(2027, 1, 1))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no deny entry"),
        ("[[denied]]\n", "unknown key 'denied'"),
        ("[[deny]]\nname = 'x'\n", "missing key 'pattern'"),
        ("[[deny]]\nname = 'x'\npattern = 'y'\nwhy = 'z'\n", "unknown key 'why'"),
        ("[[deny]]\nname = 'x'\npattern = '('\n", "regular expression"),
        ("[[deny]]\nname = 'x'\npattern = ''\n", "'pattern' is not a str"),
        ("deny = [1]\n", "not a table"),
        ("deny = 1\n", "'deny' is not a list"),
        (DENY + ALLOW.replace("reason", "cause"), "unknown key 'cause'"),
        (DENY + ALLOW.replace("expires = 2027-01-01", ""), "missing key 'expires'"),
        (DENY + ALLOW.replace("2027-01-01", "'2027-01-01'"), "'expires' is not a date"),
        (DENY + ALLOW.replace("2027-01-01", "2027-01-01T00:00:00"), "'expires' is not a date"),
        ("[[deny]\n", "splats.toml"),
    ],
)
def test_bad_rules(tmp_path, text, says):
    with pytest.raises(UsageError) as caught:
        load_rules(write(tmp_path, text))
    assert says in str(caught.value)
    assert "splats.toml" in str(caught.value)


def test_a_description_tells_what_it_was_made_of():
    log = "BUG: x\nCall Trace:\n f+0x1/0x2\n g+0x1/0x2\n</TASK>\n"
    (text,) = find_splats(log, load_rules(), TODAY)
    assert described(text) == Report(("BUG: x",), ("f", "g"))
    assert described("WARNING: y") == Report(("WARNING: y",), ())
    (whole,) = reports(log, load_rules())
    assert (whole.lines[0], whole.functions) == ("BUG: x", ("f", "g"))
