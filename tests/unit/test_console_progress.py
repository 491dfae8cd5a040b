"""The live line says what the last messages said."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from services.console.progress import REMEMBERED, Progress
from services.console.wording import (
    describe_answer,
    describe_breach,
    describe_scaling,
    format_clock,
    format_ms,
    format_value,
    told,
)
from shared.contracts.breach import Breach, BreachStatus
from shared.contracts.run import Phase, RunState, SystemProgress, WorkerProgress
from shared.contracts.scaling import Action, ScalingRecord
from shared.contracts.scaling_orders import ScalingOrder
from shared.contracts.timing import Kind
from shared.contracts.window import Cell, FrameWindows
from shared.histogram import Histogram
from tests.unit.console_cases import BEGUN, at, breach, record


def windows(seq: int, *cells: Cell, run: str = "run-1", worker: str = "w1") -> FrameWindows:
    return FrameWindows(
        run=run,
        environment="local",
        worker=worker,
        epoch=1,
        system="autmatrix",
        seq=seq,
        watermark_us=0,
        emitted_us=0,
        cells=cells,
    )


def cell(second: int, times_ms: list[float], failed: int = 0, kind: Kind = Kind.REQUEST) -> Cell:
    response = Histogram.of(time * 1000 for time in times_ms).counts
    count = len(times_ms)
    return Cell(
        scenario="small", action="look", kind=kind, second=second, count=count, failed=failed, response=response
    )


def state(phase: Phase = Phase.RUNNING, **changes: Any) -> RunState:
    workers = (WorkerProgress(worker="w1", run="run-1", epoch=1, users=3),)
    whole = RunState(
        run="run-1",
        environment="local",
        phase=phase,
        generation=1,
        at=BEGUN,
        coordinator="w1",
        started_at=BEGUN,
        workers=workers,
    )
    return whole.model_copy(update=changes)


@pytest.fixture
def progress() -> Progress:
    return Progress("run-1", 60.0)


def test_nothing_heard_yet_is_shown_as_waiting(progress: Progress) -> None:
    line = progress.snapshot(BEGUN).line()
    assert line == "0:00/1:00  waiting  0 users  0/s  p95 –  0 errors (0.0%)  0 breaches open"


def test_rate_and_p95_are_of_the_last_whole_seconds(progress: Progress) -> None:
    for second in range(20):
        progress.on_window(windows(second, cell(second, [1000.0 if second < 10 else 10.0] * 4, failed=1)))
    progress.on_state(state())
    seen = progress.snapshot(at(20))
    assert seen.rate_per_s == 4
    assert seen.p95_ms == pytest.approx(10, rel=0.01)
    assert (seen.failed, seen.failed_share, seen.users, seen.elapsed_s) == (20, 0.25, 3, 20)


def test_a_slow_share_of_more_than_a_twentieth_shows_in_the_p95(progress: Progress) -> None:
    progress.on_window(windows(1, cell(1, [10.0] * 18 + [400.0, 400.0])))
    progress.on_window(windows(2, cell(2, [10.0])))
    assert progress.snapshot(BEGUN).p95_ms == pytest.approx(400, rel=0.01)


def test_a_frame_that_comes_again_counts_once(progress: Progress) -> None:
    for _ in range(2):
        progress.on_window(windows(1, cell(1, [10.0], failed=1)))
    progress.on_window(windows(1, cell(1, [10.0], failed=1), worker="w2"))
    assert progress.snapshot(BEGUN).failed == 2


def test_workflows_and_other_runs_are_no_requests_of_this_one(progress: Progress) -> None:
    progress.on_window(windows(1, cell(1, [10.0], failed=1, kind=Kind.WORKFLOW)))
    progress.on_window(windows(2, cell(1, [10.0], failed=1), run="run-2"))
    progress.on_state(state(run="run-2"))
    seen = progress.snapshot(BEGUN)
    assert (seen.failed, seen.phase) == (0, None)


def test_memory_stays_bounded_over_a_long_run(progress: Progress) -> None:
    for second in range(10_000):
        progress.on_window(windows(second, cell(second, [10.0])))
        progress.on_window(windows(1, worker=f"w{second}"))
        progress.on_scaling(record(decision=f"decision-{second}"))
    assert len(progress._seconds) < 50
    assert max(len(progress._last_seq), len(progress._decisions)) <= REMEMBERED


def test_a_final_state_is_not_undone_by_a_late_one(progress: Progress) -> None:
    progress.on_state(state(Phase.FINISHED, ended_at=at(30)))
    progress.on_state(state(Phase.RUNNING))
    seen = progress.snapshot(at(99))
    assert (seen.phase, seen.elapsed_s) == (Phase.FINISHED, 30)


def test_a_breach_is_open_until_it_is_resolved(progress: Progress) -> None:
    opened = progress.on_breach(breach())
    assert opened is not None
    assert opened.text == "breach opened     relaycore routing_latency: mean 132 ms > critical 100 ms"
    assert progress.on_breach(breach(BreachStatus.UPDATED)) is None
    assert progress.snapshot(BEGUN).open_breaches == 1
    resolved = progress.on_breach(breach(BreachStatus.RESOLVED, resolved_s=35, value=43.8))
    assert resolved is not None
    assert resolved.text == "breach resolved   relaycore routing_latency: mean 43.8 ms, target 50.0 ms, after 25 s"
    assert progress.snapshot(BEGUN).open_breaches == 0


@pytest.mark.parametrize(("run", "shown"), [("run-1", True), ("", True), ("run-2", False)])
def test_only_breaches_of_this_run_or_of_none_are_told(progress: Progress, run: str, shown: bool) -> None:
    assert (progress.on_breach(breach(run=run)) is not None) is shown


def test_replicas_show_once_they_are_ready(progress: Progress) -> None:
    assert progress.on_scaling(record()) is not None
    assert progress.snapshot(BEGUN).replicas == {}
    progress.on_scaling(record("result"))
    assert progress.snapshot(BEGUN).replicas == {"relaycore": 4}


def test_that_nothing_is_moved_is_not_told(progress: Progress) -> None:
    idle = record(action=Action.NO_ACTION, target=2)
    after = record("effectiveness", verdict="unknown")
    assert progress.on_scaling(idle) is None
    assert progress.on_scaling(after) is None
    assert told([idle, after, record(decision="d2")]) == [record(decision="d2")]


@pytest.mark.parametrize(
    ("made", "line"),
    [
        (record(), "scaling decision  relaycore: scale_up 2 → 4: routing_latency is 132, above 75"),
        (record(reason="slow: 2 → 4 replicas"), "scaling decision  relaycore: scale_up: slow: 2 → 4 replicas"),
        (record(dry_run=True, reason="x"), "scaling decision  relaycore: scale_up 2 → 4 (dry run): x"),
        (record("result"), "scaling result    relaycore: 4 replicas ready after 1.5 s"),
        (record("result", ok=False, error="422 above max"), "scaling result    relaycore: failed: 422 above max"),
        (
            record(
                "effectiveness", verdict="helped", before={"routing_latency": 132.0}, after={"routing_latency": 44.0}
            ),
            "scaling effect    relaycore: helped (routing_latency 132 → 44)",
        ),
        (
            record(
                "effectiveness",
                verdict="helped",
                before={"routing_latency": 244.0},
                after={"routing_latency": 275.0},
                at_end={"routing_latency": 46.0},
            ),
            "scaling effect    relaycore: helped (routing_latency 244 → 275, 46 at the end)",
        ),
        (
            record("order", reason_code="set", target=5, by="ada", reason="launch", ok=True),
            "scaling order     relaycore: set to 5, asked by ada: launch",
        ),
        (
            record("order", reason_code="pause", target=None, by="ada", reason="", ok=False, error="it ended"),
            "scaling order     relaycore: pause, asked by ada; refused: it ended",
        ),
    ],
    ids=lambda value: value.kind if isinstance(value, ScalingRecord) else "",
)
def test_each_kind_of_scaling_record_has_its_line(made: ScalingRecord, line: str) -> None:
    assert describe_scaling(made) == line


@pytest.mark.parametrize(
    ("kind", "decision", "said"),
    [
        ("set", record(), "relaycore: set to 5 until 2026-11-23 12:30:00 UTC; 2 → 4 replicas (d1)"),
        ("set", record(dry_run=True), "2 → 4 replicas (d1, a dry run: nothing is moved)"),
        ("set", record(action=Action.NO_ACTION, target=2, reason_code="ordered"), "UTC; it has 2"),
        (
            "set",
            record(action=Action.NO_ACTION, target=2, reason_code="updating", reason="the service is being updated"),
            "UTC; nothing moves yet: the service is being updated",
        ),
        ("pause", record(action=Action.NO_ACTION, target=2, reason_code="paused"), "UTC; it has 2"),
        ("pause", None, "no decision has followed yet, see tidegate scaling why relaycore"),
        ("resume", None, "relaycore: resumed; the scaler decides again"),
    ],
)
def test_an_order_is_answered_by_what_it_led_to(kind: str, decision: ScalingRecord | None, said: str) -> None:
    begun = datetime(2026, 11, 23, 12, tzinfo=UTC)
    fields = {"replicas": 5, "expires_at": begun + timedelta(minutes=30)} if kind == "set" else {}
    order = ScalingOrder.model_validate(
        {
            "id": "o1",
            "environment": "local",
            "service": "relaycore",
            "kind": kind,
            "by": "ada",
            "reason": "x",
            "at": begun,
        }
        | fields
    )
    assert said in describe_answer(order, decision)


def test_a_higher_is_better_breach_is_below_its_limit() -> None:
    low: Breach = breach(
        better="higher", unit="requests/s", value=80.0, limit=100.0, level="target", metric="throughput"
    )
    assert describe_breach(low).endswith("throughput: mean 80/s < target 100/s")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (format_ms(8.44), "8.4 ms"),
        (format_ms(132.4), "132 ms"),
        (format_ms(1530), "1.53 s"),
        (format_value(0.0042, "ratio"), "0.42%"),
        (format_value(0.8, "ratio"), "80%"),
        (format_value(4096, "MB"), "4,096 MB"),
        (format_value(48.9, "requests/s"), "48.9/s"),
        (format_clock(0), "0:00"),
        (format_clock(75.4), "1:15"),
    ],
)
def test_values_are_short_and_carry_their_unit(text: str, said: str) -> None:
    assert text == said


def test_a_store_that_takes_nothing_more_is_told_once_and_its_return_too(progress: Progress) -> None:
    def sending(last_seq: int) -> RunState:
        system = SystemProgress(system="autmatrix", last_seq=last_seq)
        return state(workers=(WorkerProgress(worker="w1", run="run-1", epoch=1, users=3, systems=(system,)),))

    assert progress.look(at(0)) is None
    progress.on_state(sending(5))
    progress.on_window(windows(5))
    assert progress.look(at(1)) is None
    progress.on_state(sending(20))
    told = [notice.text for second in (2, 3, 4, 5, 9) if (notice := progress.look(at(second))) is not None]
    assert told == ["nothing has been stored for 3 s: 15 frames wait on the bus; see tidegate doctor"]
    progress.on_window(windows(6))
    back = progress.look(at(10))
    assert back is not None
    assert "takes frames again" in back.text
    assert progress.look(at(11)) is None
