"""Which windows of which runs compare, what follows from a window that drifted, and that nothing grows for ever."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from services.validator.board import MOST_POINTS, MOST_RESOLVED, RunBoard
from services.validator.canary import CanaryRun, Days, Span, compare_with, end_of, whole_hours
from services.validator.drift import Finding, Grain
from services.validator.drift_breach import DriftFound, follow
from services.validator.fault_log import KEPT, FaultLog
from services.validator.judging import Judge
from services.validator.settings import Settings
from services.validator.verdict import Verdict
from services.validator.windows import MOST_RETIRED
from shared.contracts.breach import Breach, BreachEvent, BreachStatus, DriftMetric
from shared.contracts.run import Change, Load, Pause, Phase, RunDesired
from shared.contracts.sources import KEPT_S
from shared.contracts.window import Exemplar
from tests.unit.test_validator_judging import BENCHMARKS
from tests.unit.validator_frames import RUN, START, at_us, cell, desired, frame, scenario, state

ROME = ZoneInfo("Europe/Rome")
UTC_DAYS = Days(UTC)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def canary(
    run: str = RUN, *, rate: float | None = 2.0, tags: dict[str, str] | None = None, **load: object
) -> RunDesired:
    fields = {"scenario": scenario(), "users": 5, "rate": rate, "duration_s": 1e9, "profile": "canary", **load}
    return desired(run=run).model_copy(update={"loads": (Load.model_validate(fields),), "tags": tags or {}})


def run_of(start: datetime = START, ended: datetime | None = None, **changes: object) -> CanaryRun:
    pauses = changes.pop("pauses", ())
    asked = canary(**changes).model_copy(update={"pauses": pauses})  # type: ignore[arg-type]
    return CanaryRun(asked, start, ended)


def test_a_canary_is_told_by_its_tag_or_its_scenarios() -> None:
    assert run_of().name == "story"
    assert run_of(tags={"canary": "checkout", "commit": "1a2b"}).name == "checkout"


def test_a_run_of_which_nobody_speaks_any_more_has_ended() -> None:
    now, said = START + 10 * DAY, START + 8 * DAY
    assert end_of(None, said, now) == said
    assert end_of(START + DAY, said, now) == START + DAY
    assert end_of(None, now - HOUR, now) is None
    assert end_of(None, None, now) is None


@pytest.mark.parametrize(
    ("run", "asked"),
    [
        pytest.param(run_of(), (("story", 2.0),), id="all the time"),
        pytest.param(run_of(rate=None), (("story", 5.0),), id="users of a closed load"),
        pytest.param(run_of(ended=START + 3 * DAY), None, id="ended before it"),
        pytest.param(run_of(START + 5 * DAY), None, id="began after it"),
        pytest.param(run_of(START + 4 * DAY - timedelta(seconds=10), ramp_up_s=60.0), None, id="still in ramp-up"),
        pytest.param(run_of(changes=(Change(at_s=100, rate=3),)), (("story", 3.0),), id="changed before it"),
        pytest.param(run_of(changes=(Change(at_s=4 * 86_400 + 60, rate=3),)), None, id="changed within it"),
        pytest.param(run_of(changes=(Change(at_s=9 * 86_400, rate=3),)), (("story", 2.0),), id="changed after it"),
        pytest.param(run_of(pauses=(Pause(from_s=10, to_s=20),)), (("story", 2.0),), id="paused before it"),
        pytest.param(run_of(pauses=(Pause(from_s=10),)), None, id="paused all the time"),
    ],
)
def test_what_a_run_asked_for_in_an_hour(run: CanaryRun, asked: object) -> None:
    assert run.asked(UTC_DAYS.hour(START + 4 * DAY)) == asked


def test_past_days_compare_where_the_same_canary_ran_with_the_same_load_over_restarts() -> None:
    now = run_of(START, run="run-c")
    span = UTC_DAYS.hour(START + 2 * HOUR)
    older = run_of(START - 20 * DAY, START - 10 * DAY, run="run-a")
    other_rate = run_of(START - 10 * DAY, START - 5 * DAY, run="run-b", rate=9.0)
    other = run_of(START - 30 * DAY, None, run="run-x", tags={"canary": "another"})
    found = compare_with(now, span, UTC_DAYS.before(span, 28), [older, other_rate, other, now])
    assert {one.run for one in found} == {"run-a"}
    assert [one.span.start for one in found] == [span.start - ago * DAY for ago in range(11, 21)]
    changed = run_of(START, changes=(Change(at_s=2 * 3_600 + 5, rate=9),))
    assert compare_with(changed, span, UTC_DAYS.before(span, 28), [older]) == []


def test_the_same_hour_is_that_of_the_clock_on_the_wall() -> None:
    days = Days(ROME)
    summer = days.hour(datetime(2026, 3, 30, 8, tzinfo=ROME))
    before = list(days.before(summer, 3))
    # The clocks went forward on the 29th: 8 o'clock was an hour later in UTC before.
    assert [span.start.hour for span in (summer, *before)] == [6, 6, 7, 7]
    assert [span.day.day for span in before] == [29, 28, 27]
    skipped = days.hour(datetime(2026, 3, 31, 2, tzinfo=ROME))
    assert [span.day.day for span in days.before(skipped, 3)] == [30, 28]
    assert (days.day(date(2026, 3, 29)).seconds, days.day(date(2026, 3, 30)).seconds) == (23 * 3_600, 24 * 3_600)


def test_a_zone_whose_days_begin_within_an_hour_is_refused() -> None:
    assert whole_hours(ROME, 2026)
    assert not whole_hours(ZoneInfo("Asia/Kolkata"), 2026)
    with pytest.raises(ValueError, match="whole hour of UTC"):
        Settings(day_zone="Asia/Kolkata")
    with pytest.raises(ValueError, match="no time zone"):
        Settings(day_zone="Mars/Base")
    assert Settings(day_zone="Europe/Rome").zone == ROME


def finding(value: float = 150.0, probability: float = 1e-7, verdict: Verdict = Verdict.MISSED) -> Finding:
    return Finding(
        "autmatrix", "story", "create", DriftMetric.RESPONSE_TIME, "p95", "ms", value, 100.0, 120.0, probability,
        days=28, samples=3_000, verdict=verdict,
    )  # fmt: skip


def live_board() -> RunBoard:
    board = RunBoard(RUN)
    board.note_desired(canary())
    board.note_state(state(0))
    return board


def found(hour: int, one: Finding, grain: Grain = Grain.HOUR) -> DriftFound:
    start = START + hour * HOUR
    length = HOUR if grain is Grain.HOUR else DAY
    exemplars = {("autmatrix", "story", "create"): (Exemplar(trace_id="1" * 32, response_us=9, recorded=True),)}
    return DriftFound(RUN, Span(start, start + length, start.date(), grain), (one,), exemplars)


def told(board: RunBoard, window: DriftFound) -> list[Breach]:
    return follow(board, "test", {"autmatrix": "autmatrix-backend"}, window)


USUAL = finding(101.0, 0.4, Verdict.MET)
UNSURE = finding(112.0, 0.01, Verdict.MET)


def test_a_drift_is_opened_led_on_and_resolved_under_one_id() -> None:
    board = live_board()
    hours = [finding(), finding(180.0), UNSURE, replace(USUAL, verdict=Verdict.INSUFFICIENT), finding(140.0), USUAL]
    events = [event for hour, one in enumerate(hours) for event in told(board, found(hour, one))]
    assert [event.status for event in events] == ["opened", "updated", "updated", "resolved"]
    assert [event.revision for event in events] == [1, 2, 3, 4]
    assert len({event.breach for event in events}) == 1
    assert [event.worst for event in events] == [150.0, 180.0, 180.0, 180.0]
    first = events[0]
    assert (first.level, first.limit, first.baseline, first.critical) == ("target", 120.0, 100.0, 120.0)
    assert (first.service, first.action, first.statistic, first.samples) == (
        "autmatrix-backend",
        "create",
        "p95",
        3_000,
    )
    assert first.opened_at == first.window.end == START + HOUR
    assert first.exemplars
    assert "28 past days, which had 100 ms, +50%" in first.note
    assert events[-1].resolved_at == START + 6 * HOUR
    assert BreachEvent.model_validate_json(BreachEvent.of(first, START).model_dump_json()).data == first
    assert board.episodes == {}


def test_a_window_judged_again_after_a_restart_tells_nothing_new() -> None:
    before = live_board()
    opened = told(before, found(0, finding()))[0]
    judge = Judge("test", BENCHMARKS)
    judge.boards[RUN] = live_board()
    judge.restore(opened, 0)
    assert judge.take_drift(found(0, finding())) == []
    (updated,) = judge.take_drift(found(1, finding(160.0)))
    assert (updated.breach, updated.revision) == (opened.breach, 2)
    (resolved,) = judge.take_drift(found(2, USUAL))
    judge.boards[RUN] = live_board()
    judge.restore(resolved, 0)
    assert [judge.take_drift(found(hour, finding())) for hour in range(3)] == [[], [], []]
    (again,) = judge.take_drift(found(3, finding()))
    assert (again.status, again.revision) == (BreachStatus.OPENED, 1)
    assert again.breach != opened.breach


def test_an_episode_is_led_on_by_the_grain_that_opened_it() -> None:
    board = live_board()
    (opened,) = told(board, found(-24, finding(), Grain.DAY))
    assert "the day 2026-02-28" in opened.note
    assert told(board, found(1, USUAL)) == []
    assert told(board, found(2, finding())) == []
    (resolved,) = told(board, found(0, USUAL, Grain.DAY))
    assert resolved.status is BreachStatus.RESOLVED


def test_a_run_that_is_over_has_no_drift_and_its_end_resolves_what_was_open() -> None:
    judge = Judge("test", BENCHMARKS)
    board = judge.boards[RUN] = live_board()
    judge.take_drift(found(0, finding()))
    board.note_state(state(7_300, Phase.STOPPED))
    (ended,) = judge.end_run(board)
    assert (ended.status, ended.revision) == (BreachStatus.RESOLVED, 2)
    assert judge.take_drift(found(2, finding())) == []
    assert judge.take_drift(replace(found(2, finding()), run="unknown")) == []


def test_months_of_episodes_and_states_leave_a_board_as_small_as_a_week_of_them() -> None:
    board = live_board()
    for hour in range(0, 24 * 180, 2):
        told(board, found(hour, finding()))
        told(board, found(hour + 1, USUAL))
        board.note_state(state(hour * 3_600.0))
        board.note_state(state(hour * 3_600.0 + 1))
    assert len(board.breaches) <= MOST_RESOLVED
    assert (len(board.episodes), len(board.floors_s), len(board.hops)) == (0, 1, 0)
    assert len(board.users) <= MOST_POINTS
    newest = max(breach.opened_at for breach in board.breaches.values())
    assert newest == START + (24 * 180 - 1) * HOUR


def test_any_number_of_workers_leaves_a_judge_as_small_as_a_few() -> None:
    """A worker a minute, for a day: each sends some frames and is gone."""
    judge = Judge("test", BENCHMARKS)
    judge.settle_joining()
    board = judge.boards[RUN] = live_board()
    sizes = []
    for number in range(MOST_RETIRED + 440):
        for seq in (1, 2, 3):
            at_s = number * 60 + seq * 20
            one = frame(seq, at_s, [cell(at_s - 1, [20.0] * 5)], worker=f"w{number}", final=seq == 3)
            board.merge(one, at_us(at_s))
            judge.tick(at_us(at_s))
        windows = board.windows["autmatrix"]
        sizes.append((len(windows.producers) + len(windows.retired), len(windows.seconds), len(windows.heard)))
    assert max(producers for producers, _, _ in sizes) <= MOST_RETIRED + 5
    assert max(seconds for _, seconds, _ in sizes) <= KEPT_S + 2
    assert max(heard for _, _, heard in sizes) <= KEPT_S + 2
    assert (len(board.breaches), len(board.episodes), len(board.refutable)) == (0, 0, 0)


def test_an_open_episode_outlives_any_number_of_others() -> None:
    board = live_board()
    other = replace(finding(), action="other")
    (opened,) = told(board, found(0, other))
    for hour in range(0, 1_000, 2):
        told(board, found(hour, finding()))
        told(board, found(hour + 1, USUAL))
    (resolved,) = told(board, found(1_001, replace(USUAL, action="other")))
    assert (resolved.breach, resolved.opened_at) == (opened.breach, opened.opened_at)


def test_hours_in_which_no_worker_was_heard_say_nothing_of_a_system() -> None:
    log, of, heard = FaultLog(), (RUN, "autmatrix"), 0
    for minute in range(60 * 12):
        heard += 0 if 300 <= minute < 320 else 60
        log.note(of, START + timedelta(minutes=minute), heard, 0)
    bad = [hour for hour in range(12) if log.at_fault(of, START + hour * HOUR, START + (hour + 1) * HOUR)]
    assert bad == [5]


def test_hours_in_which_the_generator_was_at_fault_are_told_by_its_counter() -> None:
    log, of = FaultLog(), (RUN, "autmatrix")
    for minute in range(60 * 30):
        at_fault = max(0, min(minute - 600, 60)) * 6
        log.note(of, START + timedelta(minutes=minute), minute * 60, at_fault)
    hours = [log.at_fault(of, START + hour * HOUR, START + (hour + 1) * HOUR) for hour in range(5, 30)]
    assert [hour for hour, bad in enumerate(hours, 5) if bad] == [10]
    assert len(log._readings[of]) <= KEPT
    assert not log.at_fault((RUN, "other"), START, START + HOUR)
    log.note(of, START + 31 * HOUR, 5, 0)
    assert not log.at_fault(of, START + 10 * HOUR, START + 11 * HOUR), (
        "a counter that began anew knows nothing of before"
    )
    log.keep_only(set())
    assert log._readings == {}
