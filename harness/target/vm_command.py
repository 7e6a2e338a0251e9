# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""`bpfthrow vm up|down|list|ssh|log`: guests that stay between runs."""

import argparse
import json
import os
import select
import shlex
import shutil
import sys
import termios
import time
import tty
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import paramiko

from harness import config, kernels
from harness.errors import Exit, MachineLostError, UsageError
from harness.target import boot, guests, vm
from harness.target.machine import PORTS, Machine, recipe
from harness.target.prepare import prepare

if TYPE_CHECKING:
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  # no other name

# as ssh(1) has it for a command without an exit code of its own
_BY_SIGNAL = 255
_EPILOG = """\
examples:
  bpfthrow vm up --kernel 6.12          boot it once; `run --kernel 6.12` then reuses it
  bpfthrow vm ssh                       a shell in it
  bpfthrow vm ssh 6.12 -- ls '/a b'     one command, word for word; its exit code
  bpfthrow vm ssh 6.12 -- 'dmesg | wc'  one word is a line for the guest's shell
  bpfthrow vm log 6.12                  its console, from the first line on
  bpfthrow vm down --all

Ctrl-C or the end of `vm up` before it says "is up" leaves no guest.
"""


def add_parser(subparsers: "Subparsers") -> None:
    """Add the verb to the command line's tree."""
    parser = subparsers.add_parser(
        "vm",
        help="guests that stay warm between runs",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="vm_command", required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="boot a guest and leave it running")
    config.add_arguments(up, ["kernel", "cpus", "memory", "accelerator", "timeout_scale", "cold"])
    down = commands.add_parser("down", help="end guests")
    down.add_argument("--all", action="store_true", help="every guest of this user")
    listing = commands.add_parser("list", help="guests that are up")
    ssh = commands.add_parser(
        "ssh",
        help="a shell, or the command behind --, in a guest",
        usage="bpfthrow vm ssh [-h] [--json] [NAME] [-- COMMAND...]",
        epilog="One word behind -- is a line for the guest's shell; several are a command and its "
        "arguments, handed on as they are. Ends with the command's exit code.",
    )
    log = commands.add_parser("log", help="the console of a guest")
    for command in (down, ssh, log):
        command.add_argument("name", nargs="?", default="", metavar="NAME", help="see vm list")
    for command in (up, down, listing, log):
        command.add_argument("--json", action="store_true", help="print JSON")
    ssh.add_argument(
        "--json", action="store_true", help="output and exit code of a command as JSON"
    )
    for command, action in ((up, _up), (down, _down), (listing, _list), (ssh, _ssh), (log, _log)):
        command.set_defaults(action=action)


def run(arguments: argparse.Namespace) -> int:
    """Run the chosen command; the exit code."""
    return int(arguments.action(arguments))


def _up(arguments: argparse.Namespace) -> int:
    settings = config.resolve(arguments)
    chosen = kernels.resolve_all(settings.kernel or ("default",))
    for kernel in chosen:
        machine = boot.machine_for(kernel, settings)
        wanted = recipe(machine)
        if any(entry.alive and entry.recipe == wanted for entry in guests.detached()):
            print(f"bpfthrow: {kernel.name} is up already", file=sys.stderr)
            continue
        began_s = time.monotonic()
        guest = boot.new(machine, detached=True, cold=settings.cold)
        try:
            _let_live(guest, settings)
            print(
                f"bpfthrow: {kernel.release} is up after {time.monotonic() - began_s:.1f} s",
                file=sys.stderr,
            )
        except BaseException:
            # also when it lives on its own already: nobody was told of it
            guest.stop()
            raise
    return _list(arguments)


def _let_live(guest: vm.Guest, settings: config.Settings) -> None:
    prepare(guest, settings.timeout_scale, save=not settings.cold)
    if not guest.release():
        raise MachineLostError(f"the guest of {guest.machine.release} ended once it was up")


def _list(arguments: argparse.Namespace) -> int:
    entries = guests.detached()
    rows = [_row(entry, _name(entry, entries)) for entry in entries]
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return Exit.OK
    if not rows:
        print("no guest is up (bpfthrow vm up starts one)")
        return Exit.OK
    width = max(10, *(len(row["name"]) for row in rows))
    print(f"{'NAME':{width}} {'STATE':6} {'UP':>8} {'MEMORY':>8}  {'RELEASE':28} DIRECTORY")
    for row in rows:
        state = "up" if row["alive"] else "ended"
        minutes = f"{row['up_s'] / 60:.0f} min"
        memory = f"{row['memory_mib']} MiB"
        print(
            f"{row['name']:{width}} {state:6} {minutes:>8} {memory:>8}  {row['release']:28}"
            f" {row['directory']}"
        )
    return Exit.OK


def _name(entry: guests.Detached, entries: list[guests.Detached]) -> str:
    """What stands for this guest alone: its label, or its directory's name where two share it."""
    alone = [each.label for each in entries].count(entry.label) == 1
    return entry.label if alone else entry.run_dir.name


