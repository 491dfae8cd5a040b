"""Workers as real processes against a real broker and a real target that counts on its own."""

import asyncio
import signal
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from services.console.changes import load_of, pause_of, resume_of
from shared.contracts.breach import BreachEvent, BreachStatus
from shared.contracts.frame import Frame
from shared.contracts.run import ENDLESS_S, Limits, Phase, RunState
from shared.contracts.timing import ErrorKind, EventFlag, Kind
from tests.contracts.schemas import hold
from tests.integration.fleet import SCENARIO, desired, fleet
from tests.integration.published import kept
from tests.integration.target import Target
from tests.unit.console_cases import breach

pytestmark = pytest.mark.integration


def stored(frames: list[Frame]) -> Counter[str]:
    """Requests in frames, per ``scenario/action``; each frame once."""
    counts: Counter[str] = Counter()
    for frame in {frame.id: frame for frame in frames}.values():
        for number, action in enumerate(frame.actions):
            if action.kind is Kind.REQUEST:
                counts[f"{action.scenario}/{action.action}"] += int((frame.events["action"] == number).sum())
    return counts


def unrefused(frame: Frame) -> NDArray[np.bool_]:
    return np.asarray(frame.events["error"] != ErrorKind.REFUSED)


def final(state: RunState) -> bool:
    return state.phase.final


def sent(state: RunState) -> int:
    return sum(system.sent for worker in state.workers for system in worker.systems)


async def test_a_run_sends_what_its_frames_say_and_the_target_counted(
    nats_url: str, environment: str, tmp_path: Path
) -> None:
    async with Target() as target, fleet(nats_url, environment, tmp_path) as workers:
        await workers.start("w1")
        run = desired(target.url, environment, ramp_up_s=0.5)
        await workers.ask(run)
        state = await workers.until(run.run, final, 40)
        frames = await workers.frames(run.run)
    assert state.phase is Phase.FINISHED
    assert not state.lost
    assert stored(frames) == target.counts
    assert sent(state) == sum(target.counts.values()) > 100
    assert target.counts["things/authenticate"] == 8
    events = [event for frame in frames for event in frame.events]
    assert {int(event["error"]) for event in events} == {ErrorKind.OK}
    assert any(event["flags"] & EventFlag.RAMP_UP for event in events)
    assert all(header.startswith("00-") for header in target.traceparents)
    assert all(run.run in agent for agent in target.user_agents)
    seqs = sorted(frame.id.seq for frame in frames)
    assert seqs == list(range(1, len(seqs) + 1))
    assert any(frame.final for frame in frames)


async def test_arrivals_keep_their_rate_over_two_workers(nats_url: str, environment: str, tmp_path: Path) -> None:
    scenario = SCENARIO | {"steps": SCENARIO["steps"][:2]}
    async with Target() as target, fleet(nats_url, environment, tmp_path) as workers:
        await workers.ready("w1", "w2")
        run = desired(target.url, environment, scenario=scenario, users=16, rate=50.0, duration_s=4.0)
        await workers.ask(run)
        state = await workers.until(run.run, final, 40)
    carried = [worker for worker in state.workers if any(system.sent for system in worker.systems)]
    assert target.counts["things/create"] == pytest.approx(200, abs=4)
    assert len(carried) == 2


