"""Every rule of advice fires on what it is about, stays silent otherwise, and names its figures."""

from collections.abc import Callable
from typing import Any

import pytest

from services.validator.change_rules import cold_models, one_bad_replica, own_time_rose, uneven_load
from services.validator.evidence import Advice, Evidence, Loads, TimedOut
from services.validator.hops import GENERATOR, Hop, SlowestHop
from services.validator.recommendation import (
    RULES,
    connections_not_reused,
    cpu_saturated,
    errors_of_one_kind,
    find_advice,
    hanging,
    look,
    one_action_slow,
    out_of_memory,
    queue_builds,
    recommend,
    spent_elsewhere,
    spent_here,
    throughput_short,
    timed_out_at_limit,
)
from shared.contracts.timing import ErrorKind
from shared.settings import PROJECT_ROOT
from shared.store.figures import Connecting
from tests.unit.advice_cases import benchmark, change, evidence

Rule = Callable[[Evidence], Advice | None]
ROSE = (change("relaycore", 8, 61), change("neuroweaver-backend", 40, 41), change("autmatrix-backend", 5, 6))
TWO = {"r-1": {"routing_latency": 30.0}, "r-2": {"routing_latency": 31.0}}
LOADED = {"r-1": {"request_rate": 20.0}, "r-2": {"request_rate": 22.0}, "r-3": {"request_rate": 55.0}}
SLOW_ONE = {
    name: {"request_rate": 10.0, "requests_in_flight": held} for name, held in {"a": 1.0, "b": 1.1, "c": 9.0}.items()
}
GIVEN_UP = (TimedOut("create", 40, "timeout", 5.0),)
OPENED = Connecting("autmatrix", 1_000, 900, 30.0, 120.0)
MEMORY = benchmark("resource", metric="memory_usage", target=2048, critical=4096, unit="MB")
HEAP = benchmark("resource", metric="heap", resource="memory_usage", target=2048, critical=4096, unit="MB")
CPU_CALLED_MEMORY = benchmark(
    "resource", metric="memory_usage", resource="cpu_usage", target=0.7, critical=0.9, unit="ratio"
)
FIRST_LOADS = benchmark("resource", metric="first_loads", resource="model_load_time", target=9_000, critical=20_000)
COLD = Loads("neuroweaver-backend", 16_000, 12, 40)

