"""What was offered is what was really due, in the report of a run and in the hours of a day."""

from datetime import UTC, timedelta
from typing import Any

import pytest

from services.validator.canary import CanaryRun, Days
from services.validator.comparison import compare, judge_gates
from services.validator.demand import Asked, completions
from services.validator.facts import Facts
from services.validator.summary import DayFacts, build_summary
from services.validator.verdict import Verdict
from shared.contracts.benchmarks import Benchmarks
from shared.contracts.run import Load, Phase
from shared.contracts.scenario import Scenario
from shared.contracts.timing import Kind
from shared.histogram import Histogram
from shared.store.figures import Edges, SeriesAfter, SeriesResult, SpanTotals, Times
from tests.unit.validator_frames import START, desired, state

SECONDS = 600
PLAIN = {"steps": [{"action": "a", "system": "shop"}]}
TWO = {"steps": [{"action": "a", "system": "shop"}, {"action": "b", "system": "shop"}]}
ONCE = {"steps": [{"action": "b", "system": "shop", "once": True}, *PLAIN["steps"]]}
GROUPS = {
    "groups": {"x": {"weight": 1}, "y": {"weight": 1}},
    "steps": [{"action": "a", "system": "shop", "group": "x"}, {"action": "b", "system": "shop", "group": "y"}],
}
HALF = {"stages": [{"duration_s": SECONDS, "level": 0.5}]}
LESS = {"changes": [{"at_s": 60, "rate": 52}]}
OPEN, CLOSED = {"rate": 120.0}, {"users": 200}


def load_of(scenario: dict[str, Any], **load: Any) -> Load:
    made = Scenario.model_validate({"name": "story", "system": "shop", **scenario})
    return Load.model_validate({"scenario": made, "users": 9, "duration_s": SECONDS, **load})


def benchmarks(*actions: str) -> Benchmarks:
    throughput = {"metric": "throughput", "target": 100, "critical": 50, "unit": "requests/s", "better": "higher"}
    written = {**throughput, "source": "throughput", **({"actions": actions} if actions else {})}
    return Benchmarks.model_validate(
        {"systems": {"shop": {"name": "Shop", "service": "shop", "benchmarks": [written]}}}
    )


def times_of(count: int) -> dict[int, int]:
    return Histogram.of([50_000] * count).counts


def facts(load: Load, sent: dict[str, int], cancelled: int = 0, refused: int = 0, edges: Edges | None = None) -> Facts:
    """``sent`` of each action; of ``a`` some were cut off by the run's end, or found nobody to send them."""
    series, after = [], {}
    for number, (action, count) in enumerate(sent.items()):
        none = Times()
        series.append(
            SeriesResult(number, "shop", "story", action, Kind.REQUEST, count, 0, count, 0, 0, {}, none, none)
        )
        after[number] = SeriesAfter(times_of(count), 50_000 * count, 0)
    after[0] = SeriesAfter(times_of(sent["a"] - cancelled), 1, refused, times_of(cancelled), refused)
    asked = desired().model_copy(update={"loads": (load,)})
    over = state(SECONDS, Phase.FINISHED)
    return Facts(asked, over, tuple(series), after, {} if edges is None else {0: edges})


def judged(of: Facts, *actions: str) -> tuple[Verdict, float | None]:
    (item,) = compare(benchmarks(*actions), of)
    return item.judgement.verdict, item.judgement.value


NOT_ASKED = [
    pytest.param(load_of(PLAIN, **OPEN, **HALF), {"a": 36_000}, (), id="stages at half of the rate"),
    pytest.param(load_of(PLAIN, **OPEN, **LESS), {"a": 35_280}, (), id="less load from the first minute on"),
    pytest.param(load_of(GROUPS, rate=60.0), {"a": 18_000, "b": 18_000}, (), id="one of two groups is drawn"),
    pytest.param(load_of(ONCE, rate=60.0), {"a": 36_000, "b": 9}, (), id="a step that each user takes once"),
    pytest.param(load_of(TWO, rate=60.0), {"a": 36_000, "b": 36_000}, ("a",), id="one action of two"),
    pytest.param(load_of(PLAIN, rate=150.0), {"a": 36_000}, (), id="a generator that sent less than was planned"),
    pytest.param(load_of(PLAIN, **CLOSED), {"a": 36_000}, (), id="users who wait for slow answers"),
]


@pytest.mark.parametrize(("load", "sent", "actions"), NOT_ASKED)
def test_what_was_never_offered_is_not_missed(load: Load, sent: dict[str, int], actions: tuple[str, ...]) -> None:
    verdict, value = judged(facts(load, sent), *actions)
    assert verdict is Verdict.INSUFFICIENT
    assert value == pytest.approx(60, rel=0.03)


