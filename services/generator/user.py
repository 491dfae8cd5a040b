"""A virtual user: signs in, runs its scenario again and again, and times every request from when it was due."""

import asyncio
import random
import uuid
from dataclasses import dataclass
from typing import Any, Protocol

from services.generator import tracing
from services.generator.answer import captured, holds, judge, parse_json
from services.generator.compiled import WORKFLOW, CompiledScenario, CompiledStep
from services.generator.event_stream import EventStream, Outcome, Ticket
from services.generator.tracing import Tracing, Trail
from services.generator.transport import Request, Response, Transport
from shared.clock import monotonic_us
from shared.contracts.scenario import ThinkTime
from shared.contracts.timing import Check, ErrorKind, EventFlag, Kind

# A token is fetched again this long before it expires, so that none expires on its way.
RENEW_AHEAD_S = 10.0


class Share(Protocol):
    """What all users of a run on this worker have in common."""

    run: str
    start_us: int
    seed: int
    transport: Transport
    tracing: Tracing
    sign_ins: asyncio.Semaphore

    def stream(self, system: str) -> EventStream: ...
    def refuse(self, reason: str) -> None: ...
    def elapsed_s(self) -> float: ...


class Gate(Protocol):
    """Leave to send, given by the stripe a user belongs to; both raise ``StopLoadError`` when there is none."""

    async def permit(self) -> None: ...
    async def sleep_until(self, due_us: int) -> None: ...


class StopLoadError(Exception):
    """This user must not send any more: the run ends, or another worker carries its stripe."""


class StepFailedError(Exception):
    """A step failed, so the rest of this iteration makes no sense; ``kind`` is how it failed."""

    def __init__(self, kind: ErrorKind) -> None:
        super().__init__(kind.name)
        self.kind = kind


@dataclass(slots=True)
class Arrival:
    """An iteration that is due, with the tickets that wait in line for it."""

    due_us: int
    workflow: Ticket | None
    first: Ticket


