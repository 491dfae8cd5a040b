"""The scaling document: the user's rows as shipped, and what is refused, each in one clear line."""

from typing import Any

import pytest

from shared.config import parse
from shared.contracts.scaling_rules import ScalingRules, ServiceRules
from shared.errors import ConfigError
from tests.unit.scaler_cases import AUTMATRIX, NEUROWEAVER, RELAYCORE


def test_the_shipped_rules_are_the_users_rows() -> None:
    up = {rule.metric: rule.above for rule in AUTMATRIX.up}
    assert up == {"cpu_usage": 0.8, "memory_ratio": 0.85, "response_time": 300.0, "queue_length": 50.0}
    assert AUTMATRIX.down is not None
    down = {one.metric: one.below for one in AUTMATRIX.down.all_of}
    assert down == {"cpu_usage": 0.3, "memory_ratio": 0.4, "response_time": 100.0}
    assert (AUTMATRIX.down.idle_for, AUTMATRIX.min, AUTMATRIX.max) == (600.0, 1, 10)

    assert {rule.metric: rule.above for rule in RELAYCORE.up} == {
        "request_rate": 150.0,
        "cpu_usage": 0.75,
        "routing_latency": 75.0,
    }
    assert RELAYCORE.down is not None
    assert {one.metric: one.below for one in RELAYCORE.down.all_of} == {"request_rate": 50.0, "cpu_usage": 0.25}
    assert (RELAYCORE.down.idle_for, RELAYCORE.min, RELAYCORE.max) == (300.0, 2, 20)
    assert (NEUROWEAVER.min, NEUROWEAVER.max) == (1, 1)


def document(**changes: Any) -> dict[str, Any]:
    service = {"system": "relaycore", "min": 2, "max": 20, "up": [{"metric": "cpu_usage", "above": 0.75}]}
    service.update(changes)
    return {"services": {"relaycore": {name: value for name, value in service.items() if value is not None}}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"min": 21}, "services.relaycore: min 21 is above max 20"),
        ({"max": None}, "services.relaycore.max: Field required"),
        ({"min": None}, "services.relaycore.min: Field required"),
        ({"min": 0}, "services.relaycore.min: Input should be greater than or equal to 1 (got 0)"),
        ({"up": [{"metric": "cpu_usage"}]}, "services.relaycore.up.0.above: Field required"),
        ({"up": [{"metric": "cpu", "above": 0.5}]}, "unknown metric 'cpu'; known are cpu_usage"),
        ({"up": [{"metric": "cpu_usage", "above": "80ms"}]}, "unknown unit 'ms' in '80ms'; cpu_usage is in ratio"),
        ({"up": [{"metric": "cpu_usage", "above": 0}]}, "0 must be above 0"),
        (
            {"up": [{"metric": "cpu_usage", "above": 0.5, "for": 1}]},
            "services.relaycore.up.0.for: unknown field (got 1)",
        ),
        ({"tuning": {"tolerence": 0.1}}, "services.relaycore.tuning.tolerence: unknown field (got 0.1)"),
        ({"tuning": {"cooldown": "10 parsecs"}}, "unknown unit 'parsecs'"),
        (
            {"tuning": {"rate": {"percent": float("inf")}}},
            "tuning.rate.percent: Input should be a finite number (got inf)",
        ),
        ({"tuning": {"cooldown": "9" * 400}}, "tuning.cooldown: Input should be a finite number"),
        ({"tuning": {"effectiveness": {"ready_within": 0}}}, "ready_within: Input should be greater than 0"),
        ({"tuning": {"window": "2m"}}, "services.relaycore.tuning.window: Input should be less than or equal to 60"),
        ({"tuning": {"freshness": 0}}, "services.relaycore.tuning.freshness: Input should be greater than 0"),
        ({"tuning": {"effectiveness": {"window": "5m"}}}, "tuning.effectiveness.window: Input should be less than"),
        (
            {"up": [{"metric": "request_rate", "above": "150/s", "per_replica": False}]},
            "per_replica cannot be False: request_rate is measured per ready replica",
        ),
        (
            {"down": {"idle_for": "5m", "all": [{"metric": "cpu_usage", "below": 0.8}]}},
            "services.relaycore: cpu_usage: down below 0.8 overlaps up above 0.75, so both could hold",
        ),
        ({"down": {"idle_for": "5m", "all": []}}, "services.relaycore.down.all"),
        (
            {"breaches": [{"metric": "error_rate"}]},
            "'error_rate' cannot drive scaling: more replicas do not mend errors",
        ),
        ({"breaches": [{"metric": "latency"}]}, "unknown benchmark 'latency'"),
        ({"up": [{"metric": "cpu_usage", "above": 80}]}, "80 is more than all of it; cpu_usage goes up to 1"),
        ({"tuning": {"window": "0s"}}, "services.relaycore.tuning.window: Input should be greater than 0"),
        ({"tuning": {"window": "3m"}}, "services.relaycore.tuning.window: Input should be less than or equal to 60"),
        ({"tuning": {"freshness": "0s"}}, "services.relaycore.tuning.freshness: Input should be greater than 0"),
        ({"tuning": {"effectiveness": {"window": "5m"}}}, "effectiveness.window: Input should be less than or equal"),
        ({"tuning": {"effectiveness": {"ready_within": 0}}}, "effectiveness.ready_within: Input should be greater"),
        ({"sizing": {"concurrency": 8, "panic": {"factor": float("inf")}}}, "panic.factor: Input should be a finite"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_rule_is_refused_in_one_line_that_names_it(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        parse(ScalingRules, document(**changes), "scaling.yaml")
    line = str(refusal.value)
    assert line.startswith("scaling.yaml: services.relaycore")
    assert said in line
    assert "\n" not in line


def test_a_name_that_the_bus_cannot_carry_is_refused() -> None:
    data = {"services": {"relay.core": document()["services"]["relaycore"]}}
    with pytest.raises(ConfigError, match=r"'relay\.core' has a dot, .* write 'relay-core'"):
        parse(ScalingRules, data, "scaling.yaml")


@pytest.mark.parametrize(
    ("metric", "written", "meant"),
    [("cpu_usage", "80%", 0.8), ("routing_latency", "0.3 s", 300.0), ("request_rate", "9000/min", 150.0)],
)
def test_a_threshold_may_carry_its_unit(metric: str, written: str, meant: float) -> None:
    rules = parse(ScalingRules, document(up=[{"metric": metric, "above": written}]), "scaling.yaml")
    assert rules.services["relaycore"].up[0].above == pytest.approx(meant)


def test_a_service_overrides_only_the_tuning_it_names() -> None:
    data = document(tuning={"effectiveness": {"window": "5s"}})
    data["tuning"] = {"cooldown": "20s", "effectiveness": {"settle": "1s", "window": "30s"}}
    tuning = parse(ScalingRules, data, "scaling.yaml").services["relaycore"].tuning
    assert (tuning.cooldown, tuning.effectiveness.settle, tuning.effectiveness.window) == (20.0, 1.0, 5.0)


@pytest.mark.parametrize("written", ["0.05ms", "900000000000d"])
def test_rules_are_read_again_from_the_record_that_they_stand_in(written: str) -> None:
    rules = parse(ScalingRules, document(tuning={"cooldown": written}), "scaling.yaml").services["relaycore"]
    assert ServiceRules.model_validate_json(rules.model_dump_json()) == rules
