# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What becomes of a case when its guest crashes, hangs, or cannot be had."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import pytest

from harness.config import Settings
from harness.errors import MachineLostError, WorldError
from harness.kernels import Kernel
from harness.model import Case, Observation, Verdict
from harness.symbols import parse
from harness.target import boot, channel, login, saved, virtual, vm
from harness.target.base import Facts
from harness.target.machine import Machine

KERNEL = Kernel("6.12", "6.12.107", Path("bzImage"), None, None, expects_throw=True, origin="")
MACHINE = Machine("6.12", "6.12.107", Path("bzImage"), None, Path("root"), "0")
CASE = Case("throw/x", "x.bpf.o", "x", "tc", "test_run", needs=("throw",))


@dataclass
class FakeGuest:
    console: str = ""
    lives: bool = True
    stopped: bool = False
    keeper: object = field(default_factory=object)
    boot_s: float = 0.0
    prepared: bool = True
    state: object = None
    lock: object = None
    scale: float = 1.0
    run_dir: Path = Path("nowhere")
    released: bool = False

    def release(self):
        self.released = True

    def console_text(self):
        return self.console

    def alive(self):
        return self.lives and not self.stopped

    def stop(self):
        self.stopped = True


class FakeClient:
    """Does what the next entry of `acts` says."""

    features = MappingProxyType({})

    def __init__(self, acts, guest):
        self._acts, self._guest = acts, guest

    def run(self, case, facts):
        act = self._acts.pop(0)
        return act(self._guest)

    def missing(self, feature):
        return self.features.get(feature, "")

    def finish(self):
        return ()

    def close(self):
        pass


def _ran(_guest):
    return Observation(Verdict.RAN, retvals=(1,))


def _refused(_guest):
    return Observation(Verdict.REJECTED, message="refused by the verifier")


def _panics(guest):
    guest.console += "[ 9.0] Oops: general protection fault\n[ 9.1] Kernel panic - not syncing: x\n"
    guest.lives = False
    raise MachineLostError("the agent went away during 'run'")


def _hangs(_guest):
    raise channel.RequestTimeoutError("no answer to 'run' in 30 s")


def _agent_dies(_guest):
    raise MachineLostError("the agent went away during 'run'", evidence="Killed")


def _vanishes(guest):
    guest.lives = False
    raise MachineLostError("the agent went away during 'run'")


@pytest.fixture
def target(monkeypatch):
    """Build a target whose guests do as told; `.guests` lists those that were booted."""

    def build(*acts, boots=99):
        made = virtual.VirtualTarget(KERNEL, MACHINE, Settings())
        made.guests = []
        left = list(acts)

        def boot():
            if len(made.guests) >= boots:
                raise MachineLostError("6.12.107 did not boot")
            guest = FakeGuest("[ 0.0] Linux version\n")
            made.guests.append(guest)
            made._guest, made._client = guest, FakeClient(left, guest)
            made._facts = Facts("6.12.107", "tcg", "1", "bpftool")
            made._heard = len(guest.console)

        monkeypatch.setattr(made, "_boot", boot)
        # where the next guest is begun ahead, after a death
        monkeypatch.setattr(made, "begin", lambda: None)
        return made

    monkeypatch.setattr(virtual, "_DEATH_S", 0.1)
    return build


def test_a_panic_costs_one_case_and_one_guest(target):
    machine = target(_ran, _panics, _ran)
    assert machine.run(CASE).verdict is Verdict.RAN
    crashed = machine.run(CASE)
    assert crashed.verdict is Verdict.CRASHED
    assert crashed.message == "Oops: general protection fault"
    assert "Kernel panic" in crashed.kernel_log
    assert "Linux version" not in crashed.kernel_log
    assert machine.run(CASE).verdict is Verdict.RAN
    assert len(machine.guests) == 2
    assert machine.guests[0].stopped


def test_the_last_words_are_decoded_where_symbols_are_known(target, monkeypatch):
    rows = [("_text", 0), *((f"f{n}", n << 8) for n in range(2000)), ("_etext", 2000 << 8)]
    known = parse("".join(f"{0xFFFFFFFF81000000 + at:x} T {name}\n" for name, at in rows))
    monkeypatch.setattr(virtual.symbols, "at_hand", lambda _: known)

    def panics(guest):
        guest.console += "Oops: x\nRIP: 0010:0xffffffff81000310\nKernel Offset: disabled\n"
        _vanishes(guest)

    crashed = target(panics).run(CASE)
    assert crashed.verdict is Verdict.CRASHED
    assert "0xffffffff81000310    <- ffffffff81000310 is f3+0x10/0x100" in crashed.kernel_log


