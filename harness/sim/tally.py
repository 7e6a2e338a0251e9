# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Counting what became of the packets of a capture: verdicts, throws, failures, their times.

Owns the numbers and their bounds: no program and no capture can make them grow without limit.
"""

from array import array
from collections import Counter
from dataclasses import dataclass, field
from itertools import compress, count, islice

from harness.sim.batch import Batch, Outcomes

# different return values, cookies and messages that are told apart
MOST_KINDS = 4096
# throws of which packet and cookie are kept
MOST_THROWS = 2_000_000
LISTED = 10
_BINS = 2048


def _u64() -> "array[int]":
    return array("Q")


@dataclass(slots=True)
class Throws:
    """Packets that threw; packet numbers count from 1, as viewers of captures do."""

    # packets, not calls: one packet may throw several times
    count: int = 0
    packets: "array[int]" = field(default_factory=_u64)
    cookies: "array[int]" = field(default_factory=_u64)
    retvals: "array[int]" = field(default_factory=_u64)
    times_ns: "array[int]" = field(default_factory=_u64)
    by_cookie: Counter[int] = field(default_factory=Counter)


@dataclass(slots=True)
class Timeline:
    """Return values over time, in bins that become coarser as the capture becomes longer."""

    # 1 or 2 times a power of ten
    width_ns: int = 1000
    # start of a bin / width_ns -> return value -> packets
    bins: dict[int, Counter[int]] = field(default_factory=dict)

    def add(self, times_ns: "array[int]", retvals: "array[int]") -> None:
        """Count packets; values beyond MOST_KINDS are kept as they are, a plot joins them."""
        pairs = zip(times_ns, retvals, strict=False)
        for (place, retval), packets in Counter((t // self.width_ns, r) for t, r in pairs).items():
            self.bins.setdefault(place, Counter())[retval] += packets
        while len(self.bins) > _BINS:
            self._coarser()

    def _coarser(self) -> None:
        factor = 2 if str(self.width_ns).startswith("1") else 5
        self.width_ns *= factor
        old, self.bins = self.bins, {}
        for place, counted in old.items():
            self.bins.setdefault(place // factor, Counter()).update(counted)


@dataclass(slots=True)
class Tally:
    """All numbers of one capture."""

    packets: int = 0
    size_bytes: int = 0
    # packets that the capture has only the beginning of
    truncated: int = 0
    # of packets that ran
    retvals: Counter[int] = field(default_factory=Counter)
    # packets with values that came after MOST_KINDS different ones
    others: int = 0
    throws: Throws = field(default_factory=Throws)
    # why packets have no value -> how many
    failures: Counter[str] = field(default_factory=Counter)
    # the first ones: number of the packet, message
    first_failures: list[tuple[int, str]] = field(default_factory=list)
    first_ns: int = 0
    # None where nobody wants a plot
    timeline: Timeline | None = None

    @property
    def failed(self) -> int:
        """Packets without a value."""
        return self.failures.total()

    def add(self, batch: Batch, seen: Outcomes) -> None:
        """Count a batch, as far as it was run."""
        ran = len(seen.retvals)
        lengths, originals = batch.lengths[:ran], batch.originals[:ran]
        if not self.packets and ran:
            self.first_ns = batch.times_ns[0]
        self._count(seen)
        if seen.failures:
            self._fail(seen)
        if any(seen.threw):
            self._throw(batch, seen)
        if self.timeline is not None:
            self.timeline.add(batch.times_ns[:ran], seen.retvals)
        self.packets += ran
        self.size_bytes += sum(lengths)
        if lengths != originals:
            self.truncated += sum(a < b for a, b in zip(lengths, originals, strict=True))

    def _count(self, seen: Outcomes) -> None:
        counted = Counter(seen.retvals)
        for index in seen.failures:
            counted[seen.retvals[index]] -= 1
        for retval, packets in counted.items():
            if packets and (retval in self.retvals or len(self.retvals) < MOST_KINDS):
                self.retvals[retval] += packets
            else:
                self.others += packets

    def _fail(self, seen: Outcomes) -> None:
        for index, message in sorted(seen.failures.items()):
            if len(self.first_failures) < LISTED:
                self.first_failures.append((self.packets + index + 1, message))
            known = message in self.failures or len(self.failures) < MOST_KINDS
            self.failures[message if known else "..."] += 1

    def _throw(self, batch: Batch, seen: Outcomes) -> None:
        throws, batch_cookies = self.throws, list(compress(seen.cookies, seen.threw))
        throws.count += len(batch_cookies)
        for cookie, packets in Counter(batch_cookies).items():
            if cookie in throws.by_cookie or len(throws.by_cookie) < MOST_KINDS:
                throws.by_cookie[cookie] += packets
        room = MOST_THROWS - len(throws.packets)
        throws.packets.extend(islice(compress(count(self.packets + 1), seen.threw), room))
        throws.cookies.extend(batch_cookies[:room])
        throws.retvals.extend(islice(compress(seen.retvals, seen.threw), room))
        throws.times_ns.extend(islice(compress(batch.times_ns, seen.threw), room))
