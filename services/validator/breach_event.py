"""What the event of a breach tells: where and how far, since when, the worst requests, and what to do about it.

Whether there is one, and of which status, belongs to ``judging.py`` and ``lifecycle.py``.
"""

from collections import Counter
from dataclasses import dataclass, replace

from services.validator.board import Key, RunBoard
from services.validator.evidence import Evidence
from services.validator.hops import SlowestHop
from services.validator.lifecycle import Episode
from services.validator.measuring import Measured, chosen_by
from services.validator.recommendation import recommend, spent_elsewhere
from services.validator.resources import ResourceWindows
from services.validator.series import only, series_of
from services.validator.tally import worst_of
from services.validator.verdict import Judgement
from shared.contracts.attention import Acknowledge
from shared.contracts.base import utc_of_us
from shared.contracts.benchmarks import Benchmark, Source, SystemBenchmarks
from shared.contracts.breach import Acknowledgement, Breach, BreachStatus, BreachWindow
from shared.contracts.timing import Kind
from shared.contracts.window import Exemplar
from shared.histogram import Histogram

RECORDED_SHOWN = 3
UNRECORDED_SHOWN = 2


@dataclass(frozen=True, slots=True)
class Judged:
    """One benchmark of one run at one moment; ``recovery`` where that was judged already."""

    board: RunBoard
    system: str
    owner: SystemBenchmarks
    benchmark: Benchmark
    measured: Measured | None
    judgement: Judgement
    recovery: Judgement | None = None

    @property
    def key(self) -> Key:
        return (self.system, self.benchmark.metric, series_of(self.board.run, self.benchmark))


def describe(
    environment: str,
    resources: ResourceWindows,
    judged: Judged,
    measured: Measured,
    episode: Episode,
    status: BreachStatus,
) -> Breach:
    """The event of a step of an episode; advice and exemplars stay those of its worst moment."""
    board, benchmark, judgement = judged.board, judged.benchmark, judged.judgement
    resolved = status is BreachStatus.RESOLVED
    level = "critical" if episode.level == "critical" else "target"
    value = judgement.value if judgement.value is not None else episode.told_value
    limit = benchmark.critical if level == "critical" else benchmark.target
    before = board.breaches.get(episode.breach)
    worse = before is None or _is_worse(benchmark, value, before)
    if before is None or worse:
        exemplars = _exemplars(judged, measured)
        evidence = _evidence(resources, judged, measured, value, limit)
        recommendation = recommend(replace(evidence, hop=board.hops.get(episode.breach)))
    else:
        exemplars, recommendation = before.exemplars, before.recommendation
    return Breach(
        breach=episode.breach,
        revision=episode.revision,
        status=status,
        environment=environment,
        run=board.run,
        system=judged.system,
        service=judged.owner.service,
        metric=benchmark.metric,
        series=judged.key[2],
        scenario=only(benchmark.scenarios),
        action=only(benchmark.actions),
        level=level,
        severity=benchmark.severity.at(level),
        statistic=benchmark.statistic,
        value=value,
        worst=before.worst if before and not worse else value,
        limit=limit,
        target=benchmark.target,
        critical=benchmark.critical,
        unit=benchmark.unit,
        better=benchmark.better,
        confidence=judgement.confidence,
        samples=judgement.samples,
        window=BreachWindow(
            start=utc_of_us(measured.first_s * 1_000_000),
            end=utc_of_us(measured.end_us),
            seconds=measured.end_us / 1e6 - measured.first_s,
        ),
        opened_at=utc_of_us(episode.opened_us),
        resolved_at=utc_of_us(measured.end_us) if resolved else None,
        exemplars=exemplars,
        slowest_hop=before.slowest_hop if before else "",
        recommendation=recommendation,
        note=judgement.note,
        acknowledged=before.acknowledged if before else None,
    )


