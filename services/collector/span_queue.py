"""Spans between the OTLP door and the store: bounded, and sampled by trace when more come than can be kept. Pure.

Below the mark everything is kept, in the order it came. Above it whole traces are given up, the quickest for their kind
first; what has failed, and what is in the store in part already, is given up never. Waiting is what makes the choice
good: a trace comes in pieces, and the piece that shows it slow is the last. ``now_s`` is monotonic.
"""

import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from shared.store.spans import SpanRow

ERROR = 2
"""OpenTelemetry's ``StatusCode``."""
MOST_REMEMBERED = 20_000
MOST_NAMES = 2_000
ADAPT = 0.05
"""Weight of one duration in what is usual for its name."""
ROOM = 0.9
"""Giving up goes on until the queue is so far below its mark, so that it is not done for every export."""


class QueueFullError(Exception):
    """What must be kept is more than there is room for: the exporter is to come again."""


@dataclass(slots=True)
class _Trace:
    rows: list[SpanRow] = field(default_factory=list)
    longest_us: int = -1
    slowness: float = 0.0
    kept: bool = False


@dataclass(frozen=True, slots=True)
class GivenUp:
    """How many spans, and how many ``of_these`` that were just offered."""

    spans: int
    of_these: int


class SpanQueue:
    """``most`` spans wait at most; above ``mark`` of them traces are given up, with ``mark`` = ``most`` never.

    ``per_second``: how many spans may be taken out a second, 0 for any number.
    """

    def __init__(self, most: int, mark: int, per_second: float = 0.0) -> None:
        self._most, self._mark, self._per_second = most, mark, per_second
        self._traces: dict[UUID, _Trace] = {}
        self._queued = self._kept = self._in_hand = 0
        self._begun: OrderedDict[UUID, None] = OrderedDict()
        self._given_up: OrderedDict[UUID, None] = OrderedDict()
        self._usual: dict[tuple[str, str], float] = {}
        self._tokens, self._at_s = max(1.0, per_second), -math.inf

    def __len__(self) -> int:
        """Spans that wait, those in the writer's hands included."""
        return self._queued + self._in_hand

    def offer(self, rows: Sequence[SpanRow]) -> GivenUp:
        """Take these in, giving up what there is no room for.

        Raises ``QueueFullError``, and takes nothing, when there is no room even so.
        """
        failed = {row.trace_id for row in rows if row.status == ERROR}
        wanted = [row for row in rows if row.trace_id not in self._given_up or row.trace_id in failed]
        sampling = self._mark < self._most
        surely = [row for row in wanted if self._is_kept(row.trace_id, failed)] if sampling else wanted
        held = self._in_hand + (self._kept if sampling else self._queued)
        if held and held + len(surely) > self._most:
            raise QueueFullError(f"{len(self)} spans wait for the store already")
        for trace_id in failed:
            self._given_up.pop(trace_id, None)
        for row in wanted:
            self._add(row, failed)
        spans = len(rows) - len(wanted)
        if sampling and len(self) > self._mark:
            spans += self._give_up()
        return GivenUp(spans, sum(1 for row in rows if row.trace_id in self._given_up) if spans else 0)

    def take(self, most: int, now_s: float, *, hurry: bool = False) -> list[SpanRow]:
        """Whole traces, about ``most`` spans, to be stored now; ``done`` tells that they are.

        Within the budget, failed and slow traces first; in the order they came where there is none or in a ``hurry``.
        """
        order = list(self._traces)
        if self._per_second and not hurry:
            self._tokens = min(max(1.0, self._per_second), self._tokens + self._earned(now_s))
            most = min(most, int(self._tokens))
            order.sort(key=self._rank, reverse=True)
        taken: list[SpanRow] = []
        for trace_id in order:
            if len(taken) >= most:
                break
            trace = self._remove(trace_id)
            _remember(self._begun, trace_id)
            taken += trace.rows
        self._tokens -= len(taken)
        self._in_hand += len(taken)
        return taken

    def done(self) -> None:
        """What was taken is stored, or lost for good."""
        self._in_hand = 0

    def _earned(self, now_s: float) -> float:
        earned = 0.0 if self._at_s == -math.inf else (now_s - self._at_s) * self._per_second
        self._at_s = now_s
        return earned

    def _is_kept(self, trace_id: UUID, failed: set[UUID]) -> bool:
        trace = self._traces.get(trace_id)
        return trace_id in failed or trace_id in self._begun or (trace is not None and trace.kept)

    def _add(self, row: SpanRow, failed: set[UUID]) -> None:
        trace = self._traces.get(row.trace_id)
        if trace is None:
            trace = self._traces[row.trace_id] = _Trace()
        if not trace.kept and self._is_kept(row.trace_id, failed):
            trace.kept = True
            self._kept += len(trace.rows)
        trace.rows.append(row)
        self._queued += 1
        self._kept += trace.kept
        usual = self._learn(row)
        if row.duration_us > trace.longest_us:
            trace.longest_us, trace.slowness = row.duration_us, row.duration_us / usual

    def _learn(self, row: SpanRow) -> float:
        """The usual duration (µs) of spans of this name, a mean of logarithms; the span's own where it is new."""
        key, log = (row.service, row.name), math.log(max(1, row.duration_us))
        before = self._usual.get(key)
        if before is None:
            if len(self._usual) < MOST_NAMES:
                self._usual[key] = log
            return math.exp(log)
        self._usual[key] = before + ADAPT * (log - before)
        return math.exp(before)

    def _give_up(self) -> int:
        quickest = sorted((one for one in self._traces if not self._traces[one].kept), key=self._rank)
        dropped = 0
        for trace_id in quickest:
            if len(self) <= ROOM * self._mark or len(self._traces) == 1:
                break
            dropped += len(self._remove(trace_id).rows)
            _remember(self._given_up, trace_id)
        return dropped

    def _rank(self, trace_id: UUID) -> tuple[bool, float]:
        trace = self._traces[trace_id]
        return trace.kept, trace.slowness

    def _remove(self, trace_id: UUID) -> _Trace:
        trace = self._traces.pop(trace_id)
        self._queued -= len(trace.rows)
        self._kept -= len(trace.rows) if trace.kept else 0
        return trace


def _remember(these: OrderedDict[UUID, None], trace_id: UUID) -> None:
    these[trace_id] = None
    these.move_to_end(trace_id)
    if len(these) > MOST_REMEMBERED:
        these.popitem(last=False)
