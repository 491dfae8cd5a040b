"""Templates, conditions, expectations and captures."""

import json
from typing import Any

import pytest

from services.generator.answer import MISSING, Judge, compile_condition, compile_path
from services.generator.template import MissingVariableError, compile_body, compile_text
from services.generator.transport import Response
from shared.contracts.scenario import Capture, Condition, Expect
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
    with pytest.raises(MissingVariableError, match="id"):
        compile_body({"a": 1, "b": "${id}"})({})


def test_a_percent_sign_is_a_percent_sign() -> None:
    assert compile_text("/a%20b/${x}?p=100%")({"x": "%s"}) == "/a%20b/%s?p=100%"


def test_members_of_a_body_keep_their_order() -> None:
    assert compile_body({"a": "${x}", "b": 1, "c": "${x}"})({"x": 2**70}) == b'{"a": %d, "b": 1, "c": %d}' % (
        2**70,
        2**70,
    )
    assert compile_body({"b": "${x}", "a": 1})({"x": 2}) == b'{"b":2,"a":1}'


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
    assert compile_condition(tested)(json.loads(ANSWER)) is met


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
    judge = Judge(Expect.model_validate(expect), {})
    assert judge(Response(1, status=status, body=ANSWER), 20_000)[:2] == outcome


def test_a_request_that_failed_is_not_judged_further() -> None:
    judge = Judge(Expect(), {"id": "$.id"})
    assert judge(Response(1, ErrorKind.RESET), 20_000) == (ErrorKind.RESET, Check.NONE, {})


def keep(
    body: bytes, headers: tuple[tuple[str, str], ...] = (), **capture: str | dict[str, str]
) -> dict[str, Any] | None:
    """What is captured of an answer; None where it is not good."""
    whole = {name: how if isinstance(how, str) else Capture.model_validate(how) for name, how in capture.items()}
    error, _, kept = Judge(Expect(), whole)(Response(1, status=200, body=body, headers=headers), 1)
    return kept if error is ErrorKind.OK else None


def test_captures_are_kept_or_missed_as_a_whole() -> None:
    assert keep(ANSWER, id="$.id", n="$.steps[0].n") == {"id": "7", "n": 3}
    assert keep(ANSWER, id="$.id", n="$.other") is None
    assert keep(b"<html>", id="$.id") is None
    assert keep(b"<html>") == {}


def test_captures_by_pattern_and_from_headers() -> None:
    page = b'<form><input name="csrf" value="x-1"></form>'
    assert keep(page, token={"regex": 'value="([^"]+)"'}) == {"token": "x-1"}
    assert keep(page, token={"regex": "x-[0-9]"}) == {"token": "x-1"}
    assert keep(page, token={"regex": "y-[0-9]"}) is None
    headers = (("Location", "/things/42"),)
    assert keep(b"", headers, where={"header": "location"}) == {"where": "/things/42"}
    assert keep(b"", headers, id={"header": "location", "regex": r"(\d+)$"}) == {"id": "42"}
    assert keep(b"", headers, id={"header": "etag"}) is None


@pytest.mark.parametrize(
    ("expect", "good"),
    [
        ({"body_contains": '"done"'}, True),
        ({"body_contains": '"failed"'}, False),
        ({"body_matches": r'"id": "\d"'}, True),
        ({"body_matches": r'"id": "[a-z]"'}, False),
    ],
)
def test_bodies_may_be_checked_as_text(expect: dict[str, str], *, good: bool) -> None:
    verdict = Judge(Expect.model_validate(expect), {})(Response(1, status=200, body=ANSWER), 1)
    assert verdict[:2] == ((ErrorKind.OK, Check.PASSED) if good else (ErrorKind.CHECK, Check.FAILED))


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", {"a": [{"b": 1}, 2], "c-d": 3}),
        ("$.a", [{"b": 1}, 2]),
        ("$.a[0].b", 1),
        ("$.a[1]", 2),
        ("$.a[2]", MISSING),
        ("$.a.b", MISSING),
        ("$.missing[0]", MISSING),
        ("$.a[*].b", 1),
        ("$..b", 1),
        ("$['c-d']", 3),
    ],
)
def test_paths_are_walked_or_searched(path: str, found: object) -> None:
    assert compile_path(path)({"a": [{"b": 1}, 2], "c-d": 3}) == found
    assert compile_path(path)(MISSING) is MISSING or path == "$"


def test_text_is_no_list_of_letters() -> None:
    assert compile_path("$.a[0]")({"a": "xyz"}) is MISSING


def test_a_bad_json_path_is_refused_with_its_text() -> None:
    with pytest.raises(ConfigError, match=r"'\$\.\[' is no JSON path"):
        compile_path("$.[")
