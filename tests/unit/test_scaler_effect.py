"""What is said of a change afterwards: that it took effect, and whether it helped."""

import pytest

from services.scaler.effect import ERROR_RATE, REQUEST_RATE, effect_of, finished, judge, measurable
from services.scaler.policy import decide
from services.scaler.situation import Memory, Observation, Reading
from shared.contracts.scaling import Action
from tests.unit.scaler_cases import NOW_S, RELAYCORE, change, facts, running

EFFECT = RELAYCORE.tuning.effectiveness


@pytest.mark.parametrize(
    ("before", "after", "rate", "verdict"),
    [
        (200, 120, 100, "helped"),
        (200, 190, 100, "no_effect"),
        (200, 230, 100, "worse"),
        (200, 45, 100, "helped"),
        (52, 49, 100, "helped"),
        (49, 48, 100, "no_effect"),
        (200, 230, 150, "unknown"),
        (200, 20, 10, "unknown"),
        (200, None, 100, "unknown"),
    ],
    ids=[
        "fell",
        "hardly fell",
        "rose",
        "fell far within the limit",
        "hardly fell, but to within the limit",
        "was within the limit before",
        "rose with the load",
        "fell because the load went away",
        "was not measured",
    ],
)
def test_a_scale_up_is_judged_by_its_metric_over_the_windows_on_both_sides(
    before: float, after: float | None, rate: float, verdict: str
) -> None:
    measured = {REQUEST_RATE: rate} | ({} if after is None else {"routing_latency": after})
    made = change(before={"routing_latency": before, REQUEST_RATE: 100.0})
    assert judge(made, measured, {}, EFFECT, {"routing_latency": 75.0})[0] == verdict


@pytest.mark.parametrize(
    ("after", "end", "verdict"),
    [
        (275.0, {"routing_latency": 46.0}, "helped"),
        (275.0, {"routing_latency": 195.0}, "no_effect"),
        (900.0, {"routing_latency": 600.0}, "unknown"),
        (900.0, {"routing_latency": 880.0}, "worse"),
        (900.0, {"routing_latency": 600.0, REQUEST_RATE: 120.0}, "unknown"),
        (900.0, {"routing_latency": 600.0, ERROR_RATE: 0.2}, "worse"),
        (900.0, {"routing_latency": 46.0, REQUEST_RATE: 10.0}, "worse"),
        (900.0, {}, "worse"),
        (190.0, {"routing_latency": 100.0}, "helped"),
        (190.0, {"routing_latency": 400.0}, "no_effect"),
        (120.0, {"routing_latency": 400.0}, "helped"),
    ],
    ids=[
        "the backlog of before was worked off",
        "back where it was",
        "the backlog is being worked off",
        "it stays",
        "it is being worked off while more comes",
        "it falls, and so do the requests",
        "it fell because the load went away",
        "nobody asked any more",
        "it took a moment",
        "the end is no worse than the whole",
        "what helped has helped",
    ],
)
def test_requests_that_piled_up_before_a_scale_up_are_not_its_doing(
    after: float, end: dict[str, float], verdict: str
) -> None:
    made = change(before={"routing_latency": 200.0, REQUEST_RATE: 100.0, ERROR_RATE: 0.0})
    at_end = {REQUEST_RATE: 100.0, ERROR_RATE: 0.0} | end
    measured = {"routing_latency": after, REQUEST_RATE: 100.0, ERROR_RATE: 0.0}
    assert judge(made, measured, at_end, EFFECT, {"routing_latency": 75.0})[0] == verdict


def test_what_is_missing_at_the_end_is_as_it_was_over_all() -> None:
    before = {"routing_latency": 200.0, REQUEST_RATE: 100.0, ERROR_RATE: 0.0}
    made = change(before=before, cause="request_rate", limit=150.0).model_copy(
        update={"before": before | {"request_rate": 300.0}}
    )
    after = {"request_rate": 150.0, "routing_latency": 5_000.0, REQUEST_RATE: 100.0, ERROR_RATE: 0.5}
    end = {"request_rate": 150.0, REQUEST_RATE: 100.0}
    assert judge(made, after, end, EFFECT, {"routing_latency": 75.0})[0] == "worse"
    down = change(action=Action.SCALE_DOWN, before=before, cause="idle")
    assert judge(down, after, end, EFFECT, {"routing_latency": 75.0})[0] == "worse"


def test_a_scale_up_that_is_undone_is_held_to_the_limit_it_was_made_for() -> None:
    made = change(40, current=2, target=4, verdict="worse", breaches=(), decision="up", limit=50.0)
    readings: dict[str, float | Reading] = {"cpu_usage": 0.2, "request_rate": 20.0, "routing_latency": 40.0}
    undone = decide(RELAYCORE, facts(running(4), readings), Memory(changes=(made,)))
    assert (undone.reverses, undone.expected) == ("up", {"routing_latency": 50.0})
    back = change(
        action=Action.SCALE_DOWN, cause="rollback", before={"routing_latency": 40.0}, expected=dict(undone.expected)
    )
    assert judge(back, {"routing_latency": 74.0}, {}, EFFECT, {"routing_latency": 75.0})[0] == "worse"
    assert judge(back, {"routing_latency": 49.0}, {}, EFFECT, {"routing_latency": 75.0})[0] == "no_effect"


