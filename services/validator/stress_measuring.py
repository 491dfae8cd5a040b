"""What the windows of a run tell of a step, second by second: from the board to a ``Sight``."""

from collections.abc import Iterable, Sequence

import numpy as np

from services.validator.board import RunBoard
from services.validator.resources import ResourceWindows
from services.validator.stress_limits import Limit
from services.validator.stress_step import Sight
from services.validator.stress_track import Track
from services.validator.tally import Tally
from services.validator.windows import Chosen, SystemWindows
from shared.contracts.benchmarks import Source
from shared.contracts.stress import StressSearch
from shared.contracts.timing import Kind
from shared.histogram import Histogram


def sight_of(
    board: RunBoard,
    resources: ResourceWindows,
    limits: Sequence[Limit],
    search: StressSearch,
    begun_s: float,
    now_us: int,
) -> Sight | None:
    """The present step up to the last whole second that every system's watermark has passed; None before the first.

    ``begun_s`` counts from the run's start.
    """
    windows = list(board.windows.values())
    if not windows or any(one.watermark_us is None or one.silent(now_us) for one in windows):
        return None
    began = board.began_s + begun_s
    first = int(-(-began // 1))
    last = min(one.watermark_us or 0 for one in windows) // 1_000_000 - 1
    seconds = range(first, last + 1)
    if len(seconds) == 0:
        return None
    tallies = [_tallies(windows, Chosen(Kind.REQUEST), second) for second in seconds]
    return Sight(
        number=len(search.steps) + 1,
        level=search.level,
        begun_s=first - board.began_s,
        searched=search.limit,
        responses=[_merged(one) for one in tallies],
        times_ms=np.array([sum(tally.response_sum_us for tally in one) / 1e3 for one in tallies]),
        failed=np.array([float(sum(tally.failed for tally in one)) for one in tallies]),
        offered=np.array([float(sum(_sent(one, second) for one in windows)) for second in seconds]),
        faulty=np.array([any(one.at_fault(second, second) for one in windows) for second in seconds]),
        tracks=tuple(_track(board, resources, limit, seconds, now_us) for limit in limits),
        in_flight=in_flight(board, now_us),
    )


def in_flight(board: RunBoard, now_us: int) -> int:
    """Requests sent or in line and not answered."""
    return sum(windows.in_flight(now_us) for windows in board.windows.values())


def _track(board: RunBoard, resources: ResourceWindows, limit: Limit, seconds: range, now_us: int) -> Track:
    windows = [board.windows[system] for system in limit.systems if system in board.windows]
    if limit.source is Source.RESOURCE:
        offered = [float(in_flight(board, now_us))] * len(seconds) if limit.higher_better else None
        return Track.of_readings(limit, [_reading(resources, limit, second) for second in seconds], offered)
    chosen = Chosen(limit.kind, limit.actions, limit.scenarios)
    tallies = [_tallies(windows, chosen, second) for second in seconds]
    counts = [float(sum(tally.count for tally in one)) for one in tallies]
    if limit.source is Source.ERROR_RATE:
        return Track.of_failures(limit, counts, [float(sum(tally.failed for tally in one)) for one in tallies])
    if limit.source is Source.THROUGHPUT:
        ended = [float(sum(tally.ended for tally in one)) for one in tallies]
        return Track.of_readings(limit, ended, [float(sum(_sent(one, s) for one in windows)) for s in seconds])
    stuck = Histogram()
    for one in windows:
        stuck.merge(one.stuck(chosen, now_us))
    sums = [sum(tally.response_sum_us for tally in one) / 1e3 for one in tallies]
    return Track.of_times(limit, [_merged(one) for one in tallies], sums, stuck)


def _reading(resources: ResourceWindows, limit: Limit, second: int) -> float | None:
    return next(iter(resources.values(limit.system, limit.resource, limit.instances, second, second)), None)


def _tallies(windows: Iterable[SystemWindows], chosen: Chosen, second: int) -> list[Tally]:
    return [tally for one in windows for _, tally in one.tallies(chosen, second, second)]


def _merged(tallies: Iterable[Tally]) -> dict[int, int]:
    whole = Histogram()
    for tally in tallies:
        whole.merge(tally.response)
    return whole.counts


def _sent(windows: SystemWindows, second: int) -> int:
    return sum(
        producer.sent_between(line, second, second)
        for producer in windows.producers.values()
        for line in producer.sent
        if line[2] is Kind.REQUEST
    )
