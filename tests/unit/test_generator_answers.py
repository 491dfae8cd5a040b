"""Templates, conditions, expectations and captures."""

import json
from typing import Any

import pytest

from services.generator.answer import captured, compile_path, holds, judge
from services.generator.template import MissingVariableError, compile_body, compile_text
from shared.contracts.scenario import Condition, Expect
from shared.contracts.timing import Check, ErrorKind
from shared.errors import ConfigError

ANSWER = json.dumps({"id": "7", "state": "done", "steps": [{"n": 3}], "flag": True, "nothing": None}).encode()


def condition(path: str, **tests: Any) -> Condition:
    return Condition.model_validate({"json": path, **tests})


def test_a_text_is_filled_with_the_users_variables() -> None:
    assert compile_text("/things/${id}/by/${user}")({"id": 7, "user": 3}) == "/things/7/by/3"


def test_a_whole_template_in_a_body_keeps_its_type() -> None:
    body = compile_body({"n": "${number}", "text": "n=${number}", "list": ["${flag}", 1.5]})
    assert json.loads(body({"number": 4, "flag": True}) or b"") == {"n": 4, "text": "n=4", "list": [True, 1.5]}


def test_a_missing_variable_is_named() -> None:
    with pytest.raises(MissingVariableError, match="token"):
        compile_text("Bearer ${token}")({})


def test_no_body_is_no_body() -> None:
    assert compile_body(None)({}) is None


@pytest.mark.parametrize(
    ("tested", "met"),
    [
        (condition("$.state", equals="done"), True),
        (condition("$.state", equals="new"), False),
        (condition("$.state", one_of=["new", "done"]), True),
        (condition("$.steps[0].n", at_least=3), True),
        (condition("$.steps[0].n", at_most=2), False),
        (condition("$.steps[0].n", at_least=1, at_most=5), True),
        (condition("$.flag", at_least=0), False),
        (condition("$.missing", equals="x"), False),
        (condition("$.missing", exists=False), True),
        (condition("$.nothing", exists=False), True),
        (condition("$.id", exists=True), True),
        (condition("$.id", exists=False), False),
    ],
)
def test_conditions_hold_or_not(tested: Condition, met: bool) -> None:
    assert holds(tested, json.loads(ANSWER)) is met


@pytest.mark.parametrize(
    ("expect", "status", "outcome"),
    [
        ({}, 200, (ErrorKind.OK, Check.NONE)),
        ({}, 302, (ErrorKind.OK, Check.NONE)),
        ({}, 404, (ErrorKind.STATUS, Check.NONE)),
        ({}, 401, (ErrorKind.AUTH, Check.NONE)),
        ({"status": 404}, 404, (ErrorKind.OK, Check.NONE)),
        ({"status": [200, 201]}, 202, (ErrorKind.STATUS, Check.NONE)),
        ({"json": [{"json": "$.id", "equals": "7"}]}, 200, (ErrorKind.OK, Check.PASSED)),
        ({"json": [{"json": "$.id", "equals": "8"}]}, 200, (ErrorKind.CHECK, Check.FAILED)),
        ({"within_ms": 10}, 200, (ErrorKind.CHECK, Check.FAILED)),
        ({"within_ms": 30}, 200, (ErrorKind.OK, Check.PASSED)),
    ],
)
def test_an_answer_is_judged(expect: dict[str, Any], status: int, outcome: tuple[ErrorKind, Check]) -> None:
    assert judge(Expect.model_validate(expect), status, ANSWER, 20.0) == outcome


def test_captures_are_kept_or_missed_as_a_whole() -> None:
    assert captured({"id": "$.id", "n": "$.steps[0].n"}, ANSWER) == {"id": "7", "n": 3}
    assert captured({"id": "$.id", "n": "$.other"}, ANSWER) is None
    assert captured({"id": "$.id"}, b"<html>") is None
    assert captured({}, b"<html>") == {}


def test_a_bad_json_path_is_refused_with_its_text() -> None:
    with pytest.raises(ConfigError, match=r"'\$\.\[' is no JSON path"):
        compile_path("$.[")
