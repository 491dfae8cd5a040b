"""A scenario as people write it in ``config/scenarios/*.yaml`` and as it travels in a run's desired state.

Declarative: names and data, never code. Templates ``${...}`` may stand in paths, headers and bodies:
``${user}`` ``${iteration}`` ``${uuid}`` ``${run}`` ``${arrival}`` (the arrival's number in an open load, the
iteration's in a closed one), a captured name, a variable of ``vars``, ``${SET.COLUMN}`` of ``data``, and
``${secret.NAME}``, which each worker takes from its own environment and which never travels.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from shared.contracts.base import Document, Name, SystemId, is_written
from shared.contracts.client import Client
from shared.contracts.gate import Gate as Gate
from shared.contracts.gate import refuse_gates
from shared.contracts.sendable import BUILT_IN, Headers, JsonBody, VariableName, names_in
from shared.contracts.units import Duration, TimeLimit, parse_duration_s

MAX_ACTIONS = 256


def _is_pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is no regular expression: {error}") from error
    return text


def _is_validity(text: str) -> str:
    if not text.startswith("$"):
        parse_duration_s(text)
    return text


Regex = Annotated[str, AfterValidator(_is_pattern)]
Status = Annotated[int, Field(ge=100, le=599)]


class Condition(Document):
    """A test of a JSON answer: the value at ``json`` equals, is one of, exists, or compares with a number.

    A test that is null is not made; to ask for an absent or null value write ``exists: false``.
    """

    json_path: str = Field(alias="json")
    equals: Any = None
    one_of: list[Any] | None = None
    exists: bool | None = None
    at_least: float | None = None
    at_most: float | None = None

    @model_validator(mode="after")
    def _one_test(self) -> "Condition":
        if all(test is None for test in (self.equals, self.one_of, self.exists, self.at_least, self.at_most)):
            raise ValueError("a condition needs one of equals, one_of, exists, at_least, at_most")
        return self


class Expect(Document):
    """What makes an answer good. Without ``status`` any status below 400 is."""

    status: Annotated[list[Status], Field(min_length=1)] | Status | None = None
    json_is: list[Condition] = Field(default_factory=list, alias="json")
    body_contains: str | None = None
    body_matches: Regex | None = None
    within_ms: float | None = Field(default=None, gt=0)

    @property
    def statuses(self) -> frozenset[int] | None:
        if self.status is None:
            return None
        return frozenset([self.status] if isinstance(self.status, int) else self.status)


class Capture(Document):
    """What to keep of an answer when a JSON path alone does not say it: a path, a pattern over the body, or a header.

    ``regex``: its first group, else the whole match. On a header it is applied to the header's value.
    """

    json_path: str | None = Field(default=None, alias="json")
    regex: Regex | None = None
    header: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> "Capture":
        if self.json_path is not None and (self.regex is not None or self.header is not None):
            raise ValueError("a capture is by json alone, or by regex, header or both")
        if self.json_path is None and self.regex is None and self.header is None:
            raise ValueError("a capture needs json, regex or header")
        return self


class Stream(Document):
    """How the tokens of a streamed answer are told: events (``sse``), lines, or pieces as they arrive (``chunks``).

    ``token``: JSON path to the text within the data of each; without text it is no token.
    """

    format: Literal["sse", "lines", "chunks"] = "sse"
    token: str | None = None


class WebSocket(Document):
    """The step opens a WebSocket and says its body there; its answer is the last message that it waits for.

    Those are ``messages`` of them, or all until one for which ``until`` holds. Then the socket is closed.
    """

    messages: int = Field(default=1, ge=1)
    until: Condition | None = None

    @model_validator(mode="after")
    def _one_end(self) -> "WebSocket":
        if self.until is not None and self.messages != 1:
            raise ValueError("give messages, or until, not both")
        return self


class Group(Document):
    """Steps timed together as ``group:<name>``. With a weight, each iteration draws one of the weighted groups."""

    weight: float | None = Field(default=None, gt=0)


class Poll(Document):
    """Repeat the step until a condition holds; each try is a request, the whole counts in the workflow's time."""

    every: Duration = 0.2
    timeout: Duration = 60.0
    until: Condition
    fail_when: Condition | None = None


class ThinkTime(Document):
    """Pause of a user, drawn evenly between the two, seeded."""

    min: Duration = 0.0
    max: Duration = 0.0

    @model_validator(mode="after")
    def _ordered(self) -> "ThinkTime":
        if self.max < self.min:
            raise ValueError(f"max {self.max}s is below min {self.min}s")
        return self


