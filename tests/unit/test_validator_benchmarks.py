"""The benchmarks document: the user's numbers verbatim, and one clear line for what could never be judged."""

import copy
from pathlib import Path
from typing import Any

import pytest

from services.validator.settings import Settings
from shared.config import load_document, parse
from shared.contracts.benchmarks import Benchmarks, samples_to_confirm
from shared.contracts.judgeable import find_doubts
from shared.errors import ConfigError
from shared.settings import PROJECT_ROOT, SettingsError, read_settings

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


THROUGHPUT: dict[str, Any] = {
    "metric": "throughput", "source": "throughput", "unit": "requests/s", "better": "higher", "critical": 50,
}  # fmt: skip
ERRORS: dict[str, Any] = {
    "metric": "error_rate", "source": "error_rate", "unit": "ratio", "target": 0.01, "critical": 0.05,
}  # fmt: skip
CPU: dict[str, Any] = {
    "metric": "cpu_usage", "source": "resource", "unit": "ratio", "target": 0.7, "critical": 0.9,
}  # fmt: skip


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
        pytest.param({"source": "rumour"}, "source: api_response_time: unknown source 'rumour'", id="unknown source"),
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
        pytest.param(
            {"metric": "api.response_time"},
            "metric: 'api.response_time' has a dot, which parts the subjects of the bus; write 'api_response_time'",
            id="a dot",
        ),
        pytest.param({"metric": "error_rate_drift"}, "is what the drift of a canary is called", id="name of a drift"),
        pytest.param({"source": ["response_time"]}, "unknown source ['response_time']", id="a list for a source"),
        pytest.param({"target": True}, "target: true stands where a number belongs", id="yes for a number"),
        pytest.param({"min_samples": True}, "min_samples: true stands where a number belongs", id="yes for a count"),
        pytest.param({"target": "1e400 ms"}, "target: api_response_time: '1e400 ms' is no figure", id="no float"),
        pytest.param({"target": "1e-9999999999"}, "target 0 ms is never met", id="endless digits"),
        pytest.param({"target": 1e300, "critical": 1e301}, "1e+300 ms is beyond all that is measured", id="absurd"),
        pytest.param({"target": 0}, "target: api_response_time: target 0 ms is never met", id="no time"),
        pytest.param({"target": "0.5 us"}, "target 0.0005 ms is never kept: times are told apart from 1 us", id="tiny"),
        pytest.param({"critical": "60 min"}, "critical 3.6e+06 ms is never broken: times are told apart up", id="hour"),
        pytest.param(
            {**THROUGHPUT, "critical": 0}, "critical: throughput: critical 0 is never broken", id="nothing is less"
        ),
        pytest.param(
            {**ERRORS, "target": 1e-20}, "target: error_rate: target 1e-20 is never met: to confirm it", id="no errors"
        ),
        pytest.param({**CPU, "critical": 95}, "critical: cpu_usage: critical 95 is more than all of it", id="95 of 1"),
        pytest.param(
            {**CPU, "min_samples": 61},
            "min_samples: cpu_usage: a resource is read once a second, so max_window 60 s never holds min_samples 61; "
            "use at most 60, or a longer max_window, up to 120 s",
            id="more readings than seconds",
        ),
        pytest.param(
            {**CPU, "window": 3, "max_window": 4}, "max_window 4 s never holds min_samples 5; use at", id="few seconds"
        ),
        pytest.param(
            {"source": "span", "span": "x", "resource": "routing_latency", "window": 3, "max_window": 4},
            "max_window: api_response_time: routing_latency, for where no spans come, is read once a second",
            id="few seconds of readings",
        ),
        pytest.param({"min_samples": 10**9}, "are more than a run sends within max_window 60 s", id="samples"),
        pytest.param({"window": "121s", "max_window": "5m"}, "window of 121 s is longer than what is", id="window"),
        pytest.param({"max_window": "121s"}, "max_window of 121 s is longer than what is held of a run; use at most "
                     "120 s", id="max_window"),
        pytest.param({"significance": 1e-300}, "significance: Input should be greater than or equal to", id="never"),
    ],
)  # fmt: skip
def test_what_could_never_be_judged_is_refused_in_one_line(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse(Benchmarks, document(**changes), "benchmarks.yaml")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
    assert str(refused.value).startswith("benchmarks.yaml: systems.autmatrix.benchmarks.0")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"window": "2m", "max_window": "2m"}, id="the longest window"),
        pytest.param({"critical": "59 min"}, id="the longest time"),
        pytest.param({**CPU, "min_samples": 60}, id="a reading a second"),
        pytest.param({**CPU, "critical": 8, "instances": "sum"}, id="the CPUs of several instances"),
        pytest.param({**ERRORS, "target": 1e-6}, id="one error of a million"),
        pytest.param({"metric": "clock_drift"}, id="a drift of another kind"),
        pytest.param({"significance": 1e-12}, id="rarely"),
    ],
)
def test_what_can_be_judged_is_read(changes: dict[str, Any]) -> None:
    parse(Benchmarks, document(**changes), "benchmarks.yaml")


def test_the_metric_of_a_burn_rate_is_taken() -> None:
    both = document(objective="99.5 %")
    burning = {**GOOD, "metric": "api_response_time_burn_rate"}
    both["systems"]["autmatrix"]["benchmarks"].append(burning)
    with pytest.raises(
        ConfigError, match=r"benchmarks\.1\.metric: metric 'api_response_time_burn_rate' is what the burn"
    ):
        parse(Benchmarks, both, "benchmarks.yaml")
    del both["systems"]["autmatrix"]["benchmarks"][0]["objective"]
    parse(Benchmarks, both, "benchmarks.yaml")


def test_breaches_so_rare_that_nothing_ever_breaks_are_refused() -> None:
    with pytest.raises(ConfigError, match="false_breaches_per_day: Input should be greater than"):
        parse(Benchmarks, {**document(), "false_breaches_per_day": 1e-300}, "benchmarks.yaml")


def test_a_target_that_only_more_load_confirms_is_doubted_and_not_refused() -> None:
    slow = document(**ERRORS | {"target": 1e-4})
    assert not list(find_doubts(parse(Benchmarks, slow, "benchmarks.yaml")))
    slow["systems"]["autmatrix"]["benchmarks"].append({**THROUGHPUT, "target": 100})
    (doubt,) = find_doubts(parse(Benchmarks, slow, "benchmarks.yaml"))
    assert "autmatrix error_rate: to confirm target 0.0001 takes 29956 requests" in doubt
    assert "give 6000 within max_window 60 s, so below 500 requests/s" in doubt
    assert not list(find_doubts(load_document(Benchmarks, PROJECT_ROOT / "config" / "benchmarks.yaml")))


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


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_setting_that_is_no_number_is_told_as_such(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("TIDEGATE_DRIFT_CHANGE", value)
    with pytest.raises(SettingsError, match=f"TIDEGATE_DRIFT_CHANGE='{value}': Input should be a finite number"):
        read_settings(Settings)


def test_the_file_to_judge_by_can_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Settings().benchmarks_path == PROJECT_ROOT / "config" / "benchmarks.yaml"
    monkeypatch.setenv("TIDEGATE_BENCHMARKS", "/elsewhere/b.yaml")
    assert Settings().benchmarks_path == Path("/elsewhere/b.yaml")