def test_what_is_still_falling_is_measured_once_more() -> None:
    made = change(100, done_s=NOW_S - 90, before={"routing_latency": 200.0, REQUEST_RATE: 100.0})
    falling = {-88 + second: 2_000.0 - 70 * second for second in range(30)}

    def measured(begin_s: float, end_s: float) -> dict[str, float]:
        span = [value for at, value in falling.items() if begin_s <= NOW_S + at <= end_s]
        return {"routing_latency": max(20.0, sum(span) / len(span)), REQUEST_RATE: 100.0}

    def effect(ago_s: float) -> str | None:
        found = effect_of(made, measured, NOW_S - ago_s, EFFECT, {"routing_latency": 75.0})
        return None if found is None else found.verdict

    assert [effect(ago_s) for ago_s in (78, 77, 68, 67)] == [None, None, None, "unknown"]
    falling.update({at: 20.0 for at in falling if at > -75})
    assert [effect(ago_s) for ago_s in (77, 67)] == [None, "helped"]


def test_another_latency_that_is_still_falling_is_no_harm_yet_and_a_moment_of_a_scale_down_none() -> None:
    before = {"request_rate": 300.0, "routing_latency": 180.0, REQUEST_RATE: 600.0}
    added = change(cause="request_rate", limit=150.0, before=before)
    whole = {"request_rate": 150.0, "routing_latency": 900.0, REQUEST_RATE: 600.0}
    assert judge(added, whole, whole | {"routing_latency": 500.0}, EFFECT, {"routing_latency": 75.0})[0] == "unknown"
    assert judge(added, whole, whole, EFFECT, {"routing_latency": 75.0})[0] == "worse"
    down = change(action=Action.SCALE_DOWN, before={"p95_ms.relaycore": 101.0}, cause="idle")
    a_moment = {"p95_ms.relaycore": 300.0}, {"p95_ms.relaycore": 100.0}
    assert judge(down, *a_moment, EFFECT, {})[0] == "no_effect"
    still = {"p95_ms.relaycore": 300.0}, {"p95_ms.relaycore": 200.0}
    assert judge(down, *still, EFFECT, {})[0] == "worse"


@pytest.mark.parametrize(
    ("latency", "total", "verdict"),
    [(190.0, 600.0, "helped"), (60.0, 600.0, "helped"), (900.0, 600.0, "worse"), (900.0, 900.0, "unknown")],
    ids=["no slower", "slower within its limit", "slower past its limit", "slower while the load rose"],
)
def test_fewer_requests_per_replica_do_not_excuse_a_worse_latency(latency: float, total: float, verdict: str) -> None:
    before = {"request_rate": 300.0, "routing_latency": 180.0 if latency != 60.0 else 20.0, REQUEST_RATE: 600.0}
    after = {"request_rate": 150.0, "routing_latency": latency, REQUEST_RATE: total}
    added = change(cause="request_rate", limit=150.0, before=before)
    assert judge(added, after, {}, EFFECT, {"routing_latency": 75.0})[0] == verdict


@pytest.mark.parametrize(
    ("after", "verdict"), [(110.0, "no_effect"), (115.0, "worse"), (50.0, "no_effect"), (None, "unknown")]
)
def test_a_scale_down_is_worse_when_a_latency_rose(after: float | None, verdict: str) -> None:
    down = change(action=Action.SCALE_DOWN, before={"p95_ms.relaycore": 101.0}, cause="idle")
    assert judge(down, {} if after is None else {"p95_ms.relaycore": after}, {}, EFFECT, {})[0] == verdict


@pytest.mark.parametrize(
    ("ago_s", "seen", "expected"),
    [
        (1, running(4), (True, "")),
        (1, running(4, 3), None),
        (1, running(2), None),
        (3, running(2), (False, "the target wants 2 replicas, not 4")),
        (30, None, None),
        (61, None, (False, "the target cannot be observed after 60 s")),
        (61, running(4, 3), (False, "3 of 4 replicas are ready after 60 s")),
    ],
    ids=["all ready", "one missing", "not heard yet", "never heard", "away", "away for long", "never ready"],
)
def test_a_change_is_finished_by_what_the_target_shows(
    ago_s: float, seen: Observation | None, expected: tuple[bool, str] | None
) -> None:
    got = finished(change(ago_s, ok=None, done_s=None, verdict=None), seen, NOW_S, EFFECT)
    assert got is None if expected is None else got is not None and got[0] is expected[0] and expected[1] in got[1]


def test_an_effect_is_measured_only_once_its_whole_window_is_past() -> None:
    done = change(13, done_s=NOW_S - 12.5, verdict=None)
    assert measurable(done, NOW_S, EFFECT) is None
    assert measurable(done, NOW_S + 0.5, EFFECT) == (NOW_S - 10.5, NOW_S - 0.5)