def test_a_panic_between_two_cases_is_a_crash_of_the_second(target):
    machine = target(_ran, _vanishes, _ran)
    machine.run(CASE)
    machine.guests[0].console += "[ 9.1] Kernel panic - not syncing: x\n"
    assert machine.run(CASE).verdict is Verdict.CRASHED
    assert machine.run(CASE).verdict is Verdict.RAN


def test_a_hang_is_its_own_verdict_and_the_guest_is_thrown_away(target):
    machine = target(_hangs, _ran)
    assert machine.run(CASE).verdict is Verdict.HUNG
    assert machine.guests[0].stopped
    assert machine.run(CASE).verdict is Verdict.RAN


def test_a_hang_that_was_a_panic_is_a_crash(target):
    def panics_silently(guest):
        guest.console += "[ 9.0] BUG: unable to handle page fault\n"
        _hangs(guest)

    assert target(panics_silently).run(CASE).verdict is Verdict.CRASHED


def test_an_agent_that_was_killed_is_no_crash_of_the_kernel(target):
    machine = target(_agent_dies, _ran)
    lost = machine.run(CASE)
    assert lost.verdict is Verdict.LOST
    assert "the guest itself lives" in lost.message
    assert lost.log == "Killed"
    assert machine.run(CASE).verdict is Verdict.RAN


def test_a_guest_that_vanishes_is_lost_not_crashed(target):
    seen = target(_vanishes).run(CASE)
    assert seen.verdict is Verdict.LOST
    assert seen.message.endswith(": QEMU has ended, without a word from the kernel")


def test_a_guest_that_cannot_be_had_is_not_asked_for_again(target):
    machine = target(_panics, boots=1)
    machine.run(CASE)
    for _ in range(3):
        with pytest.raises(MachineLostError, match="did not boot"):
            machine.run(CASE)
    assert len(machine.guests) == 1


def _refuses_warm_guests(guest, _timeout_s):
    if guest.boot_s:
        raise MachineLostError("ssh refused")


def test_a_warm_guest_that_refuses_us_is_replaced(monkeypatch, capsys):
    machine = virtual.VirtualTarget(KERNEL, MACHINE, Settings())
    warm, fresh = FakeGuest(boot_s=4.0), FakeGuest()
    monkeypatch.setattr(boot, "_warm", lambda _: None if warm.stopped else warm)
    monkeypatch.setattr(saved, "find", lambda _: None)
    monkeypatch.setattr(vm, "start", lambda *_, **__: fresh)
    monkeypatch.setattr(vm, "connect", _refuses_warm_guests)
    assert machine._connected() is fresh
    assert warm.stopped
    assert "ssh refused" in capsys.readouterr().err


@pytest.mark.parametrize("refused", [False, True])
def test_a_restored_guest_that_refuses_us_is_forgotten_and_booted_anew(
    monkeypatch, capsys, refused
):
    """At once where QEMU says that it is the state, else when it happens again."""
    machine = virtual.VirtualTarget(KERNEL, MACHINE, Settings())
    state = saved.Saved(Path("6.12-0"), (), saved.Opening(b""), 4.0)
    kept = [state]
    restored, fresh = FakeGuest(boot_s=4.0, state=state), FakeGuest()
    tries = []

    def restore(*_args, **_options):
        tries.append(1)
        return restored

    def connect(guest, _timeout_s):
        if guest.state is not None:
            raise saved.StateError("ssh refused", refused=refused)

    monkeypatch.setattr(boot, "_warm", lambda _: None)
    monkeypatch.setattr(saved, "find", lambda _: kept[0] if kept else None)
    monkeypatch.setattr(saved, "forget", kept.remove)
    monkeypatch.setattr(vm, "restore", restore)
    monkeypatch.setattr(vm, "start", lambda *_, **__: fresh)
    monkeypatch.setattr(vm, "connect", connect)
    assert machine._connected() is fresh
    assert restored.stopped
    assert len(tries) == (1 if refused else 2)
    assert not kept
    assert "6.12-0 cannot be restored (ssh refused): booting anew" in capsys.readouterr().err


def test_a_saved_guest_is_asked_once_what_it_is(tmp_path):
    state = saved.Saved(tmp_path, (), saved.Opening(b""), 1.0)
    answer = {"kernel": "6.12", "bpftool": "v7.5.0", "jit": "1"}

    class Client:
        asked = 0

        def hello(self):
            self.asked += 1
            return answer

    client = Client()
    assert virtual._hello(client, state) == answer
    assert virtual._hello(client, state) == answer
    assert client.asked == 1
    assert virtual._hello(client, None) == answer  # one that was booted is always asked
    assert client.asked == 2
    (tmp_path / "hello.json").write_text("{")  # damaged: as good as absent
    assert virtual._hello(client, state) == answer
    assert client.asked == 3


