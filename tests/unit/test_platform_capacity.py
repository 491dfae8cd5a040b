"""The stand-in's capacity: service times, the line before the servers, and both in real time."""

from __future__ import annotations

import asyncio
import random
import statistics
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from examples.platform.replica.capacity import Capacity
from examples.platform.replica.server_line import ServerLine
from examples.platform.replica.service_time import ServiceTimes, draw_s
from examples.platform.replica.spec import ServiceTime


@pytest.mark.parametrize(
    "service_time",
    [
        pytest.param(ServiceTime(12, "lognormal", 0.3), id="lognormal"),
        pytest.param(ServiceTime(12, "exponential"), id="exponential"),
        pytest.param(ServiceTime(12, "fixed"), id="fixed"),
    ],
)
def test_the_mean_of_many_draws_is_the_mean_asked_for(service_time: ServiceTime) -> None:
    rng = random.Random(7)
    draws = [draw_s(service_time, rng) for _ in range(20_000)]
    assert statistics.fmean(draws) == pytest.approx(0.012, rel=0.03)


def test_the_same_seed_gives_the_same_times_and_another_replica_others() -> None:
    times = {"routing": ServiceTime(12), "provider": ServiceTime(60)}

    def draws(ordinal: int) -> list[float]:
        stream = ServiceTimes(times, 22, ordinal)
        return [stream.draw_s("routing") for _ in range(5)]

    assert draws(1) == draws(1)
    assert draws(1) != draws(2)


def test_drawing_one_kind_of_work_leaves_the_others_times_alone() -> None:
    times = {"routing": ServiceTime(12), "provider": ServiceTime(60)}
    alone, mixed = ServiceTimes(times, 22, 1), ServiceTimes(times, 22, 1)
    mixed.draw_s("provider")
    assert alone.draw_s("routing") == mixed.draw_s("routing")


@given(servers=st.integers(1, 4), steps=st.lists(st.sampled_from(["arrive", "leave", "abandon"]), max_size=60))
def test_a_line_never_serves_more_than_its_servers_and_always_first_come_first(servers: int, steps: list[str]) -> None:
    line: ServerLine[int] = ServerLine(servers)
    waiting: list[int] = []
    in_service = 0
    for ticket, step in enumerate(steps):
        if step == "arrive":
            if line.arrive(ticket):
                in_service += 1
            else:
                waiting.append(ticket)
        elif step == "leave" and in_service:
            successor = line.leave()
            assert successor == (waiting.pop(0) if waiting else None)
            in_service -= successor is None
        elif step == "abandon" and waiting:
            line.abandon(waiting.pop())
        assert line.busy == in_service <= servers
        assert line.queue_length == len(waiting)
        assert not waiting or in_service == servers


async def test_a_bounded_server_takes_as_long_as_its_work_and_lets_the_rest_wait() -> None:
    capacity = Capacity(2)
    waits: list[float] = []

    async def task() -> None:
        async with capacity.seat() as seat:
            waits.append(seat.waited_s)
            await seat.work(0.02)

    started_at = time.monotonic()
    tasks = [asyncio.create_task(task()) for _ in range(8)]
    await asyncio.sleep(0)
    assert (capacity.busy, capacity.queue_length) == (2, 6)
    await asyncio.gather(*tasks)
    # Four rounds of 20 ms: a late timer is made up for by the next task's start.
    assert waits == pytest.approx([0, 0, 0.02, 0.02, 0.04, 0.04, 0.06, 0.06], abs=0.004)
    assert time.monotonic() - started_at >= 0.08
    assert (capacity.busy, capacity.queue_length) == (0, 0)


async def test_a_waiter_that_goes_away_leaves_the_line_to_the_others() -> None:
    capacity = Capacity(1)

    async def task() -> None:
        async with capacity.seat() as seat:
            await seat.work(0.005)

    first, second, third = (asyncio.create_task(task()) for _ in range(3))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(first, third)
    with pytest.raises(asyncio.CancelledError):
        await second
    assert (capacity.busy, capacity.queue_length) == (0, 0)


async def test_a_waiter_cancelled_as_it_is_handed_the_server_passes_it_on() -> None:
    capacity = Capacity(1)
    holding, released = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with capacity.seat():
            holding.set()
            await released.wait()

    async def take() -> None:
        async with capacity.seat():
            pass

    holder = asyncio.create_task(hold())
    await holding.wait()
    waiter, last = asyncio.create_task(take()), asyncio.create_task(take())
    await asyncio.sleep(0)
    released.set()
    await holder  # the server is now the waiter's, which has not run yet
    waiter.cancel()
    await asyncio.wait_for(last, 1)
    assert capacity.busy == 0


async def test_waiters_whose_clients_go_away_together_leave_the_line_whole() -> None:
    capacity = Capacity(1)
    async with capacity.seat():
        waiters = [asyncio.ensure_future(_sit(capacity)) for _ in range(20)]
        await asyncio.sleep(0)
        for waiter in waiters[::2]:
            waiter.cancel()
    await asyncio.gather(*waiters, return_exceptions=True)
    assert [waiter.cancelled() for waiter in waiters] == [True, False] * 10
    assert (capacity.busy, capacity.queue_length) == (0, 0)


async def _sit(capacity: Capacity) -> None:
    async with capacity.seat():
        pass
