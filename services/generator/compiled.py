"""A scenario compiled once per run: every step to functions of a user's variables, bound to where its rows go; pure."""

import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from typing import Any
from urllib.parse import quote, urlsplit

from services.generator.answer import Judge, compile_condition, compile_path, parse_json
from services.generator.event_stream import EventStream
from services.generator.flow import Flow, load_flow
from services.generator.template import Variables, compile_body, compile_text
from services.generator.transport import Dialogue, Endpoint, Origin, Request, Timeouts, TokenRule
from shared import __version__
from shared.contracts.run import Load, RunDesired
from shared.contracts.scenario import Expect, Group, Poll, Scenario, Step, Stream, WebSocket
from shared.contracts.sendable import TEMPLATE, names_in
from shared.contracts.timing import Kind
from shared.contracts.units import parse_duration_s
from shared.errors import ConfigError

WORKFLOW = "workflow"
GROUP_PREFIX = "group:"
# What a path may hold besides its templates' values; anything else in it is percent-encoded.
_PATH_MARKS = "/?&=%:@!$'()*+,;~#-._[]"
_NOT_IN_PATH = re.compile(r"[^A-Za-z0-9/?&=%:@!$'()*+,;~#\-._\[\]]")
Streams = Callable[[str], EventStream]


@dataclass(frozen=True, slots=True)
class CompiledPoll:
    """Times in µs; ``until`` and ``fail_when`` take the answer's document."""

    every_us: int
    timeout_us: int
    until: Callable[[Any], bool]
    fail_when: Callable[[Any], bool] | None


@dataclass(slots=True)
class CompiledStep:
    """One step ready to run. Its rows are those of ``action`` in ``stream``; ``name`` is scenario/action."""

    step: Step
    name: str
    stream: EventStream
    action: int
    endpoint: Endpoint
    path: Callable[[Variables], str]
    headers: tuple[tuple[str, Callable[[Variables], str]], ...]
    body: Callable[[Variables], bytes | None]
    judge: Judge
    poll: CompiledPoll | None
    flow: Callable[[Flow], Awaitable[None]] | None
    think: tuple[float, float] | None
    valid_for_s: float | None
    valid_for_path: Callable[[Any], Any] | None

    def request(self, variables: Variables, traceparent: str) -> Request:
        """The request for a user's variables; ``MissingVariableError`` when one is not there."""
        headers = tuple([(name, fill(variables)) for name, fill in self.headers]) if self.headers else ()
        return Request(self.endpoint, self.path(variables), headers, self.body(variables), traceparent)

    def of_code(
        self, action: str, method: str, path: str, headers: Mapping[str, str], body: bytes | None,
        good: Collection[int] | None,
    ) -> "CompiledStep":  # fmt: skip
        """The step as one request that a flow asks for; ``ValueError`` past 256 actions."""
        scenario = self.name.partition("/")[0]
        target = quote(self.path({}).rstrip("/") + path, safe=_PATH_MARKS)
        marks = {**dict(self.endpoint.headers), "X-Tidegate-Action": f"{scenario}/{action}"}
        if body is not None:
            marks.setdefault("Content-Type", "application/json")
        own = {name.lower() for name in headers}
        return replace(
            self,
            name=marks["X-Tidegate-Action"],
            action=self.stream.declare(scenario, action, Kind.REQUEST),
            endpoint=replace(
                self.endpoint,
                method=method,
                headers=tuple((name, text) for name, text in marks.items() if name.lower() not in own),
            ),
            path=lambda _: target,
            headers=tuple((name, partial(_fixed, text)) for name, text in headers.items()),
            body=lambda _: body,
            judge=Judge(Expect(status=None if good is None else sorted(good)), {}),
        )


@dataclass(frozen=True, slots=True)
class Segment:
    """Steps in a row of one group, or of none (``action`` is None). With ``weight`` one of the weighted is drawn."""

    group: str | None
    weight: float | None
    action: int | None
    steps: tuple[CompiledStep, ...]


