"""From windows to the sample of one benchmark: which seconds, reaching how far back, and what was measured in them.

Event time ends at the watermark of the run's system; resources have no watermark but their last whole second. A
window that the generator spoiled is named so instead of measured.
"""

import math
from dataclasses import dataclass

from services.validator.resources import ResourceWindows
from services.validator.samples import Completions, Failures, Latencies, Readings, Sample
from services.validator.windows import Choice, SystemWindows
from shared.contracts.benchmarks import CONFIRM_P, QUANTILES, Benchmark, Source, samples_to_confirm
from shared.contracts.timing import Kind
from shared.histogram import Histogram

RECOVERY_SHARE = 0.3
RECOVERY_LEAST_S = 3
HANG_S = 2
STALE_RESOURCE_S = 8


@dataclass(frozen=True, slots=True)
class Measured:
    """Sample of one window ending at ``end_us`` of event time; ``spoiled`` says why it must not be judged.

    ``recovery`` is of a shorter, newer window, in which a broken benchmark can show that it is kept again;
    ``recent`` of the last two seconds, in which a hang shows.
    """

    first_s: int
    last_s: int
    end_us: int
    sample: Sample | None
    recovery: Sample | None = None
    recent: Latencies | None = None
    spoiled: str = ""


def kind_of(benchmark: Benchmark) -> Kind:
    return Kind.WORKFLOW if benchmark.source is Source.WORKFLOW_TIME else Kind.REQUEST


def recovery_samples(benchmark: Benchmark) -> int:
    """Least samples with which a kept benchmark can be confirmed again."""
    if benchmark.source is Source.ERROR_RATE:
        return math.ceil(math.log(CONFIRM_P) / math.log(1 - benchmark.target))
    return samples_to_confirm(benchmark.statistic) if benchmark.statistic in QUANTILES else RECOVERY_LEAST_S


def measure_requests(benchmark: Benchmark, windows: SystemWindows, floor_s: int, now_us: int) -> Measured | None:
    """Sample of a benchmark on requests or workflows; None before event time has begun.

    ``floor_s``: the first second that may be looked at (an episode that was resolved is not judged again).
    """
    if windows.watermark_us is None:
        return None
    end_us = windows.watermark_us
    # The second that still runs counts for times and failures; a rate needs whole seconds.
    last_s = end_us // 1_000_000 - (1 if benchmark.source is Source.THROUGHPUT else 0)
    first_s = _reach_back(
        benchmark, windows, last_s, max(1, round(benchmark.window)), floor_s, least=benchmark.min_samples
    )
    if windows.silent(now_us):
        return Measured(first_s, last_s, end_us, None, spoiled="no worker has been heard for 6 s")
    if windows.at_fault(first_s, last_s):
        return Measured(first_s, last_s, end_us, None, spoiled="the generator was at fault in this window")
    newest_s = max(RECOVERY_LEAST_S, round(RECOVERY_SHARE * benchmark.window))
    recovery_s = _reach_back(benchmark, windows, last_s, newest_s, 0, least=recovery_samples(benchmark))
    if benchmark.source in (Source.RESPONSE_TIME, Source.WORKFLOW_TIME):
        stuck = windows.stuck(kind_of(benchmark), Choice.of(benchmark), now_us)
        return Measured(
            first_s,
            last_s,
            end_us,
            _latencies(benchmark, windows, first_s, last_s, stuck),
            _latencies(benchmark, windows, recovery_s, last_s, stuck),
            _latencies(benchmark, windows, last_s - HANG_S + 1, last_s, stuck),
        )
    sample, recovery = (
        _counts(benchmark, windows, since_s, last_s, now_us) if since_s <= last_s else None
        for since_s in (first_s, recovery_s)
    )
    return Measured(first_s, last_s, end_us, sample, recovery)


def measure_resource(
    benchmark: Benchmark, resources: ResourceWindows, system: str, floor_s: int, now_us: int, offered: float | None
) -> Measured | None:
    """Sample of a benchmark on a resource; None where the system has told nothing lately."""
    last_s = resources.last_second(system)
    if last_s is None or now_us / 1e6 - last_s > STALE_RESOURCE_S:
        return None

    def read(first_s: int) -> tuple[float, ...]:
        return resources.values(system, benchmark.resource, benchmark.instances, max(first_s, floor_s), last_s)

    first_s = last_s - max(1, round(benchmark.window)) + 1
    furthest_s = last_s - round(benchmark.max_window) + 1
    while len(read(first_s)) < benchmark.min_samples and first_s > max(furthest_s, floor_s):
        first_s -= 1
    recovery_s = last_s - RECOVERY_LEAST_S + 1
    begin_s = max(first_s, floor_s)
    each = resources.each(system, benchmark.resource, begin_s, last_s) if benchmark.instances == "mean" else ()
    return Measured(
        begin_s,
        last_s,
        (last_s + 1) * 1_000_000,
        Readings(read(first_s), offered, each),
        Readings(read(recovery_s), offered),
    )


def _reach_back(
    benchmark: Benchmark, windows: SystemWindows, last_s: int, seconds: int, floor_s: int, *, least: int
) -> int:
    """First second of a window of ``seconds``, earlier where it holds fewer than ``least`` samples."""
    kind, chosen = kind_of(benchmark), Choice.of(benchmark)
    first_s = max(last_s - seconds + 1, floor_s)
    furthest_s = max(last_s - round(benchmark.max_window) + 1, floor_s)
    if benchmark.source is Source.THROUGHPUT:
        return first_s
    count = windows.count(kind, chosen, first_s, last_s)
    while count < least and first_s > furthest_s:
        first_s -= 1
        count += windows.count(kind, chosen, first_s, first_s)
    return first_s


def _latencies(benchmark: Benchmark, windows: SystemWindows, first_s: int, last_s: int, stuck: Histogram) -> Latencies:
    return windows.latencies(kind_of(benchmark), Choice.of(benchmark), first_s, last_s, stuck=stuck)


def _counts(benchmark: Benchmark, windows: SystemWindows, first_s: int, last_s: int, now_us: int) -> Sample:
    tallies = [tally for _, tally in windows.tallies(Kind.REQUEST, Choice.of(benchmark), first_s, last_s)]
    count = sum(tally.count for tally in tallies)
    if benchmark.source is Source.ERROR_RATE:
        return Failures(count, sum(tally.failed for tally in tallies))
    seconds = last_s - first_s + 1
    offered = windows.offered(Choice.of(benchmark), first_s, last_s, now_us)
    return Completions(count, float(seconds), offered / seconds)
