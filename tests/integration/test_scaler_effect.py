"""Over a real NATS: scale-ups that may not be, that make it worse, and that do not help, with restarts in between."""

import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.scaler.audit import AuditStream
from services.scaler.chain import Head
from services.scaler.decision import Decision
from services.scaler.history import change_of
from services.scaler.policy import decide
from services.scaler.records import Scribe, replay_inputs
from services.scaler.situation import Memory
from shared import metrics
from shared.contracts.breach import BreachStatus
from shared.contracts.scaling import Action, ScalingRecord
from shared.contracts.scaling_orders import ScalingOrder
from tests.integration.scaler_rig import SERVICE, Supervisor, World, background, eventually, open_world
from tests.unit.scaler_cases import RELAYCORE, facts, running

pytestmark = pytest.mark.integration


@pytest.fixture
async def world(nats_url: str, environment: str, tmp_path: Path) -> AsyncIterator[World]:
    async with open_world(nats_url, environment, tmp_path, Supervisor()) as made:
        yield made


def rewrite(world: World, **more: Any) -> None:
    path = world.config_dir / "scaling.yaml"
    path.write_text(json.dumps(json.loads(path.read_text()) | more))


async def coded(world: World, code: str, kind: str = "decision") -> list[ScalingRecord]:
    return [record for record in await world.records(kind) if record.reason_code == code]


def worse_with_more(ready: int) -> dict[str, float]:
    """Nobody knows of a line, and every further replica makes all of them slower, as a shared lock would."""
    return {"cpu_usage": 0.3, "request_rate": 160.0 / ready, "routing_latency": 100.0 * ready}


def never_better(ready: int) -> dict[str, float]:
    return {"cpu_usage": 0.4, "request_rate": 160.0 / ready, "queue_length": 15.0, "routing_latency": 200.0}


async def test_a_scale_up_without_room_is_an_event_and_is_made_when_room_appears(world: World) -> None:
    world.supervisor.room = 0
    async with background(world.load()), world.scaler():
        await world.breach(BreachStatus.OPENED)
        [refused] = await eventually("a refusal", lambda: coded(world, "capacity"))
        assert (refused.action, refused.target) == (Action.NO_ACTION, 2)
        assert [(one.name, one.before, one.after) for one in refused.clamps] == [("capacity", 4, 2)]
        assert refused.recommendation
        assert refused.inputs["facts"]["room"] == 0
        assert world.supervisor.moves == []
        world.supervisor.room = 1
        [made] = await eventually("a move", lambda: world.records("decision", Action.SCALE_UP))
        assert (made.target, [one.name for one in made.clamps]) == (3, ["capacity"])
        again = decide(*replay_inputs(made))
        assert (again.target, again.clamps) == (3, made.clamps)
    refusals = metrics.SCALE_UPS_REFUSED.labels(SERVICE, "capacity")._value.get()
    assert refusals >= 1


async def test_the_budget_keeps_the_minimum_of_a_service_that_nobody_sees(world: World) -> None:
    rules = json.loads((world.config_dir / "scaling.yaml").read_text())
    unseen = {"system": "autmatrix", "min": 2, "max": 5}
    rewrite(world, budget={"replicas": 5}, services=rules["services"] | {"autmatrix-backend": unseen})
    async with background(world.load()), world.scaler():
        await world.breach(BreachStatus.OPENED)
        [made] = await eventually("a move", lambda: world.records("decision", Action.SCALE_UP))
        assert (made.target, [(one.name, one.after) for one in made.clamps]) == (3, [("budget", 3)])
        held = {one["service"]: one["replicas"] for one in made.inputs["facts"]["shares"]["holdings"]}
        assert held == {SERVICE: 2, "autmatrix-backend": 2}
        assert decide(*replay_inputs(made)).target == 3


async def test_what_made_it_worse_is_undone_by_whoever_leads_then_and_not_tried_again(world: World) -> None:
    world.values = worse_with_more
    world.supervisor.starts = False
    async with background(world.load()):
        async with world.scaler():
            await world.breach(BreachStatus.OPENED)
            [made] = await eventually("a move", lambda: world.records("decision", Action.SCALE_UP))
            assert made.expected == {"routing_latency": 50.0}
        world.supervisor.start_all()
        async with world.scaler():
            [effect] = await eventually("an effect", lambda: world.records("effectiveness"))
            assert (effect.decision, effect.verdict) == (made.decision, "worse"), effect.reason
            [undone] = await eventually("the rollback", lambda: coded(world, "rollback"))
            assert (undone.action, undone.current, undone.target) == (Action.SCALE_DOWN, 4, 2)
            assert (undone.reverses, decide(*replay_inputs(undone)).target) == (made.decision, 2)
            await eventually("the hold", lambda: coded(world, "rolled_back"))
        async with world.scaler():
            await eventually("the stamp of the third", lambda: stamps(world, 3))
        assert [move["replicas"] for move in world.supervisor.moves if move["decision"] == undone.decision][:1] == [2]
        assert len(await world.records("decision", Action.SCALE_UP)) == 1
        assert world.supervisor.replicas == 2


