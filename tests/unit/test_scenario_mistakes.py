"""A mistake in a scenario is one line that names the field, found where it is read and not where it is run."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.console.catalogue import Catalogue
from services.console.plan import LoadOptions, Request, desire, plan_run
from shared.config import read_yaml
from shared.contracts.scenario import Scenario
from shared.errors import ConfigError
from tests.unit.scenarios import scenario

NOW = datetime(2026, 5, 4, tzinfo=UTC)


def step(**changes: Any) -> dict[str, Any]:
    return {"steps": [{"action": "look", "system": "shop", "path": "/things"} | changes]}


def gate(**changes: Any) -> dict[str, Any]:
    return {"targets": [{"metric": "response_time", "limit": 100, "unit": "ms"} | changes]}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (step(headers={"X A": "b"}), "steps.0.headers: 'X A' is no header name"),
        (step(headers={"X-A": "a\nb: c"}), "steps.0.headers: the value of 'X-A' has a line break"),
        (step(headers={"X-A": "${user} \u20ac"}), "a sign that HTTP cannot carry"),
        (step(headers={"content-length": "5"}), "'content-length' is set on each request"),
        (step(headers={"Transfer-Encoding": "chunked"}), "'Transfer-Encoding' is set on each request"),
        (step(headers={"Traceparent": "00-1-2-01"}), "'Traceparent' is set on each request"),
        (step(headers={"Host": "shop-${user}"}), "'Host' must be the same in each request"),
        (step(body={"rate": float("nan")}), "steps.0.body: is no JSON"),
        (step(path="/things/${user"), "opens a template with ${ and does not close it"),
        (step(capture={"user": "$.id"}), "'user' is given to every user"),
        (step(capture={"a}b": "$.id"}), "'a}b' cannot stand in a template"),
        (step(capture={"secret.word": "$.id"}), "'secret.word' cannot stand in a template"),
        (step(expect={"status": 9999}), "steps.0.expect.status"),
        (step(expect={"status": []}), "steps.0.expect.status"),
        (step(timeout="0s"), "steps.0.timeout: Input should be greater than 0"),
        (step(first_byte_timeout=0), "steps.0.first_byte_timeout: Input should be greater than 0"),
        (step(valid_for="5m"), "give it once: true too"),
        (step(once=True, valid_for="soon"), "steps.0.valid_for: 'soon' is no duration"),
        (step(once=True), "all steps are done once"),
        (step(websocket={}), "step 'look': a websocket needs client: {transport: aiohttp} and the method GET"),
        (step(websocket={"messages": 2, "until": {"json": "$.a", "equals": 1}}), "give messages, or until, not both"),
        ({"client": {"transport": "aiohttp", "proxy": "nonsense"}}, "client: proxy is no http or https URL"),
        ({"client": {"transport": "aiohttp", "proxy": "http://h:99999"}}, "client: proxy is no http or https URL"),
        ({"vars": {"colour": []}}, "vars.colour"),
        ({"vars": {"run": ["a"]}}, "'run' is given to every user"),
        (gate(limit=float("nan")), "targets.0.limit"),
        (gate(limit=True), "targets.0.limit: true stands where a number belongs"),
        (gate(limit=0), "targets.0.limit: limit 0 ms must lie above 0"),
        (gate(limit=7.2e6), "targets.0.limit: limit 7.2e+06 ms is never broken"),
        (gate(unit="ratio"), "targets.0.unit: unit 'ratio' does not measure response_time; use 'ms'"),
        (gate(statistic="rate"), "targets.0.statistic: statistic 'rate' cannot be taken of response_time; use mean, "),
        (gate(action="lok"), "targets.0.action: no step has action 'lok' (did you mean 'look'?); there are look"),
        (gate(metric="error_rate", unit="ratio", limit=0), "limit 0 ratio must lie between 0 and 1, ends excluded"),
        (gate(metric="error_rate", unit="ratio", limit=-1), "targets.0.limit: limit -1 ratio must lie between"),
        (gate(metric="error_rate", unit="ratio", limit=5), "targets.0.limit: limit 5 ratio must lie between"),
        (gate(metric="error_rate", unit="ratio", limit=0.1, statistic="p99"), "use rate, or leave it out"),
        (gate(metric="throughput", unit="requests/s", limit=-1), "targets.0.limit: limit -1 requests/s must lie"),
        (gate(metric="workflow_execution_time") | {"workflow": False}, "targets.0.metric: workflow_execution_time is "),
        (gate(metric="workflow_execution_time", action="look"), "targets.0.action: workflow_execution_time is that"),
        ({"targets": 2 * gate()["targets"]}, "targets.1: a target for p95 response_time stands there already"),
    ],
)
def test_a_mistake_is_one_line_that_names_the_field(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=r"^test: ") as refused:
        scenario(**changes)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_credentials_of_a_proxy_are_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError, match="proxy carries credentials") as refused:
        scenario(client={"transport": "aiohttp", "proxy": "http://ann:hunter2@127.0.0.1:3128"})
    assert "hunter2" not in str(refused.value)


def test_what_is_right_stays_so() -> None:
    scenario(
        **step(headers={"Host": "shop.example.com", "X-A": "${user}"}, body={"a": "$5 {b}"}, capture={"2nd": "$.a"})
    )


def test_targets_that_differ_in_what_they_measure_stay_apart() -> None:
    targets = [gate(**changes)["targets"][0] for changes in ({}, {"statistic": "p99"}, {"action": "look"})]
    assert len(scenario(targets=targets).targets) == 3


def test_a_rate_is_the_statistic_of_rates() -> None:
    (rate,) = scenario(**gate(metric="error_rate", unit="ratio", limit=0.1)).targets
    assert rate.statistic == "rate"


def test_what_was_told_of_a_run_before_stays_readable() -> None:
    old = scenario().model_dump(mode="json", by_alias=True)
    old["targets"] = [{"metric": "error_rate", "statistic": "p95", "limit": 0, "unit": "ratio", "action": "gone"}]
    (kept,) = Scenario.model_validate_json(json.dumps(old)).targets
    assert (kept.limit, kept.action) == (0, "gone")


def test_a_file_nested_too_deep_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "deep.yaml"
    path.write_text("a: " + "[" * 3000 + "]" * 3000)
    with pytest.raises(ConfigError, match="nested too deep"):
        read_yaml(path)


def test_text_that_cannot_travel_is_refused_before_it_does(tmp_path: Path) -> None:
    path = tmp_path / "half.yaml"
    path.write_text('name: half\nsystem: shop\nsteps: [{action: look, system: shop, path: /, body: "\\ud800"}]\n')
    run = plan_run([Catalogue(tmp_path).load_scenario(str(path))], LoadOptions())
    with pytest.raises(ConfigError, match="cannot be written as UTF-8"):
        desire(run, "run-1", Request("local", {"shop": "http://127.0.0.1:9"}, ("127.0.0.1",)), NOW)
