"""What is to be run, decided before anything starts: loads, targets, ids. Pure.

Everything that can be wrong with a run is found here; ``ConfigError`` names the option, its value and the way out.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic_core import PydanticSerializationError

from services.console.hosts import check_target
from shared.config import parse
from shared.contracts.run import ENDLESS_S, Limits, Load, Profile, RunDesired
from shared.contracts.scenario import MAX_ACTIONS, Scenario
from shared.contracts.stress import StressSearch
from shared.contracts.suite import scale_duration_s, scale_users
from shared.errors import ConfigError, closest

RAMP_UP_SHARE = 0.25
STRESS_S = 1_800.0
"""How long a search for the breaking point may take at most, unless it is said."""
# NATS takes messages of 1 MiB unless it is told otherwise; some is left for what later changes add.
MAX_RUN_BYTES = 900_000
SLUG_LENGTH = 60


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What the command line says about every load; None leaves the scenario's own."""

    users: int | None = None
    rate: float | None = None
    duration_s: float | None = None
    ramp_up_s: float | None = None
    profile: Profile = "steady"
    scale: float | None = None
    stages: tuple[tuple[float, float], ...] = ()
    spacing: Literal["even", "poisson"] | None = None
    max_waiting: int | None = None


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One run to be: its loads and what it is called."""

    title: str
    loads: tuple[Load, ...]
    suite: str | None = None
    insufficient_ok: bool = False
    search: StressSearch | None = None

    @property
    def systems(self) -> tuple[str, ...]:
        return tuple(sorted({system for load in self.loads for system in load.scenario.systems}))


@dataclass(frozen=True, slots=True)
class Request:
    """All that ``RunDesired`` needs beside the loads."""

    environment: str
    targets: Mapping[str, str]
    allowed_hosts: tuple[str, ...]
    seed: int = 0
    requested_by: str = ""
    limits: Limits = field(default_factory=Limits)
    tags: Mapping[str, str] = field(default_factory=dict)
    reason: str = field(default="")


def plan_load(scenario: Scenario, options: LoadOptions) -> Load:
    """One scenario's load: the options, else the scenario's own.

    The scenario's own ramp-up counts for its own duration; another duration takes at most a quarter of itself.
    """
    duration_s = scenario.duration if options.duration_s is None else options.duration_s
    if options.duration_s is None and options.stages:
        duration_s = sum(seconds for seconds, _ in options.stages)
    elif options.duration_s is None and options.profile == "canary":
        duration_s = ENDLESS_S
    elif options.duration_s is None and options.profile == "stress":
        duration_s = STRESS_S
    users = scenario.users if options.users is None else options.users
    ramp_up_s = _search_ramp_up(options) if options.profile == "stress" else options.ramp_up_s
    if options.scale is not None:
        users, duration_s = scale_users(users, options.scale), scale_duration_s(duration_s, options.scale)
    if duration_s <= 0:
        raise ConfigError(f"--duration: {duration_s:g} s is not above zero (scenario {scenario.name})")
    if ramp_up_s is None:
        own_s = scenario.ramp_up
        ramp_up_s = own_s if duration_s >= scenario.duration else min(own_s, RAMP_UP_SHARE * duration_s)
    if ramp_up_s > duration_s:
        raise ConfigError(
            f"--ramp-up: {ramp_up_s:g} s is longer than the duration of {duration_s:g} s (scenario {scenario.name})"
        )
    values: dict[str, Any] = {
        "users": users,
        "rate": options.rate,
        "duration_s": duration_s,
        "ramp_up_s": ramp_up_s,
        # A canary must not beat with anything else that comes at even times; even arrivals flatter a breaking point.
        "spacing": options.spacing or ("poisson" if options.profile in ("canary", "stress") else "even"),
        "stages": [{"duration_s": seconds, "level": level} for seconds, level in options.stages],
    }
    if options.rate is None:
        for option, value in (("--spacing", options.spacing), ("--max-waiting", options.max_waiting)):
            if value is not None:
                raise ConfigError(f"{option}: {value} is about arrivals; give their --rate too")
    if options.max_waiting is not None:
        values["max_waiting"] = options.max_waiting
    return parse(Load, {"scenario": scenario, "profile": options.profile, **values}, f"scenario {scenario.name}")


def _search_ramp_up(options: LoadOptions) -> float:
    """A search settles at each of its levels by itself."""
    for option, value in (("--ramp-up", options.ramp_up_s), ("--stages", options.stages)):
        if value:
            raise ConfigError(f"{option} does not go with --profile stress, whose search sets the load")
    return 0.0


def plan_run(scenarios: Sequence[Scenario], options: LoadOptions) -> PlannedRun:
    """All scenarios together in one run."""
    twice = [name for name, count in Counter(scenario.name for scenario in scenarios).items() if count > 1]
    if twice:
        raise ConfigError(f"scenario {twice[0]!r} is named twice; give it more --users instead")
    loads = tuple(plan_load(scenario, options) for scenario in scenarios)
    actions = sum(len({(step.system, step.action) for step in load.scenario.steps}) for load in loads)
    if actions > MAX_ACTIONS:
        raise ConfigError(f"the scenarios have {actions} actions together, {MAX_ACTIONS} are the most of one run")
    others = f" and {len(loads) - 1} more" if len(loads) > 1 else ""
    return PlannedRun(loads[0].scenario.name + others, loads)


def read_targets(pairs: Iterable[str], systems: Iterable[str]) -> dict[str, str]:
    """``SYSTEM=URL`` pairs of the command line; every system must be one that the scenarios use."""
    known, targets = sorted(set(systems)), dict[str, str]()
    for pair in pairs:
        system, sign, url = pair.partition("=")
        if not sign or not url:
            raise ConfigError(f"--target: {pair!r} is no SYSTEM=URL; write e.g. {known[0]}=http://127.0.0.1:8000")
        if system not in known:
            near = closest(system, known)
            raise ConfigError(f"--target: unknown system {system!r}{near}; the scenarios use: {', '.join(known)}")
        if system in targets:
            raise ConfigError(f"--target: {system} is given twice ({targets[system]} and {url})")
        targets[system] = url
    return targets


def read_tags(pairs: Iterable[str]) -> dict[str, str]:
    """``KEY=VALUE`` pairs of the command line."""
    tags = {}
    for pair in pairs:
        key, sign, value = pair.partition("=")
        if not sign or not key.strip():
            raise ConfigError(f"--tag: {pair!r} is no KEY=VALUE; write e.g. commit=1a2b3c")
        tags[key.strip()] = value.strip()
    return tags


def check_targets(systems: Iterable[str], targets: Mapping[str, str], allowed: Sequence[str]) -> dict[str, str]:
    """The target of each system, within the allow-list; ``ConfigError`` names the first system that has none."""
    checked = {}
    for system in sorted(set(systems)):
        if system not in targets:
            raise ConfigError(f"no target for system {system!r}; give --target {system}=URL")
        checked[system] = check_target(system, targets[system], allowed)
    return checked


def name_run(title: str, now: datetime, suffix: str) -> str:
    """A run's id: when, what, and four characters that tell two of one second apart."""
    slug = "".join(c if c.isascii() and c.isalnum() else "-" for c in title.lower())
    slug = "-".join(part for part in slug.split("-") if part)[:SLUG_LENGTH].strip("-")
    return f"{now.astimezone(UTC):%Y%m%d-%H%M%S}-{slug}-{suffix}"


def desire(planned: PlannedRun, run: str, request: Request, now: datetime) -> RunDesired:
    """The whole desired state of a new run, generation 1; ``ConfigError`` when a broker would not take it."""
    desired = RunDesired(
        run=run,
        environment=request.environment,
        generation=1,
        status="running",
        loads=planned.loads,
        targets=dict(request.targets),
        allowed_hosts=request.allowed_hosts,
        seed=request.seed,
        limits=request.limits,
        search=planned.search,
        tags={**{key: text for load in planned.loads for key, text in load.scenario.tags.items()}, **request.tags},
        suite=planned.suite,
        requested_by=request.requested_by,
        requested_at=now,
        reason=request.reason,
    )
    try:
        size = len(desired.model_dump_json())
    except PydanticSerializationError as error:
        raise ConfigError(f"run {planned.title}: a text in it cannot be written as UTF-8 ({error})") from error
    if size > MAX_RUN_BYTES:
        raise ConfigError(
            f"the run takes {size:,} bytes with its scenarios' data, and a broker {MAX_RUN_BYTES:,}: "
            "give data fewer rows, or shorter ones"
        )
    return desired
