# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""xdp:xdp_exception and xdp:xdp_redirect, in a trace instance of our own."""

import os
import re
from pathlib import Path

from harness.errors import WorldError

_PLACES = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
_EVENT = re.compile(rb"(xdp_exception|xdp_redirect): prog_id=(\d+)")


class Trace:
    """Counts events of one program. close() removes the instance."""

    def __init__(self) -> None:
        place = next((p for p in _PLACES if (p / "instances").is_dir()), None)
        if place is None:
            raise WorldError(
                "tracefs is not mounted", fix="mount -t tracefs tracefs /sys/kernel/tracing"
            )
        self._instance = place / "instances/bpfthrow"
        self._instance.mkdir(exist_ok=True)
        (self._instance / "buffer_size_kb").write_text("16", encoding="ascii")
        for event in ("xdp_exception", "xdp_redirect"):
            switch = self._instance / "events/xdp" / event / "enable"
            switch.write_text("1", encoding="ascii")
        self._pipe = os.open(self._instance / "trace_pipe", os.O_RDONLY | os.O_NONBLOCK)

    def events(self, program: int) -> set[str]:
        """Names of the events of program id `program` since the last call."""
        text = b""
        while True:
            try:
                piece = os.read(self._pipe, 65536)
            except BlockingIOError:
                break
            if not piece:
                break
            text += piece
        found = _EVENT.findall(text)
        return {name.decode() for name, ident in found if int(ident) == program}

    def close(self) -> None:
        """Switch the events off and remove the instance."""
        os.close(self._pipe)
        self._instance.rmdir()
