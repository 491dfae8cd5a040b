"""A run that goes on for longer than its stream and bucket remember is asked for all the same."""

import asyncio
from datetime import UTC, datetime

import pytest

from services.generator import coordinator
from services.generator.coordinator import Coordinator, Plans
from services.generator.membership import Membership
from services.generator.registry import Registry
from shared.bus import Bus, open_bus
from shared.clock import wall_us
from shared.contracts.run import ENDLESS_S, Phase, RunDesired, RunState, WorkerProgress
from tests.integration.fleet import desired

pytestmark = pytest.mark.integration


async def lead(bus: Bus, run: RunDesired) -> Coordinator:
    """A coordinator that has led the run for a moment."""
    registry, members = Registry(), Membership()
    registry.hear_desired(run)
    members.hear("w1", [WorkerProgress(worker="w1", run=run.run, epoch=1)], wall_us())
    plans = Plans(await bus.bucket("shards"))
    leader = Coordinator(bus, "w1", plans, await bus.bucket("leases"), registry, members)
    await leader.tick()
    return leader


@pytest.mark.parametrize("left", ["old", "gone"])
async def test_what_is_asked_and_planned_is_said_again_before_it_is_forgotten(
    nats_url: str, environment: str, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    monkeypatch.setattr(coordinator, "REPEAT_S", 0.0)
    monkeypatch.setattr(coordinator, "LOOK_S", 0.0)
    run = desired("http://127.0.0.1:1", environment, duration_s=ENDLESS_S, profile="canary")
    async with open_bus(nats_url, environment, "test") as bus:
        stream, subject = bus.subjects.stream("RUNS"), bus.subjects.run_desired(run.run)
        await bus.js.publish(subject, run.model_dump_json().encode())
        leader = await lead(bus, run)
        asked = await bus.js.get_last_msg(stream, subject)
        planned = await (await bus.bucket("shards")).get(run.run)
        if left == "gone":
            await bus.js.purge_stream(stream, subject=subject)
        await leader.tick()
        again = await bus.js.get_last_msg(stream, subject)
        plan = await (await bus.bucket("shards")).get(run.run)
        await leader.close()
    assert (again.seq or 0) > (asked.seq or 0)
    assert RunDesired.model_validate_json(again.data or b"") == run
    assert (plan.revision or 0) > (planned.revision or 0)
    assert plan.value == planned.value


async def test_the_states_of_a_long_run_do_not_push_out_what_is_asked_of_it(nats_url: str, environment: str) -> None:
    run = desired("http://127.0.0.1:1", environment)
    state = RunState(
        run=run.run,
        environment=environment,
        phase=Phase.RUNNING,
        generation=1,
        at=datetime.now(UTC),
        coordinator="w1",
    )
    async with open_bus(nats_url, environment, "test") as bus:
        subjects = bus.subjects
        await bus.js.publish(subjects.run_desired(run.run), run.model_dump_json().encode())
        for _ in range(11):
            word = state.model_dump_json().encode()
            await asyncio.gather(*(bus.js.publish(subjects.run_state(run.run), word) for _ in range(100)))
        kept = await bus.js.stream_info(subjects.stream("RUNS"), subjects_filter=">")
        await bus.js.get_last_msg(subjects.stream("RUNS"), subjects.run_desired(run.run))
    assert kept.state.subjects == {subjects.run_desired(run.run): 1, subjects.run_state(run.run): 1_000}
