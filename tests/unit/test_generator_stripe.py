"""Users of a stripe against a transport of the test's own: when their requests were due, and what is left behind."""

import asyncio

from opentelemetry.trace import NoOpTracer

from services.generator.compiled import compile_run
from services.generator.event_stream import EventStream
from services.generator.stripe import Stripe
from services.generator.trace_budget import TraceBudget
from services.generator.tracing import Tracing
from services.generator.transport import Request, Response, Transport
from shared.clock import Anchor, monotonic_us
from shared.contracts.frame import Frame, Health
from shared.contracts.run import Load, RunDesired
from shared.contracts.timing import Kind
from shared.lease import Lease
from tests.unit.scenarios import desired, scenario


class Held(Lease):
    """A lease that is never in doubt."""

    def __init__(self) -> None:
        pass

    held = True
    lost = False


class Answering:
    """Answers every request after ``delay_s``."""

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
        self.bodies: list[bytes | None] = []

    async def send(self, request: Request) -> Response:
        self.bodies.append(request.body)
        await asyncio.sleep(self.delay_s)
        return Response(done_us=monotonic_us(), status=200, body=b"{}")

    async def close(self) -> None:
        pass


class Alone:
    """The share of a worker that began ``age_s`` ago."""

    run: str = "run-1"
    seed: int = 0

    def __init__(self, transport: Answering, age_s: float = 0.0) -> None:
        self.answering = transport
        self.transport: Transport = transport
        self.start_us = monotonic_us() - int(age_s * 1e6)
        self.tracing = Tracing(NoOpTracer(), self.run, TraceBudget(0.0, 0))
        self.sign_ins = asyncio.Semaphore(10)
        self.events = EventStream(self.run, "w1", 1, "shop", Anchor.now())
        self.refused = ""

    def stream(self, system: str) -> EventStream:
        assert system == "shop"
        return self.events

    def refuse(self, reason: str) -> None:
        self.refused = reason

    def elapsed_s(self) -> float:
        return (monotonic_us() - self.start_us) / 1e6


async def carry(share: Alone, run: RunDesired, shards: int = 1, for_s: float = 0.15) -> Frame:
    """Everything a stripe did in that time, after it was halted."""
    stripe = Stripe(0, shards, Held(), share, compile_run(run, {}))
    stripe.start()
    await asyncio.sleep(for_s)
    await stripe.halt(0.05)
    (frame,) = share.events.cut(monotonic_us(), Health())
    return frame


async def test_a_stripe_taken_over_late_is_due_from_then_on_and_not_from_the_start_of_the_run() -> None:
    frame = await carry(Alone(Answering(0.01), age_s=20.0), desired(), shards=4)
    assert len(frame.events) > 0
    assert frame.events["dispatch_us"].max() < 1_000_000


async def test_arrivals_wait_in_line_while_all_users_are_busy_and_their_wait_is_measured() -> None:
    load = Load(scenario=scenario(), users=2, rate=40.0, duration_s=60.0)
    frame = await carry(Alone(Answering(0.1)), desired(loads=(load,)), for_s=0.7)
    rows = frame.events[frame.events["action"] == [a.kind for a in frame.actions].index(Kind.REQUEST)]
    # Every 25 ms one more, and one served every 50 ms: the n-th waits some 25 ms longer than the one before.
    waits_us = rows[rows["intended_us"].argsort()]["dispatch_us"]
    assert waits_us[-1] > waits_us[0] + 150_000
    assert set(rows["user"]) == {0, 1}
    # A wait that a busy user caused is no fault of the generator.
    assert frame.health.schedule_error_us < waits_us[-1]


async def test_arrivals_left_in_line_when_a_stripe_ends_do_not_wait_for_ever() -> None:
    load = Load(scenario=scenario(), users=1, rate=200.0, duration_s=60.0)
    frame = await carry(Alone(Answering(5.0)), desired(loads=(load,)))
    assert [(action.waiting, action.in_flight, action.ages) for action in frame.actions] == [(0, 0, {})] * 2


async def test_signing_in_may_use_the_variables_of_the_scenario() -> None:
    login = {
        "action": "login",
        "system": "shop",
        "method": "POST",
        "path": "/l",
        "body": "${who} ${uuid}",
        "once": True,
    }
    look = {"action": "look", "system": "shop", "path": "/things"}
    named = scenario(vars={"who": ["ann", "bob"]}, steps=[login, look], think_time={"min": 1, "max": 1})
    share = Alone(Answering(0.0))
    await carry(share, desired(loads=(Load(scenario=named, users=2, duration_s=60.0),)))
    assert not share.refused
    assert sorted(body[1:4] for body in share.answering.bodies if body) == [b"ann", b"bob"]
