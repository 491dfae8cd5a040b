"""The judge: every benchmark of every live run against its window, at each tick, and the breaches that follow.

Pure and synchronous: messages and ``now_us`` go in, breach events come out. Where they come from and go to, and who
may judge, belongs to ``app.py``.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from services.validator.board import RunBoard, concerns
from services.validator.breach_event import Judged, describe, with_hop
from services.validator.hops import SlowestHop
from services.validator.levels import derive_levels
from services.validator.lifecycle import Episode, Step, advance, close, open_episode
from services.validator.measuring import Measured, measure_requests, measure_resource
from services.validator.resources import ResourceWindows
from services.validator.samples import Latencies
from services.validator.series import episode_id, series_of
from services.validator.verdict import Judgement, Verdict, invalid, judge, judge_hang
from shared.contracts.benchmarks import Benchmark, Benchmarks, Source
from shared.contracts.breach import Breach, BreachStatus


class Judge:
    """All runs of one environment and the resources they share."""

    def __init__(self, environment: str, benchmarks: Benchmarks) -> None:
        self.environment = environment
        self.benchmarks = benchmarks
        self.resources = ResourceWindows()
        self.boards: dict[str, RunBoard] = {}
        self.verdicts: Counter[Verdict] = Counter()
        self._levels = derive_levels(benchmarks)
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
        board.breaches[breach.breach] = breach
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
                for judged in self.judge_run(board, now_us):
                    self.verdicts[judged.judgement.verdict] += 1
                    events.extend(self._follow(judged))
        return events

    def judge_run(self, board: RunBoard, now_us: int) -> Iterator[Judged]:
        """Every benchmark the run can measure, held against its window."""
        if board.desired is None:
            return
        for system, owner in self.benchmarks.systems.items():
            for benchmark in owner.benchmarks:
                if not concerns(self.benchmarks, board.desired, system, benchmark):
                    continue
                key = (system, benchmark.metric, series_of(board.run, benchmark))
                measured = self._measure(board, system, benchmark, board.floors_s.get(key, 0), now_us)
                yield Judged(
                    board,
                    system,
                    owner,
                    benchmark,
                    measured,
                    _judge(benchmark, measured, self._levels[system, benchmark.metric]),
                )

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
        board.episodes[key] = replace(episode, revision=episode.revision + 1)
        owner = self.benchmarks.systems[last.system]
        board.breaches[breach] = with_hop(owner, last, episode.revision + 1, slowest)
        return board.breaches[breach]

    def source_of(self, breach: Breach) -> Source | None:
        """What the benchmark of a breach is measured by; None when it is no longer configured."""
        owner = self.benchmarks.systems.get(breach.system)
        return next((one.source for one in owner.benchmarks if one.metric == breach.metric), None) if owner else None

    def end_run(self, board: RunBoard) -> list[Breach]:
        """Resolve what is open when a run is over: nothing more will be measured of it."""
        phase = board.state.phase.value if board.state else "gone"
        events = []
        for key, episode in list(board.episodes.items()):
            step = close(episode)
            last = board.breaches[episode.breach]
            ended = (board.state.ended_at or board.state.at) if board.state else last.window.end
            events.append(
                last.model_copy(
                    update={
                        "revision": step.episode.revision if step.episode else last.revision + 1,
                        "status": BreachStatus.RESOLVED,
                        "resolved_at": max(ended, last.opened_at),
                        "note": f"the run ended ({phase}) while the breach was open",
                    }
                )
            )
            del board.episodes[key]
            board.breaches[episode.breach] = events[-1]
        return events

    def forget_episodes(self) -> None:
        """What was judged may not have been told; ``restore`` then takes up what was."""
        for board in self.boards.values():
            board.episodes.clear()
            board.hops.clear()
            board.breaches.clear()
            board.floors_s.clear()

    def forget(self, run: str) -> None:
        self.boards.pop(run, None)

    def _measure(
        self, board: RunBoard, system: str, benchmark: Benchmark, floor_s: int, now_us: int
    ) -> Measured | None:
        windows = board.windows.get(system)
        if benchmark.source is Source.RESOURCE:
            offered = float(windows.in_flight(now_us)) if windows and benchmark.demand_limited else None
            floor_s = max(floor_s, board.started_s)
            return measure_resource(benchmark, self.resources, system, floor_s, now_us, offered)
        return measure_requests(benchmark, windows, floor_s, now_us) if windows else None

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
            step = advance(episode, judged.judgement, _judge_recovery(judged), measured.end_us)
        yield from self._take(judged, measured, step)

    def _take(self, judged: Judged, measured: Measured, step: Step) -> Iterator[Breach]:
        board, key = judged.board, judged.key
        if step.episode is None:
            return
        board.episodes[key] = step.episode
        if step.status is None:
            return
        if step.status is BreachStatus.RESOLVED:
            del board.episodes[key]
            board.hops.pop(step.episode.breach, None)
            board.floors_s[key] = measured.last_s + 1
            judged = replace(judged, judgement=_judge_recovery(judged))
        breach = describe(self.environment, self.resources, judged, measured, step.episode, step.status)
        board.breaches[breach.breach] = breach
        yield breach


def _judge(benchmark: Benchmark, measured: Measured | None, level: float) -> Judgement:
    if measured is None:
        return Judgement(Verdict.INSUFFICIENT, None, benchmark.target, 0, 0.0, "none", "nothing was measured yet")
    if measured.spoiled or measured.sample is None:
        return invalid(benchmark, measured.spoiled or "no whole second yet")
    judgement = judge(benchmark, measured.sample, significance=level)
    if measured.recent is not None and judgement.verdict is not Verdict.CRITICAL:
        return judge_hang(benchmark, measured.recent) or judgement
    return judgement


def _judge_recovery(judged: Judged) -> Judgement:
    """Whether the newest window confirms that the benchmark is kept again."""
    benchmark, measured = judged.benchmark, judged.measured
    if measured is None or measured.spoiled or measured.recovery is None:
        return invalid(benchmark, "nothing to recover by")
    least = 3 if isinstance(measured.recovery, Latencies) else 2
    return judge(benchmark, measured.recovery, min_samples=least)
