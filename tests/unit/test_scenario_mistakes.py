"""A mistake in a scenario is one line that names the field, found where it is read and not where it is run."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.console.catalogue import Catalogue
from services.console.plan import LoadOptions, Request, desire, plan_run
from shared.config import read_yaml
from shared.errors import ConfigError
from tests.unit.scenarios import scenario

NOW = datetime(2026, 5, 4, tzinfo=UTC)


def step(**changes: Any) -> dict[str, Any]:
    return {"steps": [{"action": "look", "system": "shop", "path": "/things"} | changes]}


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
        ({"targets": [{"metric": "response_time", "limit": float("nan"), "unit": "ms"}]}, "targets.0.limit"),
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