@dataclass(frozen=True, slots=True)
class CompiledScenario:
    """``first_user`` offsets this load's users in the run's numbering. ``stream`` takes its workflow and group rows."""

    scenario: Scenario
    load: Load
    first_user: int
    stream: EventStream
    workflow: int | None
    once: tuple[CompiledStep, ...]
    segments: tuple[Segment, ...]
    weights: Mapping[str, float]
    variables: Mapping[str, tuple[Callable[[Variables], Any], ...]]
    data: tuple[tuple[str, tuple[Mapping[str, Any], ...]], ...]
    draws_uuid: bool
    secrets: Mapping[str, str] = field(repr=False)

    @property
    def first(self) -> CompiledStep:
        """The step that an iteration begins with."""
        return self.segments[0].steps[0]

    def variables_of(self, user: int, iteration: int, basic: dict[str, Any]) -> None:
        """Fill in the scenario's ``vars``: a list is cycled by user and iteration."""
        for name, choices in self.variables.items():
            basic[name] = choices[(user + iteration) % len(choices)](basic)


def compile_run(
    desired: RunDesired, secrets: Mapping[str, str], streams: Streams, flow_modules: Collection[str] = ()
) -> list[CompiledScenario]:
    """Compile every load of a run; ``ConfigError`` names a missing target, secret or unusable path."""
    compiled = []
    first_user = 0
    for load in desired.loads:
        compiled.append(_compile_load(load, first_user, desired, secrets, streams, flow_modules))
        first_user += load.users
    return compiled


def _compile_load(
    load: Load, first_user: int, desired: RunDesired, secrets: Mapping[str, str], streams: Streams,
    flow_modules: Collection[str],
) -> CompiledScenario:  # fmt: skip
    scenario = load.scenario
    for name, value in scenario.vars.items():
        _check_secrets(f"variable {name!r}", names_in(value), secrets)
    steps = [_compile_step(step, scenario.name, desired, secrets, streams, flow_modules) for step in scenario.steps]
    stream = streams(scenario.system)
    workflow = stream.declare(scenario.name, WORKFLOW, Kind.WORKFLOW) if scenario.workflow else None
    segments = []
    for group, members in groupby((step for step in steps if not step.step.once), lambda step: step.step.group):
        action = None if group is None else stream.declare(scenario.name, GROUP_PREFIX + group, Kind.GROUP)
        weight = None if group is None else scenario.groups.get(group, Group()).weight
        segments.append(Segment(group, weight, action, tuple(members)))
    used = names_in(list(scenario.vars.values())).union(*(step.templates() for step in scenario.steps))
    return CompiledScenario(
        scenario=scenario,
        load=load,
        first_user=first_user,
        stream=stream,
        workflow=workflow,
        once=tuple(step for step in steps if step.step.once),
        segments=tuple(segments),
        weights={name: group.weight for name, group in scenario.groups.items() if group.weight is not None},
        variables={
            name: tuple(compile_text(str(item)) for item in (value if isinstance(value, list) else [value]))
            for name, value in scenario.vars.items()
        },
        data=tuple(
            (found.use, tuple({f"{name}.{column}": value for column, value in row.items()} for row in found.rows))
            for name, found in scenario.data.items()
        ),
        draws_uuid="uuid" in used,
        secrets={f"secret.{name}": value for name, value in secrets.items()},
    )