def test_a_guest_that_qemu_does_not_restore_is_booted_anew(monkeypatch, capsys, tmp_path):
    machine = virtual.VirtualTarget(KERNEL, MACHINE, Settings())
    fresh = FakeGuest()
    state = saved.Saved(tmp_path / "6.12-0", (), saved.Opening(b""), 1.0)

    def refuse(*_args, **_options):
        raise saved.StateError("QEMU ended: Missing section footer", refused=True)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(boot, "_warm", lambda _: None)
    monkeypatch.setattr(saved, "find", lambda _: state)
    monkeypatch.setattr(vm, "restore", refuse)
    monkeypatch.setattr(vm, "start", lambda *_, **__: fresh)
    monkeypatch.setattr(vm, "connect", _refuses_warm_guests)
    state.place.mkdir()
    assert machine._connected() is fresh
    assert not state.place.exists()
    assert "Missing section footer): booting anew" in capsys.readouterr().err


def test_a_keeper_that_was_killed_says_nothing_against_the_state(monkeypatch, capsys):
    machine = virtual.VirtualTarget(KERNEL, MACHINE, Settings())
    state = saved.Saved(Path("6.12-0"), (), saved.Opening(b""), 1.0)
    fresh = FakeGuest(state=state)
    ends = [saved.StateError("the guest's keeper ended with code -9", refused=False)]

    def restore(*_args, **_options):
        if ends:
            raise ends.pop()
        return fresh

    monkeypatch.setattr(boot, "_warm", lambda _: None)
    monkeypatch.setattr(saved, "find", lambda _: state)
    monkeypatch.setattr(saved, "forget", lambda _: pytest.fail("forgot a good state"))
    monkeypatch.setattr(vm, "restore", restore)
    monkeypatch.setattr(vm, "connect", lambda *_: None)
    assert machine._connected() is fresh
    assert not capsys.readouterr().err


def test_cold_means_cold(monkeypatch):
    machine = virtual.VirtualTarget(KERNEL, MACHINE, Settings(cold=True))
    fresh = FakeGuest()
    monkeypatch.setattr(boot, "_warm", lambda _: None)
    monkeypatch.setattr(saved, "find", lambda _: pytest.fail("looked for a saved guest"))
    monkeypatch.setattr(vm, "start", lambda *_, **__: fresh)
    monkeypatch.setattr(vm, "connect", _refuses_warm_guests)
    assert machine._connected() is fresh


def test_a_fresh_guest_that_refuses_us_is_not_tried_again(monkeypatch):
    machine = virtual.VirtualTarget(KERNEL, MACHINE, Settings())
    monkeypatch.setattr(boot, "_warm", lambda _: None)
    monkeypatch.setattr(saved, "find", lambda _: None)
    monkeypatch.setattr(vm, "start", lambda *_, **__: FakeGuest())

    def refuse(_guest, _timeout_s):
        raise MachineLostError("ssh refused")

    monkeypatch.setattr(vm, "connect", refuse)
    with pytest.raises(MachineLostError, match="ssh refused"):
        machine._connected()


def test_a_kernel_that_should_throw_and_cannot_names_the_option(target, monkeypatch, tmp_path):
    config = tmp_path / "config"
    config.write_text("CONFIG_BPF_JIT=y\nCONFIG_NET=y\n# CONFIG_UNWINDER_ORC is not set\n")
    machine = target(_refused)
    monkeypatch.setattr(FakeClient, "features", {"throw": "JIT does not support calling kfunc"})
    machine._kernel = Kernel(
        "6.12", "6.12.107", Path("bzImage"), None, config, expects_throw=True, origin=""
    )
    seen = machine.run(CASE)
    assert seen.verdict is Verdict.REJECTED
    assert seen.message.startswith("refused by the verifier [this kernel should have bpf_throw")
    assert "CONFIG_UNWINDER_ORC" in seen.message
    assert "CONFIG_BPF_JIT" not in seen.message


@pytest.mark.parametrize("act", [_hangs, _vanishes])
def test_a_guest_that_dies_while_it_is_asked_why_costs_one_case(target, monkeypatch, act):
    machine = target(_refused, _ran)
    monkeypatch.setattr(FakeClient, "missing", lambda self, _: act(self._guest))
    monkeypatch.setattr("harness.target.postmortem.interrupt", lambda *_: "")
    assert machine.run(CASE).verdict in (Verdict.HUNG, Verdict.LOST)
    assert machine.run(CASE).verdict is Verdict.RAN
    assert len(machine.guests) == 2


