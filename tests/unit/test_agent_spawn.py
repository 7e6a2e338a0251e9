# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""bpftool kept running between commands, played by a shell script."""

import os
import time

import pytest

from harness.errors import WorldError
from harness.target.agent import spawn

# "batch file -" as bpftool does it: commands from standard input until one fails
SCRIPT = """#!/bin/sh
if [ "$1" != batch ]; then echo "alone: $*"; exit 0; fi
echo started >> "$(dirname "$0")/starts"
while read -r line; do
	case $line in
	version) printf 'bpftool v7.5.0\\nfeatures: libbpf\\n' ;;
	fail*) seq -f "line %g of a long verifier log" 3000 >&2
		echo "Error: failed to load object file" >&2; exit 255 ;;
	hang*) exec sleep 60 ;;
	*) echo "did $line"; echo "libbpf: warning of $line" >&2 ;;
	esac
done
"""


@pytest.fixture
def batch(tmp_path, monkeypatch):
    script = tmp_path / "bpftool"
    script.write_text(SCRIPT)
    script.chmod(0o755)
    monkeypatch.setattr(spawn, "_ENVIRONMENT", {"PATH": f"{tmp_path}:{os.environ['PATH']}"})
    made = spawn.Batch()
    yield made
    made.close()


def starts(tmp_path):
    return (tmp_path / "starts").read_text().count("started")


def test_many_commands_are_one_process(batch, tmp_path):
    for number in range(3):
        done = batch.run("prog", f"load{number}")
        assert (done.status, done.stderr) == (0, f"libbpf: warning of prog load{number}\n")
        assert f"did prog load{number}" in done.stdout
    assert starts(tmp_path) == 1


def test_a_failure_has_all_its_words_and_the_next_command_a_new_process(batch, tmp_path):
    done = batch.run("fail")
    assert done.status == 255
    assert done.stderr.count("\n") == 3001
    assert done.stderr.endswith("Error: failed to load object file\n")
    assert batch.run("prog", "load").status == 0
    assert starts(tmp_path) == 2


def test_a_process_that_was_killed_in_between_is_a_failure_of_one_command(batch):
    batch.run("prog", "load")
    batch._process.kill()
    batch._process.wait()
    assert batch.run("prog", "load").status == -9
    assert batch.run("prog", "load").status == 0


def test_arguments_that_the_batch_would_split_go_to_a_process_of_their_own(batch, tmp_path):
    assert batch.run("prog", "loadall", "/a b.o").stdout == "alone: prog loadall /a b.o\n"
    assert not (tmp_path / "starts").exists()


def test_a_command_without_end_is_ended(batch):
    began = time.monotonic()
    with pytest.raises(WorldError, match=r"bpftool hang on took longer than 0.3 s"):
        batch.run("hang", "on", limit_s=0.3)
    assert time.monotonic() - began < 5
    assert batch.run("prog", "load").status == 0


def test_without_bpftool_there_is_a_clear_error(monkeypatch, tmp_path):
    monkeypatch.setattr(spawn, "_ENVIRONMENT", {"PATH": str(tmp_path)})
    with pytest.raises(WorldError, match="no bpftool"):
        spawn.Batch().run("prog", "load")


def test_closing_leaves_no_process(batch):
    batch.run("prog", "load")
    process = batch._process
    batch.close()
    assert process.returncode is not None
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)
