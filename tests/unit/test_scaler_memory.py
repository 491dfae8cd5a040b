"""What the scaler remembers: breaches, samples, response times, idleness, its own changes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scaler.history import Remembered, Tracker, changes_of
from services.scaler.inputs import Inputs
from services.scaler.open_breaches import OpenBreaches
from services.scaler.policy import decide
from services.scaler.readings import SampleWindow
from services.scaler.records import Scribe
from services.scaler.response_times import ResponseTimes
from services.scaler.situation import Change, Memory, Order, Reading
from shared.contracts.breach import BreachStatus, DriftMetric
from shared.contracts.scaling import Action, ScalingRecord
from shared.contracts.scaling_rules import ScalingRules
from shared.contracts.timing import Kind
from shared.contracts.window import Cell, FrameWindows
from shared.histogram import bucket_of
from tests.unit.scaler_cases import NOW_S, RELAYCORE, breach_event, change, facts, relaycore, running, sample

EFFECT = RELAYCORE.tuning.effectiveness


def test_a_breach_is_open_until_resolved_and_its_trace_is_kept() -> None:
    known = OpenBreaches()
    assert known.tell("s", 5, breach_event(BreachStatus.OPENED), "00-trace")
    assert known.tell("s", 6, breach_event(BreachStatus.UPDATED, 2, value=300.0))
    assert [(one.breach, one.value) for one in known.open()] == [("b1", 300.0)]
    assert known.traceparent("b1") == "00-trace"
    assert known.tell("s", 7, breach_event(BreachStatus.RESOLVED, 3))
    assert known.open() == ()


@pytest.mark.parametrize(
    ("breach", "sequence", "revision"),
    [("b1", 5, 1), ("b0", 4, 1), ("b1", 9, 1), ("b1", 9, 3)],
    ids=["the same", "an older episode", "published twice", "the last published twice"],
)
def test_a_redelivered_breach_changes_nothing(breach: str, sequence: int, revision: int) -> None:
    known = OpenBreaches()
    known.tell("s", 5, breach_event(BreachStatus.OPENED))
    known.tell("s", 7, breach_event(BreachStatus.RESOLVED, 3))
    assert not known.tell("s", sequence, breach_event(BreachStatus.OPENED, revision, breach))
    assert known.open() == ()


@pytest.mark.parametrize("metric", DriftMetric)
def test_a_drift_moves_nothing_and_holds_nothing_back(metric: DriftMetric) -> None:
    known = OpenBreaches()
    assert not known.tell("s", 5, breach_event(BreachStatus.OPENED, metric=metric))
    assert known.open() == ()


def test_a_new_episode_on_the_same_subject_opens_again() -> None:
    known = OpenBreaches()
    known.tell("s", 7, breach_event(BreachStatus.RESOLVED, 3))
    assert known.tell("s", 8, breach_event(BreachStatus.OPENED, 1, breach="b2"))
    assert [one.breach for one in known.open()] == ["b2"]


def read(window: SampleWindow, metric: str = "cpu_usage", ready: int = 2) -> Reading:
    return window.reading("relaycore", metric, NOW_S, window_s=10, freshness_s=5, ready=ready)


def test_a_reading_is_the_mean_of_the_ready_instances_means() -> None:
    window = SampleWindow()
    for ago_s, cpu in ((20, 9.0), (4, 0.2), (2, 0.4)):
        window.add(sample("a", NOW_S - ago_s, cpu_usage=cpu))
    window.add(sample("b", NOW_S - 1, cpu_usage=0.9))
    window.add(sample("c", NOW_S - 1, ready=False, cpu_usage=5.0))
    got = read(window)
    assert got == Reading(value=0.6, latest=0.6, reported=2, span_s=2.0, instances={"a": 0.3, "b": 0.9})


def test_a_sample_delivered_again_changes_nothing() -> None:
    window = SampleWindow()
    for ago_s, cpu in ((2, 0.2), (1, 0.4), (2, 0.2), (2, 0.2)):
        window.add(sample("a", NOW_S - ago_s, cpu_usage=cpu))
    assert read(window, ready=1).value == pytest.approx(0.3)


def test_a_silent_instance_is_missing_and_a_metric_never_read_too() -> None:
    window = SampleWindow()
    window.add(sample("a", NOW_S - 1, cpu_usage=0.5))
    window.add(sample("b", NOW_S - 6, cpu_usage=0.5))
    assert (read(window).reported, read(window).missing, read(window).complete) == (1, 1, False)
    window.add(sample("b", NOW_S - 0.5, request_rate=3.0))
    assert (read(window).reported, read(window, "request_rate").reported) == (1, 1)
    assert read(window, "gpu_usage") == Reading(missing=2)
    window.add(sample("a", NOW_S - 0.5, cpu_usage=float("nan")))
    assert read(window).value == 0.5


def frame(seq: int, slow: int, at_fault: bool = False) -> FrameWindows:
    """A hundred requests, so many of them slow."""
    cell = Cell(
        scenario="s",
        action="a",
        kind=Kind.REQUEST,
        second=int(NOW_S) - 2,
        count=100,
        response={bucket_of(100_000): 100 - slow, bucket_of(400_000): slow},
    )
    return FrameWindows(
        run="r", environment="local", worker="w", epoch=1, system="relaycore", seq=seq, at_fault=at_fault,
        watermark_us=0, emitted_us=int(NOW_S * 1e6), cells=(cell,),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("frames", "p95_ms"),
    [
        ([frame(1, 6), frame(2, 4)], 100),
        ([frame(1, 6), frame(2, 4), frame(1, 6)], 100),
        ([frame(1, 6), frame(2, 4), frame(3, 90, at_fault=True)], 100),
        ([frame(1, 6), frame(2, 4), frame(3, 6)], 400),
    ],
    ids=["5 % are slow", "one came twice", "one of a generator at fault", "more than 5 % are slow"],
)
def test_a_percentile_counts_each_frame_once_and_only_those_of_a_sound_generator(
    frames: list[FrameWindows], p95_ms: float
) -> None:
    times = ResponseTimes()
    for one in frames:
        times.add(one)
    assert times.p95_ms("relaycore", NOW_S - 10, NOW_S) == pytest.approx(p95_ms, rel=0.02)
    assert times.p95_ms("relaycore", NOW_S - 10, NOW_S - 5) is None
    assert times.p95_ms("autmatrix", NOW_S - 10, NOW_S) is None
    assert times.span_s("relaycore", NOW_S - 10, NOW_S) == 2.0


def test_the_effect_on_the_latency_of_another_system_is_measured_on_that_system() -> None:
    driver = {"metric": "api_response_time", "system": "autmatrix"}
    rules = ScalingRules.model_validate(
        {"services": {"relaycore": relaycore(breaches=[driver]).model_dump(exclude_none=True)}}
    )
    inputs = Inputs(rules, lambda: None)
    inputs.take_windows(frame(1, 0))
    inputs.take_windows(frame(2, 100).model_copy(update={"system": "autmatrix"}))
    values = inputs.measured("relaycore", NOW_S - 10, NOW_S)
    assert (values["response_time"], values["api_response_time"]) == (
        values["p95_ms.relaycore"], values["p95_ms.autmatrix"],
    )  # fmt: skip
    assert values["api_response_time"] > 3 * values["response_time"]


def test_idleness_counts_from_its_last_beginning_and_a_gap_in_looking_ends_it() -> None:
    tracker = Tracker()
    low: dict[str, float | Reading] = {"cpu_usage": 0.1, "request_rate": 5.0}
    busy: dict[str, float | Reading] = {"cpu_usage": 0.5, "request_rate": 5.0}
    looks = [(0, low), (5, busy), (10, low), (20, low), (30, low)]
    seen = [tracker.look(RELAYCORE, facts(running(4), what, now_s=NOW_S + at), ()) for at, what in looks]
    assert [one.idle_since_s and one.idle_since_s - NOW_S for one in seen] == [0, None, 10, 10, 10]
    after_gap = tracker.look(RELAYCORE, facts(running(4), low, now_s=NOW_S + 60), ())
    assert (after_gap.idle_since_s, after_gap.watched_since_s) == (NOW_S + 60, NOW_S + 60)


def test_the_most_replicas_the_load_needed_is_remembered_for_the_window_down() -> None:
    tracker = Tracker()

    def wanted(second: int, cpu: float) -> int:
        what: dict[str, float | Reading] = {"cpu_usage": cpu, "request_rate": 5.0}
        return tracker.look(RELAYCORE, facts(running(10), what, now_s=NOW_S + second), ()).highest_wanted

    assert wanted(0, 1.0) == 15
    assert [wanted(second, 0.1) for second in range(10, 310, 10)] == [15] * 30
    assert wanted(310, 0.1) == 2


LOOKS = st.lists(st.tuples(st.floats(0.1, 20), st.floats(0, 2), st.integers(2, 12)), min_size=2, max_size=40)


@given(LOOKS, st.data())
def test_whoever_takes_up_what_was_remembered_goes_on_as_if_nothing_had_happened(
    looks: list[tuple[float, float, int]], data: st.DataObject
) -> None:
    handed_over = data.draw(st.sets(st.integers(1, len(looks) - 1)))
    one, other, now_s = Tracker(), Tracker(), NOW_S
    for number, (after_s, cpu, replicas) in enumerate(looks):
        now_s += after_s
        if number in handed_over:
            other = Tracker(Remembered.model_validate_json(other.remember().model_dump_json()))
        what: dict[str, float | Reading] = {"cpu_usage": cpu, "request_rate": 5.0}
        moment = facts(running(replicas), what, now_s=now_s)
        assert one.look(RELAYCORE, moment, ()) == other.look(RELAYCORE, moment, ())


def test_what_is_remembered_stays_small_while_nothing_changes() -> None:
    tracker = Tracker()
    for second in range(1000):
        memory = tracker.look(RELAYCORE, facts(running(4), {"cpu_usage": 0.1}, now_s=NOW_S + second), ())
    assert len(tracker.remember().wanted) == 1
    assert memory.highest_wanted == 4


def test_what_was_wanted_outlives_a_gap_and_what_has_held_does_not() -> None:
    tracker = Tracker()
    low: dict[str, float | Reading] = {"cpu_usage": 0.1, "request_rate": 5.0}
    tracker.look(RELAYCORE, facts(running(10), {"cpu_usage": 1.0, "request_rate": 5.0}), ())
    tracker.look(RELAYCORE, facts(running(10), low, now_s=NOW_S + 1), ())
    after = tracker.look(RELAYCORE, facts(running(10), low, now_s=NOW_S + 60), ())
    assert (after.highest_wanted, after.idle_since_s) == (15, NOW_S + 60)


def test_a_cause_that_pauses_for_a_moment_is_still_the_same_one() -> None:
    tracker = Tracker()
    loud: dict[str, float | Reading] = {"cpu_usage": 1.5}
    calm: dict[str, float | Reading] = {"cpu_usage": 0.5}
    looks = [(0, calm), (5, loud), (6, calm), (7, loud), (18, calm), (19, loud)]
    seen = [tracker.look(RELAYCORE, facts(running(4), what, now_s=NOW_S + at), ()).loud_since_s for at, what in looks]
    assert [one.get("cpu_usage", 0) - NOW_S for one in seen if one] == [5, 5, 5, 19]


@pytest.mark.parametrize(
    ("overtaken", "told"),
    [
        (change(1, ok=None, done_s=None, verdict=None), (False, None)),
        (change(20, verdict=None), (True, "unknown")),
        (change(40, verdict="no_effect"), (True, "no_effect")),
    ],
    ids=["under way", "its effect open", "done with"],
)
def test_what_another_change_overtook_is_not_under_way_again_for_whoever_takes_over(
    overtaken: Change, told: tuple[bool, str | None]
) -> None:
    situation = facts(running(4))
    memory = Memory(changes=(overtaken,), order=Order(id="o1", replicas=6, until_s=NOW_S + 60, by="ada", reason="r"))
    made = decide(RELAYCORE, situation, memory)
    scribe = Scribe("relaycore", "local", RELAYCORE)
    record = scribe.decision(made, situation, memory, {}, name="relaycore-9", epoch=1, dry_run=False)
    before, after = changes_of([record])
    assert (before.decision, before.ok, before.verdict) == (overtaken.decision, *told)
    assert (after.decision, after.undecided) == ("relaycore-9", True)
    dry = changes_of([record.model_copy(update={"dry_run": True})])
    assert dry[0] == overtaken


def test_changes_are_rebuilt_from_the_chain_with_result_and_effect() -> None:
    scribe = Scribe("relaycore", "local", RELAYCORE)
    made: Change = change(30, ok=None, done_s=None, verdict=None)
    decision = ScalingRecord(
        kind="decision", decision=made.decision, service="relaycore", system="relaycore", environment="local",
        at=NOW_S - 30, sequence=1, lease_epoch=1, previous_hash="", action=made.action, current=2, target=4,
        breaches=("b1",), inputs={"cause": "routing_latency", "limit": 50.0, "before": {}},
    )  # fmt: skip
    result = scribe.result(made, NOW_S - 29, 1, ready=4)
    effect = scribe.effectiveness(made, NOW_S - 10, 1, "helped", "", {})
    assert changes_of([decision]) == (made,)
    assert changes_of([decision, result, effect]) == (change(30),)
    other = result.model_copy(update={"decision": "relaycore-99"})
    assert changes_of([other, decision.model_copy(update={"action": Action.NO_ACTION})]) == ()
