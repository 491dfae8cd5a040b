"""A run as it is seen while it happens: what the live line says, from messages alone. Pure; ``now`` is passed.

The last word is the report's; this is a view of the last seconds.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime

from services.console.stress_words import describe_answer, describe_level, describe_step
from services.console.wording import (
    describe_breach,
    describe_scaling,
    format_clock,
    format_ms,
    is_over,
    moves_nothing,
)
from shared.contracts.breach import Breach, BreachStatus
from shared.contracts.run import Phase, RunDesired, RunState
from shared.contracts.scaling import ScalingRecord
from shared.contracts.stress import StressSearch
from shared.contracts.timing import Kind
from shared.contracts.window import FrameWindows
from shared.histogram import Histogram

SPAN_S = 5
STANDSTILL_S = 3.0
REMEMBERED = 1_000
"""Workers, by epoch, and scaling decisions: a run without end has any number of both."""
STEP_STYLE = {"met": "green", "missed": "yellow", "critical": "red", "insufficient": "", "invalid": "magenta"}
LEVEL_STYLE = {"target": "yellow", "critical": "red"}


@dataclass(frozen=True, slots=True)
class Notice:
    """One line for one event; ``style`` is a colour's name."""

    text: str
    style: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the live line shows. ``p95_ms`` is None while nothing was measured."""

    phase: Phase | None
    elapsed_s: float
    duration_s: float
    users: int
    workers: int
    rate_per_s: float
    p95_ms: float | None
    failed: int
    failed_share: float
    open_breaches: int
    replicas: dict[str, int]
    level: str = ""

    def line(self) -> str:
        """The plain form, e.g. for a log file."""
        p95 = "p95 –" if self.p95_ms is None else f"p95 {format_ms(self.p95_ms)}"
        moved = "".join(f"  {service}×{count}" for service, count in sorted(self.replicas.items()))
        level = f"{self.level}  " if self.level else ""
        return (
            f"{format_clock(self.elapsed_s)}/{format_clock(self.duration_s)}  {self.phase or 'waiting'}  "
            f"{level}{self.users} users  {self.rate_per_s:.0f}/s  {p95}  "
            f"{self.failed} errors ({self.failed_share:.1%})  {self.open_breaches} breaches open{moved}"
        )


@dataclass(slots=True)
class _Second:
    count: int = 0
    response: Histogram = field(default_factory=Histogram)


class Progress:
    """Feed it every message of a run; ask it for a snapshot whenever one is shown."""

    def __init__(self, run: str, duration_s: float) -> None:
        self._run = run
        self._duration_s = duration_s
        self._seconds: dict[int, _Second] = defaultdict(_Second)
        self._last_seq: dict[tuple[str, int, str], int] = {}
        self._open: dict[str, Breach] = {}
        self._decisions: dict[str, ScalingRecord] = {}
        self._requests = self._failed = self._frames = 0
        self._replicas: dict[str, int] = {}
        self._stored = 0
        self._stored_at: datetime | None = None
        self._stands_still = False
        self._search: StressSearch | None = None
        self.state: RunState | None = None

    def on_desired(self, desired: RunDesired) -> list[Notice]:
        """A line for every step that a search has made since, and for its answer."""
        if desired.run != self._run:
            return []
        self._duration_s = desired.duration_s
        before, now = self._search, desired.search
        if now is None:
            return []
        self._search = now
        known = len(before.steps) if before else 0
        notices = [Notice(describe_step(step, now.unit), STEP_STYLE[step.verdict]) for step in now.steps[known:]]
        if now.answer is not None and (before is None or before.answer is None):
            notices.append(Notice(describe_answer(now.answer, now.unit), "bold"))
        return notices

    def on_state(self, state: RunState) -> None:
        """Only this run's, never an older one after a final one."""
        if state.run == self._run and not (self.state and self.state.phase.final):
            self.state = state

    def on_window(self, windows: FrameWindows) -> None:
        """A frame that comes again, or late behind its successor, is left to the report."""
        key = (windows.worker, windows.epoch, windows.system)
        if windows.run != self._run or windows.seq <= self._last_seq.get(key, -1):
            return
        self._last_seq.pop(key, None)
        self._last_seq[key] = windows.seq
        self._frames += 1
        if len(self._last_seq) > REMEMBERED:
            self._last_seq.pop(next(iter(self._last_seq)))
        for cell in windows.cells:
            if cell.kind is not Kind.REQUEST:
                continue
            second = self._seconds[cell.second]
            second.count += cell.count
            second.response.merge(cell.response)
            self._requests += cell.count
            self._failed += cell.failed
        newest = max(self._seconds, default=0)
        for old in [at for at in self._seconds if at < newest - 4 * SPAN_S]:
            del self._seconds[old]

    def look(self, now: datetime) -> Notice | None:
        """A line when nothing more is stored although frames wait to be, and one when it goes on."""
        stored, behind = self._frames, self._frames_behind()
        if stored > self._stored or not behind or self._stored_at is None:
            self._stored, self._stored_at = stored, now
            if self._stands_still:
                self._stands_still = False
                return Notice("the store takes frames again; nothing was lost", "green")
        elif not self._stands_still and (now - self._stored_at).total_seconds() >= STANDSTILL_S:
            self._stands_still = True
            return Notice(
                f"nothing has been stored for {STANDSTILL_S:g} s: {behind} frames wait on the bus; see tidegate doctor",
                "yellow",
            )
        return None

    def _frames_behind(self) -> int:
        """Frames that workers have cut and whose windows were not heard, so that they may not be stored."""
        return sum(
            max(0, system.last_seq - self._last_seq.get((worker.worker, worker.epoch, system.system), 0))
            for worker in (self.state.workers if self.state else ())
            for system in worker.systems
        )

    def on_breach(self, breach: Breach) -> Notice | None:
        """A line for what opened, grew worse or was resolved; None for an update, or another run's."""
        if breach.run not in ("", self._run):
            return None
        if breach.status is BreachStatus.RESOLVED:
            self._open.pop(breach.breach, None)
        else:
            self._open[breach.breach] = breach
        if breach.status is BreachStatus.UPDATED:
            return None
        return Notice(describe_breach(breach), "green" if breach.resolved_at else LEVEL_STYLE[breach.level])

    def on_scaling(self, record: ScalingRecord) -> Notice | None:
        """A line for a move, its result and its effect, for one that may not be or is given up; None for the rest."""
        if record.kind == "decision":
            self._decisions[record.decision] = record
            if len(self._decisions) > REMEMBERED:
                self._decisions.pop(next(iter(self._decisions)))
        elif record.kind == "result" and record.ready is not None:
            self._replicas[record.service] = record.ready
        decision = self._decisions.get(record.decision)
        if decision is not None and moves_nothing(decision):
            return None
        given_up = record.kind == "escalation" and not is_over(record)
        return Notice(describe_scaling(record), "red" if given_up else "cyan")

    def snapshot(self, now: datetime) -> Snapshot:
        state = self.state
        newest = max(self._seconds, default=0)
        # The newest second is still filling.
        recent = [second for at, second in self._seconds.items() if newest - SPAN_S <= at < newest]
        response = Histogram()
        for second in recent:
            response.merge(second.response)
        p95_us = response.percentile_us(0.95)
        return Snapshot(
            phase=state.phase if state else None,
            elapsed_s=self._elapsed_s(now),
            duration_s=self._duration_s,
            users=sum(worker.users for worker in state.workers) if state else 0,
            workers=len(state.workers) if state else 0,
            rate_per_s=sum(second.count for second in recent) / len(recent) if recent else 0.0,
            p95_ms=None if p95_us is None else p95_us / 1000,
            failed=self._failed,
            failed_share=self._failed / self._requests if self._requests else 0.0,
            open_breaches=len(self._open),
            replicas=dict(self._replicas),
            level=describe_level(self._search) if self._search else "",
        )

    def _elapsed_s(self, now: datetime) -> float:
        if self.state is None or self.state.started_at is None:
            return 0.0
        end = self.state.ended_at or now
        return min(max(0.0, (end - self.state.started_at).total_seconds()), self._duration_s)
