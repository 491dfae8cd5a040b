"""The next desired state of a run that looks for its breaking point. Pure; each is the whole, one generation on.

    step ──look: finished──▶ next level ──▶ step …            ──answer──▶ the run's end is now
             └──overloaded──▶ resting ──worked off──▶ next level

What the user asks for comes first: nothing is led while a run is paused or stopped, and a pause makes its step begin
anew. Everything is derived from the desired state, so another validator goes on where the last one was.
"""

import math
from datetime import datetime

from services.validator.stress_search import Next, conclude, next_move
from services.validator.stress_step import Sight, look
from shared.contracts.run import Change, Load, RunDesired
from shared.contracts.stress import StressAnswer, StressSearch

LEAD_S = 1.0
"""A change takes effect so much later, when every worker has heard of it."""
REST_SHARE, REST_LEAST_S, REST_MOST_S = 0.05, 3.0, 90.0
WORKED_OFF_SHARE, WORKED_OFF = 0.05, 3
END_S = 4.0
MOST_USERS, MOST_RATE = 100_000, 1_000_000.0


def begun_s(desired: RunDesired) -> float:
    """When the present step began (s after the run's start): its level's begin, or the end of a later pause."""
    search = desired.search
    since_s = search.since_s if search else 0.0
    return max([since_s, *(pause.to_s for pause in desired.pauses if pause.to_s is not None)])


def led(desired: RunDesired) -> bool:
    """Whether a search is under way that may be led on."""
    return desired.search is not None and desired.search.answer is None and desired.status == "running"


def lead(
    desired: RunDesired, elapsed_s: float, now: datetime, sight: Sight | None, in_flight: int
) -> RunDesired | None:
    """What is to be asked of the run now; None to leave it as it is."""
    search = desired.search
    if search is None or not led(desired) or elapsed_s < begun_s(desired):
        return None
    if elapsed_s > desired.duration_s - END_S:
        return _end(desired, search, elapsed_s, now, conclude(search, f"{desired.duration_s:g} s were not enough"))
    if search.resting:
        worked_off = max(WORKED_OFF, WORKED_OFF_SHARE * search.steps[-1].in_flight) if search.steps else WORKED_OFF
        rested_s = elapsed_s - begun_s(desired)
        if rested_s < REST_LEAST_S or (in_flight > worked_off and rested_s < REST_MOST_S):
            return None
        return _go_on(desired, search, elapsed_s, now)
    move = next_move(search)
    step = look(sight, move.error if isinstance(move, Next) else None) if sight else None
    if step is None:
        return None
    search = search.model_copy(update={"steps": (*search.steps, step)})
    if not step.steady and isinstance(next_move(search), Next):
        return _ask(desired, search, elapsed_s, now, _resting_level(search), resting=True)
    return _go_on(desired, search, elapsed_s, now)


def _go_on(desired: RunDesired, search: StressSearch, elapsed_s: float, now: datetime) -> RunDesired:
    move = next_move(search)
    if isinstance(move, StressAnswer):
        return _end(desired, search, elapsed_s, now, move)
    return _ask(desired, search, elapsed_s, now, move.level, resting=False)


def _resting_level(search: StressSearch) -> float:
    level = search.steps[-1].level * REST_SHARE
    return max(1.0, float(round(level))) if search.unit == "users" else level


def _ask(
    desired: RunDesired, search: StressSearch, elapsed_s: float, now: datetime, level: float, *, resting: bool
) -> RunDesired:
    at_s = elapsed_s + LEAD_S
    factor = level / search.start
    loads = tuple(_changed(load, at_s, factor) for load in desired.loads)
    asked = search.model_copy(update={"level": level, "since_s": at_s, "resting": resting})
    return desired.changed(now, loads=loads, search=asked)


def _changed(load: Load, at_s: float, factor: float) -> Load:
    """The load at a multiple of what it began with. Where arrivals come, never fewer users than at first."""
    if load.rate is None:
        change = Change(at_s=at_s, users=min(MOST_USERS, max(1, round(load.users * factor))))
    else:
        users = min(MOST_USERS, max(load.users, math.ceil(load.users * factor)))
        change = Change(at_s=at_s, users=users, rate=min(MOST_RATE, load.rate * factor))
    return load.model_copy(update={"changes": (*load.changes, change)})


def _end(
    desired: RunDesired, search: StressSearch, elapsed_s: float, now: datetime, answer: StressAnswer
) -> RunDesired:
    """The answer, and an end to the load in a moment: the run finishes as if it had been asked for no longer."""
    loads = tuple(
        load.model_copy(update={"duration_s": min(load.duration_s, elapsed_s + LEAD_S)}) for load in desired.loads
    )
    return desired.changed(now, loads=loads, search=search.model_copy(update={"answer": answer, "resting": False}))