def test_facts_that_are_known_need_no_guest(target):
    machine = target(_ran, boots=1)
    machine.run(CASE)
    machine._drop()
    assert machine.facts.release == "6.12.107"
    assert len(machine.guests) == 1


def test_an_ordinary_rejection_is_left_alone(target):
    assert target(_refused).run(CASE).message == "refused by the verifier"


def test_provenance_says_what_ran_where(target):
    provenance = target(_ran).run(CASE).provenance
    assert (provenance.source, provenance.kernel) == ("vm-6.12", "6.12.107")
    assert (provenance.accelerator, provenance.jit) == ("tcg", "1")


def test_an_agent_that_does_not_start_loses_the_machine_once(monkeypatch):
    machine = virtual.VirtualTarget(KERNEL, MACHINE, Settings())
    guest = FakeGuest()

    def boot_():
        machine._guest, machine._client = guest, FakeClient([], guest)
        raise WorldError("agent: bpffs is not mounted", evidence="mounts")

    monkeypatch.setattr(machine, "_boot", boot_)
    for _ in range(2):
        with pytest.raises(MachineLostError, match="bpffs is not mounted"):
            machine.run(CASE)
    assert guest.stopped


@pytest.mark.parametrize(
    ("kernel", "name"),
    [
        (KERNEL, "vm-6.12"),
        (dataclasses.replace(KERNEL, name="6.12.107", origin="tree:/src/a"), "vm-6.12.107~a"),
        (dataclasses.replace(KERNEL, name="6.12.107", origin="/k/b/bzImage"), "vm-6.12.107~b"),
    ],
)
def test_trees_of_one_release_are_told_apart(kernel, name):
    assert virtual.VirtualTarget(kernel, MACHINE, Settings()).name == name


@pytest.mark.parametrize("warm", [False, True])
def test_a_fresh_guest_is_never_the_one_there_was(monkeypatch, warm):
    machine = virtual.VirtualTarget(KERNEL, MACHINE, Settings())
    old, new = FakeGuest(lock=object() if warm else None), FakeGuest()
    machine._guest, machine._used = old, True
    monkeypatch.setattr(boot, "_warm", lambda _: pytest.fail("looked for a warm guest"))
    monkeypatch.setattr(saved, "find", lambda _: None)
    monkeypatch.setattr(vm, "start", lambda *_, **__: new)
    assert machine.renew()
    assert machine._guest is new
    assert old.stopped is not warm
    assert old.released is warm


def test_a_guest_that_was_begun_ahead_is_fresh_already(monkeypatch):
    machine = virtual.VirtualTarget(KERNEL, MACHINE, Settings())
    machine._guest = FakeGuest()
    monkeypatch.setattr(boot, "new", lambda *_, **__: pytest.fail("started another one"))
    assert machine.renew()


def test_after_a_death_the_next_guest_is_begun_at_once(target, monkeypatch):
    machine = target(_panics, _ran)
    begun = []
    monkeypatch.setattr(machine, "begin", lambda: begun.append(len(machine.guests)))
    machine.run(CASE)
    assert begun == [1]
    machine.run(CASE)
    assert begun == [1]


def test_a_next_guest_that_cannot_be_had_does_not_hide_the_death(target, monkeypatch):
    machine = target(_panics)

    def begin():
        raise MachineLostError("no space")

    monkeypatch.setattr(machine, "begin", begin)
    assert machine.run(CASE).verdict is Verdict.CRASHED


def test_an_interrupted_target_is_not_renewed():
    machine = virtual.VirtualTarget(KERNEL, MACHINE, Settings())
    machine.abort()
    assert not machine.renew()


# ---- a guest of one's own ------------------------------------------------------------------

ALONE = dataclasses.replace(CASE, id="throw/alone", needs=("fresh",))


@pytest.fixture
def renewed(target, monkeypatch):
    """As `target`; a guest that is let go is followed by the next one."""

    def build(*acts, **settings):
        machine = target(*acts)
        machine._settings = Settings(**settings)
        monkeypatch.setattr(machine, "renew", machine._drop)
        return machine

    return build


def test_a_case_that_wants_a_fresh_guest_has_it_for_itself(renewed):
    machine = renewed(*[_ran] * 5)
    guests = []
    for case in (CASE, CASE, ALONE, CASE, CASE):
        machine.run(case)
        guests.append(len(machine.guests))
    assert guests == [1, 1, 2, 3, 3]


