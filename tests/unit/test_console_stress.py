"""The search as the console plans it, shows it, and reads scalability from it."""

from typing import Any

import pytest

from services.console.changes import load_of
from services.console.plan import STRESS_S, LoadOptions, Request, desire, plan_load, plan_run
from services.console.progress import Progress
from services.console.report_html import render_html
from services.console.report_junit import render_junit
from services.console.report_markdown import render_markdown
from services.console.report_rows import Dossier
from services.console.scalability import fit_scaling
from services.console.scalability_points import describe_scaling, read_point
from services.console.stress_plan import SearchOptions, plan_search, with_search
from services.console.stress_words import describe_answer, describe_level, read_stress
from shared.contracts.scenario import Scenario, Step
from shared.contracts.stress import FirstBroken, StressAnswer, StressSearch
from shared.errors import ConfigError
from tests.unit.console_cases import BEGUN, report
from tests.unit.test_console_plan import NOW, small
from tests.unit.test_validator_stress_search import made, step


def answered(found: bool = True, **changes: Any) -> StressSearch:
    steps = (step(10, "met"), step(20, "met"), step(40, "critical", note="overloaded"))
    broke = FirstBroken(margin=steps[2].margins[0], level=40.0, breach="b1", slowest_hop="relaycore")
    known: dict[str, Any] = {"level": 30.0, "low": 29.0, "high": 31.0, "throughput": 60.0, "knee": 18.0}
    answer = StressAnswer(found=found, reason="" if found else "stopped", highest_met=20.0, lowest_broken=40.0,
                          broke=broke, **known)  # fmt: skip
    return made(*steps, answer=answer, **changes)


def dossier(found: bool = True, **changes: Any) -> Dossier:
    left_out = [{"system": "relaycore", "metric": "ranking", "reason": "spans are too few"}]
    section = {**answered(found).model_dump(mode="json"), "left_out": left_out, "scaled": ["relaycore"], "tags": {}}
    return Dossier(report(stress=section, **changes))


def test_a_search_over_arrivals_begins_at_the_rate_and_one_over_users_at_the_users() -> None:
    options = LoadOptions(profile="stress", rate=20, users=5)
    run = with_search(plan_run([small()], options), SearchOptions(max_rate=300, require_rate=100))
    assert run.search is not None
    assert (run.search.unit, run.search.start, run.search.level) == ("rate", 20, 20)
    assert (run.search.max_level, run.search.require) == (300, 100)
    users = plan_search([plan_load(small(users=7), LoadOptions(profile="stress"))], SearchOptions(break_at="critical"))
    assert (users.unit, users.start, users.limit, users.max_steps) == ("users", 7, "critical", 11)


def test_a_cap_of_requests_counts_every_request_of_an_arrival() -> None:
    steps = [Step(action=name, system="autmatrix", path="/") for name in ("a", "b", "c")]
    three = Scenario(name="three", system="autmatrix", steps=steps)
    search = plan_search([plan_load(three, LoadOptions(profile="stress", rate=10))], SearchOptions(max_rate=300))
    assert search.max_level == pytest.approx(100)


def test_a_search_takes_its_time_without_ramp_and_with_arrivals_as_they_come() -> None:
    load = plan_load(small(duration=60.0, ramp_up=10.0), LoadOptions(profile="stress", rate=10))
    assert (load.duration_s, load.ramp_up_s, load.spacing) == (STRESS_S, 0, "poisson")
    assert plan_load(small(), LoadOptions(profile="stress", duration_s=300)).duration_s == 300


@pytest.mark.parametrize(
    ("load", "options", "problem"),
    [
        ({"rate": 10.0}, SearchOptions(require_users=5), "--require-users: 5: the search is over arrivals"),
        ({}, SearchOptions(require_rate=5), "--require-rate: 5: the search is over users"),
        ({"rate": 10.0}, SearchOptions(max_rate=5), "--max-rate: 5 is below where the search begins, 10"),
        ({"users": 10}, SearchOptions(max_users=5), "--max-users: 5 is below where the search begins, 10"),
        ({"rate": 10.0}, SearchOptions(max_rate=50, require_rate=60), "--require-rate: 60 is more than --max-rate"),
    ],
    ids=str,
)
def test_options_that_do_not_go_together_are_refused(
    load: dict[str, Any], options: SearchOptions, problem: str
) -> None:
    with pytest.raises(ConfigError, match=problem):
        plan_search([plan_load(small(), LoadOptions(profile="stress", **load))], options)


@pytest.mark.parametrize("options", [{"ramp_up_s": 5.0}, {"stages": ((10.0, 1.0),)}], ids=str)
def test_the_search_sets_the_load_alone(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="does not go with --profile stress"):
        plan_load(small(), LoadOptions(profile="stress", **options))


def test_options_of_a_search_need_a_search() -> None:
    SearchOptions(max_rate=5).refuse()
    with pytest.raises(ConfigError, match="--max-steps: 5 is for --profile stress"):
        SearchOptions(max_steps=5).refuse()