def _row(entry: guests.Detached, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "release": entry.recipe["release"],
        "alive": entry.alive,
        "up_s": round(time.time() - entry.started, 1),
        "boot_s": round(entry.boot_s, 2),
        "accelerator": entry.recipe["accelerator"],
        "memory_mib": entry.recipe["memory_mib"],
        "cpus": entry.recipe["cpus"],
        "directory": str(entry.run_dir),
    }


def _down(arguments: argparse.Namespace) -> int:
    every = guests.detached()
    entries = every if arguments.all or not (every or arguments.name) else [_find(arguments.name)]
    names = [_name(entry, every) for entry in entries]
    for entry in entries:
        guests.end_detached(entry.run_dir)
    print(json.dumps({"ended": names}) if arguments.json else f"ended: {', '.join(names) or '-'}")
    return Exit.OK


def _log(arguments: argparse.Namespace) -> int:
    entry = _find(arguments.name)
    console = guests.whole_console(entry.run_dir)
    if arguments.json:
        print(json.dumps({"name": _name(entry, guests.detached()), "console": console}))
    else:
        sys.stdout.write(console)
    return Exit.OK


def _find(name: str) -> guests.Detached:
    entries = guests.detached()
    found = [entry for entry in entries if name in {"", entry.label, entry.run_dir.name}]
    if len(found) == 1:
        return found[0]
    states = [f"{_name(each, entries)} ({'up' if each.alive else 'ended'})" for each in entries]
    what = f"no guest is called {name!r}" if name and not found else "which guest?"
    raise UsageError(
        f"{what} (there are: {', '.join(states) or 'none'})",
        fix="bpfthrow vm list; bpfthrow vm up --kernel NAME",
    )


def _ssh(arguments: argparse.Namespace) -> int:
    if arguments.json and not arguments.behind:
        raise UsageError("--json goes with a command, not with a shell", fix="vm ssh --json -- ls")
    entry = _find(arguments.name)
    if not entry.alive:
        raise MachineLostError(f"{entry.label} has ended", fix="bpfthrow vm log shows why")
    machine = Machine(entry.label, str(entry.recipe["release"]), *(entry.run_dir,) * 3, "")
    guest = vm.Guest(machine, entry.run_dir, None, boot_s=entry.boot_s or 1.0)
    # a port of its own: the harness may be using the other one
    vm.connect(guest, 30 * guest.scale, PORTS[1])
    assert guest.transport is not None
    session = guest.transport.open_session()
    try:
        if arguments.behind:
            session.exec_command(_command_line(arguments.behind))
            return _tell(session) if arguments.json else _relay(session)
        size = shutil.get_terminal_size()
        session.get_pty(os.environ.get("TERM", "dumb"), size.columns, size.lines)
        session.exec_command("cd /run; PS1='guest# ' exec /usr/bin/busybox sh -i")
        return _interact(session)
    finally:
        guest.disconnect()


def _command_line(words: list[str]) -> str:
    """What sshd hands to the guest's shell: one word as a line of its own, several as they are."""
    return words[0] if len(words) == 1 else shlex.join(words)


def _tell(session: paramiko.Channel) -> int:
    said = {1: b"", 2: b""}
    for descriptor, data in _pieces(session):
        said[descriptor] += data
    code = _exit_code(session)
    out, err = (said[descriptor].decode(errors="replace") for descriptor in (1, 2))
    print(json.dumps({"schema": 1, "exit_code": code, "stdout": out, "stderr": err}))
    return code


def _relay(session: paramiko.Channel) -> int:
    for descriptor, data in _pieces(session):
        _write(descriptor, data)
    return _exit_code(session)


def _pieces(session: paramiko.Channel) -> Iterator[tuple[int, bytes]]:
    """What comes for standard output (1) and standard error (2), until the command has ended."""
    ended = False
    while not ended:
        select.select([session], [], [])
        # asked before the rest is read: nothing comes after it
        ended = bool(session.eof_received) or session.closed
        while session.recv_ready():
            yield 1, session.recv(1 << 16)
        while session.recv_stderr_ready():
            yield 2, session.recv_stderr(1 << 16)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _exit_code(session: paramiko.Channel) -> int:
    """The command's; MachineLostError when the guest went away before it ended."""
    code = session.recv_exit_status()
    if code >= 0:
        return code
    if not session.get_transport().is_active():
        why = "the guest went away before the command ended"
        raise MachineLostError(why, fix="bpfthrow vm log shows what it said")
    print("bpfthrow: a signal ended the command", file=sys.stderr)
    return _BY_SIGNAL


def _interact(session: paramiko.Channel) -> int:
    if not sys.stdin.isatty():
        session.sendall(sys.stdin.buffer.read())
        session.shutdown_write()
        return _relay(session)
    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin)
    try:
        while True:
            ready, _, _ = select.select([session, sys.stdin], [], [])
            if session in ready:
                piece = session.recv(1 << 16)
                if not piece:
                    return _exit_code(session)
                _write(1, piece)
            if sys.stdin in ready:
                session.sendall(os.read(0, 1024))
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