def test_the_first_guest_is_fresh_enough(renewed):
    machine = renewed(_ran)
    machine.run(ALONE)
    assert len(machine.guests) == 1


def test_every_case_may_have_a_guest_of_its_own(renewed):
    machine = renewed(*[_ran] * 4, isolate="case")
    for _ in range(4):
        machine.run(CASE)
    assert len(machine.guests) == 4


def test_a_crash_leaves_a_fresh_guest_behind(renewed):
    machine = renewed(_panics, _ran, isolate="case")
    assert machine.run(CASE).verdict is Verdict.CRASHED
    machine.run(CASE)
    assert len(machine.guests) == 2


def test_what_a_separated_guest_held_is_not_forgotten(renewed, monkeypatch):
    machine = renewed(_ran, _ran)
    machine.run(CASE)
    monkeypatch.setattr(FakeClient, "finish", lambda _: ("map 3",), raising=False)
    assert machine.run(ALONE).leaks == ("by the cases before: map 3",)


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (_panics, "crashed when all was unloaded: Oops: general protection fault"),
        (_hangs, "hung when all was unloaded: no answer"),
        (_vanishes, "nobody knows what is left (the agent went away"),
    ],
)
def test_a_guest_that_dies_when_it_is_unloaded_costs_no_other_case(
    renewed, monkeypatch, act, words
):
    machine = renewed(_ran, _ran, _ran)
    machine.run(CASE)
    monkeypatch.setattr(FakeClient, "finish", lambda self: act(self._guest))
    monkeypatch.setattr("harness.target.postmortem.interrupt", lambda *_: "")
    seen = machine.run(ALONE)
    assert seen.verdict is Verdict.RAN
    assert words in seen.leaks[0]
    monkeypatch.setattr(FakeClient, "finish", lambda _: ())
    assert machine.run(CASE).leaks == ()
    assert machine.guests[0].stopped
    assert len(machine.guests) == 3


def test_a_kernel_that_ends_over_the_last_unloading_is_no_lost_machine(target, monkeypatch):
    machine = target(_ran)
    machine.run(CASE)
    monkeypatch.setattr(FakeClient, "finish", lambda self: _panics(self._guest))
    (first, *splats) = machine.finish()
    assert first == "crashed when all was unloaded: Oops: general protection fault"
    assert splats
    assert machine.finish() == ()
    machine = target(_ran)
    machine.run(CASE)
    monkeypatch.setattr(FakeClient, "finish", lambda self: _vanishes(self._guest))
    with pytest.raises(MachineLostError):
        machine.finish()


def test_a_warm_guest_is_not_fresh(renewed):
    machine = renewed(_ran)
    machine._ready()
    machine._guest.lock = object()
    machine._client.finish = tuple
    machine.run(ALONE)
    assert len(machine.guests) == 2


# ---- guests that are killed before their first case ----------------------------------------


def _boots(machine, monkeypatch, *errors):
    """Each start of a guest ends with the next error, or well where that is None."""
    left, guests = list(errors), []

    def boot_():
        guest, error = FakeGuest(boot_s=0.5), left.pop(0)
        guests.append(guest)
        machine._guest = guest
        if error is not None:
            guest.boot_s = getattr(error, "boot_s", 0.0)
            raise error
        machine._client = FakeClient([_ran], guest)
        machine._facts = Facts("6.12.107", "tcg", "1", "bpftool")

    monkeypatch.setattr(machine, "_boot", boot_)
    return guests


def _lost(boot_s):
    error = MachineLostError("the agent does not listen")
    error.boot_s = boot_s
    return error


@pytest.mark.parametrize("error", [_lost(0.5), login.EndedError("did not boot: QEMU ended")])
def test_a_guest_that_is_killed_before_its_first_case_costs_none(monkeypatch, capsys, error):
    machine = virtual.VirtualTarget(KERNEL, MACHINE, Settings())
    guests = _boots(machine, monkeypatch, error, None)
    assert machine.run(CASE).verdict is Verdict.RAN
    assert [guest.stopped for guest in guests] == [True, False]
    assert "another guest is started in its place" in capsys.readouterr().err


@pytest.mark.parametrize(
    "errors", [[_lost(0.0)], [_lost(0.5), _lost(0.5)], [login.EndedError("x"), _lost(0.0)]]
)
def test_a_kernel_whose_guests_do_not_come_up_is_given_up(monkeypatch, errors):
    machine = virtual.VirtualTarget(KERNEL, MACHINE, Settings())
    guests = _boots(machine, monkeypatch, *errors)
    for _ in range(2):
        with pytest.raises(MachineLostError):
            machine.run(CASE)
    assert len(guests) == len(errors)
