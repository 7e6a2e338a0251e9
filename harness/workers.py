# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Results of pytest-xdist's workers on their way to the process that prints the matrix.

Each travels as text with the report of its test, since that is all that xdist brings over.
"""

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass, field

from harness import wire
from harness.model import Result
from harness.report.outcome import Tested

# attributes of a test's report: a result, and the line that pytest's summary shows for it
ATTRIBUTE = "bpfthrow"
HEADLINE = "bpfthrow_headline"


def packed(place: int, result: Result, tested: Iterable[Tested]) -> str:
    """The text for a result; `place`: number of its test in the order that all workers share."""
    targets = [dataclasses.asdict(each) for each in tested]
    return json.dumps({"place": place, "result": wire.to_json(result), "tested": targets})


@dataclass(slots=True)
class Arrived:
    """What has come in so far."""

    # what the targets turned out to be, by name
    tested: dict[str, Tested]
    _results: dict[int, Result] = field(default_factory=dict)

    def take(self, text: str) -> None:
        """Take in what a worker has sent."""
        said = json.loads(text)
        self._results[said["place"]] = wire.from_json(Result, said["result"], "worker")
        for plain in said["tested"]:
            self.tested.setdefault(plain["name"], Tested(**plain))

    def results(self) -> list[Result]:
        """In the order of the tests: they come as they end."""
        return [self._results[place] for place in sorted(self._results)]
