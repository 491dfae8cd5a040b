"""The next desired state of a run that is to change: pure. Each is the whole, one generation on.

``elapsed_s`` counts from the run's start. What changes the schedule takes effect ``LEAD_S`` later, when every worker
has heard of it, so that all compute the same arrivals. ``ConfigError`` says why a change makes no sense.
"""

from datetime import datetime

from shared.contracts.run import Change, Load, Pause, RunDesired
from shared.errors import ConfigError

LEAD_S = 1.0


def stop_of(desired: RunDesired, now: datetime, reason: str) -> RunDesired:
    """The run should stop. Idempotent for one that already should."""
    if desired.status == "stopped":
        return desired
    return desired.changed(now, status="stopped", reason=reason)


def pause_of(desired: RunDesired, elapsed_s: float, now: datetime) -> RunDesired:
    """No iteration begins any more until it is resumed; those under way end. The run's end stays where it is."""
    if desired.status != "running":
        raise ConfigError(f"run {desired.run} is already {desired.status}")
    pauses = (*desired.pauses, Pause(from_s=max(elapsed_s, 0.0)))
    return desired.changed(now, status="paused", pauses=pauses)


def resume_of(desired: RunDesired, elapsed_s: float, now: datetime) -> RunDesired:
    """The load goes on where its schedule is by then."""
    if desired.status != "paused":
        raise ConfigError(f"run {desired.run} is not paused but {desired.status}")
    *before, last = desired.pauses
    ended = last.model_copy(update={"to_s": max(elapsed_s + LEAD_S, last.from_s)})
    return desired.changed(now, status="running", pauses=(*before, ended))


def load_of(
    desired: RunDesired, elapsed_s: float, now: datetime, users: int | None, rate: float | None, scenario: str | None
) -> RunDesired:
    """Other users, another rate, or both, for every load or that of one scenario."""
    if desired.status == "stopped":
        raise ConfigError(f"run {desired.run} is already being stopped")
    if desired.search is not None and desired.search.answer is None:
        raise ConfigError(f"run {desired.run} searches its breaking point and sets its load itself; pause or stop it")
    names = [load.scenario.name for load in desired.loads]
    if scenario is not None and scenario not in names:
        raise ConfigError(f"--scenario: run {desired.run} has no {scenario!r}; it has {', '.join(names)}")
    chosen = [load for load in desired.loads if scenario in (None, load.scenario.name)]
    closed = [load.scenario.name for load in chosen if load.rate is None]
    if rate is not None and closed:
        raise ConfigError(
            f"--rate: {closed[0]} was started without a rate: its users repeat it as fast as it answers; give --users"
        )
    change = Change(at_s=max(elapsed_s, 0.0) + LEAD_S, users=users, rate=rate)
    loads = tuple(_changed(load, change) if load in chosen else load for load in desired.loads)
    return desired.changed(now, loads=loads)


def _changed(load: Load, change: Change) -> Load:
    return load.model_copy(update={"changes": (*load.changes, change)})
