"""The scaler over a real NATS against a small supervisor: from a breach to replicas, their effect, and the audit."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from services.scaler.chain import verify
from services.scaler.policy import decide
from services.scaler.records import replay_inputs
from shared.contracts.breach import BreachStatus
from shared.contracts.scaling import Action, ScalingRecord
from tests.integration.scaler_rig import SERVICE, TRACE, Supervisor, World, background, eventually, open_world

pytestmark = pytest.mark.integration


@pytest.fixture
async def world(nats_url: str, environment: str, tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(nats_url, environment, tmp_path, Supervisor()) as made:
        yield made


async def test_a_breach_adds_replicas_and_the_record_tells_that_it_helped(world: World) -> None:
    async with background(world.load()), world.scaler():
        opened = await world.breach(BreachStatus.OPENED)
        await eventually("an effectiveness record", lambda: world.records("effectiveness"))
        await world.publish_breach(opened)
        await world.breach(BreachStatus.RESOLVED)
        await eventually("calm", lambda: world.records("decision", Action.NO_ACTION))

        [decision] = await world.records("decision", Action.SCALE_UP)
        assert (decision.current, decision.target, decision.reason_code) == (2, 4, "breach_open")
        assert (decision.breaches, decision.runs, decision.dry_run) == (("b1",), ("run-1",), False)
        assert world.supervisor.moves == [{"replicas": 4, "epoch": decision.lease_epoch, "decision": decision.decision}]

        [result] = await world.records("result")
        assert (result.decision, result.ok, result.ready) == (decision.decision, True, 4)
        [effect] = await world.records("effectiveness")
        assert (effect.decision, effect.verdict) == (decision.decision, "helped")
        assert (effect.before["routing_latency"], effect.after["routing_latency"]) == (200.0, 15.0)

        again = decide(*replay_inputs(decision))
        assert (again.target, again.reason, again.candidates) == (4, decision.reason, decision.candidates)
        order = [record.kind for record in await world.records() if record.action is not Action.NO_ACTION]
        assert order == ["decision", "result", "effectiveness"]


async def test_the_decision_continues_the_trace_of_its_breach_and_the_chain_shows_a_change(world: World) -> None:
    async with background(world.load()), world.scaler():
        await world.breach(BreachStatus.OPENED)
        await eventually("a result", lambda: world.records("result"))
    stream, subject = world.bus.subjects.stream("SCALING"), world.bus.subjects.scaling(SERVICE)
    raw: list[dict[str, Any]] = []
    traces: list[str] = []
    info = await world.bus.js.stream_info(stream)
    for sequence in range(1, info.state.last_seq + 1):
        message = await world.bus.js.get_msg(stream, sequence)
        assert message.subject == subject
        raw.append(json.loads(message.data or b""))
        traces.append((message.headers or {}).get("traceparent", ""))
    moved = next(number for number, record in enumerate(raw) if record["action"] == "scale_up")
    assert traces[moved].split("-")[1] == TRACE
    assert verify(raw) == []
    raw[moved]["target"] = 3
    assert len(verify(raw)) == 1


async def test_a_refusal_of_the_target_is_the_result_with_its_reason(world: World) -> None:
    world.supervisor.refuse = [422, 422]  # the stamp of the epoch, then the move
    async with background(world.load()), world.scaler():
        await world.breach(BreachStatus.OPENED)
        [result] = await eventually("a result", lambda: world.records("result"))
        assert result.ok is False
        assert "422" in result.error
        assert "not now" in result.error


async def test_a_scaler_that_is_fenced_acts_again_only_with_a_later_epoch(world: World) -> None:
    async with background(world.load()), world.scaler():
        await eventually("the stamp", lambda: stamped(world))
        first = world.supervisor.puts[0]["epoch"]
        world.supervisor.refuse = [409]
        await world.breach(BreachStatus.OPENED)
        await eventually("a move", lambda: moved(world))
        [refused, *_] = await world.records("result")
        assert (refused.ok, refused.lease_epoch) == (False, first)
        assert "409" in refused.error
        assert world.supervisor.moves[0]["epoch"] > first


async def stamped(world: World) -> bool:
    return bool(world.supervisor.puts)


async def moved(world: World) -> bool:
    return any(put["replicas"] == 4 for put in world.supervisor.moves)


async def test_a_lost_supervisor_is_survived_and_recorded(world: World) -> None:
    async with background(world.load()), world.scaler(platform_url="http://127.0.0.1:9", scaler_target_timeout_s=0.2):
        await world.breach(BreachStatus.OPENED)
        [held] = await eventually("a hold", lambda: world.records("decision"))
        assert (held.action, held.reason_code) == (Action.NO_ACTION, "unobserved")
        assert "127.0.0.1:9" in held.reason
    assert world.supervisor.puts == []


async def test_without_a_platform_decisions_are_recorded_once_and_none_is_acted_on(world: World) -> None:
    async with background(world.load()), world.scaler(platform_url=""):
        await world.breach(BreachStatus.OPENED)
        await eventually("a decision", lambda: world.records("decision", Action.SCALE_UP))
        await world.breach(BreachStatus.UPDATED, value=210.0)
        await world.breach(BreachStatus.RESOLVED)
        decisions = await world.records("decision")
        # A machine that stalls may leave a moment without samples between two of them; none is said twice in a row.
        assert all(
            (one.action, one.reason_code, one.target) != (other.action, other.reason_code, other.target)
            for one, other in pairwise(decisions)
        )
        ups = [one for one in decisions if one.action is Action.SCALE_UP]
        assert {(one.target, one.dry_run) for one in ups} == {(4, True)}
        assert await world.records("result") == []
    assert world.supervisor.puts == []


async def test_what_is_only_said_and_differs_with_each_look_is_not_recorded_with_each_look(world: World) -> None:
    world.values = lambda _: {"cpu_usage": 0.8 + 0.35 * (time.monotonic() % 4), "request_rate": 80.0}
    async with background(world.load()), world.scaler(platform_url="", scaler_reason_interval_s=60):
        await eventually("a decision", lambda: world.records("decision"))
        await asyncio.sleep(5)
        assert len(await world.records("decision")) <= 2


async def test_a_quiet_service_says_so_again_before_its_chain_expires(world: World) -> None:
    async with background(world.load()), world.scaler(scaler_repeat_s=0.2, scaler_reason_interval_s=0.05):

        async def twice() -> list[ScalingRecord]:
            said = await world.records("decision")
            return said if len(said) > 1 and said[-1].reason_code == said[-2].reason_code else []

        await eventually("the same reason twice", twice)


async def test_what_is_no_breach_goes_to_the_dead_letters_with_its_reason(world: World) -> None:
    async with world.scaler():
        await world.publish_breach(b'{"specversion": "1.0"}')

        async def letters() -> int:
            return int((await world.bus.js.stream_info(world.bus.subjects.stream("DEAD"))).state.messages)

        await eventually("a dead letter", letters)
        letter = await world.bus.js.get_msg(world.bus.subjects.stream("DEAD"), 1)
        assert "no BreachEvent: id: Field required" in json.loads(letter.data or b"")["reason"]


async def test_a_second_scaler_takes_over_a_killed_leaders_action_and_only_one_ever_acts(world: World) -> None:
    world.supervisor.starts = False
    processes = {name: await world.scaler_process(name) for name in ("one", "two")}
    try:
        async with background(world.load()):
            await eventually("the stamp", lambda: stamped(world), timeout_s=30)
            await world.breach(BreachStatus.OPENED)
            await eventually("a move", lambda: moved(world))
            leader = await world.leader()
            processes[leader].kill()
            killed_at = asyncio.get_running_loop().time()

            async def taken() -> bool:
                return await world.leader() not in (leader, "")

            await eventually("the takeover", taken, timeout_s=7)
            assert asyncio.get_running_loop().time() - killed_at < 6
            world.supervisor.start_all()
            [result] = await eventually("a result", lambda: world.records("result"))

            [decision] = await world.records("decision", Action.SCALE_UP)
            assert (result.decision, result.ok, result.ready) == (decision.decision, True, 4)
            assert result.lease_epoch > decision.lease_epoch
            assert {(put["replicas"], put["decision"]) for put in world.supervisor.moves} == {(4, decision.decision)}
            assert world.supervisor.epoch == result.lease_epoch
    finally:
        for process in processes.values():
            if process.returncode is None:
                process.terminate()
        codes = await asyncio.gather(*(process.wait() for process in processes.values()))
    assert sorted(codes) == [-9, 0]