def test_nobody_else_sets_the_load_of_a_search() -> None:
    run = with_search(plan_run([small()], LoadOptions(profile="stress", rate=20)), SearchOptions())
    desired = desire(run, "run-1", Request("local", {"autmatrix": "http://x"}, ("x",)), NOW)
    with pytest.raises(ConfigError, match="searches its breaking point and sets its load itself"):
        load_of(desired, 5.0, NOW, None, 30.0, None)


def test_steps_are_told_as_they_come_and_the_answer_once() -> None:
    run = with_search(plan_run([small()], LoadOptions(profile="stress", rate=10)), SearchOptions())
    desired = desire(run, "run-1", Request("local", {"autmatrix": "http://x"}, ("x",)), NOW)
    progress = Progress("run-1", desired.duration_s)
    assert progress.on_desired(desired) == []
    assert progress.snapshot(BEGUN).level == "step 1 of at most 11: 10/s"
    made_one = desired.model_copy(update={"search": made(step(10, "met"), level=20.0)})
    (told,) = progress.on_desired(made_one)
    assert told.text.startswith("step 1 10/s: met")
    assert progress.on_desired(made_one) == []
    texts = [notice.text for notice in progress.on_desired(desired.model_copy(update={"search": answered()}))]
    assert len(texts) == 3
    assert texts[-1] == describe_answer(answered().answer or StressAnswer(found=False, reason=""), "rate")
    assert "search ended" in progress.snapshot(BEGUN).line()
    assert describe_level(made(resting=True)) == "resting"


def test_the_answer_names_point_interval_knee_and_what_broke_first() -> None:
    part = read_stress(dossier().report)
    assert part is not None
    assert part.answer == (
        "every benchmark is kept up to 30/s (95 %: 29/s to 31/s); the knee is at 18/s; first to break: "
        "queue response_time p95 150 ms of 100 ms, most of it in relaycore"
    )
    missing = read_stress(dossier(found=False).report)
    assert missing is not None
    assert missing.answer == "breaking point not found: stopped (kept at 20/s, broken at 40/s)"
    assert read_stress(report()) is None
    assert [note.split(";")[0] for note in part.notes] == [
        "Not judged in any step: relaycore ranking",
        "Scaled meanwhile: relaycore",
    ]


def test_every_form_of_the_report_tells_of_the_search() -> None:
    text = render_markdown([dossier()])
    assert "### Breaking point" in text
    assert "| 1 | 40/s |" in text
    assert "### Not kept" not in text
    page = render_html([dossier()])
    assert "Breaking point" in page
    for form in (text, page):
        assert "Not judged in any step: relaycore ranking; spans are too few." in form
        assert "Scaled meanwhile: relaycore;" in form
    assert "every benchmark is kept up to 30/s" in page
    good = render_junit([dossier().report]).decode()
    assert "<failure" not in good
    assert 'name="breaking point"' in good
    assert "<failure" in render_junit([dossier(verdict="missed").report]).decode()
    assert "<skipped" in render_junit([dossier(found=False, verdict="insufficient").report]).decode()


def stress_report(run: str, replicas: int | None, throughput: float, tag: str | None = None) -> dict[str, Any]:
    search = answered()
    answer = (search.answer or StressAnswer(found=False, reason="")).model_copy(update={"throughput": throughput})
    section = search.model_copy(update={"answer": answer}).model_dump(mode="json")
    points = [] if replicas is None else [{"second": 1, "replicas": {"relaycore": replicas}}]
    tags = {} if tag is None else {"replicas": tag}
    return {"run": {"run": run}, "stress": {**section, "tags": tags}, "timeline": {"step_s": 1, "points": points}}


def test_replicas_are_a_runs_tag_or_what_was_seen_of_the_service() -> None:
    assert read_point(stress_report("r", 3, 100.0), "relaycore").replicas == 3
    assert read_point(stress_report("r", 3, 100.0, tag="5"), "relaycore").replicas == 5
    assert read_point(stress_report("r", 3, 100.0), "relaycore").error == pytest.approx(100 * 0.0333 / 1.96, rel=0.02)


def test_runs_that_say_nothing_of_scalability_are_refused() -> None:
    with pytest.raises(ConfigError, match="run r does not say how many replicas relaycore had; start it with --tag"):
        read_point(stress_report("r", None, 100.0), "relaycore")
    with pytest.raises(ConfigError, match="tag replicas=many: give a number"):
        read_point(stress_report("r", 1, 100.0, tag="many"), "relaycore")
    with pytest.raises(ConfigError, match="run r searched no breaking point"):
        read_point({"run": {"run": "r"}}, "relaycore")
    moved = stress_report("r", 1, 100.0)
    moved["timeline"]["points"].append({"second": 2, "replicas": {"relaycore": 2}})
    with pytest.raises(ConfigError, match="relaycore had 1 to 2 replicas"):
        read_point(moved, "relaycore")


def test_the_law_is_told_in_words() -> None:
    points = [read_point(stress_report("r", n, 100 * n / (1 + 0.05 * (n - 1) + 0.02 * n * (n - 1))), "relaycore")
              for n in (1, 2, 3, 4, 6, 8)]  # fmt: skip
    lines = describe_scaling(fit_scaling(points))
    assert lines[0].startswith("per replica λ 100")
    assert any("the most is carried by" in line for line in lines) or any("Amdahl" in line for line in lines)
