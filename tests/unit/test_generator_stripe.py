"""Users of a stripe against a transport of the test's own: when their requests were due, and what is left behind."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest

from services.generator.alarms import Alarms
from services.generator.closed_load import ClosedLoad
from services.generator.compiled import compile_run
from services.generator.event_stream import EventStream
from services.generator.open_load import OpenLoad
from services.generator.stripe import Stripe
from services.generator.trace_budget import TraceBudget
from services.generator.tracing import Recorder, Tracing
from services.generator.transport import Endpoint, Request, Response
from shared.clock import Anchor, monotonic_us
from shared.contracts.frame import Frame, Health
from shared.contracts.run import Change, Limits, Load, Pause, RunDesired
from shared.contracts.timing import ErrorKind, EventFlag, Kind
from shared.lease import Lease
from tests.unit.scenarios import desired, scenario


class Held(Lease):
    """A lease that is never in doubt."""

    def __init__(self) -> None:
        pass

    held = True
    lost = False
    held_until = 2.0**40


class Answering:
    """Answers every request after ``delay_s``."""

    def __init__(self, delay_s: float) -> None:
        self.delay_s = delay_s
        self.bodies: list[bytes | None] = []
        self.warmed = 0

    async def send(self, request: Request, sent_us: int) -> Response:
        self.bodies.append(request.body)
        await asyncio.sleep(self.delay_s)
        return Response(done_us=monotonic_us(), status=200, body=b"{}")

    async def warm(self, endpoint: Endpoint) -> None:
        self.warmed += 1

    async def close(self) -> None:
        pass


class Alone:
    """The share of a worker that began ``age_s`` ago."""

    run: str = "run-1"
    seed: int = 0

    def __init__(self, transport: Answering, age_s: float = 0.0) -> None:
        self.answering = transport
        self.start_us = monotonic_us() - int(age_s * 1e6)
        self.tracing = Tracing(Recorder(None), self.run, TraceBudget(0.0, 0))
        self.sign_ins = asyncio.Semaphore(10)
        self.alarms = Alarms()
        self.events = EventStream(self.run, "w1", 1, "shop", Anchor.now())
        self.refused = ""

    def stream(self, system: str) -> EventStream:
        assert system == "shop"
        return self.events

    def refuse(self, reason: str) -> None:
        self.refused = reason

    def fault_of_code(self, step: str) -> bool:
        return False

    def elapsed_s(self) -> float:
        return (monotonic_us() - self.start_us) / 1e6


async def carry(share: Alone, run: RunDesired, shards: int = 1, for_s: float = 0.15) -> Frame:
    """Everything a stripe did in that time, after it was halted."""
    stripe = Stripe(0, shards, Held(), share, run.limits)
    loads: list[ClosedLoad | OpenLoad] = []
    for compiled in compile_run(run, {}, share.stream):
        kind = ClosedLoad if compiled.load.rate is None else OpenLoad
        loads.append(kind(compiled, share, lambda: share.answering, run.pauses))
        loads[-1].add(stripe)
    await asyncio.sleep(for_s)
    for load in loads:
        load.end()
    await stripe.halt(0.05)
    for load in loads:
        load.refuse_line(monotonic_us())
    frames = share.events.cut(monotonic_us(), Health())
    return replace(frames[-1], events=np.concatenate([frame.events for frame in frames]))


async def test_a_stripe_taken_over_late_is_due_from_then_on_and_not_from_the_start_of_the_run() -> None:
    frame = await carry(Alone(Answering(0.01), age_s=20.0), desired(), shards=4)
    assert len(frame.events) > 0
    assert frame.events["dispatch_us"].max() < 1_000_000


async def test_arrivals_wait_in_line_while_all_users_are_busy_and_their_wait_is_measured() -> None:
    load = Load(scenario=scenario(), users=2, rate=40.0, duration_s=60.0)
    frame = await carry(Alone(Answering(0.1)), desired(loads=(load,)), for_s=0.7)
    served = frame.events["error"] != ErrorKind.REFUSED
    rows = frame.events[served & (frame.events["action"] == [a.kind for a in frame.actions].index(Kind.REQUEST))]
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


def rows_of(frame: Frame, name: str) -> "np.ndarray[tuple[int], np.dtype[np.void]]":
    rows: np.ndarray[tuple[int], np.dtype[np.void]] = frame.events[
        frame.events["action"] == [action.action for action in frame.actions].index(name)
    ]
    return rows


async def test_groups_are_timed_and_one_of_the_weighted_is_drawn() -> None:
    steps = [
        {"action": "a", "system": "shop", "path": "/a", "group": "buy"},
        {"action": "b", "system": "shop", "path": "/b", "group": "buy"},
        {"action": "c", "system": "shop", "path": "/c", "group": "look"},
        {"action": "d", "system": "shop", "path": "/d"},
    ]
    grouped = scenario(steps=steps, groups={"buy": {"weight": 1}, "look": {"weight": 3}})
    frame = await carry(Alone(Answering(0.001)), desired(loads=(Load(scenario=grouped, users=10, duration_s=60.0),)))
    buy, look = rows_of(frame, "group:buy"), rows_of(frame, "group:look")
    assert abs(len(rows_of(frame, "a")) - len(buy)) <= 10
    assert 0.1 < len(buy) / (len(buy) + len(look)) < 0.45
    whole = buy[buy["error"] == ErrorKind.OK]  # the end of the load cuts others short
    assert set(buy["error"]) <= {ErrorKind.OK, ErrorKind.CANCELLED}
    assert (
        whole["service_us"].min() >= rows_of(frame, "a")["service_us"].min() + rows_of(frame, "b")["service_us"].min()
    )
    assert abs(len(rows_of(frame, "d")) - len(buy) - len(look)) <= 10


async def test_a_step_that_lacks_a_variable_is_blocked_and_recorded() -> None:
    # The capture comes from a step of a group that is not drawn.
    steps = [
        {"action": "a", "system": "shop", "path": "/a", "group": "never", "capture": {"id": "$"}},
        {"action": "b", "system": "shop", "path": "/b", "group": "always"},
        {"action": "c", "system": "shop", "path": "/${id}"},
    ]
    grouped = scenario(steps=steps, groups={"never": {"weight": 1e-12}, "always": {"weight": 1}})
    frame = await carry(Alone(Answering(0.001)), desired(loads=(Load(scenario=grouped, users=1, duration_s=60.0),)))
    assert set(rows_of(frame, "c")["error"]) == {ErrorKind.BLOCKED}


async def test_what_a_full_line_refuses_is_counted() -> None:
    load = Load(scenario=scenario(), users=1, rate=200.0, duration_s=60.0, max_waiting=3)
    frame = await carry(Alone(Answering(0.05)), desired(loads=(load,)), for_s=0.5)
    looks = rows_of(frame, "look")
    refused = looks[looks["error"] == ErrorKind.REFUSED]
    assert 80 < len(refused) < 105
    # Every arrival is accounted for: sent, or refused.
    assert 95 <= len(looks) <= 101


@pytest.mark.parametrize(("ramp_up_s", "flags"), [(0.0, 0), (60.0, EventFlag.RAMP_UP)], ids=["after it", "in it"])
async def test_what_is_refused_in_ramp_up_is_not_judged(ramp_up_s: float, flags: int) -> None:
    load = Load(scenario=scenario(), users=1, rate=4_000.0, duration_s=60.0, ramp_up_s=ramp_up_s, max_waiting=0)
    frame = await carry(Alone(Answering(5.0)), desired(loads=(load,)), for_s=0.4)
    refused = frame.events[frame.events["error"] == ErrorKind.REFUSED]
    assert len(refused) > 0
    assert set(refused["flags"]) == {flags}


async def test_the_line_of_a_worker_is_its_stripes_part_of_the_runs() -> None:
    share = Alone(Answering(5.0))
    run = desired(loads=(Load(scenario=scenario(workflow=False), users=2, rate=400.0, duration_s=60.0, max_waiting=6),))
    (compiled,) = compile_run(run, {}, share.stream)
    load = OpenLoad(compiled, share, lambda: share.answering, ())
    stripes = [Stripe(number, 2, Held(), share) for number in (0, 1)]
    waiting: list[int] = []
    for stripe in stripes:
        load.add(stripe)
        await asyncio.sleep(0.15)
        waiting.append(share.events.cut(monotonic_us(), Health())[-1].actions[0].waiting)
    load.end()
    await asyncio.gather(*(stripe.halt(0.0) for stripe in stripes))
    assert waiting == [3, 6]


class Loads:
    """A stripe with one load that a test reshapes while it runs."""

    def __init__(self, share: Alone, run: RunDesired) -> None:
        self.share, self.run = share, run
        self.stripe = Stripe(0, 1, Held(), share, run.limits)
        (compiled,) = compile_run(run, {}, share.stream)
        kind = ClosedLoad if compiled.load.rate is None else OpenLoad
        self.load: ClosedLoad | OpenLoad = kind(compiled, share, lambda: share.answering, run.pauses)
        self.load.add(self.stripe)

    async def sent_in(self, seconds: float) -> int:
        before = self.share.events.sent
        await asyncio.sleep(seconds)
        return self.share.events.sent - before

    async def end(self) -> None:
        self.load.end()
        await self.stripe.halt(0.05)


@pytest.mark.parametrize("rate", [None, 100.0])
async def test_a_load_is_paused_and_goes_on(rate: float | None) -> None:
    load = Load(scenario=scenario(), users=2, rate=rate, duration_s=60.0)
    share = Alone(Answering(0.01))
    loads = Loads(share, desired(loads=(load,)))
    assert await loads.sent_in(0.3) > 10
    loads.load.reshape(load, (Pause(from_s=share.elapsed_s()),))
    await asyncio.sleep(0.05)
    assert await loads.sent_in(0.3) == 0
    loads.load.reshape(load, (Pause(from_s=0.3, to_s=share.elapsed_s()),))
    assert await loads.sent_in(0.3) > 10
    await loads.end()


async def test_users_and_rate_change_while_it_runs() -> None:
    share = Alone(Answering(0.02))
    closed = Load(scenario=scenario(), users=2, duration_s=60.0)
    loads = Loads(share, desired(loads=(closed,)))
    few = await loads.sent_in(0.4)
    loads.load.reshape(closed.model_copy(update={"changes": (Change(at_s=share.elapsed_s(), users=8),)}), ())
    await asyncio.sleep(0.1)
    assert await loads.sent_in(0.4) > 2.5 * few
    loads.load.reshape(closed.model_copy(update={"changes": (Change(at_s=share.elapsed_s(), users=1),)}), ())
    await asyncio.sleep(0.1)
    assert await loads.sent_in(0.4) < few
    await loads.end()

    share = Alone(Answering(0.001))
    opened = Load(scenario=scenario(), users=2, rate=50.0, duration_s=60.0)
    loads = Loads(share, desired(loads=(opened,)))
    assert 15 <= await loads.sent_in(0.4) <= 25
    loads.load.reshape(opened.model_copy(update={"changes": (Change(at_s=share.elapsed_s(), rate=200.0),)}), ())
    assert 70 <= await loads.sent_in(0.4) <= 90
    await loads.end()


async def test_hard_caps_hold_whatever_the_load_asks() -> None:
    share = Alone(Answering(0.0))
    load = Load(scenario=scenario(), users=20, duration_s=60.0)
    loads = Loads(share, desired(loads=(load,), limits=Limits(rate=100.0)))
    await loads.sent_in(0.1)
    assert 35 <= await loads.sent_in(0.4) <= 45
    await loads.end()

    share = Alone(Answering(0.0))
    loads = Loads(share, desired(loads=(load,), limits=Limits(requests=37)))
    assert await loads.sent_in(0.3) == 37
    await loads.end()


async def test_no_arrival_is_lost_with_the_users_of_a_stripe_that_is_handed_over() -> None:
    share = Alone(Answering(0.1))
    run = desired(loads=(Load(scenario=scenario(workflow=False), users=60, rate=200.0, duration_s=60.0),))
    (compiled,) = compile_run(run, {}, share.stream)
    load = OpenLoad(compiled, share, lambda: share.answering, ())
    kept, handed = Stripe(0, 2, Held(), share), Stripe(1, 2, Held(), share)
    load.add(kept)
    load.add(handed)
    await asyncio.sleep(0.3)
    handed.close_gate()
    load.remove(handed, lost=False)
    # Its busy users come back meanwhile, and everyone idle is asked at least once.
    await asyncio.sleep(0.7)
    load.end()
    await asyncio.gather(kept.halt(), handed.halt())
    rows = share.events.cut(monotonic_us(), Health())[-1].events
    assert set(rows["error"]) == {ErrorKind.OK}
    due_us = np.sort(rows["intended_us"])
    # 10 ms apart each stripe; both until the hand-over, one after it.
    apart_us = np.diff(due_us)
    assert apart_us.max() < 10_500


@pytest.mark.parametrize(("ramp_up_s", "age_s", "warmed"), [(0.0, -0.3, 10), (5.0, -0.3, 0), (0.0, 0.0, 0)])
async def test_connections_for_the_first_moment_are_open_before_it(ramp_up_s: float, age_s: float, warmed: int) -> None:
    share = Alone(Answering(0.0), age_s=age_s)
    load = Load(scenario=scenario(), users=60, rate=500.0, duration_s=60.0, ramp_up_s=ramp_up_s)
    loads = Loads(share, desired(loads=(load,)))
    await asyncio.sleep(0.1)
    assert share.answering.warmed == warmed
    await loads.end()


async def test_a_canary_that_thinks_for_a_fixed_time_beats_with_nothing() -> None:
    fixed = scenario(think_time={"min": 0.03, "max": 0.03})
    share = Alone(Answering(0.0))
    canary = Load(scenario=fixed, users=4, duration_s=60.0, profile="canary")
    frame = await carry(share, desired(loads=(canary,)), for_s=0.6)
    rows = rows_of(frame, "look")
    apart_us = np.concatenate([np.diff(np.sort(rows["intended_us"][rows["user"] == user])) for user in range(4)])
    assert apart_us.min() < 22_000
    assert np.ptp(apart_us) > 15_000
