"""The judge: every benchmark of every live run against its window, at each tick, and the breaches that follow.

Pure and synchronous: messages and ``now_us`` go in, breach events come out. Where they come from and go to, and who
may judge, belongs to ``app.py``.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from itertools import chain

from services.validator.board import Key, RunBoard, concerns
from services.validator.breach_event import Judged, describe, with_acknowledgement, with_hop
from services.validator.budgets import Budgets
from services.validator.drift_breach import DriftFound
from services.validator.drift_breach import follow as follow_drift
from services.validator.hops import SlowestHop
from services.validator.levels import derive_levels
from services.validator.lifecycle import Episode, Step, advance, close, open_episode
from services.validator.measuring import Measured, is_stale, measure_requests, measure_resource
from services.validator.resources import ResourceWindows
from services.validator.series import episode_id, series_of
from services.validator.spans import SpanSeconds, measure_spans
from services.validator.verdict import Verdict
from services.validator.window_verdict import judge_recovery, judge_windows
from shared.contracts.attention import Acknowledge
from shared.contracts.base import utc_of_us
from shared.contracts.benchmarks import Benchmark, Benchmarks, Source, SystemBenchmarks
from shared.contracts.breach import Breach, BreachStatus
from shared.contracts.burn import BURN_RATE
from shared.contracts.run import RunDesired

REFUTED = "what came late refutes it: with all that was measured, the window it was opened from breaks no limit"


@dataclass(slots=True)
class _Memo:
    """What a run's desired state makes of the benchmarks, and what was judged last, with what it depended on."""

    desired: RunDesired | None
    concerned: list[tuple[Key, SystemBenchmarks, Benchmark]]
    judged: dict[Key, tuple[tuple[object, ...], Judged]] = field(default_factory=dict)