def _compile_step(
    step: Step, scenario: str, desired: RunDesired, secrets: Mapping[str, str], streams: Streams,
    flow_modules: Collection[str],
) -> CompiledStep:  # fmt: skip
    if step.system not in desired.targets:
        raise ConfigError(f"scenario {scenario!r} needs a target for system {step.system!r}")
    _check_secrets(f"step {step.action!r}", step.templates(), secrets)
    valid_for_s, valid_for_path = None, None
    if step.valid_for and step.valid_for.startswith("$"):
        valid_for_path = compile_path(step.valid_for)
    elif step.valid_for:
        valid_for_s = parse_duration_s(step.valid_for)
    name = f"{scenario}/{step.action}"
    judge = Judge(step.expect, step.capture)
    stream_rule = Stream() if step.stream is True else step.stream or None
    if stream_rule is not None and stream_rule.token is not None:
        compile_path(stream_rule.token)
    target = urlsplit(desired.targets[step.system])
    port = target.port or (443 if target.scheme == "https" else 80)
    endpoint = Endpoint(
        Origin(target.scheme, target.hostname or "", port),
        step.method,
        _constant_headers(step, name, desired.run),
        Timeouts(step.timeout, step.connect_timeout, step.first_byte_timeout),
        None
        if stream_rule is None
        else TokenRule("chunks" if step.websocket else stream_rule.format, stream_rule.token),
        keep_body=judge.needs_body or step.call is not None or step.poll is not None or valid_for_path is not None,
        keep_headers=judge.needs_headers or step.call is not None,
        dialogue=None if step.websocket is None else _compile_dialogue(step.websocket),
    )
    think = step.think_time
    stream = streams(step.system)
    return CompiledStep(
        step=step,
        name=name,
        stream=stream,
        action=stream.declare(scenario, step.action, Kind.REQUEST),
        endpoint=endpoint,
        path=_compile_target(target.path.rstrip("/") + step.path),
        headers=tuple((key, compile_text(text)) for key, text in step.headers.items() if TEMPLATE.search(text)),
        body=compile_body(step.body),
        judge=judge,
        poll=None if step.poll is None else _compile_poll(step.poll),
        flow=None if step.call is None else load_flow(step.call, flow_modules),
        think=(think.min, think.max) if think.max > 0 else None,
        valid_for_s=valid_for_s,
        valid_for_path=valid_for_path,
    )


def _fixed(text: str, _: Variables) -> str:
    return text


def _compile_poll(poll: Poll) -> CompiledPoll:
    fail_when = None if poll.fail_when is None else compile_condition(poll.fail_when)
    return CompiledPoll(int(poll.every * 1e6), int(poll.timeout * 1e6), compile_condition(poll.until), fail_when)


def _compile_dialogue(asked: WebSocket) -> Dialogue:
    if asked.until is None:
        return Dialogue(asked.messages)
    holds = compile_condition(asked.until)
    return Dialogue(until=lambda message: holds(parse_json(message)))


def _compile_target(path: str) -> Callable[[Variables], str]:
    """The path with its query, percent-encoded where a value or the scenario has something else in it."""
    if not TEMPLATE.search(path):
        constant = quote(path, safe=_PATH_MARKS)
        return lambda _: constant
    fill, unclean = compile_text(path), _NOT_IN_PATH.search

    def target(variables: Variables) -> str:
        text = fill(variables)
        return quote(text, safe=_PATH_MARKS) if unclean(text) else text

    return target


def _constant_headers(step: Step, name: str, run: str) -> tuple[tuple[str, str], ...]:
    constant = {"User-Agent": f"tidegate/{__version__} (run {run})"}
    if step.body is not None:
        constant["Content-Type"] = "application/json"
    own = {key.lower() for key in step.headers}
    constant = {key: text for key, text in constant.items() if key.lower() not in own}
    constant |= {key: text for key, text in step.headers.items() if not TEMPLATE.search(text)}
    return (*constant.items(), ("X-Tidegate-Run", run), ("X-Tidegate-Action", name))


def _check_secrets(where: str, names: Iterable[str], secrets: Mapping[str, str]) -> None:
    for name in sorted(names):
        if name.startswith("secret.") and name.removeprefix("secret.") not in secrets:
            variable = f"TIDEGATE_SECRET_{name.removeprefix('secret.').upper()}"
            raise ConfigError(f"{where} needs ${{{name}}}: set {variable}, or {variable}_FILE, where the workers run")