FIRES: list[tuple[Rule, Evidence, dict[str, Any], tuple[str, ...]]] = [
    (hanging, evidence(stuck=20), {"requests_unanswered": 20}, ("20 requests wait unanswered",)),
    (out_of_memory, evidence("resource", 3000, benchmark=MEMORY), {"memory_mb": 3000}, ("look for a leak",)),
    (out_of_memory, evidence("resource", 3000, benchmark=HEAP), {"memory_mb": 3000}, ("heap", "look for a leak")),
    (
        timed_out_at_limit,
        evidence(timed_out=GIVEN_UP),
        {"limit_s": 5.0, "requests": 40},
        ("40 requests of create", "5 s"),
    ),
    (
        timed_out_at_limit,
        evidence("error_rate", 0.2, timed_out=GIVEN_UP, errors={ErrorKind.TIMEOUT: 40, ErrorKind.STATUS: 3}),
        {"action": "create"},
        ("the step's own timeout",),
    ),
    (
        own_time_rose,
        evidence("workflow_time", 41_000, changes=ROSE),
        {"kept_p95_ms": 8, "broken_p95_ms": 61, "stayed_p95_ms": 41, "hop": "relaycore"},
        ("RelayCore's own time rose from 8 to 61 ms at p95", "while NeuroWeaver's stayed at 41 ms: add relaycore"),
    ),
    (
        own_time_rose,
        evidence("resource", 125, changes=(change("neuroweaver-backend", 40, 400), *ROSE)),
        {"hop": "relaycore"},
        ("RelayCore's own time rose",),
    ),
    (
        own_time_rose,
        evidence(changes=(change("relaycore", 2, 90, kind="network", via="autmatrix-backend"),)),
        {"hop": "relaycore (network from autmatrix-backend)"},
        ("the way from AutoMatrix to RelayCore, the line before its door included, rose from 2 to 90 ms",),
    ),
    (
        one_bad_replica,
        evidence("resource", 125, instances={**TWO, "r-3": {"routing_latency": 300.0}}),
        {"instance": "r-3", "instance_ms": 300.0, "others_ms": 30.5},
        ("of 3 instances r-3 alone is slow", "more replicas would not help"),
    ),
    (
        one_bad_replica,
        evidence(instances=SLOW_ONE),
        {"instance": "c", "instance_ms": 900, "others_ms": 105},
        ("c alone",),
    ),
    (uneven_load, evidence(instances=LOADED), {"requests_per_s": 55.0, "others_per_s": 21.0}, ("r-3", "stand idle")),
    (
        cold_models,
        evidence("workflow_time", 41_000, loads=COLD),
        {"load_ms": 16_000, "seconds_with_loads": 12},
        ("NeuroWeaver loaded models in 12 of 40 s", "keep models loaded"),
    ),
    (
        spent_elsewhere,
        evidence("workflow_time", hop=SlowestHop(Hop("relaycore"), 0.7, 8.0, 61.0)),
        {"share": 0.7, "p95_ms": 61.0},
        ("70% of their time in relaycore",),
    ),
    (
        spent_here,
        evidence("workflow_time", hop=SlowestHop(Hop("autmatrix-backend"), 0.7, 8.0, 61.0)),
        {"hop": "autmatrix-backend"},
        ("70% of their time in autmatrix-backend",),
    ),
    (
        queue_builds,
        evidence(resources={"queue_length": 10.8}, resources_kept={"queue_length": 0.3}),
        {"queue_length": 10.8, "queue_length_while_kept": 0.3},
        ("10.8 tasks wait in line per instance (0.3 while it was kept)",),
    ),
    (
        cpu_saturated,
        evidence(resources={"cpu_usage": 0.97}, resources_kept={"cpu_usage": 0.31}),
        {"cpu_usage": 0.97, "cpu_usage_while_kept": 0.31},
        ("CPU at 97% of its limit (31% while it was kept)",),
    ),
    (connections_not_reused, evidence(connecting=OPENED), {"opened_share": 0.9, "connect_ms": 30.0}, ("90% of 1,000",)),
    (
        errors_of_one_kind,
        evidence("error_rate", 0.2, errors={ErrorKind.RESET: 9, ErrorKind.STATUS: 1}),
        {"kind": "reset", "failures": 9, "of_failures": 10},
        ("9 of 10 failures are of kind reset", "drops connections"),
    ),
    (throughput_short, evidence("throughput", 80), {"value": 80, "limit": 100}, ("although more was asked for",)),
    (one_action_slow, evidence(slowest_action="create", slowest_ms=900), {"p95_ms": 900}, ("slowest is create",)),
    (look, evidence(), {"value": 700}, ("look at the exemplar traces",)),
]

