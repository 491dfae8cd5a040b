"""From windows to the sample of one benchmark: which seconds, reaching how far back, and what was measured in them.

Event time ends at the watermark of the run's system; resources have no watermark but their last whole second. A
window that the generator spoiled is named so instead of measured.
"""

from dataclasses import dataclass

from services.validator.levels import NEWEST_S, short_seconds
from services.validator.resources import ResourceWindows
from services.validator.samples import Completions, Failures, Latencies, Readings, Sample, Second
from services.validator.windows import Chosen, SystemWindows
from shared.contracts.benchmarks import Benchmark, Source
from shared.contracts.sources import KEPT_S, QUANTILES, samples_to_confirm, samples_to_confirm_share
from shared.contracts.timing import Kind
from shared.contracts.window import Exemplar
from shared.histogram import Histogram

LEAST_READINGS = 3
STALE_RESOURCE_S = 8
HISTORY_S = KEPT_S
"""So many seconds of readings tell how a resource scatters: enough to know a correlation of 0.9 from one of 0.6."""


@dataclass(frozen=True, slots=True)
class Measured:
    """Sample of one window ending at ``end_us`` of event time; ``spoiled`` says why it must not be judged.

    ``recovery`` is of a shorter, newer window, from ``short_s`` on: in it a large excess shows soonest, whether a
    small one still lasts, and a broken benchmark that it is kept again. ``recent`` is of the last two seconds, in
    which a step and a hang show. ``worst``: of spans, the slowest by their traces. ``unanswered``: requests beyond
    the target that have not returned count in it.
    """

    first_s: int
    last_s: int
    end_us: int
    sample: Sample | None
    recovery: Sample | None = None
    short_s: int = 0
    recent: Latencies | None = None
    spoiled: str = ""
    worst: tuple[Exemplar, ...] = ()
    unanswered: bool = False

    @property
    def begins_s(self) -> tuple[int, int, int]:
        """First second of the long, the short and the newest window."""
        return self.first_s, self.short_s, self.last_s - NEWEST_S + 1


def kind_of(benchmark: Benchmark) -> Kind:
    return Kind.WORKFLOW if benchmark.source is Source.WORKFLOW_TIME else Kind.REQUEST


def chosen_by(benchmark: Benchmark) -> Chosen:
    """The lines of a run's windows that a benchmark is about."""
    return Chosen(kind_of(benchmark), benchmark.actions, benchmark.scenarios)


def recovery_samples(benchmark: Benchmark) -> int:
    """Least samples with which a kept benchmark can be confirmed again."""
    if benchmark.source is Source.ERROR_RATE:
        return samples_to_confirm_share(benchmark.target)
    return samples_to_confirm(benchmark.statistic) if benchmark.statistic in QUANTILES else LEAST_READINGS


def measure_requests(
    benchmark: Benchmark, windows: SystemWindows, floor_s: int, now_us: int, until_us: int | None = None
) -> Measured | None:
    """Sample of a benchmark on requests or workflows; None before event time has begun.

    ``floor_s``: the first second that may be looked at (an episode that was resolved is not judged again).
    ``until_us``: the event time at which the windows end, where they are judged again; what was in flight then is
    no longer known.
    """
    if windows.watermark_us is None:
        return None
    end_us = windows.watermark_us if until_us is None else until_us
    # The second that still runs counts for times and failures; a rate needs whole seconds.
    last_s = end_us // 1_000_000 - (1 if benchmark.source is Source.THROUGHPUT else 0)
    first_s = _reach_back(
        benchmark, windows, last_s, max(1, round(benchmark.window)), floor_s, least=benchmark.min_samples
    )
    if until_us is None and windows.silent(now_us):
        return Measured(first_s, last_s, end_us, None, spoiled="no worker has been heard for 6 s")
    if windows.at_fault(first_s, last_s):
        return Measured(first_s, last_s, end_us, None, spoiled="the generator was at fault in this window")
    newest_s = short_seconds(benchmark)
    short_s = _reach_back(benchmark, windows, last_s, newest_s, floor_s, least=recovery_samples(benchmark))
    if benchmark.source in (Source.RESPONSE_TIME, Source.WORKFLOW_TIME):
        stuck = windows.stuck(chosen_by(benchmark), now_us) if until_us is None else Histogram()
        earliest_s = min(first_s, short_s, last_s - NEWEST_S + 1)
        seconds = _seconds(benchmark, windows, earliest_s, last_s)
        long, short, recent = (
            Latencies(seconds[since_s - earliest_s :], stuck) for since_s in (first_s, short_s, last_s - NEWEST_S + 1)
        )
        unanswered = stuck.above(benchmark.target * 1e3) > 0
        return Measured(first_s, last_s, end_us, long, short, short_s, recent, unanswered=unanswered)
    sample, recovery = (
        _counts(benchmark, windows, since_s, last_s, now_us) if since_s <= last_s else None
        for since_s in (first_s, short_s)
    )
    return Measured(first_s, last_s, end_us, sample, recovery, short_s)


