"""Where a run stands, who is lost, and what is known of runs and workers."""

from datetime import UTC, datetime

import pytest

from services.generator import coordination, membership
from services.generator.coordination import DRAIN_DEADLINE_S, MOST_GONE, Plan, next_state
from services.generator.membership import Member, Membership
from services.generator.registry import Registry
from services.generator.trace_budget import TraceBudget
from services.generator.tracing import BEYOND, Recorder, Tracing
from shared.contracts.run import Phase, RunDesired, RunState, SystemProgress, WorkerProgress
from tests.unit.scenarios import desired

START_US = 2_000_000_000
PLAN = Plan(START_US, 10)


def word(worker: str = "w1", sent: int = 100, **changes: object) -> WorkerProgress:
    system = SystemProgress(system="shop", sent=sent, acknowledged=sent - 2, in_flight=2, last_seq=5)
    fields = {"worker": worker, "run": "run-1", "epoch": 3, "systems": (system,), "last_ack_us": START_US, "users": 4}
    return WorkerProgress.model_validate(fields | changes)


def state(
    run: RunDesired, now_s: float, *words: WorkerProgress, silent: str = "", previous: RunState | None = None
) -> RunState:
    """State after these words; a ``silent`` worker said its own a lease's length ago."""
    now_us = START_US + int(now_s * 1e6)
    members = [Member(p, now_us - 4_000_000 if p.worker == silent else now_us, 50.0) for p in words]
    return next_state(run, PLAN, previous, members, "w1", now_us)


stopped = desired(generation=2, status="stopped", reason="enough")


@pytest.mark.parametrize(
    ("run", "now_s", "drained", "phase"),
    [
        (desired(), -0.3, False, Phase.STARTING),
        (desired(), 0, False, Phase.RUNNING),
        (desired(), 59.9, False, Phase.RUNNING),
        (desired(), 60, False, Phase.STOPPING),
        (desired(), 61, True, Phase.FINISHED),
        (desired(), 61 + DRAIN_DEADLINE_S, False, Phase.FINISHED),
        (stopped, 10, False, Phase.STOPPING),
        (stopped, 10, True, Phase.STOPPED),
    ],
)
def test_a_run_passes_its_phases(run: RunDesired, now_s: float, drained: bool, phase: Phase) -> None:
    found = state(run, now_s, word(drained=drained))
    assert found.phase is phase
    assert (found.ended_at is not None) is phase.final


def test_a_refusal_by_any_worker_fails_the_run_with_its_reason() -> None:
    found = state(desired(), 5, word(), word("w2", refused="shop refused the credentials of user 3"))
    assert (found.phase, found.reason) == (Phase.FAILED, "shop refused the credentials of user 3")


def test_a_worker_gone_without_having_drained_is_lost_and_what_it_held_is_bounded() -> None:
    found = state(desired(), 10, word(), word("w2"), silent="w2")
    (lost,) = found.lost
    assert (lost.worker, lost.acknowledged, lost.in_flight) == ("w2", 98, 2)
    # Last word at 6 s, it may have sent for 3 s more, acknowledged up to 0 s: 9 s at 50/s, and 2 in flight.
    assert lost.held_ms == 9_000
    assert lost.held_requests == 2 + 450
    assert [(w.worker, w.users) for w in found.workers] == [("w1", 4), ("w2", 0)]


def test_a_worker_that_drained_before_it_went_is_not_lost() -> None:
    assert state(desired(), 10, word(), word("w2", drained=True), silent="w2").lost == ()


def test_an_older_epoch_of_a_live_worker_is_lost() -> None:
    found = state(desired(), 10, word("w1", epoch=3), word("w1", epoch=9))
    assert [lost.epoch for lost in found.lost] == [3]


def test_a_worker_once_declared_lost_stays_so_for_the_next_coordinator() -> None:
    before = state(desired(), 10, word(), word("w2"), silent="w2")
    assert state(desired(), 11, word(), previous=before).lost == before.lost


def test_a_run_does_not_wait_for_the_lost() -> None:
    assert state(desired(), 61, word(drained=True), word("w2"), silent="w2").phase is Phase.FINISHED


def test_the_newest_desired_state_wins_and_older_ones_change_nothing() -> None:
    registry = Registry()
    registry.hear_desired(stopped)
    registry.hear_desired(desired())
    assert registry.get("run-1").desired == stopped


def test_a_run_is_active_until_its_final_phase() -> None:
    registry = Registry()
    registry.hear_desired(desired())
    assert set(registry.active()) == {"run-1"}
    ended = state(desired(), 61, word(drained=True))
    registry.hear_state(ended)
    registry.hear_state(state(desired(), 62, word()))
    assert not registry.active()


