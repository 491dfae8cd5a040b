"""The sliding windows of one run against one system: frames merged once each, event time, one-second cells.

A frame is merged by its identity, so neither order nor redelivery changes anything. Event time is the least watermark
of the live workers and never recedes. What comes within ``KEPT_S`` behind it still counts, and is told as late; what
lies further back is folded away: the store keeps it. Pure: ``now_us`` (wall clock) is passed in.
"""

from collections.abc import Iterator
from typing import NamedTuple

from services.validator.health import GeneratorHealth
from services.validator.producer import SILENCE_US, Line, Producer
from services.validator.samples import Second
from services.validator.tally import Tally
from shared.contracts.sources import KEPT_S
from shared.contracts.timing import Kind
from shared.contracts.window import Cell, FrameWindows
from shared.histogram import Histogram

MOST_RETIRED = 1_000
"""Producers that have left are remembered, so that their frames stay recognisable; beyond it the oldest are not."""

_NOTHING = Second()


class Chosen(NamedTuple):
    """The lines that a benchmark looks at; no ``actions`` or no ``scenarios`` means all of them."""

    kind: Kind
    actions: tuple[str, ...] = ()
    scenarios: tuple[str, ...] = ()

    def has(self, line: Line) -> bool:
        scenario, action, kind = line
        named = (not self.actions or action in self.actions) and (not self.scenarios or scenario in self.scenarios)
        return named and kind is self.kind


