"""From figures to verdicts, and how runs are chosen, told apart and written about."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from xml.etree import ElementTree as ET

import click
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from scipy import stats

from bench.compare import compare_pair
from bench.simulated_runs import Simulated
from services.console.commands.compare import read_runs
from services.console.comparing.compare import Comparison, cut
from services.console.comparing.document import to_document
from services.console.comparing.likeness import (
    find_doubt,
    find_last_good,
    find_unconfirmed,
    list_differences,
    same_load,
)
from services.console.comparing.measures import Measure, Name, measure_all
from services.console.comparing.renderings import print_comparison, render_junit, render_markdown
from services.console.comparing.verdict import ActionKey, Compared, Judged, Rules, Verdict, adjust, judge
from shared.contracts.timing import Kind
from shared.store.comparisons import RanRow, Steps
from shared.store.series import Series

KEY = ActionKey(Kind.REQUEST, "shop", "story", "look")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
RUN = Simulated(rate=50, duration_s=120, sigma=0.5)
LOAD = {
    "scenario": "story",
    "users": 10,
    "rate": 50.0,
    "profile": "steady",
    "spacing": "even",
    "stages": [],
    "duration_s": 120.0,
    "ramp_up_s": 10.0,
    "changed": False,
    "written": "a",
}


def ran(run: str = "base", minutes: int = 0, **changes: Any) -> RanRow:
    began = NOON + timedelta(minutes=minutes)
    load = {name: changes.pop(name) for name in list(changes) if name in LOAD}
    row = RanRow(
        run=run,
        phase="finished",
        requested_at=began,
        started_at=began,
        ended_at=began + timedelta(seconds=125),
        tags={"branch": "main", "commit": run},
        targets={"shop": "http://shop"},
        loads=[{**LOAD, **load}],
        verdict="met",
        at_fault=[],
        missing=[],
    )
    return replace(row, **changes)


def measure(name: Name = Name.P95, change: float = 0.0, wide: float = 0.01, p: float = 0.5, **fields: Any) -> Measure:
    unit = {Name.ERRORS: "ratio", Name.THROUGHPUT: "requests/s"}.get(name, "ms")
    return Measure(name, unit, 20.0, 20.0 * (1 + change), change, change - wide, change + wide, p, **fields)


def all_measures(*changed: Measure, wide: float = 0.01) -> list[Measure]:
    """The five of them; those that are not given say that nothing changed."""
    given_ones = {item.name: item for item in changed}
    narrow = {Name.ERRORS: 0.0005}
    return [given_ones.get(name, measure(name, wide=narrow.get(name, wide))) for name in Name]


def judged(*changed: Measure, rules: Rules | None = None, **fields: Any) -> Judged:
    (found,) = judge([Compared(KEY, 6_000, 6_000, all_measures(*changed), **fields)], rules or Rules())
    return found


@pytest.mark.parametrize(
    ("changed", "verdict", "said"),
    [
        ([], Verdict.SAME, ""),
        ([measure(Name.CENTRE, 0.1, p=1e-9)], Verdict.REGRESSED, "centre +10.0 % (+9.0 % to +11.0 %)"),
        ([measure(Name.P95, 0.1, p=1e-4)], Verdict.REGRESSED, "p95 +10.0 %"),
        ([measure(Name.P99, 0.3, p=1e-4)], Verdict.REGRESSED, "p99 +30.0 %"),
        ([measure(Name.ERRORS, 0.01, p=1e-4)], Verdict.REGRESSED, "errors +1.00 points"),
        ([measure(Name.THROUGHPUT, -0.1, p=1e-4)], Verdict.REGRESSED, "throughput -10.0 %"),
        ([measure(Name.THROUGHPUT, 0.1, p=1e-4)], Verdict.IMPROVED, "throughput +10.0 %"),
        ([measure(Name.CENTRE, -0.1, p=1e-9)], Verdict.IMPROVED, "centre -10.0 %"),
        ([measure(Name.CENTRE, -0.2, p=0.0), measure(Name.P99, 0.3, p=0.0)], Verdict.REGRESSED, "p99 +30.0 %"),
        ([measure(Name.CENTRE, 0.02, p=0.0)], Verdict.SAME, ""),
        ([measure(Name.P99, 0.08, p=0.0)], Verdict.SAME, ""),
        ([measure(Name.CENTRE, 0.2, wide=0.3, p=0.03)], Verdict.INSUFFICIENT, "centre may have changed by -10.0 % to"),
        ([measure(Name.P95, 0.03, wide=0.04)], Verdict.INSUFFICIENT, "p95 may have changed"),
        ([Measure(Name.P99, "ms", note="900 requests, 1,000 are needed")], Verdict.INSUFFICIENT, "1,000 are needed"),
    ],
)
def test_what_is_certain_and_large_enough_counts(changed: list[Measure], verdict: Verdict, said: str) -> None:
    found = judged(*changed)
    assert (found.verdict, found.tested) == (verdict, True)
    assert said in found.reason


def test_a_threshold_of_the_users_own_counts() -> None:
    tiny = measure(Name.CENTRE, 0.02, wide=0.001, p=0.0)
    assert judged(tiny).verdict is Verdict.SAME
    assert judged(tiny, rules=Rules(threshold=0.01)).verdict is Verdict.REGRESSED


def test_doubt_about_a_run_leaves_no_verdict_and_what_is_missing_no_sameness() -> None:
    slow = measure(Name.CENTRE, 0.5, p=0.0)
    doubted = judged(slow, doubt="the generator was at fault in the base")
    assert (doubted.verdict, doubted.tested) == (Verdict.INSUFFICIENT, False)
    assert "generator" in doubted.reason
    assert judged(unconfirmed="not all is stored").verdict is Verdict.INSUFFICIENT
    assert judged(slow, unconfirmed="not all is stored").verdict is Verdict.REGRESSED


def test_an_action_with_nothing_tested_is_insufficient() -> None:
    too_few = [Measure(name, "ms", note="base has 3 requests") for name in Name]
    (found,) = judge([Compared(KEY, 3, 3, too_few)], Rules())
    assert (found.verdict, found.tested, found.reason) == (Verdict.INSUFFICIENT, False, "base has 3 requests")


def test_more_actions_ask_more_of_each() -> None:
    slow = Compared(KEY, 6_000, 6_000, all_measures(measure(Name.P95, 0.1, p=0.002)))
    others = [Compared(replace(KEY, action=f"a{n}"), 6_000, 6_000, all_measures()) for n in range(9)]
    assert judge([slow], Rules())[0].verdict is Verdict.REGRESSED
    assert judge([slow, *others], Rules())[0].verdict is Verdict.INSUFFICIENT
    doubted = [replace(other, doubt="at fault") for other in others]
    assert judge([slow, *doubted], Rules())[0].verdict is Verdict.REGRESSED


def test_holms_steps_are_those_of_the_textbook() -> None:
    assert adjust([0.01, 0.04, 0.03, 0.005], "family") == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert adjust([], "family") == []
    assert adjust([0.9, 0.8], "family") == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_adjusting_keeps_the_order_and_the_share_asks_less_than_the_family(ps: list[float]) -> None:
    family, share = adjust(ps, "family"), adjust(ps, "share")
    assert share == pytest.approx(stats.false_discovery_control(ps))
    for found in (family, share):
        assert all(a >= p - 1e-12 for a, p in zip(found, ps, strict=True))
        assert [found[i] for i in np.argsort(ps, kind="stable")] == sorted(found)
    assert all(s <= f + 1e-12 for s, f in zip(share, family, strict=True))


@pytest.mark.parametrize("alike", [0.0, 0.6], ids=["independent", "alike"])
def test_like_runs_are_hardly_ever_told_apart(alike: float) -> None:
    run = replace(RUN, alike=alike)
    verdicts = [compare_pair(run, run, number)[0] for number in range(30)]
    assert sum(verdict in (Verdict.REGRESSED, Verdict.IMPROVED) for verdict in verdicts) <= 1


def test_a_tail_that_grew_alone_is_found() -> None:
    worse = replace(RUN, tail_factor=1.3)
    generator = np.random.default_rng(4)
    base, candidate = RUN.draw(generator), worse.draw(generator)
    (found,) = judge([Compared(KEY, base.total, candidate.total, measure_all(base, candidate))], Rules())
    assert found.verdict is Verdict.REGRESSED
    assert Name.CENTRE not in found.moved
    assert {Name.P95, Name.P99} <= set(found.moved)


def test_runs_long_enough_are_shown_to_be_the_same() -> None:
    long = replace(RUN, duration_s=900, sigma=0.3)
    base, candidate = (long.draw(np.random.default_rng(seed)) for seed in (1, 2))
    (found,) = judge([Compared(KEY, base.total, candidate.total, measure_all(base, candidate))], Rules(0.05, 0.005))
    assert (found.verdict, found.reason) == (Verdict.SAME, "")


def test_the_last_good_run_is_the_newest_like_it_before_it() -> None:
    candidate = ran("new", 60, tags={"branch": "feature"})
    runs = [
        ran("old", 0),
        ran("good", 10),
        ran("missed", 20, verdict="missed"),
        ran("unreported", 21, verdict=None),
        ran("other load", 30, users=99),
        ran("other branch", 40, tags={"branch": "x"}),
        ran("changed", 45, changed=True),
        candidate,
        ran("later", 70),
    ]
    found = find_last_good(runs, candidate, "main")
    assert found is not None
    assert found.run == "good"
    assert find_last_good(runs, candidate, None) is None
    own = find_last_good([*runs, ran("mine", 50, tags={"branch": "feature"})], candidate, None)
    assert own is not None
    assert own.run == "mine"
    assert find_last_good([candidate], candidate, "feature") is None


def test_runs_differ_in_what_was_asked_and_not_in_how_long() -> None:
    base = ran()
    assert same_load(base, ran("b", duration_s=600.0, ramp_up_s=0.0, written="b"))
    assert not same_load(base, ran("b", rate=60.0))
    assert not same_load(base, replace(base, loads=[*base.loads, {**LOAD, "scenario": "zoo"}]))
    told = list_differences(base, ran("b", users=12, rate=None, written="b", targets={"shop": "http://other"}))
    assert told == [
        "story: users 10 in base, 12 in candidate",
        "story: rate 50 in base, none in candidate",
        "story: the scenario is written otherwise in the two runs",
        "shop was at http://shop in base, at http://other in candidate",
    ]
    assert list_differences(base, replace(base, loads=[])) == ["scenario story is only in the base"]
    assert list_differences(base, ran("b", minutes=3)) == []


def test_faults_of_a_run_cast_doubt_and_gaps_keep_it_from_being_the_same() -> None:
    base, where = ran(), ("shop", "story", "look")
    assert find_doubt(base, ran("b"), "shop") == ""
    assert "could not be carried" in find_doubt(base, ran("b", phase="failed"), "shop")
    faulty = ran("b", at_fault=["shop"])
    assert "candidate" in find_doubt(base, faulty, "shop")
    assert find_doubt(base, faulty, "bank") == ""
    assert find_unconfirmed(base, ran("b"), where) == ""
    assert "not all" in find_unconfirmed(base, ran("b", missing=[list(where)]), where)
    assert "no report" in find_unconfirmed(ran(verdict=None), ran("b"), where)
    assert "load was not the same" in find_unconfirmed(base, ran("b", users=3), where)


def test_steps_become_slots_of_one_grid_with_the_load_in_the_middle() -> None:
    began = int(NOON.timestamp())
    columns = [
        (1, began + 10, 500, 3, 1),
        (1, began + 12, 501, 2, 0),
        (2, began + 130, 400, 1, 1),
        (1, began + 10, 500, 1, 0),
    ]
    steps = Steps(1, "request_timing", *np.array(columns, np.int64).T)
    series = [
        Series(1, "shop", "story", "look", 0),
        Series(2, "shop", "story", "story", 1),
        Series(3, "s", "s", "s", 0),
    ]
    found = cut(series, steps, ran())
    look = found[KEY]
    assert set(found) == {KEY, ActionKey(Kind.WORKFLOW, "shop", "story", "story")}
    assert (look.total, look.failed.sum(), look.first_bucket) == (6, 1, 500)
    assert look.counts[0].tolist() == [4, 0]
    assert look.counts[2].tolist() == [0, 2]
    assert len(look.counts) == 121
    assert look.loaded == (0, 110)  # from the end of ramp-up at 10 s to that of the load at 120 s
    nothing = Steps(1, "request_timing", *np.empty((5, 0), np.int64))
    assert cut(series, nothing, ran()) == {}


def comparison(*actions: Judged, strict: bool = False) -> Comparison:
    return Comparison(ran("r1"), ran("r2", 5), "main", Rules(), ["users differ"], list(actions), strict)


SLOW = judged(measure(Name.P95, 0.1, p=1e-6))
SAME = judged()
UNSURE = judged(measure(Name.P95, 0.03, wide=0.1))
UNTESTED = judged(doubt="the generator was at fault in the base")
NEW = judge([Compared(KEY, 0, 50, doubt="only in the candidate")], Rules())[0]
FASTER = judged(measure(Name.CENTRE, -0.2, p=1e-6))


@pytest.mark.parametrize(
    ("actions", "strict", "verdict", "code"),
    [
        ([SAME, SAME], False, Verdict.SAME, 0),
        ([SAME, FASTER], True, Verdict.IMPROVED, 0),
        ([SAME, UNSURE], False, Verdict.INSUFFICIENT, 0),
        ([SAME, UNSURE], True, Verdict.INSUFFICIENT, 3),
        ([SAME, UNTESTED], False, Verdict.INSUFFICIENT, 3),
        ([SAME, NEW], False, Verdict.INSUFFICIENT, 0),
        ([SLOW, UNTESTED], False, Verdict.REGRESSED, 1),
        ([NEW], False, Verdict.INSUFFICIENT, 3),
        ([], False, Verdict.INSUFFICIENT, 3),
    ],
    ids=["same", "improved", "unsure", "unsure, strictly", "untested", "new", "regressed", "only new", "nothing"],
)
def test_the_exit_code_follows_the_worst_of_what_was_asked(
    actions: list[Judged], strict: bool, verdict: Verdict, code: int
) -> None:
    found = comparison(*actions, strict=strict)
    assert (found.verdict, found.exit_code) == (verdict, code)


def test_every_rendering_says_the_same() -> None:
    found = comparison(SLOW, UNTESTED)
    document = json.loads(json.dumps(to_document(found)))
    assert (document["verdict"], document["exit_code"], document["baseline"]) == ("regressed", 1, "main")
    p95 = document["actions"][0]["measures"][1]
    assert (p95["measure"], p95["moved"], p95["change"]) == ("p95", True, 0.1)
    assert p95["p_adjusted"] == pytest.approx(5e-6)
    markdown = render_markdown(found)
    assert "### Performance: regressed – 1 regressed, 1 insufficient" in markdown
    assert "**+10.0 %**" in markdown
    assert "users differ" in markdown
    suite = ET.fromstring(render_junit(found)).find("testsuite")  # noqa: S314 - of our own making
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("2", "1", "1")
    console = Console(record=True, width=200)
    print_comparison(console, found)
    text = console.export_text()
    assert "shop story/look: regressed: p95 +10.0 %" in text
    assert "r1 (branch main, commit r1)  (main)" in text
    assert "**" not in text


@pytest.mark.parametrize(
    ("runs", "baseline", "branch", "found"),
    [
        (("a", "b"), None, None, ("a", "b")),
        (("a",), None, None, ("a", "last")),
        ((), "main", None, (None, "last")),
        (("b",), "last-good", "main", (None, "b")),
    ],
)
def test_runs_are_read_by_whether_a_baseline_is_named(
    runs: tuple[str, ...], baseline: str | None, branch: str | None, found: tuple[str | None, str]
) -> None:
    assert read_runs(runs, baseline, branch) == found


@pytest.mark.parametrize(
    ("runs", "baseline", "branch"),
    [
        ((), None, None),
        (("a", "b", "c"), None, None),
        (("a", "b"), "main", None),
        (("a",), None, "x"),
        ((), "main", "x"),
    ],
)
def test_what_contradicts_itself_is_refused(runs: tuple[str, ...], baseline: str | None, branch: str | None) -> None:
    with pytest.raises(click.UsageError):
        read_runs(runs, baseline, branch)
