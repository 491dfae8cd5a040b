"""The benchmarks document: the user's numbers verbatim, and one clear line for what could never be judged."""

import copy
from pathlib import Path
from typing import Any

import pytest

from services.validator.settings import Settings
from shared.config import load_document, parse
from shared.contracts.benchmarks import Benchmarks, samples_to_confirm
from shared.errors import ConfigError
from shared.settings import PROJECT_ROOT

REQUIRED = """
autmatrix api_response_time 200 500 ms lower
autmatrix workflow_execution_time 30000 60000 ms lower
autmatrix throughput 100 50 requests/s higher
autmatrix error_rate 0.01 0.05 ratio lower
autmatrix cpu_usage 0.8 0.95 ratio lower
autmatrix memory_usage 4096 6144 MB lower
relaycore routing_latency 50 100 ms lower
relaycore ai_request_throughput 200 100 requests/s higher
relaycore cost_optimization_time 10 50 ms lower
relaycore error_rate 0.005 0.02 ratio lower
relaycore cpu_usage 0.7 0.9 ratio lower
relaycore memory_usage 2048 4096 MB lower
neuroweaver inference_latency 1000 3000 ms lower
neuroweaver model_load_time 5000 15000 ms lower
neuroweaver concurrent_inferences 50 20 requests_in_flight higher
neuroweaver error_rate 0.01 0.03 ratio lower
neuroweaver gpu_usage 0.8 0.95 ratio lower
neuroweaver memory_usage 8192 12288 MB lower
"""


def test_the_shipped_benchmarks_are_the_users() -> None:
    document = load_document(Benchmarks, PROJECT_ROOT / "config" / "benchmarks.yaml")
    shipped = [
        f"{system} {b.metric} {b.target:g} {b.critical:g} {b.unit.replace(' ', '_')} {b.better}"
        for system, owner in document.systems.items()
        for b in owner.benchmarks
    ]
    assert shipped == REQUIRED.split("\n")[1:-1]
    names = {system: (owner.service, owner.name) for system, owner in document.systems.items()}
    assert names == {
        "autmatrix": ("autmatrix-backend", "AutoMatrix"),
        "relaycore": ("relaycore", "RelayCore"),
        "neuroweaver": ("neuroweaver-backend", "NeuroWeaver"),
    }


GOOD: dict[str, Any] = {
    "metric": "api_response_time",
    "target": 200,
    "critical": 500,
    "unit": "ms",
    "better": "lower",
    "source": "response_time",
}


def document(**changes: Any) -> dict[str, Any]:
    benchmark = {**copy.deepcopy(GOOD), **changes}
    return {"systems": {"autmatrix": {"service": "autmatrix-backend", "name": "A", "benchmarks": [benchmark]}}}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"critical": 100}, "critical 100 must lie above target 200", id="critical on the wrong side"),
        pytest.param(
            {"metric": "throughput", "source": "throughput", "unit": "requests/s", "better": "higher"},
            "critical 500 must lie below target 200",
            id="critical on the wrong side of a higher-is-better one",
        ),
        pytest.param({"unit": "s"}, "unit 's' does not measure response_time; use 'ms'", id="another unit"),
        pytest.param({"percentile": 95}, "percentile: unknown field", id="unknown field"),
        pytest.param({"statistic": "p99"}, "min_samples 200 can never confirm p99 at 95 %; use at least 299", id="p99"),
        pytest.param({"min_samples": 58}, "use at least 59", id="too few for p95"),
        pytest.param({"statistic": "rate"}, "statistic 'rate' cannot be taken of source response_time", id="rate"),
        pytest.param({"better": "higher", "critical": 100}, "better must be lower", id="wrong direction"),
        pytest.param({"source": "rumour"}, "source: Input should be", id="unknown source"),
        pytest.param(
            {"source": "resource"}, "unknown resource metric 'api_response_time'; known: concurrent_inf", id="r"
        ),
        pytest.param({"window": "10 parsecs"}, "unknown unit 'parsecs'", id="unknown duration"),
        pytest.param({"window": "500ms"}, "shorter than the 1 s of a cell", id="window too short"),
        pytest.param({"window": "2m"}, "max_window of 60 s is below window 120 s", id="window too long"),
        pytest.param({"significance": 0.5}, "less than or equal to 0.05", id="significance"),
        pytest.param({"source": "workflow_time", "actions": ["x"]}, "has no actions to choose from", id="actions"),
        pytest.param(
            {"metric": "error_rate", "source": "error_rate", "unit": "ratio", "target": 1, "critical": 5},
            "lie between 0 and 1",
            id="error rate in per cent",
        ),
    ],
)
def test_what_could_never_be_judged_is_refused_in_one_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(Benchmarks, document(**changes), "benchmarks.yaml")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith("benchmarks.yaml: systems.autmatrix.benchmarks.0")


def test_a_metric_stands_there_once() -> None:
    twice = document()
    twice["systems"]["autmatrix"]["benchmarks"] *= 2
    with pytest.raises(ConfigError, match="metric 'api_response_time' stands there 2 times"):
        parse(Benchmarks, twice, "benchmarks.yaml")


def test_a_run_reaches_what_its_systems_call() -> None:
    shipped = load_document(Benchmarks, PROJECT_ROOT / "config" / "benchmarks.yaml")
    assert shipped.reached(["autmatrix"]) == {"autmatrix", "relaycore", "neuroweaver"}
    assert shipped.reached(["neuroweaver"]) == {"neuroweaver"}


def test_a_call_to_an_unknown_system_is_refused() -> None:
    calling = document()
    calling["systems"]["autmatrix"]["calls"] = ["relaycor"]
    with pytest.raises(ConfigError, match="autmatrix calls 'relaycor', which is no system here: autmatrix"):
        parse(Benchmarks, calling, "benchmarks.yaml")


@pytest.mark.parametrize(("statistic", "samples"), [("p95", 59), ("p99", 299), ("p999", 2995), ("mean", 2)])
def test_samples_that_confirm_a_percentile(statistic: str, samples: int) -> None:
    assert samples_to_confirm(statistic) == samples


def test_the_file_to_judge_by_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().benchmarks_path == PROJECT_ROOT / "config" / "benchmarks.yaml"
    monkeypatch.setenv("TIDEGATE_BENCHMARKS", "/elsewhere/b.yaml")
    assert Settings().benchmarks_path == Path("/elsewhere/b.yaml")
