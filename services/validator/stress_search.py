"""The search for the highest load that keeps every benchmark: which level next, or the answer. Pure.

    grow ──a step broken──▶ narrow ──interval narrow enough, both sides seen──▶ answer
      └──most users, rate, steps or the generators' limit reached──▶ not found

A step that is not broken with confidence lets the load grow. From the first broken one on, the next level is the
middle of what is still possible (``breaking_point.py``). What a step was worth is decided in ``stress_step.py``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from services.validator.breaking_point import Point, Sighting, locate
from services.validator.knee import find_knee
from shared.contracts.stress import FirstBroken, StressAnswer, StressMargin, StressSearch, StressStep

GROWTH = 2.0
"""Factor from one level to the next while nothing is broken; its square where nothing is near a limit either."""
CLOSE = 1.2
"""Factor where a step was too close to a limit to be sure."""
CLOSE_TO = 0.7
FAR_BELOW = -2.0
NEAR = 1.1
"""Steps within this factor of the point speak of it directly."""
ENOUGH = 0.15
"""The widest (half) interval, as a share of the level, that is an answer when the steps are used up."""
CLOSE_BY, FAR = 1.35, 1.2
LOPSIDED = 2.0
TRIES = 2
LEAST_ERROR = 0.06
LOWEST_SHARE = 1e-3


@dataclass(frozen=True, slots=True)
class Next:
    """Go to ``level``. ``error``: the standard error of a margin that is precise enough there; None while growing."""

    level: float
    error: float | None = None


def next_move(search: StressSearch) -> Next | StressAnswer:
    """What follows the steps made so far."""
    steps = search.steps
    if not steps:
        return Next(search.start)
    limit = generators_limit(search)
    if steps[-1].verdict == "invalid" and limit is None and len(steps) < search.max_steps:
        return Next(steps[-1].level)
    told = [step for step in steps if step.verdict != "invalid"]
    broken, kept = [s for s in told if is_broken(search, s)], [s for s in told if not is_broken(search, s)]
    if told and not any(step.margins for step in told):
        return _answer(search, None, "no benchmark says anything of this load: nothing to search by")
    if limit is not None and not any(step.level <= limit for step in broken):
        return _answer(search, None, f"the generators are the limit at {_say(search, limit)}: add workers")
    if all(_refuted(step, broken, kept) for step in broken):
        return _grow(search, kept)
    if not kept:
        return _shrink(search, broken)
    return _narrow(search, broken, kept)


def is_broken(search: StressSearch, step: StressStep) -> bool:
    return step.verdict == "critical" or (step.verdict == "missed" and search.limit == "target")


def generators_limit(search: StressSearch) -> float | None:
    """The lowest level at which the generators failed as often as may be tried; None while they do."""
    failed = [step.level for step in search.steps if step.verdict == "invalid"]
    spoiled = [level for level in failed if sum(_same(level, other) for other in failed) >= TRIES]
    return min(spoiled, default=None)


def point_of(search: StressSearch) -> tuple[Point, StressMargin] | None:
    """The lowest breaking point over all benchmarks that were ever broken, with the one it is of."""
    told = _unrefuted(search)
    names = {m.name for step in told for m in step.margins if _margin_broken(search, m)}
    if not names:
        return None
    levels = [step.level for step in told]
    lowest, highest = min(levels) / 4, max(levels) * 4
    points = []
    for name in sorted(names):
        seen = [(step, m) for step in told for m in step.margins if m.name == name and m.margin is not None]
        if not seen:
            continue
        sightings = tuple(
            Sighting(step.level, m.margin or 0.0, _error(step, m, seen), not step.steady and (m.margin or 0.0) > 0)
            for step, m in seen
        )
        worst = min((pair for pair in seen if _margin_broken(search, pair[1])), key=lambda pair: pair[0].level)
        points.append((locate(sightings, lowest, highest), worst[1]))
    return min(points, key=lambda pair: pair[0].level, default=None)


def _error(step: StressStep, margin: StressMargin, seen: Sequence[tuple[StressStep, StressMargin]]) -> float:
    """A margin's error by how alike samples were in all steps close by.

    A step that happened to be quiet shows too little of it, and would count for more just because it was quiet.
    """
    alike = [
        m.samples / m.effective
        for one, m in seen
        if one.steady and m.effective > 0 and step.level / NEAR <= one.level <= step.level * NEAR
    ]
    own = margin.samples / margin.effective if margin.effective > 0 else 1.0
    return (margin.error or 1.0) * math.sqrt(max(1.0, sum(alike) / len(alike) / own) if alike else 1.0)


def _unrefuted(search: StressSearch) -> list[StressStep]:
    told = [step for step in search.steps if step.verdict != "invalid"]
    broken, kept = [s for s in told if is_broken(search, s)], [s for s in told if not is_broken(search, s)]
    return [step for step in told if step not in broken or not _refuted(step, broken, kept)]


def conclude(search: StressSearch, reason: str) -> StressAnswer:
    """The answer when the search has to end here: found only where the interval is narrow enough already."""
    located = point_of(search)
    if located is None or not any(_tells(search, step) for step in search.steps):
        return _answer(search, None, reason)
    if located[0].precision > ENOUGH:
        return _answer(search, located, f"{reason}; the interval is still ±{located[0].precision:.0%}")
    return _answer(search, located, "")


def _grow(search: StressSearch, kept: Sequence[StressStep]) -> Next | StressAnswer:
    top = max(kept, key=lambda step: step.level)
    if top.level >= search.max_level * 0.999:
        return _answer(search, None, f"nothing is broken at {_say(search, top.level)}, the most that may be asked")
    if len(search.steps) >= search.max_steps:
        return _answer(search, None, f"nothing is broken after {len(search.steps)} steps; begin higher")
    margins = [m.margin for m in top.margins if m.margin is not None]
    far = all(margin < FAR_BELOW for margin in margins) and len(kept) > 1
    factor = CLOSE if any(_close(m) for m in top.margins) else GROWTH**2 if far else GROWTH
    return Next(_rounded(search, min(top.level * factor, search.max_level)))


def _close(margin: StressMargin) -> bool:
    """Undecided for being near its limit, and not for having seen too little."""
    return margin.verdict == "insufficient" and margin.value is not None and margin.value > CLOSE_TO * margin.limit


def _shrink(search: StressSearch, broken: Sequence[StressStep]) -> Next | StressAnswer:
    least = min(broken, key=lambda step: step.level)
    if len(search.steps) == 1:
        # A target that has just been woken may do better.
        return Next(least.level)
    if len(search.steps) >= search.max_steps:
        return _answer(search, None, f"every step is broken, down to {_say(search, least.level)}")
    level = _rounded(search, least.level / GROWTH**2)
    if level >= least.level or level < search.start * LOWEST_SHARE:
        return _answer(search, None, f"benchmarks are broken even at {_say(search, least.level)}")
    return Next(level)


def _narrow(search: StressSearch, broken: Sequence[StressStep], kept: Sequence[StressStep]) -> Next | StressAnswer:
    located = point_of(search)
    if located is None:
        return _answer(search, None, "what was broken has no value to search by")
    point, _ = located
    near = [step for step in (*broken, *kept) if point.level / NEAR <= step.level <= point.level * NEAR]
    whole = search.unit == "users" and point.high - point.low < 1.0
    if (point.precision <= search.precision or whole) and len(near) >= TRIES:
        return _answer(search, located, "")
    if len(search.steps) >= search.max_steps:
        return conclude(search, f"{len(search.steps)} steps were not enough")
    doubted = _doubted(broken, kept)
    if doubted is not None:
        return Next(doubted)
    # No more precise than helps: half of what is wanted, a quarter of the interval that is left.
    error = max(LEAST_ERROR, point.slope * max(search.precision / 2, point.precision / 4))
    return Next(_rounded(search, min(_most_telling(point), search.max_level)), error)


def _most_telling(point: Point) -> float:
    """The median; where the interval reaches much further to one side, a third of the way there."""
    up, down = math.log(point.high / point.level), math.log(point.level / point.low)
    if max(up, down) < LOPSIDED * min(up, down):
        return point.level
    return point.level * math.exp(up / 3 if up > down else -down / 3)


def _doubted(broken: Sequence[StressStep], kept: Sequence[StressStep]) -> float | None:
    """The level of a single step that all that was seen close by speaks against: it is tried again.

    Otherwise one disturbance would have the load creep up to where it happened, and never beyond.
    """
    low, high = min(broken, key=lambda step: step.level), max(kept, key=lambda step: step.level)
    below = [step for step in kept if low.level / CLOSE_BY <= step.level <= low.level and _far(step, -FAR)]
    above = [step for step in broken if high.level <= step.level <= high.level * CLOSE_BY and _far(step, FAR)]
    if high.level >= low.level:
        return None
    if len(below) >= TRIES and sum(step.level <= low.level * NEAR for step in broken) == 1:
        return low.level
    if len(above) >= TRIES and sum(step.level >= high.level / NEAR for step in kept) == 1:
        return high.level
    return None


def _refuted(step: StressStep, broken: Sequence[StressStep], kept: Sequence[StressStep]) -> bool:
    """As often as it was broken, the same load or more was kept by far: what broke it was no load."""
    against = sum(one.level >= step.level * 0.98 and _far(one, -FAR) for one in kept)
    return against > 0 and against >= sum(one.level <= step.level * NEAR for one in broken)


def _far(step: StressStep, margin: float) -> bool:
    """The margins are all far below, or one is far above a limit."""
    margins = [m.margin for m in step.margins if m.margin is not None]
    return all(one < margin for one in margins) if margin < 0 else any(one > margin for one in margins)


def _tells(search: StressSearch, step: StressStep) -> bool:
    return step.verdict != "invalid" and not is_broken(search, step)


def _margin_broken(search: StressSearch, margin: StressMargin) -> bool:
    return margin.verdict == "critical" or (margin.verdict == "missed" and search.limit == "target")


def _answer(search: StressSearch, located: tuple[Point, StressMargin] | None, reason: str) -> StressAnswer:
    told = [step for step in search.steps if step.verdict != "invalid"]
    met = [step.level for step in told if step.verdict == "met"]
    broken = [step for step in told if is_broken(search, step)]
    first = min(broken, key=lambda step: step.level, default=None)
    point = located[0] if located else None
    return StressAnswer(
        found=not reason,
        reason=reason,
        level=_rounded(search, point.level) if point else None,
        low=_rounded(search, point.low) if point else None,
        high=_rounded(search, point.high) if point else None,
        throughput=_throughput_at(told, point.level) if point else None,
        highest_met=max((level for level in met if first is None or level < first.level), default=None),
        lowest_broken=first.level if first else None,
        knee=find_knee([(s.level, s.achieved, s.mean_ms) for s in told if s.mean_ms and s.steady]),
        broke=FirstBroken(margin=_worst(search, first), level=first.level) if first and first.margins else None,
    )


def _worst(search: StressSearch, step: StressStep) -> StressMargin:
    """Of what a step broke, what it broke the most."""
    broken = [m for m in step.margins if _margin_broken(search, m)]
    return max(broken or step.margins, key=lambda m: m.margin if m.margin is not None else -math.inf)


def _throughput_at(steps: Sequence[StressStep], level: float) -> float | None:
    """Requests/s at a level, in proportion to the nearest steady step."""
    steady = [step for step in steps if step.steady and step.achieved > 0]
    if not steady:
        return None
    nearest = min(steady, key=lambda step: abs(math.log(step.level / level)))
    return round(nearest.achieved * level / nearest.level, 3)


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= 0.05 * max(one, other)


def _rounded(search: StressSearch, level: float) -> float:
    """A level that can be asked for: whole users, rates to three or four figures."""
    if search.unit == "users":
        return float(max(1, round(level)))
    digits = 3 - math.floor(math.log10(level))
    return round(level, digits)


def _say(search: StressSearch, level: float) -> str:
    return f"{level:g} users" if search.unit == "users" else f"{level:g}/s"