class Step(Document):
    """One action: a request to a system, what to keep of its answer and what the answer must be.

    ``once``: done when the user begins, not in every iteration (sign-in). ``valid_for``: after that long, or after
    the seconds at that JSON path of the answer, it is done again before the next iteration. ``call``: instead of one
    request a coroutine of the user's own makes some, ``package.module:name`` where the workers run; ``gives`` names the
    variables it sets.
    """

    action: Name
    system: SystemId
    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"] = "GET"
    path: Annotated[str, Field(pattern=r"^/")] = "/"
    headers: Headers = Field(default_factory=dict)
    body: JsonBody = None
    capture: dict[VariableName, str | Capture] = Field(default_factory=dict)
    expect: Expect = Field(default_factory=Expect)
    poll: Poll | None = None
    once: bool = False
    valid_for: Annotated[str, AfterValidator(_is_validity)] | None = None
    timeout: TimeLimit = 30.0
    connect_timeout: TimeLimit = 10.0
    first_byte_timeout: TimeLimit | None = None
    stream: bool | Stream = False
    websocket: WebSocket | None = None
    group: Name | None = None
    think_time: ThinkTime = Field(default_factory=ThinkTime)
    call: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")] | None = None
    gives: list[VariableName] = Field(default_factory=list)

    @model_validator(mode="after")
    def _code_apart(self) -> "Step":
        own = {"action", "system", "call", "gives", "group", "think_time", "timeout", "connect_timeout"}
        others = [
            name
            for name, field in type(self).model_fields.items()
            if name not in own and getattr(self, name) != field.get_default(call_default_factory=True)
        ]
        if self.call is not None and others:
            raise ValueError(f"a step that calls code has no {others[0]} of its own; the code says it")
        if self.gives and self.call is None:
            raise ValueError("gives is for a step that calls code; others use capture")
        return self

    @model_validator(mode="after")
    def _once_apart(self) -> "Step":
        if self.once and self.group:
            raise ValueError("a step done once belongs to no group of the iteration")
        if self.valid_for is not None and not self.once:
            raise ValueError("valid_for says when a step done once is done again; give it once: true too")
        return self

    def templates(self) -> set[str]:
        """Every name that stands in a template of this step."""
        return names_in([self.path, self.headers, self.body])


class DataSet(Document):
    """Rows for the users, each with the same columns. In the YAML ``file`` may name a CSV or JSON Lines file instead.

    ``unique``: a user has a row for itself, the same in every iteration. ``cycled``: a user goes on to the next row
    with each iteration. ``shared``: each iteration of each user draws any of them.
    """

    rows: list[dict[str, Any]] = Field(min_length=1)
    use: Literal["unique", "cycled", "shared"] = "cycled"

    @model_validator(mode="after")
    def _even_columns(self) -> "DataSet":
        for number, row in enumerate(self.rows, 1):
            if row.keys() != self.rows[0].keys():
                raise ValueError(f"row {number} has columns {', '.join(row)}; the first has {', '.join(self.rows[0])}")
        return self


class Scenario(Document):
    """What one virtual user does, again and again, and the load it is run with unless the run says otherwise."""

    name: Name
    title: str = ""
    description: str = ""
    system: SystemId
    users: int = Field(default=10, ge=1, le=100_000)
    duration: Duration = 60.0
    ramp_up: Duration = 0.0
    workflow: bool = True
    client: Client = Field(default_factory=Client)
    think_time: ThinkTime = Field(default_factory=ThinkTime)
    vars: dict[VariableName, str | Annotated[list[Any], Field(min_length=1)]] = Field(default_factory=dict)
    data: dict[Name, DataSet] = Field(default_factory=dict)
    groups: dict[Name, Group] = Field(default_factory=dict)
    tags: dict[str, str] = Field(default_factory=dict)
    targets: list[Gate] = Field(default_factory=list)
    steps: list[Step] = Field(min_length=1)

    @property
    def systems(self) -> frozenset[str]:
        return frozenset(step.system for step in self.steps)

    @model_validator(mode="after")
    def _names_resolve(self) -> "Scenario":
        actions = len({(step.system, step.action) for step in self.steps}) + len(self.groups) + self.workflow
        if actions > MAX_ACTIONS:
            raise ValueError(f"{actions} actions, groups and workflow; more than {MAX_ACTIONS} have no row in a frame")
        if all(step.once for step in self.steps):
            raise ValueError("all steps are done once; at least one must be repeated, without once: true")
        if self.system not in self.systems:
            raise ValueError(f"system {self.system!r} is used by none of the steps ({', '.join(sorted(self.systems))})")
        known = {*BUILT_IN} | {f"{name}.{column}" for name, found in self.data.items() for column in found.rows[0]}
        for variable, value in self.vars.items():
            _resolve(f"variable {variable!r}", "variable gives", names_in(value), known)
            known.add(variable)
        for step in self.steps:
            if step.websocket is not None and (self.client.transport == "http1" or step.method != "GET"):
                raise ValueError(
                    f"step {step.action!r}: a websocket needs client: {{transport: aiohttp}} and the method GET"
                )
        for group in sorted({step.group for step in self.steps if step.group} - set(self.groups)):
            raise ValueError(f"group {group!r} is not in groups ({', '.join(sorted(self.groups)) or 'which is empty'})")
        for step in self.steps:
            _resolve(f"step {step.action!r}", "step captures", step.templates(), known)
            known |= {*step.capture, *step.gives}
        return self

    @model_validator(mode="after")
    def _targets_judgeable(self, info: ValidationInfo) -> "Scenario":
        if is_written(info):
            refuse_gates(self.targets, list(dict.fromkeys(step.action for step in self.steps)), workflow=self.workflow)
        return self


def _resolve(where: str, giver: str, names: set[str], known: set[str]) -> None:
    for name in sorted(names):
        if name not in known and not re.fullmatch(r"secret\.[a-z0-9_]+", name):
            raise ValueError(
                f"{where} uses ${{{name}}}, which no earlier {giver}; "
                f"known here: {', '.join(sorted(known))}, secret.NAME"
            )
