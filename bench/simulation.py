"""The real judge over simulated load: frames and readings reach it as late as they would, and it ticks as it does.

Every benchmark is held at a share of its target, where higher is better at the target divided by that share.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from bench.streams import EPOCH_S, FRAME_S, Change, Line, Worker, median_for, readings
from services.validator.judging import Judge
from services.validator.levels import derive_levels
from shared.contracts.benchmarks import QUANTILES, Benchmark, Benchmarks, Source, SystemBenchmarks
from shared.contracts.breach import Breach
from shared.contracts.resource import ResourceSample
from shared.contracts.run import Load, Phase, RunDesired, RunState
from shared.contracts.scenario import Scenario
from shared.contracts.timing import Kind

RUN = "run-of-the-bench"
TICK_S = FRAME_S
"""The judge looks when something was heard, and no sooner than 0.1 s after it did last: at each frame."""
LATE_S = 0.1
"""From a frame's cut to the merge of its windows: what ``bench freshness`` measures, rounded up."""
STRETCH_S = 300
INSTANCES = 2


@dataclass(frozen=True, slots=True)
class Setting:
    """What is simulated. ``share`` of each target; ``rate`` of requests a second and system, more where one must be."""

    benchmarks: Benchmarks
    seed: int
    share: float = 0.95
    rate: float = 100.0
    sigma: float = 0.5
    reading_sigma: float = 0.1
    correlation: float = 0.6
    change: Change | None = None


def in_readings(benchmarks: Benchmarks) -> Benchmarks:
    """The document with what is measured by spans measured by readings: spans are judged as requests are."""
    systems = {
        system: owner.model_copy(update={"benchmarks": tuple(one.in_readings or one for one in owner.benchmarks)})
        for system, owner in benchmarks.systems.items()
    }
    return benchmarks.model_copy(update={"systems": systems})


def only(benchmarks: Benchmarks, *sources: Source) -> Benchmarks:
    """The document with the benchmarks of some sources alone; their significances stay those of the whole."""
    levels = derive_levels(benchmarks)
    systems = {}
    for system, owner in benchmarks.systems.items():
        kept = tuple(
            one.model_copy(update={"significance": levels[system, one.metric]})
            for one in owner.benchmarks
            if one.source in sources
        )
        if kept:
            systems[system] = owner.model_copy(update={"benchmarks": kept, "calls": ()})
    return benchmarks.model_copy(update={"systems": systems})


def simulate(
    setting: Setting, until_s: float, phase_s: float = 0.0, every_stretch: Callable[[], None] | None = None
) -> Iterator[tuple[float, Breach]]:
    """Events of a run of that length, with the moment they are told; ticks fall ``phase_s`` after frames are cut."""
    judge, workers, systems = _judge(setting), _workers(setting), setting.benchmarks.systems
    rng = np.random.default_rng(setting.seed + 1)
    state = dict.fromkeys(_resources(systems), 0.0)
    tick = 0
    for begin_s in range(0, math.ceil(until_s), STRETCH_S):
        end_s = min(begin_s + STRETCH_S, math.ceil(until_s))
        arriving = sorted(
            (frame for worker in workers for frame in worker.frames(begin_s, end_s)), key=lambda one: one[0]
        )
        told = {
            key: readings(rng, end_s - begin_s, mean, setting.reading_sigma, setting.correlation, state[key])
            for key in state
            for mean in [_level(_resources(systems)[key], setting) / _parts(_resources(systems)[key])]
        }
        state = {key: last for key, (_, last) in told.items()}
        next_frame, read_s = 0, begin_s
        while (now_s := tick * TICK_S + phase_s) < end_s + (LATE_S if end_s >= until_s else 0):
            tick += 1
            while next_frame < len(arriving) and arriving[next_frame][0] + LATE_S <= now_s:
                judge.board(RUN).merge(arriving[next_frame][1], _us(now_s))
                next_frame += 1
            while read_s + LATE_S <= now_s and read_s < end_s:
                values = {key: float(column[read_s - begin_s]) for key, (column, _) in told.items()}
                _read(judge, systems, values, read_s)
                read_s += 1
            yield from ((now_s, breach) for breach in judge.tick(_us(now_s)))
        for _, frame in arriving[next_frame:]:
            judge.board(RUN).merge(frame, _us(end_s))
        if every_stretch is not None:
            every_stretch()


