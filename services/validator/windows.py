"""The sliding windows of one run against one system: frames merged once each, event time, one-second cells.

A frame is merged by its identity, so neither order nor redelivery changes anything. Event time is the least watermark
of the live workers and never recedes. What lies further back than ``KEPT_S`` is folded away: the store keeps it.
Pure: ``now_us`` (wall clock) is passed in.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from services.validator.producer import SILENCE_US, Line, Producer
from services.validator.samples import Latencies
from shared.contracts.benchmarks import Benchmark
from shared.contracts.timing import Kind
from shared.contracts.window import Cell, Exemplar, FrameWindows
from shared.histogram import Histogram

KEPT_S = 150
WORST_KEPT = 8


@dataclass(frozen=True, slots=True)
class Choice:
    """The lines that a benchmark looks at; an empty part lets every name through."""

    scenarios: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()

    @classmethod
    def of(cls, benchmark: Benchmark) -> "Choice":
        return cls(benchmark.scenarios, benchmark.actions)

    def has(self, line: Line) -> bool:
        scenario, action, _ = line
        return (not self.scenarios or scenario in self.scenarios) and (not self.actions or action in self.actions)


@dataclass(slots=True)
class Tally:
    """Everything of one line in one second, added up over frames."""

    count: int = 0
    failed: int = 0
    response_sum_us: int = 0
    response: dict[int, int] = field(default_factory=dict)
    errors: dict[int, int] = field(default_factory=dict)
    worst: tuple[Exemplar, ...] = ()

    def add(self, cell: Cell) -> None:
        self.count += cell.count
        self.failed += cell.failed
        self.response_sum_us += cell.response_sum_us
        for bucket, count in cell.response.items():
            self.response[bucket] = self.response.get(bucket, 0) + count
        for kind, count in cell.errors.items():
            self.errors[kind] = self.errors.get(kind, 0) + count
        self.worst = worst_of((*self.worst, *cell.worst))


def worst_of(exemplars: Iterable[Exemplar], keep: int = WORST_KEPT) -> tuple[Exemplar, ...]:
    """The slowest, slowest first; ties by id, so that the choice does not depend on order."""
    return tuple(sorted(set(exemplars), key=lambda e: (-e.response_us, e.trace_id, e.user)))[:keep]


@dataclass(slots=True)
class GeneratorHealth:
    """The generator's own state over the whole run against one system: evidence when it was at fault."""

    frames: int = 0
    redelivered_frames: int = 0
    frames_given_up: int = 0
    seconds: int = 0
    seconds_at_fault: int = 0
    loop_lag_us: int = 0
    schedule_error_us: int = 0
    cpu_permille: int = 0
    backlog_events: int = 0
    spooled_events: int = 0

    def note(self, frame: FrameWindows) -> None:
        self.frames += 1
        self.loop_lag_us = max(self.loop_lag_us, frame.loop_lag_us)
        self.schedule_error_us = max(self.schedule_error_us, frame.schedule_error_us)
        self.cpu_permille = max(self.cpu_permille, frame.cpu_permille)
        self.backlog_events = max(self.backlog_events, frame.backlog_events)
        self.spooled_events = max(self.spooled_events, frame.spooled_events)


