"""A scenario compiled once per run: every step to functions of a user's variables; pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from services.generator.answer import compile_path
from services.generator.template import Variables, compile_body, compile_text
from shared import __version__
from shared.contracts.run import Load, RunDesired
from shared.contracts.scenario import TEMPLATE, Scenario, Step
from shared.contracts.timing import Kind
from shared.contracts.units import parse_duration_s
from shared.errors import ConfigError

WORKFLOW = "workflow"


@dataclass(frozen=True, slots=True)
class CompiledStep:
    """One step ready to run; ``action`` rows are looked up by (system, scenario, action) in the event streams."""

    step: Step
    scenario: str
    base_url: str
    path: Callable[[Variables], str]
    headers: tuple[tuple[str, Callable[[Variables], str]], ...]
    body: Callable[[Variables], bytes | None]
    constant_headers: dict[str, str]
    valid_for_s: float | None
    valid_for_path: Callable[[Any], Any] | None


@dataclass(frozen=True, slots=True)
class CompiledScenario:
    """``first_user`` offsets this load's users in the run's numbering."""

    scenario: Scenario
    load: Load
    first_user: int
    once: tuple[CompiledStep, ...]
    steps: tuple[CompiledStep, ...]
    variables: Mapping[str, tuple[Callable[[Variables], Any], ...]]
    secrets: Mapping[str, str] = field(repr=False)

    def variables_of(self, user: int, iteration: int, basic: dict[str, Any]) -> None:
        """Fill in the scenario's ``vars``: a list is cycled by user and iteration."""
        for name, choices in self.variables.items():
            basic[name] = choices[(user + iteration) % len(choices)](basic)


def check_limits(desired: RunDesired, allowed_here: frozenset[str], max_users: int) -> None:
    """``ConfigError`` when there are too many users, or a target's host is not allowed by the run or this worker."""
    if desired.users > max_users:
        raise ConfigError(f"{desired.users} users are more than TIDEGATE_MAX_USERS={max_users} of this worker")
    for system, url in desired.targets.items():
        host = urlsplit(url).hostname or ""
        if host not in desired.allowed_hosts or host not in allowed_here:
            raise ConfigError(f"target {system}={url}: host {host!r} is not in the allow-list of this worker")


def compile_run(desired: RunDesired, secrets: Mapping[str, str]) -> list[CompiledScenario]:
    """Compile every load of a run; ``ConfigError`` names a missing target, secret or unusable path."""
    compiled = []
    first_user = 0
    for load in desired.loads:
        scenario = load.scenario
        for name, value in scenario.vars.items():
            _check_secrets(f"variable {name!r}", TEMPLATE.findall(str(value)), secrets)
        steps = [_compile_step(step, scenario.name, desired, secrets) for step in scenario.steps]
        compiled.append(
            CompiledScenario(
                scenario=scenario,
                load=load,
                first_user=first_user,
                once=tuple(step for step in steps if step.step.once),
                steps=tuple(step for step in steps if not step.step.once),
                variables={
                    name: tuple(compile_text(str(item)) for item in (value if isinstance(value, list) else [value]))
                    for name, value in scenario.vars.items()
                },
                secrets={f"secret.{name}": value for name, value in secrets.items()},
            )
        )
        first_user += load.users
    return compiled


def _compile_step(step: Step, scenario: str, desired: RunDesired, secrets: Mapping[str, str]) -> CompiledStep:
    if step.system not in desired.targets:
        raise ConfigError(f"scenario {scenario!r} needs a target for system {step.system!r}")
    _check_secrets(f"step {step.action!r}", step.templates(), secrets)
    polled = (step.poll.until, step.poll.fail_when) if step.poll else ()
    for condition in (*step.expect.json_is, *polled):
        if condition is not None:
            compile_path(condition.json_path)
    for path in step.capture.values():
        compile_path(path)
    valid_for_s, valid_for_path = None, None
    if step.valid_for and step.valid_for.startswith("$"):
        valid_for_path = compile_path(step.valid_for)
    elif step.valid_for:
        valid_for_s = parse_duration_s(step.valid_for)
    constant = {
        "User-Agent": f"tidegate/{__version__} (run {desired.run})",
        "X-Tidegate-Run": desired.run,
        "X-Tidegate-Action": f"{scenario}/{step.action}",
    }
    if step.body is not None:
        constant["Content-Type"] = "application/json"
    return CompiledStep(
        step=step,
        scenario=scenario,
        base_url=desired.targets[step.system].rstrip("/"),
        path=compile_text(step.path),
        headers=tuple((name, compile_text(value)) for name, value in step.headers.items()),
        body=compile_body(step.body),
        constant_headers=constant,
        valid_for_s=valid_for_s,
        valid_for_path=valid_for_path,
    )


def _check_secrets(where: str, names: Iterable[str], secrets: Mapping[str, str]) -> None:
    for name in sorted(names):
        if name.startswith("secret.") and name.removeprefix("secret.") not in secrets:
            variable = f"TIDEGATE_SECRET_{name.removeprefix('secret.').upper()}"
            raise ConfigError(f"{where} needs ${{{name}}}: set {variable} where the workers run")


def actions_of(compiled: CompiledScenario) -> list[tuple[str, str, Kind]]:
    """(system, action, kind) of everything a scenario times, in order, for the streams' action tables."""
    actions = [(step.step.system, step.step.action, Kind.REQUEST) for step in (*compiled.once, *compiled.steps)]
    if compiled.scenario.workflow:
        actions.append((compiled.scenario.system, WORKFLOW, Kind.WORKFLOW))
    return list(dict.fromkeys(actions))