class Judge:
    """All runs of one environment and the resources they share."""

    def __init__(self, environment: str, benchmarks: Benchmarks) -> None:
        self.environment = environment
        self.benchmarks = benchmarks
        self.resources = ResourceWindows()
        self.spans = SpanSeconds()
        self.boards: dict[str, RunBoard] = {}
        self.verdicts: Counter[Verdict] = Counter()
        self.budgets = Budgets(benchmarks)
        self._levels = derive_levels(benchmarks)
        self._memos: dict[str, _Memo] = {}
        self.joining = True

    def board(self, run: str) -> RunBoard:
        """Board of a run, made at its first message."""
        board = self.boards.get(run)
        if board is None:
            board = self.boards[run] = RunBoard(run, joined_late=self.joining)
        return board

    def settle_joining(self) -> None:
        """The stream's past has been read: from here on producers begin at their first frame."""
        self.joining = False
        for board in self.boards.values():
            board.joined_late = False
            for windows in board.windows.values():
                windows.settle_joining()

    def restore(self, breach: Breach, now_us: int) -> None:
        """Take up an episode from its last published event."""
        board = self.board(breach.run)
        board.heard_us = max(board.heard_us, now_us)
        key = (breach.system, breach.metric, breach.series)
        board.keep(breach)
        if breach.status is BreachStatus.RESOLVED:
            board.floors_s[key] = int(breach.window.end.timestamp())
            return
        told_us = int(breach.window.end.timestamp() * 1e6)
        opened_us = int(breach.opened_at.timestamp() * 1e6)
        board.episodes[key] = Episode(breach.breach, breach.revision, breach.level, opened_us, told_us, breach.value)

    def tick(self, now_us: int) -> list[Breach]:
        """Judge everything that is live; the breach events to publish, in order."""
        events: list[Breach] = []
        for board in list(self.boards.values()):
            for windows in board.windows.values():
                windows.advance(now_us)
            if board.live:
                events.extend(self._revise(board, now_us))
                events.extend(self._rest(board, now_us))
                for judged in chain(self.judge_run(board, now_us), self.budgets.judge(board, now_us)):
                    self.verdicts[judged.judgement.verdict] += 1
                    events.extend(self._follow(judged))
        return events

    def judge_run(self, board: RunBoard, now_us: int) -> Iterator[Judged]:
        """Every benchmark the run can measure and whose schedule applies; again only where something has changed."""
        memo, now = self._memo(board), utc_of_us(now_us)
        for key, owner, benchmark in memo.concerned:
            if not benchmark.schedule.covers(now):
                continue
            seen = self._seen(board, key, benchmark, now_us)
            last = memo.judged.get(key)
            if last is None or last[0] != seen:
                last = memo.judged[key] = seen, self._judge(board, key, owner, benchmark, now_us)
            yield last[1]

    def note_hop(self, run: str, breach: str, slowest: SlowestHop) -> Breach | None:
        """Take the hop that spent the time of an episode; its next event, where it is open and that is news."""
        board = self.boards.get(run)
        key = next((key for key, one in board.episodes.items() if one.breach == breach), None) if board else None
        if board is None or key is None:
            return None
        board.hops[breach] = slowest
        last, episode = board.breaches[breach], board.episodes[key]
        if last.slowest_hop == str(slowest.hop):
            return None
        owner = self.benchmarks.systems[last.system]
        return _retell(board, key, with_hop(owner, last, episode.revision + 1, slowest))

    def acknowledge(self, said: Acknowledge) -> Breach | None:
        """The next event of an open episode, telling who has taken it on; None where it is not open."""
        for board in self.boards.values():
            for key, episode in board.episodes.items():
                if episode.breach == said.breach:
                    last = board.breaches[episode.breach]
                    return _retell(board, key, with_acknowledgement(last, episode.revision + 1, said))
        return None

    def open_breaches(self) -> list[Breach]:
        """The last event of every open episode."""
        return [board.breaches[episode.breach] for board in self.boards.values() for episode in board.episodes.values()]

    def take_drift(self, found: DriftFound) -> list[Breach]:
        """What follows from a window of a canary held against past days; nothing once its run is over."""
        board = self.boards.get(found.run)
        if board is None or not board.live:
            return []
        services = {system: owner.service for system, owner in self.benchmarks.systems.items()}
        return follow_drift(board, self.environment, services, found)

    def source_of(self, breach: Breach) -> Source | None:
        """What the benchmark of a breach is measured by; None when it is no longer configured."""
        owner = self.benchmarks.systems.get(breach.system)
        return next((one.source for one in owner.benchmarks if one.metric == breach.metric), None) if owner else None

    def end_run(self, board: RunBoard) -> list[Breach]:
        """Resolve what is open when a run is over: nothing more will be measured of it."""
        phase = board.state.phase.value if board.state else "gone"
        ended = (board.state.ended_at or board.state.at) if board.state else None
        note = f"the run ended ({phase}) while the breach was open"
        return [_let_go(board, key, note, ended) for key in list(board.episodes)]

    def forget_episodes(self) -> None:
        """What was judged may not have been told; ``restore`` then takes up what was."""
        for board in self.boards.values():
            board.episodes.clear()
            board.hops.clear()
            board.refutable.clear()
            board.breaches.clear()
            board.floors_s.clear()

    def forget(self, run: str) -> None:
        self.boards.pop(run, None)
        self.budgets.forget(run)
        self._memos.pop(run, None)

    def _memo(self, board: RunBoard) -> "_Memo":
        memo = self._memos.get(board.run)
        if memo is None or memo.desired is not board.desired:
            desired = board.desired
            concerned = [
                ((system, benchmark.metric, series_of(board.run, benchmark)), owner, benchmark)
                for system, owner in self.benchmarks.systems.items()
                for benchmark in owner.benchmarks
                if desired is not None and concerns(self.benchmarks, desired, system, benchmark)
            ]
            memo = self._memos[board.run] = _Memo(desired, concerned)
        return memo

    def _seen(self, board: RunBoard, key: Key, benchmark: Benchmark, now_us: int) -> tuple[object, ...]:
        """All that a judgement depends on: while it stays the same, so does the judgement."""
        windows = board.windows.get(key[0])
        open_or_not: tuple[object, ...] = (board.floors_s.get(key), key in board.episodes)
        told = (windows.version, windows.silent(now_us)) if windows else ()
        if benchmark.source.of_requests:
            return (*open_or_not, *told)
        if benchmark.source is Source.SPAN:
            lately = self.spans.lately(key[0], benchmark.span, board.started_s, now_us)
            open_or_not = (*open_or_not, self.spans.version, lately)
        stale = is_stale(self.resources, key[0], now_us)
        return (*open_or_not, self.resources.version, stale, board.started_s, told if benchmark.demand_limited else ())

    def _judge(
        self,
        board: RunBoard,
        key: Key,
        owner: SystemBenchmarks,
        benchmark: Benchmark,
        now_us: int,
        until_us: int | None = None,
    ) -> Judged:
        system = key[0]
        if benchmark.source is Source.SPAN:
            benchmark = self._told_by(board, system, benchmark, now_us)
        measured = self._measure(board, system, benchmark, board.floors_s.get(key, 0), now_us, until_us)
        level, valued = self._levels[key[:2]], key in board.episodes
        judgement, measured = judge_windows(benchmark, measured, level, valued=valued)
        return Judged(board, system, owner, benchmark, measured, judgement)

    def _told_by(self, board: RunBoard, system: str, benchmark: Benchmark, now_us: int) -> Benchmark:
        """A benchmark on spans, or on readings of the same where no spans come: no traces, or none of this system."""
        lately = self.spans.lately(system, benchmark.span, board.started_s, now_us)
        return benchmark if lately else benchmark.in_readings or benchmark

    def _measure(
        self, board: RunBoard, system: str, benchmark: Benchmark, floor_s: int, now_us: int, until_us: int | None
    ) -> Measured | None:
        windows = board.windows.get(system)
        if benchmark.source is Source.RESOURCE:
            offered = float(windows.in_flight(now_us)) if windows and benchmark.demand_limited else None
            floor_s = max(floor_s, board.started_s)
            return measure_resource(benchmark, self.resources, system, floor_s, now_us, offered)
        if benchmark.source is Source.SPAN:
            return measure_spans(benchmark, self.spans, system, max(floor_s, board.started_s), now_us)
        return measure_requests(benchmark, windows, floor_s, now_us, until_us) if windows else None

    def _revise(self, board: RunBoard, now_us: int) -> Iterator[Breach]:
        """Judge again what late frames have changed: windows that ended behind event time."""
        late = {system: windows.take_late() for system, windows in board.windows.items()}
        for key, owner, benchmark in self._memo(board).concerned if any(late.values()) else ():
            changed = late.get(key[0])
            if changed is None or not benchmark.source.of_requests:
                continue
            again = partial(self._judge, board, key, owner, benchmark, now_us)
            if key in board.episodes:
                yield from self._refute(board.episodes[key], again)
                continue
            until_s = (board.windows[key[0]].watermark_us or 0) // 1_000_000
            last_s = min(until_s, changed[1] + round(benchmark.window))
            for second in range(changed[0] + 1, until_s + 1):
                if second > last_s and key not in board.episodes:
                    break
                yield from self._follow(again(until_us=second * 1_000_000))

    def _rest(self, board: RunBoard, now_us: int) -> Iterator[Breach]:
        """Benchmarks whose schedule does not apply: what is open is let go, and what comes meanwhile never counts."""
        now = utc_of_us(now_us)
        for (system, name, series), _, benchmark in self._memo(board).concerned:
            if benchmark.schedule.covers(now):
                continue
            for metric in (name, f"{name}{BURN_RATE}"):
                key = (system, metric, series)
                board.floors_s[key] = now_us // 1_000_000
                if key in board.episodes:
                    yield _let_go(board, key, "its schedule does not apply any more: it is not judged", now)

    def _refute(self, episode: Episode, again: Callable[..., Judged]) -> Iterator[Breach]:
        """End an episode whose opening, with what has come late, breaks nothing; unless it is broken now."""
        now = again()
        measured = now.measured
        if episode.breach not in now.board.refutable or measured is None or now.judgement.broken:
            return
        if again(until_us=episode.opened_us).judgement.verdict in (Verdict.MET, Verdict.INSUFFICIENT):
            now = replace(now, judgement=replace(now.judgement, note=REFUTED))
            yield from self._take(now, measured, close(episode))

    def _follow(self, judged: Judged) -> Iterator[Breach]:
        """Lead the episode of one benchmark on by one judgement."""
        board, key, measured = judged.board, judged.key, judged.measured
        if measured is None:
            return
        episode = board.episodes.get(key)
        if episode is None:
            if not judged.judgement.broken:
                return
            breach = episode_id(self.environment, *key, measured.end_us)
            step = open_episode(breach, judged.judgement, measured.end_us)
        else:
            recovery = judged.recovery or judge_recovery(judged.benchmark, judged.measured)
            step = advance(episode, judged.judgement, recovery, measured.end_us)
            if step.status is BreachStatus.RESOLVED:
                judged = replace(judged, judgement=recovery)
        yield from self._take(judged, measured, step)

    def _take(self, judged: Judged, measured: Measured, step: Step) -> Iterator[Breach]:
        board, key = judged.board, judged.key
        if step.episode is None:
            return
        board.episodes[key] = step.episode
        if step.status is None:
            return
        breach = describe(self.environment, self.resources, judged, measured, step.episode, step.status)
        board.keep(breach)
        if step.status is BreachStatus.OPENED and not measured.unanswered:
            board.refutable.add(breach.breach)
        if step.status is BreachStatus.RESOLVED:
            del board.episodes[key]
            board.hops.pop(step.episode.breach, None)
            board.refutable.discard(breach.breach)
            board.floors_s[key] = measured.last_s + 1
        yield breach


def _let_go(board: RunBoard, key: Key, note: str, ended: datetime | None) -> Breach:
    """Resolve an open episode without having seen it mended."""
    episode = board.episodes.pop(key)
    last = board.breaches[episode.breach]
    step = close(episode)
    board.hops.pop(episode.breach, None)
    board.refutable.discard(episode.breach)
    told = last.model_copy(
        update={
            "revision": step.episode.revision if step.episode else last.revision + 1,
            "status": BreachStatus.RESOLVED,
            "resolved_at": max(ended or last.window.end, last.opened_at),
            "note": note,
        }
    )
    board.keep(told)
    return told


def _retell(board: RunBoard, key: Key, breach: Breach) -> Breach:
    """Note an event that repeats the last one of an open episode with something added."""
    board.episodes[key] = replace(board.episodes[key], revision=breach.revision)
    board.breaches[breach.breach] = breach
    return breach