async def test_a_killed_workers_users_are_carried_on_by_the_other(
    nats_url: str, environment: str, tmp_path: Path
) -> None:
    async with Target() as target, fleet(nats_url, environment, tmp_path) as workers:
        await workers.ready("w1", "w2")
        scenario = SCENARIO | {"think_time": {"min": "100ms", "max": "150ms"}}
        run = desired(target.url, environment, scenario=scenario, users=32, duration_s=14.0)
        await workers.ask(run)
        await workers.until(run.run, lambda s: sorted(w.users for w in s.workers) == [16, 16], 30)
        workers.processes["w2"].send_signal(signal.SIGKILL)
        killed_at = time.monotonic()
        await workers.until(run.run, lambda s: any(w.worker == "w1" and w.users == 32 for w in s.workers), 8)
        taken_over_s = time.monotonic() - killed_at
        state = await workers.until(run.run, final, 40)
        frames = await workers.frames(run.run)
        subjects = workers.subjects
        hold("RunState", await kept(workers.js, subjects.stream("RUNS"), subjects.run_state(run.run)))
    assert taken_over_s < 8
    assert state.phase is Phase.FINISHED
    (lost,) = state.lost
    assert lost.worker == "w2"
    uncounted = sum(target.counts.values()) - sum(stored(frames).values())
    assert 0 <= uncounted <= lost.held_requests


async def test_a_frozen_worker_never_doubles_the_load_when_it_thaws(
    nats_url: str, environment: str, tmp_path: Path
) -> None:
    async with Target() as target, fleet(nats_url, environment, tmp_path) as workers:
        await workers.ready("w1", "w2")
        run = desired(target.url, environment, users=16, rate=40.0, duration_s=16.0, scenario=SCENARIO)
        await workers.ask(run)
        await workers.until(run.run, lambda s: sorted(w.users for w in s.workers) == [8, 8], 30)
        workers.processes["w2"].send_signal(signal.SIGSTOP)
        await workers.until(run.run, lambda s: any(w.worker == "w1" and w.users == 16 for w in s.workers), 8)
        workers.processes["w2"].send_signal(signal.SIGCONT)
        state = await workers.until(run.run, final, 40)
        frames = await workers.frames(run.run)
    assert state.phase is Phase.FINISHED
    assert target.counts["things/create"] <= 40 * 16 * 1.01
    assert stored(frames) == target.counts


async def test_a_stop_ends_the_load_within_two_seconds_and_keeps_what_was_measured(
    nats_url: str, environment: str, tmp_path: Path
) -> None:
    async with Target() as target, fleet(nats_url, environment, tmp_path) as workers:
        await workers.start("w1")
        run = desired(target.url, environment, duration_s=60.0)
        await workers.ask(run)
        await workers.until(run.run, lambda s: sent(s) > 50, 30)
        asked_at = asyncio.get_running_loop().time()
        await workers.ask(run.model_copy(update={"generation": 2, "status": "stopped", "reason": "enough"}))
        state = await workers.until(run.run, final, 40)
        frames = await workers.frames(run.run)
    assert target.arrivals[-1] - asked_at < 2
    assert (state.phase, state.reason) == (Phase.STOPPED, "enough")
    assert stored(frames) == target.counts


async def test_refused_credentials_fail_the_run_once_and_not_as_thousands_of_requests(
    nats_url: str, environment: str, tmp_path: Path
) -> None:
    async with Target() as target, fleet(nats_url, environment, tmp_path) as workers:
        await workers.start("w1", TIDEGATE_SECRET_SHOP_PASSWORD="wrong")
        run = desired(target.url, environment, users=200, duration_s=30.0)
        await workers.ask(run)
        state = await workers.until(run.run, final, 40)
    assert state.phase is Phase.FAILED
    assert "shop refused the credentials of user" in state.reason
    assert sum(target.counts.values()) <= 20


async def test_a_host_outside_the_allow_list_is_never_sent_a_request(
    nats_url: str, environment: str, tmp_path: Path
) -> None:
    async with Target() as target, fleet(nats_url, environment, tmp_path) as workers:
        await workers.start("w1", TIDEGATE_ALLOWED_HOSTS="example.test")
        run = desired(target.url, environment)
        await workers.ask(run)
        state = await workers.until(run.run, final, 40)
    assert state.phase is Phase.FAILED
    assert "'127.0.0.1' is not in the allow-list" in state.reason
    assert not target.counts