class SystemWindows:
    """Windows of one (run, system). ``joined_late``: reading began mid-stream, so early frames were not seen."""

    def __init__(self, *, joined_late: bool = False) -> None:
        self.producers: dict[tuple[str, int], Producer] = {}
        self.seconds: dict[int, dict[Line, Tally]] = {}
        self.watermark_us: int | None = None
        self.health = GeneratorHealth()
        self.duplicates: dict[Line, int] = {}
        self.version = 0
        self._joined_late = joined_late
        self._faults: set[int] = set()
        self._seen: set[int] = set()

    def merge(self, frame: FrameWindows, now_us: int) -> bool:
        """Add a frame; False, and no change but to the count of duplicates, when it was merged before."""
        key = (frame.worker, frame.epoch)
        producer = self.producers.get(key)
        if producer is None:
            producer = self.producers[key] = Producer(frame.seq if self._joined_late else 1)
        if not producer.admit(frame, now_us):
            self.health.redelivered_frames += 1
            for cell in frame.cells:
                line = (cell.scenario, cell.action, cell.kind)
                self.duplicates[line] = self.duplicates.get(line, 0) + cell.count
            return False
        self.version += 1
        self.health.note(frame)
        second = frame.emitted_us // 1_000_000
        self._seen.add(second)
        if frame.at_fault:
            self._faults.add(second)
        oldest = self._oldest_kept()
        for cell in frame.cells:
            if cell.second >= oldest:
                lines = self.seconds.setdefault(cell.second, {})
                lines.setdefault((cell.scenario, cell.action, cell.kind), Tally()).add(cell)
        self._advance_watermark(now_us)
        return True

    def settle_joining(self) -> None:
        """From here on a new producer is expected to begin at its first frame."""
        self._joined_late = False

    def advance(self, now_us: int) -> None:
        """Let time pass: give up gaps that lasted, let silent workers leave, fold what is old."""
        for producer in self.producers.values():
            self.health.frames_given_up += producer.give_up_gap(now_us)
        self._advance_watermark(now_us)
        self._fold()

    def silent(self, now_us: int) -> bool:
        """True when event time has stood still past the wall-clock limit: what is here says nothing of now."""
        return self.watermark_us is None or now_us - self.watermark_us > SILENCE_US

    def at_fault(self, first_s: int, last_s: int) -> bool:
        return any(first_s <= second <= last_s for second in self._faults)

    def tallies(self, kind: Kind, chosen: Choice, first_s: int, last_s: int) -> Iterator[tuple[Line, Tally]]:
        """All lines of a kind within seconds ``first_s`` to ``last_s`` that are ``chosen``."""
        for second in range(first_s, last_s + 1):
            for line, tally in self.seconds.get(second, {}).items():
                if line[2] is kind and chosen.has(line):
                    yield line, tally

    def count(self, kind: Kind, chosen: Choice, first_s: int, last_s: int) -> int:
        return sum(tally.count for _, tally in self.tallies(kind, chosen, first_s, last_s))

    def latencies(
        self, kind: Kind, chosen: Choice, first_s: int, last_s: int, *, stuck: Histogram | None = None
    ) -> Latencies:
        response, total_us = Histogram(), 0
        for _, tally in self.tallies(kind, chosen, first_s, last_s):
            response.merge(tally.response)
            total_us += tally.response_sum_us
        return Latencies(response, total_us, stuck or Histogram())

    def stuck(self, kind: Kind, chosen: Choice, now_us: int) -> Histogram:
        """Ages of what live workers have in flight or in line, as of their latest frames."""
        ages = Histogram()
        for producer in self.producers.values():
            if producer.live(now_us):
                for action in producer.actions:
                    if action.kind is kind and chosen.has((action.scenario, action.action, action.kind)):
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

    def offered(self, chosen: Choice, first_s: int, last_s: int, now_us: int) -> int:
        """Requests sent within the seconds, and those in line at their end that should have been."""
        total = 0
        for producer in self.producers.values():
            for line in producer.sent:
                if line[2] is Kind.REQUEST and chosen.has(line):
                    total += producer.sent_between(line, first_s, last_s)
            if producer.live(now_us):
                total += sum(
                    action.waiting
                    for action in producer.actions
                    if action.kind is Kind.REQUEST and chosen.has((action.scenario, action.action, action.kind))
                )
        return total

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

    def _fold(self) -> None:
        oldest = self._oldest_kept()
        for second in [s for s in self.seconds if s < oldest]:
            del self.seconds[second]
        for producer in self.producers.values():
            producer.forget_before(oldest)
        self.health.seconds += _drop_before(self._seen, oldest)
        self.health.seconds_at_fault += _drop_before(self._faults, oldest)

    def whole_health(self) -> GeneratorHealth:
        """Health over the whole run, the seconds still held included."""
        health = GeneratorHealth(**{name: getattr(self.health, name) for name in GeneratorHealth.__slots__})
        health.seconds += len(self._seen)
        health.seconds_at_fault += len(self._faults)
        return health


def _drop_before(seconds: set[int], oldest: int) -> int:
    old = {second for second in seconds if second < oldest}
    seconds -= old
    return len(old)