class SystemWindows:
    """Windows of one (run, system). ``joined_late``: reading began mid-stream, so early frames were not seen."""

    def __init__(self, *, joined_late: bool = False) -> None:
        self.producers: dict[tuple[str, int], Producer] = {}
        self.retired: dict[tuple[str, int], Producer] = {}
        self.seconds: dict[int, dict[Line, Tally]] = {}
        self.watermark_us: int | None = None
        self.health = GeneratorHealth()
        self.duplicates: dict[Line, int] = {}
        self.faults: set[int] = set()
        self.heard: set[int] = set()
        self.version = 0
        self._joined_late = joined_late
        self._late: tuple[int, int] | None = None
        self._folded_s = 0
        self._again: set[tuple[str, int, int]] = set()
        self._sums: dict[Chosen, dict[int, Second]] = {}

    def merge(self, frame: FrameWindows, now_us: int) -> bool:
        """Add a frame; False, and no change but to the count of duplicates, when it was merged before."""
        if not self._producer(frame).admit(frame, now_us):
            self.health.redelivered_frames += 1
            for cell in frame.cells:
                line = (cell.scenario, cell.action, cell.kind)
                self.duplicates[line] = self.duplicates.get(line, 0) + cell.count
            return False
        self.version += 1
        self.health.note(frame)
        second = frame.emitted_us // 1_000_000
        self.heard.add(second)
        if frame.at_fault:
            self.faults.add(second)
        for cell in frame.cells:
            self._add(cell)
        self._advance_watermark(now_us)
        return True

    def replay(self, frame: FrameWindows) -> None:
        """Take the cells of a frame that a restored checkpoint has counted already: it holds all but these."""
        identity = (frame.worker, frame.epoch, frame.seq)
        if identity in self._again:
            return
        self._again.add(identity)
        producer = self.producers.get(identity[:2])
        if producer is not None:
            producer.note_sent(frame)
        for cell in frame.cells:
            self._add(cell)
        self.version += 1
        self._late = None

    def settle_joining(self) -> None:
        """From here on a new producer is expected to begin at its first frame."""
        self._joined_late = False
        self._again.clear()

    def advance(self, now_us: int) -> None:
        """Let time pass: give up gaps that lasted, let silent workers leave, fold what is old."""
        for producer in self.producers.values():
            self.health.frames_given_up += producer.give_up_gap(now_us)
        self._advance_watermark(now_us)
        self._fold(now_us)

    def take_late(self) -> tuple[int, int] | None:
        """The first and last second behind event time that frames have changed since this was asked before."""
        late, self._late = self._late, None
        return late

    def silent(self, now_us: int) -> bool:
        """True when event time has stood still past the wall-clock limit: what is here says nothing of now."""
        return self.watermark_us is None or now_us - self.watermark_us > SILENCE_US

    def at_fault(self, first_s: int, last_s: int) -> bool:
        return any(first_s <= second <= last_s for second in self.faults)

    def tallies(self, chosen: Chosen, first_s: int, last_s: int) -> Iterator[tuple[Line, Tally]]:
        """The chosen lines within seconds ``first_s`` to ``last_s``."""
        for second in range(first_s, last_s + 1):
            for line, tally in self.seconds.get(second, {}).items():
                if chosen.has(line):
                    yield line, tally

    def second(self, chosen: Chosen, second: int) -> Second:
        """The sum over the chosen lines in one second, remembered until a frame changes it."""
        if second not in self.seconds:
            return _NOTHING
        sums = self._sums.setdefault(chosen, {})
        found = sums.get(second)
        if found is None:
            found = sums[second] = Second()
            for _, tally in self.tallies(chosen, second, second):
                found.add(tally.response, tally.count, tally.response_sum_us, tally.failed)
        return found

    def stuck(self, chosen: Chosen, now_us: int) -> Histogram:
        """Ages of what live workers have in flight or in line, as of their latest frames."""
        ages = Histogram()
        for producer in self.producers.values():
            if producer.live(now_us):
                for action in producer.actions:
                    if chosen.has((action.scenario, action.action, action.kind)):
                        ages.merge(action.ages)
        return ages

    def in_flight(self, now_us: int) -> int:
        """Requests live workers have in flight or in line."""
        return sum(
            action.in_flight + action.waiting
            for producer in self.producers.values()
            if producer.live(now_us)
            for action in producer.actions
            if action.kind is Kind.REQUEST
        )

    def offered(self, chosen: Chosen, first_s: int, last_s: int, now_us: int) -> int:
        """Requests sent within the seconds, and those in line at their end that should have been."""
        total = 0
        for producer in self.producers.values():
            for line in producer.sent:
                if chosen.has(line):
                    total += producer.sent_between(line, first_s, last_s)
            if producer.live(now_us):
                total += sum(
                    action.waiting
                    for action in producer.actions
                    if chosen.has((action.scenario, action.action, action.kind))
                )
        return total

    def whole_health(self) -> GeneratorHealth:
        """Health over the whole run, the seconds still held included."""
        return self.health.with_seconds(len(self.heard), len(self.faults))

    def _producer(self, frame: FrameWindows) -> Producer:
        key = (frame.worker, frame.epoch)
        producer = self.producers.get(key)
        if producer is None:
            producer = self.retired.pop(key, None) or Producer(frame.seq if self._joined_late else 1)
            self.producers[key] = producer
        return producer

    def _add(self, cell: Cell) -> None:
        if cell.second < self._oldest_kept():
            return
        lines = self.seconds.setdefault(cell.second, {})
        lines.setdefault((cell.scenario, cell.action, cell.kind), Tally()).add(cell)
        for sums in self._sums.values():
            sums.pop(cell.second, None)
        if self.watermark_us is not None and cell.second < self.watermark_us // 1_000_000:
            first, last = self._late or (cell.second, cell.second)
            self._late = (min(first, cell.second), max(last, cell.second))

    def _advance_watermark(self, now_us: int) -> None:
        live = [producer for producer in self.producers.values() if producer.live(now_us)]
        marks = [producer.sequence.watermark_us for producer in live or self.producers.values()]
        known = [mark for mark in marks if mark is not None]
        if not known or len(known) < len(marks):
            return
        # With no worker left the run is over: what each of them saw to its end is all there is.
        mark = min(known) if live else max(known)
        if self.watermark_us is None or mark > self.watermark_us:
            self.watermark_us = mark
            self.version += 1

    def _oldest_kept(self) -> int:
        return 0 if self.watermark_us is None else self.watermark_us // 1_000_000 - KEPT_S

    def _fold(self, now_us: int) -> None:
        oldest = self._oldest_kept()
        if oldest == self._folded_s:
            return
        self._folded_s = oldest
        for second in [s for s in self.seconds if s < oldest]:
            del self.seconds[second]
            for sums in self._sums.values():
                sums.pop(second, None)
        for key, producer in list(self.producers.items()):
            producer.forget_before(oldest)
            if producer.gone(now_us, KEPT_S):
                self.retired[key] = self.producers.pop(key).retire()
        while len(self.retired) > MOST_RETIRED:
            del self.retired[next(iter(self.retired))]
        self.health.seconds += _drop_before(self.heard, oldest)
        self.health.seconds_at_fault += _drop_before(self.faults, oldest)


def _drop_before(seconds: set[int], oldest: int) -> int:
    old = {second for second in seconds if second < oldest}
    seconds -= old
    return len(old)
