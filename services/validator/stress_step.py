"""One step of a search for the breaking point: when it has settled, when it has been watched for long enough, and what
it then says. Pure: seconds go in, a finished ``StressStep`` comes out, or None while it has to go on.

    settling ──least time──▶ watching ──sure, or as precise as wanted, or too long──▶ finished
        └──── far beyond a limit and ever slower: an overload ────▶ finished at once (its margins are bounds)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.validator.stress_margin import Margin, drifting
from services.validator.stress_track import Floats, Seconds, Track
from shared.contracts.stress import StepVerdict, StressMargin, StressStep
from shared.histogram import Histogram

SETTLE_S, SETTLE_SHARE = 4, 0.2
"""What is left out at a step's begin: so many seconds, and such a part of a longer step. Never what looks best: the
quietest stretch of a queue is not a typical one."""
GROW_WATCH_S, NARROW_WATCH_S = 10, 20
"""Watched for so long at least: while the load grows, and where it is narrowed down."""
GROW_MOST_S, NARROW_MOST_S = 40, 120
LASTINGS = 10
"""A step is watched for so many times as long as its seconds stay alike."""
SURE = 4.0
FAR = 1.5
DRIFT = 3.5
FAULTY_SHARE = 0.25
OVERLOAD_S = 3
HANG_S = 5
SLOWER = 1.1
LEAST_OVERLOADED = 20


@dataclass(frozen=True, slots=True)
class Sight:
    """What is seen of a step, second by second from ``begun_s`` (s after the run's start) on.

    ``times_ms``: sums of response times; ``offered``: requests sent; ``faulty``: the generators were at fault;
    ``searched``: which limit counts as broken.
    """

    number: int
    level: float
    begun_s: float
    searched: str
    responses: Sequence[Mapping[int, int]]
    times_ms: Floats
    failed: Floats
    offered: Floats
    faulty: NDArray[np.bool_]
    tracks: tuple[Track, ...]
    in_flight: int = 0

    @property
    def seconds(self) -> int:
        return len(self.responses)

    @property
    def counts(self) -> Floats:
        return np.array([sum(response.values()) for response in self.responses], dtype=float)


def look(sight: Sight, wanted_error: float | None) -> StressStep | None:
    """The finished step, or None. ``wanted_error``: how precise a margin is to be; None: only sure of its side."""
    growing = wanted_error is None
    least_s, most_s = (GROW_WATCH_S, GROW_MOST_S) if growing else (NARROW_WATCH_S, NARROW_MOST_S)
    if sight.seconds < SETTLE_S + OVERLOAD_S:
        return None
    if sight.seconds >= SETTLE_S + GROW_WATCH_S and not sight.counts[-HANG_S:].any():
        return _hung(sight)
    if _overloaded(sight):
        last = _since(sight, sight.seconds - OVERLOAD_S)
        return _finish(sight, last, steady=False, note="overloaded: what is asked for piles up")
    watched_s = sight.seconds - SETTLE_S
    if watched_s < least_s:
        return None
    if sight.faulty[SETTLE_S:].mean() > FAULTY_SHARE:
        return _finish(sight, _since(sight, SETTLE_S), verdict="invalid", note="the generators were at fault")
    usable = _usable(sight)
    chosen = usable & _since(sight, max(SETTLE_S, round(SETTLE_SHARE * sight.seconds)))
    margins = [margin for track in sight.tracks if (margin := track.margin(sight.searched, chosen)) is not None]
    lasting_s = max((margin.lasting_s for margin in margins), default=1.0)
    drift = drifting(_means(sight, chosen), lasting_s)
    if watched_s < most_s:
        if abs(drift) > DRIFT or int(chosen.sum()) < min(LASTINGS * lasting_s, most_s):
            return None
        if not all(_enough(track, sight.searched, chosen, wanted_error) for track in sight.tracks):
            return None
    return _finish(sight, chosen, steady=drift < DRIFT)


def _enough(track: Track, searched: str, seconds: Seconds, wanted_error: float | None) -> bool:
    """A margin is sure of its side (and far from the limit, where it is to be precise), or as precise as wanted."""
    margin = track.margin(searched, seconds)
    if margin is None:
        return True
    if not track.confirmable(seconds):
        return False
    sure = abs(margin.margin) > SURE * margin.error or (margin.margin < -FAR and _none_beyond(margin))
    if wanted_error is None:
        return sure
    return margin.error <= wanted_error or (sure and abs(margin.margin) > FAR)


def _none_beyond(margin: Margin) -> bool:
    """Where nothing lies beyond a limit the error is as large as the margin, and the limit kept all the same."""
    return abs(margin.margin) > 1.5 * margin.error


def _hung(sight: Sight) -> StressStep | None:
    """A step in whose last seconds nothing was answered although much waits; None where little was asked."""
    margins = tuple(margin for track in sight.tracks if (margin := track.hung(sight.searched)) is not None)
    if not margins and sight.seconds < GROW_MOST_S:
        return None
    note = "nothing is answered any more" if margins else "nothing was answered"
    step = _finish(sight, _since(sight, sight.seconds - HANG_S), steady=False, note=note)
    return step.model_copy(update={"margins": margins, "verdict": _combine(margins)})


def _overloaded(sight: Sight) -> bool:
    """Far beyond a limit in each of the last seconds, and slower than in the two before."""
    last = _since(sight, sight.seconds - OVERLOAD_S)
    if sight.faulty[-OVERLOAD_S - 1 :].any():
        return False
    counts, times = sight.counts, sight.times_ms
    now, before = (times[part].sum() / max(1.0, counts[part].sum()) for part in (slice(-2, None), slice(-4, -2)))
    return bool(now > SLOWER * before) and any(track.far_beyond(last, LEAST_OVERLOADED) for track in sight.tracks)


def _since(sight: Sight, begin: int) -> Seconds:
    return np.arange(sight.seconds) >= begin


def _usable(sight: Sight) -> Seconds:
    """Seconds with answers, and without a fault in them or just before: what that held back is answered there."""
    spoiled = sight.faulty.copy()
    spoiled[1:] |= sight.faulty[:-1]
    return ~spoiled & (sight.counts > 0)


def _means(sight: Sight, seconds: Seconds) -> list[float]:
    means: list[float] = (sight.times_ms[seconds] / sight.counts[seconds]).tolist()
    return means


def _finish(
    sight: Sight, seconds: Seconds, *, verdict: StepVerdict | None = None, steady: bool = True, note: str = ""
) -> StressStep:
    whole = Histogram()
    for second in np.flatnonzero(seconds).tolist():
        whole.merge(sight.responses[second])
    margins = [
        track.tell(sight.searched, seconds, margin)
        for track in sight.tracks
        if (margin := track.margin(sight.searched, seconds)) is not None
    ]
    length, total, p95_us = max(1, int(seconds.sum())), whole.total, whole.percentile_us(0.95)
    return StressStep(
        number=sight.number,
        level=sight.level,
        begun_s=round(sight.begun_s, 3),
        from_s=round(sight.begun_s + float(np.argmax(seconds)), 3),
        to_s=round(sight.begun_s + sight.seconds, 3),
        offered=round(float(sight.offered[seconds].sum()) / length, 3),
        achieved=round(total / length, 3),
        mean_ms=round(float(sight.times_ms[seconds].sum()) / total, 3) if total else None,
        p95_ms=None if p95_us is None else round(p95_us / 1e3, 3),
        error_rate=round(float(sight.failed[seconds].sum()) / total, 6) if total else None,
        in_flight=sight.in_flight,
        verdict=verdict or _combine(margins),
        steady=steady,
        margins=tuple(margins),
        note=note,
    )


def _combine(margins: Sequence[StressMargin]) -> StepVerdict:
    """The worst of them; a step is met when all that was judged is."""
    verdicts = {margin.verdict for margin in margins}
    order: tuple[StepVerdict, ...] = ("critical", "missed", "insufficient", "met")
    return next((verdict for verdict in order if verdict in verdicts), "insufficient")
