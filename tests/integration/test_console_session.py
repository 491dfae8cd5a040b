"""A run as the console carries it, over a real bus and store; a stand-in answers for generator and validator."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from nats.aio.msg import Msg

from services.console import session
from services.console.backing import Backing
from services.console.hosts import LOOPBACK
from services.console.plan import LoadOptions, Request, desire, plan_run
from services.console.progress import Notice, Snapshot
from services.console.reading import find_dossier, read_dossier
from services.console.session import Outcome, Session, Stopper, publish_desired
from services.console.steering import load_run, pause_run, resume_run, stop_everything, stop_run
from shared.bus import Bus, open_bus, publish_now
from shared.contracts.breach import BreachEvent, BreachStatus
from shared.contracts.run import Phase, RunDesired, RunState
from shared.contracts.scenario import Scenario, Step
from shared.errors import ConfigError, TransientError
from shared.store.asking import ask_store, find_run
from shared.store.breaches import save_breach
from shared.store.listings import list_reported_runs
from shared.store.reports import write_report
from shared.store.runs import save_desired, save_state
from shared.store.scaling import save_scaling
from tests.contracts.schemas import hold
from tests.unit.console_cases import breach, record, report

pytestmark = pytest.mark.integration
RUN = "run-1"


class Recorder:
    """A view that keeps what it was shown."""

    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []
        self.notices: list[str] = []

    def show(self, snapshot: Snapshot) -> None:
        self.snapshots.append(snapshot)

    def notice(self, notice: Notice) -> None:
        self.notices.append(notice.text)


class StandIn:
    """The other services as one: ``phases`` follow the first desired state, ``stopped`` the wish to stop."""

    def __init__(self, bus: Bus, dsn: str, phases: list[Phase], reason: str = "") -> None:
        self._bus, self._dsn, self._phases, self._reason = bus, dsn, phases, reason
        self.generations: list[int] = []

    async def on_desired(self, message: Msg) -> None:
        desired = RunDesired.model_validate_json(message.data)
        self.generations.append(desired.generation)
        async with await psycopg.AsyncConnection.connect(self._dsn, autocommit=True) as connection:
            await save_desired(connection, desired, message.data.decode())
            for phase in [Phase.STOPPED] if desired.status == "stopped" else self._phases:
                if phase.final and phase is not Phase.FAILED:
                    body = report(exit_code=1, verdict="missed")
                    await write_report(connection, desired.run, body)
                await self._say(connection, desired, phase)

    async def _say(self, connection: psycopg.AsyncConnection[Any], desired: RunDesired, phase: Phase) -> None:
        now = datetime.now(UTC)
        state = RunState(
            run=desired.run,
            environment=desired.environment,
            phase=phase,
            generation=desired.generation,
            at=now,
            coordinator="w1",
            started_at=now,
            ended_at=now if phase.final else None,
            reason=self._reason or desired.reason,
        )
        body = state.model_dump_json()
        # As in the real stack, the store learns of it from the bus: who finds it stored finds it published.
        await publish_now(self._bus.js, self._bus.subjects.run_state(desired.run), body.encode())
        await save_state(connection, state, body)


@pytest.fixture
async def bus(nats_url: str, environment: str) -> AsyncIterator[Bus]:
    async with open_bus(nats_url, environment, "test") as opened:
        yield opened


@asynccontextmanager
async def answered(bus: Bus, dsn: str, *phases: Phase, reason: str = "") -> AsyncIterator[StandIn]:
    stand_in = StandIn(bus, dsn, list(phases), reason)
    subscription = await bus.client.subscribe(bus.subjects.run_desired("*"), cb=stand_in.on_desired)
    await bus.client.flush()
    yield stand_in
    await subscription.unsubscribe()


def desired(environment: str) -> RunDesired:
    scenario = Scenario(name="small", system="shop", steps=[Step(action="look", system="shop", path="/")])
    request = Request(environment, {"shop": "http://127.0.0.1:1"}, LOOPBACK)
    return desire(plan_run([scenario], LoadOptions(users=1, duration_s=5)), RUN, request, datetime.now(UTC))


async def carry(bus: Bus, dsn: str, view: Recorder, stopper: Stopper) -> Outcome:
    async with asyncio.timeout(10):
        return await Session(bus, dsn, desired(bus.subjects.environment), view, stopper).carry()


async def until(holds: Callable[[], bool]) -> None:
    """A bounded poll."""
    for _ in range(500):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to hold within 5 s")


async def until_phase(dsn: str, phase: str) -> None:
    """A bounded poll of the store."""
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        for _ in range(500):
            found = await connection.execute("SELECT 1 FROM run WHERE run = %s AND phase = %s", (RUN, phase))
            if await found.fetchone() is not None:
                return
            await asyncio.sleep(0.01)
    raise AssertionError(f"the run was not {phase} within 5 s")


async def test_a_run_is_followed_to_its_report_and_takes_its_exit_code(bus: Bus, postgres_dsn: str) -> None:
    async with answered(bus, postgres_dsn, Phase.STARTING, Phase.RUNNING, Phase.FINISHED):
        outcome = await carry(bus, postgres_dsn, Recorder(), Stopper())
    assert (outcome.phase, outcome.exit_code) == (Phase.FINISHED, 1)
    assert outcome.report is not None
    assert outcome.report["verdict"] == "missed"


async def test_ctrl_c_publishes_the_next_generation_and_waits_for_the_report(bus: Bus, postgres_dsn: str) -> None:
    stopper, view = Stopper(), Recorder()
    async with answered(bus, postgres_dsn, Phase.RUNNING) as stand_in:
        running = asyncio.create_task(carry(bus, postgres_dsn, view, stopper))
        await until(lambda: any(snapshot.phase is Phase.RUNNING for snapshot in view.snapshots))
        stopper.ask()
        outcome = await running
    assert stand_in.generations == [1, 2]
    assert (outcome.phase, outcome.reason, outcome.exit_code) == (Phase.STOPPED, "stopped by the operator", 1)
    assert view.notices == ["stopping; Ctrl-C again leaves without the report"]


async def test_a_second_ctrl_c_leaves_at_once(bus: Bus, postgres_dsn: str) -> None:
    stopper = Stopper()
    stopper.ask()
    stopper.ask()
    outcome = await carry(bus, postgres_dsn, Recorder(), stopper)
    assert outcome.was_left
    assert outcome.exit_code == 4


async def test_a_refused_run_ends_with_its_reason(bus: Bus, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "REPORT_OF_FAILED_S", 0.0)
    async with answered(bus, postgres_dsn, Phase.STARTING, Phase.FAILED, reason="shop refused the credentials"):
        outcome = await carry(bus, postgres_dsn, Recorder(), Stopper())
    assert (outcome.phase, outcome.reason, outcome.exit_code) == (Phase.FAILED, "shop refused the credentials", 4)


async def test_a_run_that_nobody_takes_is_taken_back(
    bus: Bus, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "SILENCE_S", 0.2)
    monkeypatch.setattr(session, "REPORT_OF_FAILED_S", 0.0)
    outcome = await carry(bus, postgres_dsn, Recorder(), Stopper())
    assert (outcome.phase, outcome.exit_code) == (Phase.FAILED, 4)
    assert "no generator worker took the run" in outcome.reason
    kept = await bus.js.get_last_msg(bus.subjects.stream("RUNS"), bus.subjects.run_desired(RUN))
    assert RunDesired.model_validate_json(kept.data or b"").status == "stopped"
    hold("RunDesired", [kept.data or b""])


async def test_breaches_and_moves_are_told_as_they_happen_and_strange_messages_are_not(
    bus: Bus, postgres_dsn: str
) -> None:
    view, stopper = Recorder(), Stopper()
    subjects = bus.subjects
    async with answered(bus, postgres_dsn, Phase.RUNNING):
        running = asyncio.create_task(carry(bus, postgres_dsn, view, stopper))
        await until(lambda: bool(view.snapshots))
        where = subjects.breach("relaycore", "routing_latency", "relaycore")
        for body in (b"{", BreachEvent.of(breach(), datetime.now(UTC)).model_dump_json().encode()):
            await publish_now(bus.js, where, body)
        await publish_now(bus.js, subjects.scaling("relaycore"), record("result").model_dump_json().encode())
        await until(lambda: any(snapshot.replicas for snapshot in view.snapshots))
        stopper.ask()
        await running
    assert [line.split("  ")[0] for line in view.notices[:2]] == ["breach opened", "scaling result"]
    assert view.snapshots[-1].open_breaches == 1


async def test_stop_finds_a_run_by_name_or_as_the_last_and_says_what_it_found(
    bus: Bus, nats_url: str, postgres_dsn: str
) -> None:
    backing = Backing(nats_url, postgres_dsn, bus.subjects.environment)
    with pytest.raises(ConfigError, match="no run 'run-1': there are no runs"):
        await stop_run(backing, RUN)
    async with answered(bus, postgres_dsn, Phase.RUNNING) as stand_in:
        await publish_desired(bus, desired(bus.subjects.environment))
        await until_phase(postgres_dsn, "running")
        assert "is being stopped" in await stop_run(backing, "last")
        await until_phase(postgres_dsn, "stopped")
    assert stand_in.generations == [1, 2]
    assert await stop_run(backing, RUN) == "run run-1 has already been stopped"


async def test_a_run_is_changed_from_its_newest_state_whoever_changed_it_last(
    bus: Bus, nats_url: str, postgres_dsn: str
) -> None:
    backing = Backing(nats_url, postgres_dsn, bus.subjects.environment)
    async with answered(bus, postgres_dsn, Phase.RUNNING) as stand_in:
        await publish_desired(bus, desired(bus.subjects.environment))
        await until_phase(postgres_dsn, "running")
        # Two at once: one of them finds the other was first, and decides again.
        lines = await asyncio.gather(*(load_run(backing, RUN, users, None, None) for users in (7, 9)))
        assert sorted(lines) == ["run run-1: 7 users from now on", "run run-1: 9 users from now on"]
        assert "is paused" in await pause_run(backing, RUN)
        with pytest.raises(ConfigError, match="already paused"):
            await pause_run(backing, RUN)
        assert "goes on" in await resume_run(backing, RUN)
        with pytest.raises(ConfigError, match="--rate: small was started without a rate"):
            await load_run(backing, RUN, None, 5.0, None)
        assert await stop_everything(backing, "enough") == ["run run-1 is being stopped"]
        await until_phase(postgres_dsn, "stopped")
    # Plain subscribers also hear the change that came second and was not kept.
    assert sorted(set(stand_in.generations)) == [1, 2, 3, 4, 5, 6]
    with pytest.raises(ConfigError, match="is over"):
        await pause_run(backing, RUN)
    assert "no run is active" in (await stop_everything(backing, "enough"))[0]


async def test_the_lists_read_what_the_services_kept(bus: Bus, postgres_dsn: str) -> None:
    environment = bus.subjects.environment
    with pytest.raises(ConfigError, match="there are no runs"):
        await ask_store(postgres_dsn, find_dossier, environment, "last")
    async with await psycopg.AsyncConnection.connect(postgres_dsn, autocommit=True) as connection:
        asked = desired(environment)
        await save_desired(connection, asked, asked.model_dump_json())
        now = datetime.now(UTC)
        resolved = breach(BreachStatus.RESOLVED, resolved_s=35, revision=2)
        for state in (breach(), resolved):
            event = BreachEvent.of(state.model_copy(update={"environment": environment, "run": RUN}), now)
            await save_breach(connection, event, event.model_dump_json())
        made = record(environment=environment, at=now.isoformat()).sealed()
        await save_scaling(connection, made, made.model_dump_json())
        assert await read_dossier(connection, environment, RUN) is None
        await write_report(connection, RUN, report(verdict="missed"))
        await write_report(connection, RUN, report(verdict="met"))
        (row,) = await list_reported_runs(connection, environment)
        assert (row.run, row.verdict, row.overall_score, row.scenarios) == (RUN, "met", 97.4, ["small"])
        with pytest.raises(ConfigError, match="no run 'run-2' \\(did you mean 'run-1'\\?\\)"):
            await find_run(connection, environment, "run-2")
        found = await find_dossier(connection, environment, "last")
    assert found.report["verdict"] == "met"
    assert [kept["status"] for kept in found.breaches] == ["resolved"]
    assert [kept["decision"] for kept in found.scaling] == ["d1"]


async def test_a_store_that_is_not_there_is_one_line() -> None:
    with pytest.raises(TransientError, match="the store did not answer"):
        await ask_store("postgresql://tidegate@127.0.0.1:1/tidegate", find_run, "local", "last")
