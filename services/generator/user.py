"""A virtual user: signs in, runs its scenario again and again, and times every request from when it was due."""

import asyncio
import logging
import random
import uuid
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from services.generator.alarms import Alarms
from services.generator.answer import parse_json
from services.generator.compiled import CompiledScenario, CompiledStep, Segment
from services.generator.event_stream import Ticket
from services.generator.flow import Flow
from services.generator.template import MissingVariableError
from services.generator.tracing import Tracing, Trail
from services.generator.transport import Response, Transport
from shared.clock import monotonic_us
from shared.contracts.scenario import ThinkTime
from shared.contracts.timing import Check, ErrorKind, EventFlag

logger = logging.getLogger(__name__)
# A token is fetched again this long before it expires, so that none expires on its way.
RENEW_AHEAD_S = 10.0


class Share(Protocol):
    """What all users of a run on this worker have in common."""

    run: str
    start_us: int
    seed: int
    tracing: Tracing
    sign_ins: asyncio.Semaphore
    alarms: Alarms

    def refuse(self, reason: str) -> None: ...
    def fault_of_code(self, step: str) -> bool: ...
    def elapsed_s(self) -> float: ...


class Gate(Protocol):
    """Leave to send, given by a stripe; all waits raise ``StopLoadError`` when there is none any more.

    ``opened`` waits until requests may be sent at all, ``permit`` for leave to send one, which a cap may count. Until
    ``free_until_us`` (monotonic) leave is given without asking. ``ours``: what was due by now is this worker's.
    """

    free_until_us: int

    @property
    def ours(self) -> bool: ...

    async def opened(self) -> None: ...
    async def permit(self) -> None: ...
    async def sleep_until(self, due_us: int) -> None: ...


class StopLoadError(Exception):
    """This user must not send any more: the run ends, or another worker carries its stripe."""


class NotBegunError(StopLoadError):
    """The same, said before anything of an iteration was sent."""


class StepFailedError(Exception):
    """A step failed, so the rest of this iteration makes no sense; ``kind`` is how it failed."""

    def __init__(self, kind: ErrorKind) -> None:
        super().__init__(kind.name)
        self.kind = kind


class Arrival(NamedTuple):
    """An iteration that is due; ``number`` is the arrival's in an open load, the iteration's in a closed one."""

    due_us: int
    number: int
    gate: Gate