async def test_a_worker_stopped_in_order_hands_its_stripes_over(
    nats_url: str, environment: str, tmp_path: Path
) -> None:
    async with Target() as target, fleet(nats_url, environment, tmp_path) as workers:
        await workers.ready("w1", "w2")
        run = desired(target.url, environment, users=16, duration_s=8.0)
        await workers.ask(run)
        await workers.until(run.run, lambda s: sorted(w.users for w in s.workers) == [8, 8], 30)
        workers.processes["w2"].terminate()
        assert await asyncio.wait_for(workers.processes["w2"].wait(), 8) == 0
        await workers.until(run.run, lambda s: any(w.worker == "w1" and w.users == 16 for w in s.workers), 8)
        state = await workers.until(run.run, final, 40)
        frames = await workers.frames(run.run)
    assert not state.lost
    assert stored(frames) == target.counts


async def test_arrivals_go_on_while_one_worker_joins_and_another_leaves(
    nats_url: str, environment: str, tmp_path: Path
) -> None:
    looking = SCENARIO | {"steps": [{"action": "look", "system": "shop", "path": "/things/7"}]}
    async with Target(delay_s=0.8) as target, fleet(nats_url, environment, tmp_path) as workers:
        await workers.ready("w1", "w2")
        run = desired(target.url, environment, scenario=looking, users=320, rate=100.0, duration_s=16.0)
        await workers.ask(run)
        await workers.until(run.run, lambda s: sorted(w.users for w in s.workers) == [160, 160] and sent(s) > 0, 30)
        await workers.ready("w3")
        await workers.until(run.run, lambda s: sum(w.users > 0 for w in s.workers) == 3, 10)
        workers.processes["w1"].terminate()
        assert await asyncio.wait_for(workers.processes["w1"].wait(), 8) == 0
        state = await workers.until(run.run, final, 40)
        frames = await workers.frames(run.run)
    assert not state.lost
    rows = np.concatenate([frame.events for frame in frames])
    # No request is given up for it, and what is due while a stripe is on its way is a fraction of a second's.
    assert ErrorKind.CANCELLED not in rows["error"]
    assert stored([replace(frame, events=frame.events[unrefused(frame)]) for frame in frames]) == target.counts
    assert sum(target.counts.values()) > 1_600 - 60


async def test_a_worker_name_in_use_is_refused_with_the_way_out(
    nats_url: str, environment: str, tmp_path: Path
) -> None:
    async with fleet(nats_url, environment, tmp_path) as workers:
        await workers.start("w1")
        presence = await workers.js.subscribe(f"$KV.{workers.subjects.bucket('leases')}.worker.w1")
        await presence.next_msg(timeout=10)
        workers.processes["first"] = workers.processes.pop("w1")
        second = await workers.start("w1")
        assert await asyncio.wait_for(second.wait(), 15) == 2
        assert "another live worker has this name" in workers.log("w1")