def test_members_live_as_long_as_their_lease() -> None:
    members = Membership()
    members.hear("w1", [word(sent=100)], 1_000_000)
    members.hear("w1", [word(sent=150)], 2_000_000)
    assert members.live(5_900_000) == {"w1"}
    assert members.live(6_000_000) == set()
    (member,) = members.of("run-1")
    assert member.sent_per_s == 50
    assert members.claims("run-1", 3_000_000) == {"w1": ()}
    assert members.claims("run-1", 6_000_000) == {}
    members.hear("w1", [], 6_000_000)
    members.leave("w1")
    assert members.live(6_000_001) == set()
    assert len(members.of("run-1")) == 1


def test_a_worker_that_puts_stripes_down_or_leaves_makes_room_for_others() -> None:
    members = Membership()
    assert not members.hear("w1", [word(shards=(1, 2))], 1_000_000)
    assert not members.hear("w1", [word(shards=(1, 2, 3))], 2_000_000)
    assert members.hear("w1", [word(shards=(1, 3))], 3_000_000)
    assert members.hear("w1", [word(leaving=True)], 3_500_000)
    assert members.live(3_500_001) == set()
    assert members.of("run-1")[0].current(3_500_001)


def test_while_nobody_is_heard_nobody_falls_silent() -> None:
    members = Membership()
    members.hear("w1", [word()], START_US)
    members.hear("w2", [word("w2")], START_US)
    assert not members.deaf(START_US + 2_000_000)
    assert members.deaf(START_US + 6_000_000)
    members.hear("w1", [word()], START_US + 6_000_000)
    assert not members.deaf(START_US + 6_000_000)
    assert members.live(START_US + 6_000_000) == {"w1", "w2"}
    found = next_state(desired(), PLAN, None, members.of("run-1"), "w1", START_US + 7_000_000)
    assert found.lost == ()
    members.hear("w1", [word()], START_US + 8_000_000)
    members.hear("w1", [word()], START_US + 10_000_000)
    assert members.live(START_US + 10_000_000) == {"w1"}


def test_a_coordinator_that_has_just_begun_knows_the_lost_from_the_last_state() -> None:
    members = Membership()
    members.recall(state(desired(), 10, word(), word("w2", sent=500)))
    members.hear("w1", [word()], START_US + 14_500_000)
    found = next_state(desired(), PLAN, None, members.of("run-1"), "w1", START_US + 14_500_000)
    (lost,) = found.lost
    # 500 in 10 s; it may have sent until 13 s and was acknowledged up to 0 s.
    assert (lost.worker, lost.held_requests) == ("w2", 2 + 650)


def test_traces_are_recorded_up_to_the_budget_and_a_share_beyond() -> None:
    budget = TraceBudget(10, 0)
    assert sum(budget.take(us) for us in range(0, 10_000_000, 1_000)) == pytest.approx(1 + 100, abs=2)
    assert not any(TraceBudget(0, 0).take(us) for us in range(1000))

    tracing = Tracing(Recorder(None), "run-1", TraceBudget(10, 0))
    trails = [tracing.begin("things", 1, us) for us in range(0, 10_000_000, 1_000)]
    assert sum(trail.root is not None for trail in trails) == pytest.approx(1 + 100 + 10_000 / BEYOND, abs=3)
    assert len({trail.trace_id for trail in trails}) == len(trails)
    untraced = Tracing(Recorder(None), "run-1", TraceBudget(0, 0))
    assert not any(untraced.begin("things", 1, us).root for us in range(3 * BEYOND))


def test_desired_states_survive_their_journey() -> None:
    run = desired(requested_at=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert RunDesired.model_validate_json(run.model_dump_json()) == run


def test_any_number_of_restarts_keeps_a_state_small_and_counts_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker begins anew every two seconds and dies each third time; the coordinator changes now and then."""
    monkeypatch.setattr(coordination, "GONE_US", 10_000_000)
    monkeypatch.setattr(membership, "GONE_US", 10_000_000)
    run, members, previous = desired(duration_s=365 * 86_400.0), Membership(), None
    for epoch in range(1, 1_501):
        now_us = START_US + epoch * 2_000_000
        if epoch % 400 == 0:
            # Another process takes over: it knows what the last state says, and what it has heard since it began.
            members = Membership()
        members.hear("w1", [word(sent=1_000, epoch=epoch, drained=epoch % 3 != 0)], now_us)
        if previous is not None:
            members.settle(previous)
            members.recall(previous)
        previous = next_state(run, PLAN, previous, members.of("run-1"), "w1", now_us)
        assert count_of(previous) == epoch * 1_000
        assert max(len(previous.workers), len(previous.lost), len(members.of("run-1"))) <= 2 * MOST_GONE
    assert previous is not None
    assert previous.gone.epochs + len(previous.workers) == 1_500
    assert previous.gone.lost + len(previous.lost) == 499  # the last one lives
    assert len(previous.model_dump_json()) < 40_000


def count_of(found: RunState) -> int:
    """Requests sent since the run began, as its budget counts them."""
    return found.gone.sent + sum(system.sent for worker in found.workers for system in worker.systems)