OFFERED = [
    pytest.param(load_of(PLAIN, **OPEN), {}, Verdict.MET, 120, id="all that was asked for"),
    pytest.param(load_of(PLAIN, **OPEN), {"cancelled": 18_000}, Verdict.MISSED, 90, id="cut off by the end"),
    pytest.param(load_of(PLAIN, **OPEN), {"refused": 18_000}, Verdict.MISSED, 90, id="nobody was free to send"),
    pytest.param(load_of(PLAIN, **OPEN), {"refused": 48_000}, Verdict.CRITICAL, 40, id="hardly anybody was free"),
    pytest.param(load_of(PLAIN, **OPEN), {"edges": Edges(0, 18_000)}, Verdict.MISSED, 90, id="answered after the end"),
    pytest.param(load_of(PLAIN, **OPEN), {"edges": Edges(600, 600)}, Verdict.MET, 120, id="as much left as begun with"),
    pytest.param(
        load_of(PLAIN, **OPEN), {"edges": Edges(after=18_000)}, Verdict.INSUFFICIENT, 90, id="due after the end"
    ),
    pytest.param(load_of(PLAIN, **OPEN, **LESS), {"refused": 18_000}, Verdict.MISSED, 90, id="open and changed"),
    pytest.param(load_of(PLAIN, **CLOSED), {}, Verdict.MET, 120, id="users who are answered soon"),
    pytest.param(load_of(PLAIN, **CLOSED), {"cancelled": 18_000}, Verdict.INSUFFICIENT, 90, id="users cut off"),
]


@pytest.mark.parametrize(("load", "given", "verdict", "value"), OFFERED)
def test_what_was_offered_and_not_done_is_missed(
    load: Load, given: dict[str, Any], verdict: Verdict, value: float
) -> None:
    said, actual = judged(facts(load, {"a": 120 * SECONDS}, **given))
    assert said is verdict
    assert actual == pytest.approx(value)


def test_a_scenarios_own_target_counts_what_ended_at_the_system() -> None:
    target = {"targets": [{"metric": "throughput", "statistic": "rate", "limit": 100, "unit": "requests/s"}]}
    for refused, verdict, value in ((0, Verdict.MET, 120), (18_000, Verdict.MISSED, 90)):
        of = facts(load_of({**PLAIN, **target}, **OPEN), {"a": 120 * SECONDS}, refused=refused)
        (gate,) = judge_gates(benchmarks(), of)
        assert gate.verdict is verdict
        assert gate.actual == pytest.approx(value)


def test_an_open_load_beside_a_closed_one_of_another_scenario_asks_for_its_own() -> None:
    other = Scenario.model_validate({"name": "users", "system": "shop", **PLAIN})
    loads = (load_of(PLAIN, rate=30.0), Load(scenario=other, users=9, duration_s=10))
    said = completions([Asked("story", 200, 300), Asked("users", 500, 900)], loads, 10)
    assert (said.count, said.offered_per_s) == (700, 80)


DAY = Days(UTC).day(START.date())
HOURS = [
    pytest.param(OPEN, {"count": 120 * 3_600}, "met", id="all that was asked for"),
    pytest.param(OPEN | HALF, {"count": 60 * 3_600}, "insufficient", id="stages at half of the rate"),
    pytest.param(OPEN, {"count": 120 * 3_600, "refused": 30 * 3_600}, "missed", id="nobody was free to send"),
    pytest.param(OPEN, {"count": 90 * 3_600, "cancelled": 30 * 3_600}, "missed", id="given up"),
    pytest.param(CLOSED, {"count": 90 * 3_600, "cancelled": 30 * 3_600}, "insufficient", id="users given up"),
]


@pytest.mark.parametrize(("load", "row", "verdict"), HOURS)
def test_the_hours_of_a_day_are_judged_by_what_was_due_in_them(
    load: dict[str, Any], row: dict[str, Any], verdict: str
) -> None:
    known: dict[str, Any] = {"stored": 0, "cancelled": 0, "failed": 0, "sum_us": 0, "max_us": 0, "response": {}, **row}
    hour = SpanTotals(run="r", system="shop", scenario="story", action="a", kind=Kind.REQUEST, start=DAY.start, **known)
    asked = desired().model_copy(update={"loads": (load_of(PLAIN, **load),)})
    day = DayFacts(
        CanaryRun(asked, START - timedelta(days=3)),
        DAY,
        "UTC",
        DAY.start,
        DAY.start + timedelta(hours=1),
        False,
        [hour],
    )
    (told,) = build_summary(benchmarks(), day)["benchmarks"]
    assert {name for name, hours in told["hours"].items() if hours} == {verdict}