async def test_a_load_is_changed_paused_and_resumed_on_every_worker(
    nats_url: str, environment: str, tmp_path: Path
) -> None:
    async with Target() as target, fleet(nats_url, environment, tmp_path) as workers:
        await workers.ready("w1", "w2")
        run = desired(target.url, environment, users=16, rate=40.0, duration_s=40.0, scenario=SCENARIO)
        await workers.ask(run)
        state = await workers.until(run.run, lambda s: sorted(w.users for w in s.workers) == [8, 8], 30)

        async def created_in(seconds: float) -> int:
            before = target.counts["things/create"]
            await asyncio.sleep(seconds)
            return target.counts["things/create"] - before

        def at_s() -> float:
            assert state.started_at is not None
            return (datetime.now(UTC) - state.started_at).total_seconds()

        await workers.until(run.run, lambda s: s.phase is Phase.RUNNING, 5)
        state = await workers.until(run.run, lambda s: s.started_at is not None, 5)
        assert 50 <= await created_in(1.5) <= 70
        run = load_of(run, at_s(), datetime.now(UTC), 24, 120.0, None)
        await workers.ask(run)
        await workers.until(run.run, lambda s: sum(w.users for w in s.workers) == 24, 5)
        await asyncio.sleep(1.2)
        assert 160 <= await created_in(1.5) <= 200
        run = pause_of(run, at_s(), datetime.now(UTC))
        await workers.ask(run)
        await asyncio.sleep(1.0)
        assert await created_in(1.0) == 0
        run = resume_of(run, at_s(), datetime.now(UTC))
        await workers.ask(run)
        await asyncio.sleep(1.5)
        assert 100 <= await created_in(1.0) <= 140
        # The kill switch closes every gate within two seconds, and says why the run ended.
        await workers.client.publish(workers.subjects.kill, b"that is enough")
        await asyncio.sleep(0.5)
        assert await created_in(1.5) == 0
        state = await workers.until(run.run, final, 10)
        frames = await workers.frames(run.run)
    assert state.phase is Phase.FAILED
    assert "kill switch: that is enough" in state.reason
    # What was still in line is recorded as refused, and reached nobody.
    assert stored([replace(frame, events=frame.events[unrefused(frame)]) for frame in frames]) == target.counts


async def test_the_kill_switch_holds_for_a_run_that_is_only_starting(
    nats_url: str, environment: str, tmp_path: Path
) -> None:
    async with Target() as target, fleet(nats_url, environment, tmp_path) as workers:
        await workers.ready("w1")
        run = desired(target.url, environment, duration_s=60.0)
        await workers.ask(run)
        await workers.until(run.run, lambda state: state.phase is Phase.STARTING, 10)
        await workers.client.publish(workers.subjects.kill, b"not at all")
        state = await workers.until(run.run, final, 10)
    assert (state.phase, state.reason) == (Phase.FAILED, "stopped by the kill switch: not at all")
    assert not target.counts


@pytest.mark.parametrize(("expires_in", "least"), [(11, 2), (900, 1)])
async def test_a_token_is_fetched_once_for_each_user_and_again_before_it_expires(
    nats_url: str, environment: str, tmp_path: Path, expires_in: int, least: int
) -> None:
    async with Target(expires_in=expires_in) as target, fleet(nats_url, environment, tmp_path) as workers:
        await workers.start("w1")
        run = desired(target.url, environment, users=4, duration_s=2.5)
        await workers.ask(run)
        state = await workers.until(run.run, final, 40)
    assert state.phase is Phase.FINISHED
    # Renewed ten seconds ahead: one of 11 s after each second, one of 900 s never.
    assert 4 * least <= target.counts["things/authenticate"] <= 4 * (1 if least == 1 else 4)
    assert target.counts["things/create"] > 100


@pytest.mark.parametrize("cause", ["budget", "harm"])
async def test_a_canary_stops_by_itself_when_its_day_is_spent_or_it_may_have_done_harm(
    nats_url: str, environment: str, tmp_path: Path, cause: str
) -> None:
    async with Target() as target, fleet(nats_url, environment, tmp_path) as workers:
        await workers.ready("w1")
        limits = Limits(requests_per_day=60 if cause == "budget" else None)
        run = desired(target.url, environment, rate=20.0, profile="canary", duration_s=ENDLESS_S, limits=limits)
        await workers.ask(run)
        await workers.until(run.run, lambda state: sent(state) > 10, 30)
        if cause == "harm":
            harm = breach(run=run.run, environment=environment, level="critical", status=BreachStatus.OPENED)
            subject = workers.subjects.breach(harm.system, harm.metric, harm.series)
            await workers.js.publish(subject, BreachEvent.of(harm, datetime.now(UTC)).model_dump_json().encode())
        state = await workers.until(run.run, final, 30)
    assert state.phase is Phase.STOPPED
    assert ("a day is spent" if cause == "budget" else "may have caused harm") in state.reason
    assert sent(state) < 300