class VirtualUser:
    """``number`` is the user's index in the run; all state is re-made by signing in again."""

    def __init__(self, number: int, compiled: CompiledScenario, share: Share, gate: Gate) -> None:
        self.number = number
        self._compiled = compiled
        self._share, self._gate = share, gate
        self._random = random.Random(share.seed * 1_000_003 + number)
        self._iteration = 0
        self._variables: dict[str, Any] = {**compiled.secrets, "user": number, "run": share.run, "iteration": 0}
        self._valid_until_s: dict[int, float] = {}
        self.ready_us = 0
        # Signing in comes before the first iteration and may use the same variables.
        self._draw_variables()

    def arrive(self, due_us: int) -> Arrival:
        return arrive(self._compiled, self._share, due_us, self.number)

    async def iterate(self, arrival: Arrival, *, waited: bool = False) -> bool:
        """One iteration; True when it went well. ``waited``: it stood in line for this user."""
        self._iteration += 1
        self._draw_variables()
        stream = self._share.stream(self._compiled.scenario.system)
        arrival.first.user = self.number
        trail = None
        error = ErrorKind.CANCELLED
        try:
            trail = self._share.tracing.begin(self._compiled.scenario.name, self.number, monotonic_us())
            if arrival.workflow is not None:
                arrival.workflow.user = self.number
                stream.send(arrival.workflow, monotonic_us(), own_delay=False)
            await self._walk(arrival, trail, waited)
            error = ErrorKind.OK
        except StepFailedError as failed:
            error = failed.kind
        finally:
            self._close(arrival, trail, error)
        return error is ErrorKind.OK

    async def _walk(self, arrival: Arrival, trail: Trail, waited: bool) -> None:
        due_us = arrival.due_us
        for position, step in enumerate(self._compiled.steps):
            ticket = arrival.first if position == 0 else None
            own_delay = position > 0 or not waited
            response = await self._run_step(step, due_us, trail, ticket, own_delay)
            due_us = response.done_us + int(self.think_s(step.step.think_time) * 1e6)

    def _close(self, arrival: Arrival, trail: Trail | None, error: ErrorKind) -> None:
        workflow = arrival.workflow
        if workflow is not None and workflow.sent_us is not None and trail is not None:
            outcome = Outcome(monotonic_us(), error, flags=self._flags(trail), trace_id=trail.trace_id_bytes)
            self._share.stream(self._compiled.scenario.system).finish(workflow, outcome)
        leave(self._compiled, self._share, arrival)
        if trail is not None:
            tracing.end(trail.root, error)

    def _draw_variables(self) -> None:
        drawn = str(uuid.UUID(int=self._random.getrandbits(128)))
        self._variables |= {"iteration": self._iteration, "uuid": drawn}
        self._compiled.variables_of(self.number, self._iteration, self._variables)

    def think_s(self, think: ThinkTime) -> float:
        return self._random.uniform(think.min, think.max) if think.max > 0 else 0.0

    async def sign_in(self) -> bool:
        """Do the steps marked ``once`` that were not done yet or are about to expire; False when one failed.

        It comes before an iteration is due: how long a user takes to sign in is no lateness of its workflow.
        """
        try:
            await self._sign_in()
        except StepFailedError:
            return False
        return True

    async def _sign_in(self) -> None:
        for index, step in enumerate(self._compiled.once):
            if self._valid_until_s.get(index, 0.0) > monotonic_us() / 1e6 + RENEW_AHEAD_S:
                continue
            async with self._share.sign_ins:
                trail = self._share.tracing.begin(f"{step.scenario}/{step.step.action}", self.number, monotonic_us())
                try:
                    response = await self._run_step(step, monotonic_us(), trail, None, True)
                except StepFailedError as failed:
                    tracing.end(trail.root, failed.kind)
                    if failed.kind is ErrorKind.AUTH:
                        self._share.refuse(
                            f"{step.step.system} refused the credentials of user {self.number} at {step.step.action}; "
                            "check the user name in the scenario and the secret given to the workers"
                        )
                    raise
                tracing.end(trail.root, ErrorKind.OK)
            self.ready_us = monotonic_us()
            self._valid_until_s[index] = self.ready_us / 1e6 + _validity_s(step, response)

    async def _run_step(
        self, step: CompiledStep, due_us: int, trail: Trail, ticket: Ticket | None, own_delay: bool
    ) -> Response:
        poll = step.step.poll
        response = await self._request(step, due_us, trail, ticket, own_delay, 0)
        if poll is None:
            return response
        deadline_us = due_us + int(poll.timeout * 1e6)
        attempt = 0
        while True:
            document = parse_json(response.body)
            if holds(poll.until, document):
                return response
            if poll.fail_when is not None and holds(poll.fail_when, document):
                raise StepFailedError(ErrorKind.STEP)
            due_us = response.done_us + int(poll.every * 1e6)
            if due_us > deadline_us:
                raise StepFailedError(ErrorKind.DEADLINE)
            attempt += 1
            response = await self._request(step, due_us, trail, None, True, attempt)

    async def _request(
        self, step: CompiledStep, due_us: int, trail: Trail, ticket: Ticket | None, own_delay: bool, attempt: int
    ) -> Response:
        """Send one request when it is due, record it, keep its captures; ``StepFailedError`` when it is not good."""
        share = self._share
        stream = share.stream(step.step.system)
        if ticket is None:
            action = stream.declare(step.scenario, step.step.action, Kind.REQUEST)
            ticket = stream.due(action, due_us, self.number)
        try:
            await self._gate.sleep_until(due_us)
            await self._gate.permit()
        except BaseException:
            stream.drop(ticket)
            raise
        header, span = share.tracing.request(trail, f"{step.scenario}/{step.step.action}", self.number)
        request = self._build(step, header)
        stream.send(ticket, monotonic_us(), own_delay=own_delay)
        flags = self._flags(trail)
        try:
            response = await share.transport.send(request)
        except asyncio.CancelledError:
            stream.finish(
                ticket,
                Outcome(
                    monotonic_us(), ErrorKind.CANCELLED, attempt=attempt, flags=flags, trace_id=trail.trace_id_bytes
                ),
            )
            tracing.end(span, ErrorKind.CANCELLED)
            raise
        error, check, kept = self._judge(step, response, response.done_us - (ticket.sent_us or 0))
        stream.finish(ticket, _outcome(response, error, check, attempt, flags, trail))
        tracing.end(span, error, response.status)
        if error is not ErrorKind.OK:
            if error is ErrorKind.AUTH:
                self._valid_until_s.clear()
            raise StepFailedError(error)
        self._variables |= kept
        return response

    def _judge(
        self, step: CompiledStep, response: Response, service_us: int
    ) -> tuple[ErrorKind, Check, dict[str, Any]]:
        if response.error is not ErrorKind.OK:
            return response.error, Check.NONE, {}
        error, check = judge(step.step.expect, response.status, response.body, service_us / 1000)
        if error is not ErrorKind.OK:
            return error, check, {}
        kept = captured(step.step.capture, response.body)
        if kept is None:
            return ErrorKind.CHECK, Check.FAILED, {}
        return error, check, kept

    def _build(self, step: CompiledStep, header: str) -> Request:
        variables = self._variables
        headers = {**step.constant_headers, "traceparent": header}
        for name, fill in step.headers:
            headers[name] = fill(variables)
        return Request(
            method=step.step.method,
            url=step.base_url + step.path(variables),
            headers=headers,
            body=step.body(variables),
            timeout_s=step.step.timeout,
            stream=step.step.stream,
        )

    def _flags(self, trail: Trail) -> int:
        ramping = self._share.elapsed_s() < self._compiled.load.ramp_up_s
        return EventFlag.TRACE_RECORDED * trail.recorded | EventFlag.RAMP_UP * ramping


