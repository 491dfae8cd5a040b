"""Resizes over a real NATS: carried out one service at a time, watched, taken back, and finished by who takes over."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from shared.contracts.breach import BreachStatus
from shared.contracts.scaling import ScalingRecord
from tests.integration.resizing_rig import ResizingWorld, open_resizing_world, told
from tests.integration.scaler_rig import background, eventually

pytestmark = pytest.mark.integration
RELAYCORE, AUTMATRIX = "relaycore", "autmatrix-backend"


@pytest.fixture
async def world(nats_url: str, environment: str, tmp_path: Path) -> AsyncIterator[ResizingWorld]:
    async with open_resizing_world(nats_url, environment, tmp_path) as made:
        yield made


async def verdicts(world: ResizingWorld, service: str, count: int = 1) -> list[ScalingRecord]:
    found = await world.of(service, "effectiveness")
    return found if len(found) >= count else []


async def carried_out(world: ResizingWorld, service: str) -> list[ScalingRecord]:
    """Resizes that were begun. On a loaded machine an order may have to wait first, which is a record too."""
    return [one for one in await world.of(service, "resize") if one.to_sizes is not None]


async def test_an_order_is_carried_out_watched_and_audited_with_who_asked(world: ResizingWorld) -> None:
    async with background(world.load()), world.scaler():
        order = await world.order(RELAYCORE, 1536.0)
        await world.bus.js.publish(world.bus.subjects.order(RELAYCORE, "sizes"), order.model_dump_json().encode())
        [effect] = await eventually("a verdict", lambda: verdicts(world, RELAYCORE), timeout_s=30)
        [resize] = await carried_out(world, RELAYCORE)
        assert (resize.reason_code, resize.by, resize.order, resize.ok) == ("ordered", "ada", order.id, True)
        assert resize.to_sizes is not None
        assert resize.to_sizes.memory_limit == 1536.0
        [result] = await world.of(RELAYCORE, "result")
        assert (result.decision, result.ok) == (resize.decision, True)
        assert (effect.decision, effect.verdict) == (resize.decision, "no_effect")
        assert world.platform.puts == [
            {
                "service": RELAYCORE, "sizes": told(resize.to_sizes), "epoch": resize.lease_epoch,
                "decision": resize.decision,
            }
        ]  # fmt: skip
        assert world.platform.moves == []


async def test_two_services_are_resized_one_after_the_other(world: ResizingWorld) -> None:
    async with background(world.load()), world.scaler():
        await world.order(RELAYCORE, 1536.0)
        await world.order(AUTMATRIX, 1024.0)
        [one] = await eventually("a verdict", lambda: verdicts(world, RELAYCORE), timeout_s=30)
        [other] = await eventually("a verdict", lambda: verdicts(world, AUTMATRIX), timeout_s=30)
        first, second = sorted([one, other], key=lambda record: record.at)
        begun = await carried_out(world, second.service)
        assert begun[0].at >= first.at
        assert sorted(world.platform.given) == [(AUTMATRIX, 1024.0), (RELAYCORE, 1536.0)]


async def test_a_resize_that_made_it_worse_is_taken_back_and_replicas_stay_meanwhile(world: ResizingWorld) -> None:
    world.platform.services[RELAYCORE].slow_below = 1500.0
    async with background(world.load()), world.scaler():
        await world.order(RELAYCORE, 1024.0)
        [worse, after] = await eventually("both verdicts", lambda: verdicts(world, RELAYCORE, 2), timeout_s=30)
        resize, back = await carried_out(world, RELAYCORE)
        assert worse.verdict == "worse"
        assert (back.reason_code, back.reverses, after.decision) == ("rollback", resize.decision, back.decision)
        assert world.platform.given == [(RELAYCORE, 1024.0), (RELAYCORE, 2048.0)]
        assert world.platform.moves == []
        await world.order(RELAYCORE, 1536.0)
        await eventually("the next order", lambda: verdicts(world, RELAYCORE, 3), timeout_s=20)
        assert world.platform.given[2:] == [(RELAYCORE, 1536.0)]


async def test_replicas_that_do_not_come_up_with_their_sizes_get_the_former_ones_back(world: ResizingWorld) -> None:
    world.platform.services[RELAYCORE].needs = 1500.0
    async with background(world.load()), world.scaler():
        await world.order(RELAYCORE, 1024.0)

        async def back() -> bool:
            return world.platform.given == [(RELAYCORE, 1024.0), (RELAYCORE, 2048.0)]

        await eventually("the sizes before", back, timeout_s=30)
        [failed, *_] = await world.of(RELAYCORE, "result")
        assert failed.ok is False
        assert "1 of 2 replicas are ready" in failed.error


async def test_a_breach_waits_for_no_resize_and_a_resize_for_no_breach(world: ResizingWorld) -> None:
    async with background(world.load()), world.scaler():
        await world.breach(BreachStatus.OPENED)

        async def held() -> list[ScalingRecord]:
            return [record for record in await world.of(RELAYCORE, "resize") if record.reason_code == "breach_open"]

        await asyncio.sleep(0.3)
        await world.order(RELAYCORE, 1024.0)
        await eventually("a hold", held, timeout_s=20)
        assert world.platform.puts == []
        await world.breach(BreachStatus.RESOLVED)
        await eventually("the resize", lambda: given(world), timeout_s=30)


async def given(world: ResizingWorld) -> list[Any]:
    return world.platform.puts


async def test_a_refusal_ends_the_resize_and_an_order_too_late_is_not_begun(world: ResizingWorld) -> None:
    world.platform.refuse = [422]
    async with background(world.load()), world.scaler():
        await world.order(RELAYCORE, 1024.0)
        [result] = await eventually("a result", lambda: world.of(RELAYCORE, "result"), timeout_s=30)
        assert result.ok is False
        assert "422" in result.error
        await world.order(RELAYCORE, 1100.0, lasts_s=-1.0)

        async def late() -> list[ScalingRecord]:
            return [record for record in await world.of(RELAYCORE, "resize") if record.reason_code == "expired"]

        await eventually("the end of the second", late, timeout_s=20)
    assert world.platform.puts == []


async def test_what_a_killed_scaler_had_only_recorded_is_carried_out_once_by_the_next(world: ResizingWorld) -> None:
    world.platform.deaf = True
    processes = {name: await world.scaler_process(name) for name in ("one", "two")}
    try:
        async with background(world.load()):
            await eventually("a leader", world.leader, timeout_s=30)
            await world.order(RELAYCORE, 1536.0)
            await eventually("the resize in the chain", lambda: carried_out(world, RELAYCORE), timeout_s=30)
            leader = await world.leader()
            processes[leader].kill()
            world.platform.deaf = False
            [effect] = await eventually("a verdict", lambda: verdicts(world, RELAYCORE), timeout_s=40)
            [resize] = await carried_out(world, RELAYCORE)
            [result] = await world.of(RELAYCORE, "result")
            assert (result.ok, result.decision, effect.decision) == (True, resize.decision, resize.decision)
            assert result.lease_epoch > resize.lease_epoch
            assert set(world.platform.given) == {(RELAYCORE, 1536.0)}
            assert {put["epoch"] for put in world.platform.puts} == {result.lease_epoch}
    finally:
        for process in processes.values():
            if process.returncode is None:
                process.terminate()
        await asyncio.gather(*(process.wait() for process in processes.values()))