async def test_what_undoes_a_scale_down_is_bounded_by_the_room_there_is(world: World) -> None:
    """Nothing else asks for more, so that only the rollback itself can make the scaler ask for room."""
    world.supervisor.room = 0
    scribe = Scribe(SERVICE, world.bus.subjects.environment, RELAYCORE)
    removed = Decision(Action.SCALE_DOWN, 4, 2, "idle", "idle for 300 s", cause="idle")
    at_s = time.time() - 3
    record = scribe.decision(
        removed, facts(running(4), now_s=at_s), Memory(), {}, name="relaycore-1", epoch=1, dry_run=False
    )
    change = change_of(record)
    assert change is not None
    audit, head = AuditStream(world.bus.js, world.bus.subjects), Head()
    for one in (
        record,
        scribe.result(change, at_s + 1, 1, ready=2),
        scribe.effectiveness(change, at_s + 2, 1, "worse", "error_rate from 0.0% to 9.0%", {}),
    ):
        _, head = await audit.append(head, one, {})
    async with background(world.calm()), world.scaler():
        [refused] = await eventually("a refusal", lambda: coded(world, "capacity"))
        assert [(one.name, one.before, one.after) for one in refused.clamps] == [("capacity", 4, 2)]
    assert world.supervisor.moves == [put for put in world.supervisor.puts if put["replicas"] == 2 and put["decision"]]


async def stamps(world: World, count: int) -> bool:
    return len({put["epoch"] for put in world.supervisor.puts}) >= count


async def test_twice_without_effect_ends_the_loop_until_the_episode_is_over_restarts_or_not(world: World) -> None:
    world.values = never_better
    async with background(world.load()):
        async with world.scaler():
            await world.breach(BreachStatus.OPENED)
            [given_up] = await eventually("an escalation", lambda: coded(world, "ineffective", "escalation"))
            moves = await world.records("decision", Action.SCALE_UP)
            assert [(one.current, one.target) for one in moves] == [(2, 4), (4, 6)]
            assert (given_up.cause, given_up.breaches, given_up.runs) == ("routing_latency", ("b1",), ("run-1",))
            assert given_up.decision == moves[-1].decision
            assert "2 → 4 no_effect, 4 → 6 no_effect" in given_up.reason
            assert given_up.recommendation
        async with world.scaler():
            await eventually("the stamp of the second", lambda: stamps(world, 2))
            await eventually("the hold", lambda: coded(world, "ineffective"))
            assert len(await world.records("escalation")) == 1
            await world.breach(BreachStatus.RESOLVED)
            [resumed] = await eventually("the end", lambda: coded(world, "resumed", "escalation"))
            assert (resumed.cause, resumed.sequence > given_up.sequence) == ("routing_latency", True)
            assert world.supervisor.replicas == 6


async def test_an_operator_lets_a_loop_go_on_that_was_given_up(world: World) -> None:
    world.values = never_better
    rewrite_effectiveness(world, on_no_effect="escalate")
    async with background(world.load()), world.scaler():
        await world.breach(BreachStatus.OPENED)
        await eventually("the end", lambda: coded(world, "ineffective", "escalation"))
        assert len(await world.records("decision", Action.SCALE_UP)) == 1
        now = datetime.now(UTC)
        resume = ScalingOrder(
            id="o1", environment=world.bus.subjects.environment, service=SERVICE, kind="resume", by="ada",
            reason="the lock is gone", at=now,
        )  # fmt: skip
        subject = world.bus.subjects.order(SERVICE, "replicas")
        await world.bus.js.publish(subject, resume.model_dump_json().encode())
        [resumed] = await eventually("the word", lambda: coded(world, "resumed", "escalation"))
        assert resumed.reason == "an operator lets the loop go on"

        async def again() -> bool:
            return len(await world.records("decision", Action.SCALE_UP)) == 2

        await eventually("another try", again)


def rewrite_effectiveness(world: World, **more: Any) -> None:
    rules = json.loads((world.config_dir / "scaling.yaml").read_text())
    rules["tuning"]["effectiveness"] |= more
    rewrite(world, tuning=rules["tuning"])