SILENT: list[tuple[Rule, Evidence]] = [
    (hanging, evidence()),
    (out_of_memory, evidence("resource", 125)),
    (out_of_memory, evidence("resource", 0.8, benchmark=CPU_CALLED_MEMORY)),
    (timed_out_at_limit, evidence()),
    (timed_out_at_limit, evidence("error_rate", errors={ErrorKind.STATUS: 90}, timed_out=GIVEN_UP)),
    (timed_out_at_limit, evidence("resource", timed_out=GIVEN_UP)),
    (own_time_rose, evidence("workflow_time")),
    (own_time_rose, evidence("workflow_time", changes=(change("relaycore", 50, 60), change(GENERATOR, 10, 900)))),
    (own_time_rose, evidence("workflow_time", changes=(change("relaycore", 1, 9, path=(1, 9)), change("b", 900, 900)))),
    (own_time_rose, evidence("resource", changes=(change("neuroweaver-backend", 40, 400),))),
    (one_bad_replica, evidence("resource", instances=TWO)),
    (one_bad_replica, evidence("resource", instances={"r-1": {"routing_latency": 900.0}})),
    (one_bad_replica, evidence("resource", instances={"a": {"routing_latency": 0.5}, "b": {"routing_latency": 3.0}})),
    (one_bad_replica, evidence(instances=LOADED)),
    (uneven_load, evidence(instances={"a": {"request_rate": 20.0}, "b": {"request_rate": 30.0}})),
    (uneven_load, evidence(instances={"a": {"request_rate": 0.1}, "b": {"request_rate": 0.9}})),
    (uneven_load, evidence("error_rate", instances=LOADED)),
    (cold_models, evidence("workflow_time", loads=Loads("neuroweaver-backend", 900, 12, 40))),
    (cold_models, evidence("workflow_time", loads=Loads("neuroweaver-backend", 16_000, 1, 40))),
    (cold_models, evidence("error_rate", loads=COLD)),
    (cold_models, evidence("resource", 12_000, benchmark=FIRST_LOADS, loads=COLD)),
    (spent_elsewhere, evidence("workflow_time", hop=SlowestHop(Hop("relaycore"), 0.4, 8.0, 61.0))),
    (spent_elsewhere, evidence("workflow_time", hop=SlowestHop(Hop("autmatrix-backend"), 0.9, 8.0, 61.0))),
    (spent_here, evidence("workflow_time")),
    (queue_builds, evidence(resources={"queue_length": 0.4})),
    (queue_builds, evidence(resources={"queue_length": 1.6}, resources_kept={"queue_length": 6.0})),
    (cpu_saturated, evidence(resources={"cpu_usage": 0.85}, resources_kept={"cpu_usage": 0.95})),
    (queue_builds, evidence("error_rate", resources={"queue_length": 40.0})),
    (cpu_saturated, evidence(resources={"cpu_usage": 0.5})),
    (cpu_saturated, evidence("error_rate", resources={"cpu_usage": 0.99})),
    (connections_not_reused, evidence(connecting=Connecting("autmatrix", 1_000, 40, 30.0, 120.0))),
    (connections_not_reused, evidence(connecting=Connecting("autmatrix", 1_000, 900, 1.0, 120.0))),
    (connections_not_reused, evidence("error_rate", connecting=OPENED)),
    (errors_of_one_kind, evidence("error_rate", errors={1: 4, 2: 4, 3: 4})),
    (errors_of_one_kind, evidence(errors={ErrorKind.RESET: 9})),
    (throughput_short, evidence()),
    (one_action_slow, evidence()),
]


def called(value: object) -> str:
    return str(getattr(value, "__name__", ""))


@pytest.mark.parametrize(("rule", "seen", "figures", "said"), FIRES, ids=called)
def test_a_rule_fires_with_its_name_its_words_and_its_figures(
    rule: Rule, seen: Evidence, figures: dict[str, Any], said: tuple[str, ...]
) -> None:
    advice = rule(seen)
    assert advice
    assert advice.rule == rule.__name__
    assert {name: advice.figures[name] for name in figures} == pytest.approx(figures)
    assert all(words in advice.text for words in said), advice.text
    if rule is not hanging:
        assert advice.text.startswith(seen.seen)


@pytest.mark.parametrize(("rule", "seen"), SILENT, ids=called)
def test_a_rule_is_silent_about_what_it_is_not_about(rule: Rule, seen: Evidence) -> None:
    assert rule(seen) is None


def test_every_rule_is_tried_both_ways() -> None:
    assert {rule for rule, *_ in FIRES} == {*RULES, look}
    assert {rule for rule, _ in SILENT} == {*RULES}


def test_the_guide_lists_the_rules_in_the_order_in_which_they_are_tried() -> None:
    guide = (PROJECT_ROOT / "docs" / "reports.md").read_text()
    listed = [line.split("`")[1] for line in guide.splitlines() if line.startswith("| `")]
    assert listed == [rule.__name__ for rule in (*RULES, look)]


def test_the_weightiest_rule_gives_the_advice_and_the_others_support_it() -> None:
    seen = evidence(
        "resource", 125, changes=ROSE, resources={"queue_length": 9.0, "cpu_usage": 0.95}, instances=TWO, stuck=0
    )
    assert [advice.rule for advice in find_advice(seen)] == ["own_time_rose", "queue_builds", "cpu_saturated"]
    assert recommend(seen) == next(find_advice(seen)).text


def test_there_always_is_advice() -> None:
    assert [advice.rule for advice in find_advice(evidence())] == ["look"]


def test_an_error_of_a_kind_nobody_knows_is_named_by_its_number() -> None:
    advice = errors_of_one_kind(evidence("error_rate", errors={99: 5}))
    assert advice
    assert "5 of 5 failures are of kind 99: look at what autmatrix-backend answers" in advice.text
