"""The search of ``--profile stress``, decided before anything starts: where it begins, how far it may go. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from services.console.plan import PlannedRun
from shared.contracts.run import Load
from shared.contracts.stress import StressSearch
from shared.errors import ConfigError

MAX_USERS = 100_000


@dataclass(frozen=True, slots=True)
class SearchOptions:
    """What the command line says about a search; None leaves the default."""

    max_users: int | None = None
    max_rate: float | None = None
    max_steps: int | None = None
    break_at: Literal["target", "critical"] | None = None
    require_users: int | None = None
    require_rate: float | None = None

    def refuse(self) -> None:
        """``ConfigError`` where one is given without a search. (``--max-rate`` caps any run.)"""
        given = {
            "--max-users": self.max_users,
            "--max-steps": self.max_steps,
            "--break-at": self.break_at,
            "--require-users": self.require_users,
            "--require-rate": self.require_rate,
        }
        for option, value in given.items():
            if value is not None:
                raise ConfigError(f"{option}: {value} is for --profile stress, which searches the breaking point")


def with_search(run: PlannedRun, options: SearchOptions) -> PlannedRun:
    """The run with its search; ``ConfigError`` when the options are not about its kind of load."""
    return replace(run, search=plan_search(run.loads, options))


def plan_search(loads: Sequence[Load], options: SearchOptions) -> StressSearch:
    """Levels are arrivals/s where the loads have rates, else users; they begin at what the loads ask for."""
    open_load = all(load.rate is not None for load in loads)
    for option, value in (("--require-rate", options.require_rate), ("--require-users", options.require_users)):
        if value is not None and open_load is (option == "--require-users"):
            use = "--require-rate" if open_load else "--require-users, or give --rate"
            raise ConfigError(f"{option}: {value:g}: the search is over {_kind(open_load)}; use {use}")
    start = sum(load.rate or 0.0 for load in loads) if open_load else float(sum(load.users for load in loads))
    most, bound = _highest(loads, options, open_load=open_load)
    if start > most:
        own = "--rate" if open_load else "--users"
        raise ConfigError(f"{bound}: {most:g} is below where the search begins, {start:g}; give a lower {own}")
    require = options.require_rate if open_load else options.require_users
    if require is not None and require > most:
        raise ConfigError(f"--require-{'rate' if open_load else 'users'}: {require:g} is more than {bound} allows")
    return StressSearch(
        unit="rate" if open_load else "users",
        start=start,
        level=start,
        max_level=most,
        max_steps=options.max_steps or StressSearch.model_fields["max_steps"].default,
        limit=options.break_at or "target",
        require=require,
    )


def _highest(loads: Sequence[Load], options: SearchOptions, *, open_load: bool) -> tuple[float, str]:
    """The highest level that may be asked for, and the option that says so."""
    bounds = [(1_000_000.0 if open_load else float(MAX_USERS), "the most of a run")]
    if open_load and options.max_rate is not None:
        # An arrival makes as many requests as its scenario has steps.
        per_level = sum((load.rate or 0.0) * sum(not step.once for step in load.scenario.steps) for load in loads)
        bounds.append((options.max_rate * sum(load.rate or 0.0 for load in loads) / per_level, "--max-rate"))
    users = sum(load.users for load in loads)
    per_user = sum(load.rate or 0.0 for load in loads) / users if open_load else 1.0
    if options.max_users is not None:
        bounds.append((options.max_users * per_user, "--max-users"))
    for load in loads:
        for name, data in load.scenario.data.items():
            if data.use == "unique":
                bounds.append((len(data.rows) * users / load.users * per_user, f"unique data {name!r}"))
    return min(bounds)


def _kind(open_load: bool) -> str:
    return "arrivals, since --rate is given" if open_load else "users"