def _judge(setting: Setting) -> Judge:
    judge = Judge("bench", setting.benchmarks)
    judge.settle_joining()
    board, began = judge.board(RUN), datetime.fromtimestamp(EPOCH_S, UTC)
    board.note_desired(
        RunDesired(
            run=RUN,
            environment="bench",
            generation=1,
            status="running",
            loads=tuple(
                Load(scenario=_scenario(system, owner), users=1, duration_s=1.0)
                for system, owner in setting.benchmarks.systems.items()
            ),
            targets={},
            allowed_hosts=(),
            requested_at=began,
        )
    )
    board.note_state(
        RunState(
            run=RUN,
            environment="bench",
            phase=Phase.RUNNING,
            generation=1,
            at=began,
            coordinator="w1",
            started_at=began,
        )
    )
    return judge


def _scenario(system: str, owner: SystemBenchmarks) -> Scenario:
    actions = dict.fromkeys(_action(one) for one in owner.benchmarks)
    steps = [{"action": action, "system": system, "path": "/"} for action in actions]
    return Scenario.model_validate({"name": f"steady-{system}", "system": system, "steps": steps})


def _action(benchmark: Benchmark) -> str:
    return benchmark.actions[0] if benchmark.actions else "call"


def _workers(setting: Setting) -> list[Worker]:
    seeds = np.random.SeedSequence(setting.seed).spawn(len(setting.benchmarks.systems))
    return [
        Worker(RUN, system, _lines(owner, setting), np.random.default_rng(seed))
        for seed, (system, owner) in zip(seeds, setting.benchmarks.systems.items(), strict=True)
    ]


def _lines(owner: SystemBenchmarks, setting: Setting) -> list[Line]:
    """One line for each action that has a benchmark of its own, and one for workflows."""
    by_source = {one.source: one for one in owner.benchmarks}
    failing = _level(by_source[Source.ERROR_RATE], setting) if Source.ERROR_RATE in by_source else 0.0
    rate = setting.rate
    if Source.THROUGHPUT in by_source:
        rate = max(rate, _level(by_source[Source.THROUGHPUT], setting))
    timed = [one for one in owner.benchmarks if one.source is Source.RESPONSE_TIME]
    change = setting.change
    lines = [
        Line(_action(one), rate / len(timed), _median(one, setting), setting.sigma, failing, change=change)
        for one in timed
    ] or [Line("call", rate, 20.0, setting.sigma, failing)]
    if Source.WORKFLOW_TIME in by_source:
        median = _median(by_source[Source.WORKFLOW_TIME], setting)
        lines.append(Line("", setting.rate / 10, median, setting.sigma, kind=Kind.WORKFLOW))
    # So much must be in flight that what is demand-limited is demanded.
    limited = [one for one in owner.benchmarks if one.source is Source.RESOURCE and one.demand_limited]
    wanted = [1.3 * _level(one, setting) for one in limited]
    has = sum(line.rate * line.median_ms / 1e3 for line in lines if line.kind is Kind.REQUEST)
    for line in lines:
        line.rate *= max(1.0, max(wanted, default=0.0) / has)
    return lines


def _median(benchmark: Benchmark, setting: Setting) -> float:
    return median_for(_level(benchmark, setting), QUANTILES.get(benchmark.statistic), setting.sigma)


def _level(benchmark: Benchmark, setting: Setting) -> float:
    return benchmark.target / setting.share if benchmark.better == "higher" else benchmark.target * setting.share


def _parts(benchmark: Benchmark) -> int:
    return INSTANCES if benchmark.instances == "sum" else 1


def _resources(systems: dict[str, SystemBenchmarks]) -> dict[tuple[str, str, int], Benchmark]:
    return {
        (system, one.resource, instance): one
        for system, owner in systems.items()
        for one in owner.benchmarks
        if one.source is Source.RESOURCE
        for instance in range(INSTANCES if one.instances != "max" else 1)
    }


def _read(
    judge: Judge, systems: dict[str, SystemBenchmarks], values: dict[tuple[str, str, int], float], second: int
) -> None:
    at = datetime.fromtimestamp(EPOCH_S + second + 0.5, UTC)
    for system, owner in systems.items():
        for instance in range(INSTANCES):
            mine = {
                metric: value for (of, metric, number), value in values.items() if (of, number) == (system, instance)
            }
            if mine:
                judge.resources.add(
                    ResourceSample.model_construct(
                        service=owner.service,
                        system=system,
                        environment="bench",
                        instance=str(instance),
                        at=at,
                        ready=True,
                        values=mine,
                    )
                )


def _us(seconds: float) -> int:
    return round((EPOCH_S + seconds) * 1e6)