def arrive(compiled: CompiledScenario, share: Share, due_us: int, user: int) -> Arrival:
    """Put an iteration in line: from now on its wait shows in the frames."""
    scenario = compiled.scenario
    workflow = None
    if scenario.workflow:
        stream = share.stream(scenario.system)
        workflow = stream.due(stream.declare(scenario.name, WORKFLOW, Kind.WORKFLOW), due_us, user)
    first = compiled.steps[0].step
    stream = share.stream(first.system)
    return Arrival(
        due_us, workflow, stream.due(stream.declare(scenario.name, first.action, Kind.REQUEST), due_us, user)
    )


def leave(compiled: CompiledScenario, share: Share, arrival: Arrival) -> None:
    """Take out of the line what was not sent."""
    if arrival.workflow is not None:
        share.stream(compiled.scenario.system).drop(arrival.workflow)
    share.stream(compiled.steps[0].step.system).drop(arrival.first)


def _validity_s(step: CompiledStep, response: Response) -> float:
    if step.valid_for_path is not None:
        value = step.valid_for_path(parse_json(response.body))
        return float(value) if isinstance(value, int | float) else float("inf")
    return step.valid_for_s if step.valid_for_s is not None else float("inf")


def _outcome(response: Response, error: ErrorKind, check: Check, attempt: int, flags: int, trail: Trail) -> Outcome:
    return Outcome(
        done_us=response.done_us,
        error=error,
        status=response.status,
        check=check,
        ttfb_us=response.ttfb_us,
        connect_us=response.connect_us,
        bytes_in=response.bytes_in,
        bytes_out=response.bytes_out,
        ttft_us=response.ttft_us,
        gap_us=response.gap_us,
        tokens=response.tokens,
        attempt=attempt,
        flags=flags,
        trace_id=trail.trace_id_bytes,
    )