def with_hop(owner: SystemBenchmarks, last: Breach, revision: int, slowest: SlowestHop) -> Breach:
    """The last event again, now with the hop that spent the time of its exemplars, and the advice that follows."""
    benchmark = next((one for one in owner.benchmarks if one.metric == last.metric), None)
    worst = last.value if last.worst is None else last.worst
    advice = None
    if benchmark is not None:
        advice = spent_elsewhere(Evidence(owner.name, owner.service, benchmark, worst, last.limit, hop=slowest))
    return last.model_copy(
        update={
            "revision": revision,
            "status": BreachStatus.UPDATED,
            "slowest_hop": str(slowest.hop),
            "recommendation": advice.text if advice else last.recommendation,
        }
    )


def with_acknowledgement(last: Breach, revision: int, said: Acknowledge) -> Breach:
    """The last event again, now with who has taken the episode on."""
    acknowledged = Acknowledgement(by=said.by, at=said.at, note=said.note, revision=revision)
    return last.model_copy(update={"revision": revision, "status": BreachStatus.UPDATED, "acknowledged": acknowledged})


def _exemplars(judged: Judged, measured: Measured) -> tuple[Exemplar, ...]:
    """The worst recorded requests of the window, and worse ones that were not recorded, slowest first.

    Of spans, those of the slowest. For a resource of a system that the run does not call itself: those of the systems
    it does call.
    """
    if measured.worst:
        return measured.worst[:RECORDED_SHOWN]
    boards = judged.board.windows
    own = [boards[judged.system]] if judged.system in boards else list(boards.values())
    chosen = chosen_by(judged.benchmark)
    worst = worst_of(
        (
            exemplar
            for windows in own
            for _, tally in windows.tallies(chosen, measured.first_s, measured.last_s)
            for exemplar in tally.worst
        ),
        keep=1000,
    )
    recorded = [exemplar for exemplar in worst if exemplar.recorded][:RECORDED_SHOWN]
    unrecorded = [exemplar for exemplar in worst if not exemplar.recorded][:UNRECORDED_SHOWN]
    return worst_of((*recorded, *unrecorded))


def _evidence(resources: ResourceWindows, judged: Judged, measured: Measured, value: float, limit: float) -> Evidence:
    benchmark, windows = judged.benchmark, judged.board.windows.get(judged.system)
    means = {}
    last_s = resources.last_second(judged.system)
    for metric in ("cpu_usage", "queue_length") if last_s is not None else ():
        values = resources.values(judged.system, metric, "mean", measured.first_s, measured.last_s)
        if values:
            means[metric] = sum(values) / len(values)
    errors: Counter[int] = Counter()
    by_action: dict[str, Histogram] = {}
    if windows:
        tallies = windows.tallies(chosen_by(benchmark)._replace(kind=Kind.REQUEST), measured.first_s, measured.last_s)
        for (_, action, _), tally in tallies:
            errors.update(tally.errors)
            by_action.setdefault(action, Histogram()).merge(tally.response)
    slow = {action: histogram.percentile_us(0.95) or 0.0 for action, histogram in by_action.items()}
    slowest = max(slow, key=lambda action: slow[action], default="")
    timed = benchmark.source is Source.RESPONSE_TIME and bool(slowest)
    return Evidence(
        display=judged.owner.name,
        service=judged.owner.service,
        benchmark=benchmark,
        value=value,
        limit=limit,
        resources=means,
        errors=dict(errors),
        stuck=measured.recent.stuck.above(benchmark.critical * 1e3) if measured.recent else 0,
        slowest_action=slowest if timed else "",
        slowest_ms=slow[slowest] / 1e3 if timed else 0.0,
    )


def _is_worse(benchmark: Benchmark, value: float, before: Breach) -> bool:
    """Whether a value is farther from its target than any told of the episode before."""
    worst = before.value if before.worst is None else before.worst
    return value > worst if benchmark.better == "lower" else value < worst
