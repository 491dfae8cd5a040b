"""Orders of operators from command to target: taken within two seconds, once, within the limits, and audited."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from services.console import ordering
from services.console.backing import Backing
from services.console.cli import main
from services.console.ordering import give, new_order
from shared.contracts.breach import BreachStatus
from shared.contracts.scaling import Action, ScalingRecord
from shared.contracts.scaling_orders import ScalingOrder
from shared.errors import ConfigError
from tests.contracts.schemas import hold
from tests.integration.published import kept
from tests.integration.scaler_rig import SERVICE, TUNING, Supervisor, World, background, eventually, open_world

pytestmark = pytest.mark.integration


@pytest.fixture
async def world(nats_url: str, environment: str, tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(nats_url, environment, tmp_path, Supervisor()) as made:
        yield made


@asynccontextmanager
async def watched(world: World) -> AsyncIterator[None]:
    """A scaler that leads and sees its service."""
    async with background(world.load()), world.scaler():
        await eventually("the first decision", lambda: world.records("decision"))
        yield


def asked(world: World, kind: str, replicas: int | None = None, lasts_s: float | None = None) -> ScalingOrder:
    environment = world.bus.subjects.environment
    return new_order(environment, SERVICE, kind, "ada", "launch at noon", replicas=replicas, lasts_s=lasts_s)


async def order(world: World, kind: str, replicas: int | None = None, lasts_s: float | None = None) -> ordering.Answer:
    backing = Backing(world.nats_url, "", world.bus.subjects.environment)
    return await give(backing, asked(world, kind, replicas, lasts_s), [SERVICE])


async def publish(world: World, body: bytes, kind: str = "replicas") -> None:
    await world.bus.js.publish(world.bus.subjects.order(SERVICE, kind), body)


async def held(world: World, code: str) -> list[ScalingRecord]:
    last = (await world.records("decision"))[-1]
    return [last] if last.reason_code == code else []


async def test_a_count_that_is_set_is_carried_out_within_two_seconds_and_audited(world: World) -> None:
    async with watched(world):
        began = time.monotonic()
        answer = await order(world, "set", 5, 60)
        assert time.monotonic() - began < 2
        assert answer.taken is not None
        assert answer.decision is not None
        await eventually("a result", lambda: world.records("result"))
        assert world.supervisor.replicas == 5
        assert (answer.taken.by, answer.taken.reason, answer.taken.target) == ("ada", "launch at noon", 5)
        kinds = [record.kind for record in await world.records() if record.sequence >= answer.taken.sequence]
        assert kinds[:3] == ["order", "decision", "result"]
        assert (answer.decision.order, answer.decision.by) == (answer.order.id, "ada")
        assert (answer.decision.action, answer.decision.target) == (Action.SCALE_UP, 5)
        await eventually("the count to be held", lambda: held(world, "ordered"))
    js, subjects = world.bus.js, world.bus.subjects
    hold("ScalingRecord", await kept(js, subjects.stream("SCALING"), subjects.scaling(SERVICE)))
    hold("ScalingOrder", await kept(js, subjects.stream("ORDERS"), subjects.order(SERVICE, "replicas")))


async def test_an_order_heard_twice_and_by_a_successor_too_is_carried_out_once(world: World) -> None:
    body = asked(world, "set", 5, 60).model_dump_json().encode()
    async with watched(world):
        await publish(world, body)
        await publish(world, body)
        await eventually("a result", lambda: world.records("result"))
    async with watched(world):
        await eventually("the successor to hold it", lambda: held(world, "ordered"))
        await publish(world, body)
        await asyncio.sleep(0.5)
    assert len(await world.records("order")) == 1
    assert [put["replicas"] for put in world.supervisor.moves if put["replicas"] != 2].count(5) == 2  # the stamp is one
    assert [one.target for one in await world.records("decision", Action.SCALE_UP)] == [5]


@pytest.mark.parametrize("status", [403, 500], ids=["refused", "not known to be heard"])
async def test_a_target_that_does_not_take_a_count_is_asked_once_per_cool_down(world: World, status: int) -> None:
    world.change_rules(tuning=TUNING | {"cooldown": "6s"})
    async with watched(world):
        world.supervisor.refuse = [status] * 1_000
        await order(world, "set", 5, 60)
        await asyncio.sleep(1.5)
        assert 1 <= len(await world.records("decision", Action.SCALE_UP)) <= 2
        answer = await order(world, "set", 5, 60)
        assert answer.decision is not None, "also who asks for what is waited for already is answered"
        world.supervisor.refuse = []
        await eventually("the count", lambda: given(world.supervisor.replicas == 5), 10)


async def test_a_count_ends_by_itself_and_the_scaler_decides_again(world: World) -> None:
    async with watched(world):
        await order(world, "set", 5, 1.5)
        await eventually("the count", lambda: given(world.supervisor.replicas == 5))
        await world.breach(BreachStatus.OPENED, value=400.0)
        await asyncio.sleep(0.3)
        assert world.supervisor.replicas == 5
        await eventually("another reason", lambda: not_ordered(world))


async def test_a_later_order_overtakes_replicas_that_are_not_ready_yet(world: World) -> None:
    world.supervisor.starts = False
    async with watched(world):
        first = await order(world, "set", 9, 60)
        second = await order(world, "set", 3, 60)
        assert first.decision is not None
        assert second.decision is not None
        assert (second.decision.action, second.decision.target) == (Action.SCALE_DOWN, 3)
        [result] = [one for one in await world.records("result") if one.decision == first.decision.decision]
        assert (result.ok, result.error) == (False, "another change followed before its result was known")
        await eventually("the count", lambda: given(world.supervisor.replicas == 3))


async def test_a_paused_service_is_left_alone_until_it_is_resumed(world: World) -> None:
    async with watched(world):
        answer = await order(world, "pause")
        assert answer.decision is not None
        assert answer.decision.reason_code == "paused"
        await world.breach(BreachStatus.OPENED)
        await asyncio.sleep(0.5)
        assert world.supervisor.replicas == 2
        assert (await order(world, "resume")).taken is not None
        await eventually("a move", lambda: given(world.supervisor.replicas == 4))


@pytest.mark.parametrize(
    ("replicas", "said"),
    [(21, "refused: 21 is above the maximum of 20"), (1, "refused: 1 is below the minimum of 2")],
)
async def test_a_count_outside_the_limits_is_refused_and_recorded(world: World, replicas: int, said: str) -> None:
    async with watched(world):
        with pytest.raises(ConfigError, match=said):
            await order(world, "set", replicas, 60)
        [record] = await world.records("order")
        assert (record.ok, record.by) == (False, "ada")
        assert record.error.startswith(said.removeprefix("refused: "))
        assert world.supervisor.replicas == 2


async def test_without_a_scaler_an_order_waits_for_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "TAKEN_WITHIN_S", 0.3)
    assert (await order(world, "set", 6, 60)).taken is None
    async with background(world.load()), world.scaler():
        await eventually("the count", lambda: given(world.supervisor.replicas == 6))


async def test_in_a_dry_run_an_order_is_decided_and_nothing_is_touched(world: World) -> None:
    world.change_rules(dry_run=True)
    async with watched(world):
        answer = await order(world, "set", 5, 60)
        assert answer.decision is not None
        assert (answer.decision.action, answer.decision.dry_run) == (Action.SCALE_UP, True)
        await world.breach(BreachStatus.OPENED)
        await asyncio.sleep(0.5)
    assert world.supervisor.puts == []


async def test_what_is_no_order_goes_to_the_dead_letters(world: World) -> None:
    async with watched(world):
        await publish(world, b'{"id": "o1"}')
        await publish(world, asked(world, "pause").model_dump_json().encode(), kind="sizes")

        async def buried() -> bool:
            state = (await world.bus.js.stream_info(world.bus.subjects.stream("DEAD"))).state
            return state.messages == 2

        await eventually("two dead letters", buried)
        assert await world.records("order") == []


async def test_the_command_says_what_came_of_it_in_one_line(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "TAKEN_WITHIN_S", 1.0)
    set_to = ("set", SERVICE, "5", "--for", "30m", "--reason", "launch", "--by", "ada")
    silent = await call(world, *set_to)
    assert (silent.exit_code, "no scaler answered within 1 s; the order is kept until" in silent.stderr) == (4, True)
    async with watched(world):
        await eventually("that one", lambda: given(world.supervisor.replicas == 5))
        done = await call(world, "set", SERVICE, "6", *set_to[3:])
        assert done.exit_code == 0, done.stderr
        assert "relaycore: set to 6 until " in done.stdout
        assert "5 → 6 replicas (relaycore-" in done.stdout
        again = await call(world, "set", SERVICE, "6", *set_to[3:])
        assert "UTC; it has 6" in again.stdout
        refused = await call(world, "set", SERVICE, "99", *set_to[3:])
        assert_refused(refused, "refused: 99 is above the maximum of 20; relaycore may have 2 to 20 replicas")
        assert_refused(await call(world, "set", "relycore", "5", *set_to[3:]), "did you mean 'relaycore'?")
        resumed = await call(world, "resume", SERVICE, "--by", "ada")
        assert "relaycore: resumed; the scaler decides again" in resumed.stdout


def assert_refused(result: Result, said: str) -> None:
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


async def call(world: World, *arguments: str) -> Result:
    env = dict.fromkeys(("TIDEGATE_DATA",)) | world.environment_variables("none")
    env |= {"TIDEGATE_STORE_DSN": "postgresql://tidegate@127.0.0.1:1/none"}
    return await asyncio.to_thread(CliRunner(env=env).invoke, main, ["scaling", *arguments], prog_name="tidegate")


async def given(found: Any) -> Any:
    return found


async def not_ordered(world: World) -> bool:
    return (await world.records("decision"))[-1].reason_code not in ("ordered", "paused")