def is_stale(resources: ResourceWindows, system: str, now_us: int) -> bool:
    """True where the system has told nothing lately."""
    last_s = resources.last_second(system)
    return last_s is None or now_us / 1e6 - last_s > STALE_RESOURCE_S


def measure_resource(
    benchmark: Benchmark, resources: ResourceWindows, system: str, floor_s: int, now_us: int, offered: float | None
) -> Measured | None:
    """Sample of a benchmark on a resource; None where the system has told nothing lately."""
    last_s = resources.last_second(system)
    if last_s is None or is_stale(resources, system, now_us):
        return None

    def read(first_s: int, floor_s: int = floor_s) -> tuple[float, ...]:
        return resources.values(system, benchmark.resource, benchmark.instances, max(first_s, floor_s), last_s)

    history = read(last_s - HISTORY_S + 1, 0)
    first_s = last_s - max(1, round(benchmark.window)) + 1
    furthest_s = max(last_s - round(benchmark.max_window) + 1, floor_s)
    values = read(first_s)
    while len(values) < benchmark.min_samples and first_s > furthest_s:
        first_s -= 1
        values = read(first_s)
    short_s = last_s - LEAST_READINGS + 1
    return Measured(
        max(first_s, floor_s),
        last_s,
        (last_s + 1) * 1_000_000,
        Readings(values, offered, history),
        Readings(read(short_s), offered, history),
        max(short_s, floor_s),
    )


def _reach_back(
    benchmark: Benchmark, windows: SystemWindows, last_s: int, seconds: int, floor_s: int, *, least: int
) -> int:
    """First second of a window of ``seconds``, earlier where it holds fewer than ``least`` samples."""
    first_s = max(last_s - seconds + 1, floor_s)
    furthest_s = max(last_s - round(benchmark.max_window) + 1, floor_s)
    if benchmark.source is Source.THROUGHPUT:
        return first_s
    count = sum(second.count for second in _seconds(benchmark, windows, first_s, last_s))
    while count < least and first_s > furthest_s:
        first_s -= 1
        count += windows.second(chosen_by(benchmark), first_s).count
    return first_s


def _seconds(benchmark: Benchmark, windows: SystemWindows, first_s: int, last_s: int) -> list[Second]:
    chosen = chosen_by(benchmark)
    return [windows.second(chosen, second) for second in range(first_s, last_s + 1)]


def _counts(benchmark: Benchmark, windows: SystemWindows, first_s: int, last_s: int, now_us: int) -> Sample:
    if benchmark.source is Source.ERROR_RATE:
        return Failures.of(_seconds(benchmark, windows, first_s, last_s))
    seconds = last_s - first_s + 1
    offered = windows.offered(chosen_by(benchmark), first_s, last_s, now_us)
    ended = sum(tally.ended for _, tally in windows.tallies(chosen_by(benchmark), first_s, last_s))
    return Completions(ended, float(seconds), offered / seconds)