class VirtualUser:
    """``number`` is the user's index in the run; all state is re-made by signing in again."""

    __slots__ = (
        "_compiled", "_drawn", "_gate", "_iteration", "_ramp_end_us", "_share", "_signed_in_until_s", "_transport",
        "_valid_until_s", "_variables", "number", "ready_us",
    )  # fmt: skip

    def __init__(self, number: int, compiled: CompiledScenario, share: Share, transport: Transport, gate: Gate) -> None:
        self.number = number
        self._compiled = compiled
        self._share, self._transport, self._gate = share, transport, gate
        self._drawn: random.Random | None = None
        self._iteration = 0
        self._variables: dict[str, Any] = {**compiled.secrets, "user": number, "run": share.run, "iteration": 0}
        self._valid_until_s: dict[int, float] = {}
        self._signed_in_until_s = 0.0
        self._ramp_end_us = share.start_us + int(compiled.load.ramp_up_s * 1e6)
        self.ready_us = 0
        # Signing in comes before the first iteration and may use the same variables.
        self._draw_variables(0)

    @property
    def _draw(self) -> random.Random:
        """The user's own chance, made where the scenario needs any: its state takes 2.5 kB."""
        if self._drawn is None:
            self._drawn = random.Random(self._share.seed * 1_000_003 + self.number)
        return self._drawn

    def _draw_variables(self, arrival: int) -> None:
        variables, compiled = self._variables, self._compiled
        variables["iteration"], variables["arrival"] = self._iteration, arrival
        if compiled.draws_uuid:
            variables["uuid"] = str(uuid.UUID(int=self._draw.getrandbits(128), version=4))
        for use, rows in compiled.data:
            variables.update(self._row(use, rows))
        if compiled.variables:
            compiled.variables_of(self.number, self._iteration, variables)

    def _row(self, use: str, rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
        if use == "shared":
            return self._draw.choice(rows)
        member = self.number - self._compiled.first_user
        return rows[member if use == "unique" else (member + self._iteration) % len(rows)]

    def think_s(self, think: ThinkTime) -> float:
        """Drawn anew each time. A canary's varies even where the scenario's does not, so that it beats with nothing."""
        if think.max <= 0:
            return 0.0
        spread = self._draw.uniform(0.5, 1.5) if self._compiled.load.profile == "canary" else 1.0
        return self._draw.uniform(think.min, think.max) * spread

    def next_variables(self, arrival: int) -> Mapping[str, Any]:
        """Go on to the next iteration; what its templates may name, captures of the one before included."""
        self._iteration += 1
        self._draw_variables(arrival)
        return self._variables

    async def iterate(self, arrival: Arrival, *, waited: bool = False) -> bool:
        """One iteration; True when it went well. ``waited``: it stood in line for this user."""
        compiled = self._compiled
        self.next_variables(arrival.number)
        due_us = arrival.due_us
        now_us = monotonic_us()
        if now_us >= arrival.gate.free_until_us or now_us >= self._gate.free_until_us:
            now_us = await self._leave_to_begin(arrival)
        trail = self._share.tracing.begin(compiled.scenario.name, self.number, now_us)
        workflow = None if compiled.workflow is None else self._begin(compiled.workflow, due_us, now_us)
        error = ErrorKind.CANCELLED
        try:
            drawn = self._drawn_group() if compiled.weights else None
            own_delay = not waited
            for segment in compiled.segments:
                if segment.weight is None or segment.group == drawn:
                    due_us = await self._walk(segment, due_us, trail, own_delay)
                    own_delay = True
            error = ErrorKind.OK
        except StepFailedError as failed:
            error = failed.kind
        finally:
            if workflow is not None:
                self._end(workflow, error, trail)
            if trail.root is not None:
                trail.root.end(error)
        return error is ErrorKind.OK

    async def _walk(self, segment: Segment, due_us: int, trail: Trail, own_delay: bool) -> int:
        """The steps of a segment, one after another; when the next one is due (µs)."""
        group = None if segment.action is None else self._begin(segment.action, due_us, monotonic_us())
        error = ErrorKind.CANCELLED
        try:
            for step in segment.steps:
                if step.flow is None:
                    response = await self._request(step, due_us, trail, own_delay, 0)
                else:
                    response = await self._call(step, step.flow, due_us, trail, own_delay)
                if step.poll is not None:
                    response = await self._poll(step, response, due_us, trail)
                due_us = response.done_us
                own_delay = True
                if step.think is not None:
                    due_us += int(self._draw.uniform(*step.think) * 1e6)
            error = ErrorKind.OK
        except StepFailedError as failed:
            error = failed.kind
            raise
        finally:
            if group is not None:
                self._end(group, error, trail)
        return due_us

    def _drawn_group(self) -> str:
        weights = self._compiled.weights
        return self._draw.choices(list(weights), list(weights.values()))[0]

    def _begin(self, action: int, due_us: int, now_us: int) -> Ticket:
        """The row of a workflow or group begins."""
        return self._compiled.stream.begin(action, due_us, self.number, now_us, own_delay=False)

    def _end(self, ticket: Ticket, error: ErrorKind, trail: Trail) -> None:
        flags = self._flags(trail, ticket.intended_us)
        self._compiled.stream.finish(ticket, Response(monotonic_us()), error, Check.NONE, 0, flags, trail.trace_id)

    def _flags(self, trail: Trail, at_us: int) -> int:
        flags = 0 if trail.root is None else EventFlag.TRACE_RECORDED
        return flags | EventFlag.RAMP_UP if at_us < self._ramp_end_us else flags

    @property
    def signed_in(self) -> bool:
        """Whether there is nothing to sign in to, or it was done and does not expire soon."""
        return not self._compiled.once or self._signed_in_until_s > monotonic_us() / 1e6

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
                now_us = monotonic_us()
                trail = self._share.tracing.begin(step.name, self.number, now_us)
                try:
                    response = await self._request(step, now_us, trail, True, 0)
                    if step.poll is not None:
                        response = await self._poll(step, response, now_us, trail)
                except StepFailedError as failed:
                    if trail.root is not None:
                        trail.root.end(failed.kind)
                    if failed.kind is ErrorKind.AUTH:
                        self._share.refuse(
                            f"{step.step.system} refused the credentials of user {self.number} at {step.step.action}; "
                            "check the user name in the scenario and the secret given to the workers"
                        )
                    raise
                if trail.root is not None:
                    trail.root.end(ErrorKind.OK)
            self.ready_us = monotonic_us()
            self._valid_until_s[index] = self.ready_us / 1e6 + _validity_s(step, response)
        self._signed_in_until_s = min(self._valid_until_s.values(), default=float("inf")) - RENEW_AHEAD_S

    async def _poll(self, step: CompiledStep, response: Response, due_us: int, trail: Trail) -> Response:
        """Ask again until the condition holds; the first answer is given."""
        poll = step.poll
        assert poll is not None  # noqa: S101 - asked for by whoever calls
        deadline_us = due_us + poll.timeout_us
        attempt = 0
        while True:
            document = parse_json(response.body)
            if poll.until(document):
                return response
            if poll.fail_when is not None and poll.fail_when(document):
                raise StepFailedError(ErrorKind.STEP)
            due_us = response.done_us + poll.every_us
            if due_us > deadline_us:
                raise StepFailedError(ErrorKind.DEADLINE)
            attempt += 1
            response = await self._request(step, due_us, trail, True, min(attempt, 255))

    async def _call(
        self, step: CompiledStep, code: Callable[[Flow], Awaitable[None]], due_us: int, trail: Trail, own_delay: bool
    ) -> Response:
        """A step of the user's own code; its first request was due with the step, each other when it is asked for."""
        first = True

        async def send(
            action: str, method: str, path: str, headers: Mapping[str, str], body: bytes | None,
            good: Collection[int] | None,
        ) -> Response:  # fmt: skip
            nonlocal first
            made = step.of_code(action, method, path, headers, body, good)
            at_us, own, first = (due_us if first else monotonic_us()), (own_delay or not first), False
            return await self._request(made, at_us, trail, own, 0)

        async def sleep(seconds: float) -> None:
            await self._gate.sleep_until(monotonic_us() + int(seconds * 1e6))

        try:
            await code(Flow(step.step.action, self._variables, send, sleep))
        except (StepFailedError, StopLoadError):
            raise
        except Exception as error:
            if self._share.fault_of_code(step.name):
                logger.exception("call %r failed", step.step.call)
            raise StepFailedError(ErrorKind.STEP) from error
        return Response(monotonic_us())

    async def _leave_to_begin(self, arrival: Arrival) -> int:
        try:
            if arrival.gate is not self._gate:
                await self._wait(self._compiled.first, arrival.gate.opened(), arrival.due_us)
            return await self._wait(self._compiled.first, self._gate.opened(), arrival.due_us)
        except StopLoadError as stopped:
            raise NotBegunError from stopped

    async def _wait(self, step: CompiledStep, leave: Awaitable[None], due_us: int) -> int:
        """Stand in line, for all to see, until the gate gives leave; the time then (µs)."""
        ticket = step.stream.due(step.action, due_us, self.number)
        try:
            await leave
        finally:
            step.stream.drop(ticket)
        return monotonic_us()

    async def _request(self, step: CompiledStep, due_us: int, trail: Trail, own_delay: bool, attempt: int) -> Response:
        """Send one request when it is due, record it, keep its captures; ``StepFailedError`` when it is not good."""
        gate, stream = self._gate, step.stream
        sent_us = monotonic_us()
        if due_us > sent_us:
            await gate.sleep_until(due_us)
            sent_us = monotonic_us()
        if sent_us >= gate.free_until_us:
            sent_us = await self._wait(step, gate.permit(), due_us)
        span = None
        if trail.root is None:
            flags, header = 0, trail.unrecorded()
        else:
            flags = int(EventFlag.TRACE_RECORDED)
            header, span = self._share.tracing.request(trail.root, step.name)
        if sent_us < self._ramp_end_us:
            flags |= 2  # EventFlag.RAMP_UP, whose own operators cost more than all else here
        ticket = stream.begin(step.action, due_us, self.number, sent_us, own_delay=own_delay)
        try:
            response = await self._transport.send(step.request(self._variables, header), sent_us)
        except MissingVariableError:
            response = Response(sent_us, ErrorKind.BLOCKED)
        except asyncio.CancelledError:
            stream.finish(
                ticket, Response(monotonic_us()), ErrorKind.CANCELLED, Check.NONE, attempt, flags, trail.trace_id
            )
            if span is not None:
                span.end(ErrorKind.CANCELLED)
            raise
        error, check, kept = step.judge(response, response.done_us - sent_us)
        stream.finish(ticket, response, error, check, attempt, flags, trail.trace_id)
        if span is not None:
            span.end(error, response.status)
        if error is not ErrorKind.OK:
            if error is ErrorKind.AUTH:
                self._valid_until_s.clear()
                self._signed_in_until_s = 0.0
            raise StepFailedError(error)
        if kept:
            self._variables.update(kept)
        return response


def refuse(compiled: CompiledScenario, arrival: Arrival, now_us: int, flags: int) -> None:
    """Record an arrival that nobody will serve: its first request, and its workflow where there is one."""
    first = compiled.first
    first.stream.refuse(first.action, arrival.due_us, compiled.first_user, now_us, flags)
    if compiled.workflow is not None:
        compiled.stream.refuse(compiled.workflow, arrival.due_us, compiled.first_user, now_us, flags)


def _validity_s(step: CompiledStep, response: Response) -> float:
    if step.valid_for_path is not None:
        value = step.valid_for_path(parse_json(response.body))
        return float(value) if isinstance(value, int | float) else float("inf")
    return step.valid_for_s if step.valid_for_s is not None else float("inf")
