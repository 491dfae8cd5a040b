"""Whatever a document holds, what is made of it is a scenario, and no secret of it is told."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.console.importing.draft import to_yaml
from services.console.importing.har import import_har
from services.console.importing.openapi import import_openapi
from tests.unit.imported import API, THING, imported, log, request

texts = st.text(max_size=12) | st.sampled_from(["${user}", "${", "$", "}", "a ${x} b", "%", "…", THING, "id-123456"])
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)
entries = st.builds(
    lambda method, path, answer, body, headers: request(
        method, f"{API}/{path}", answer=answer, body=body, headers=headers
    ),
    st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
    st.text("ab/${}?=&%#;0123456789é ", max_size=12) | st.sampled_from([THING, "a?id=id-123456&b=${x}"]),
    values,
    values,
    st.dictionaries(st.sampled_from(["X-A", "x-b", "Accept", "Authorization"]), texts, max_size=2),
)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(entries, min_size=1, max_size=5), st.text("abcXYZ0123456789+/=-_ €", min_size=8, max_size=40))
def test_any_log_becomes_a_valid_scenario_that_tells_no_secret(made: list[Any], secret: str) -> None:
    secret = f"7q{secret.strip()}Zz"
    first = request(
        "POST", f"{API}/in", body={"password": secret, "again": [secret]}, headers={"X-Auth-Token": "s3cr3t!"}
    )
    later = request("GET", f"{API}/out", headers={"X-Note": f"{secret}"})
    text = to_yaml(imported(import_har, log(first, *made, later))[1])
    assert secret not in text
    assert "s3cr3t!" not in text


schemas = st.recursive(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["string", "integer", "number", "boolean", "null", "array", "object", "other"])},
        optional={
            "example": values,
            "enum": st.lists(values, max_size=2),
            "format": st.sampled_from(["uuid", "date", "password", "x"]),
            "minimum": st.integers(),
            "maxLength": st.integers(0, 9),
            "$ref": st.just("#/components/schemas/One"),
        },
    ),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "items": inner,
            "properties": st.dictionaries(texts, inner, max_size=3),
            "oneOf": st.lists(inner, max_size=2),
            "allOf": st.lists(inner, max_size=2),
        },
    ),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.text("ab/${}?=&%#;", max_size=12), texts.filter(bool), schemas, schemas, st.sampled_from(["get", "post", "put"])
)
def test_any_description_becomes_a_valid_scenario(path: str, name: str, one: Any, two: Any, method: str) -> None:
    operation = {
        "operationId": name,
        "parameters": [{"in": place, "name": name, "required": True, "schema": one} for place in ("query", "header")],
        "requestBody": {"content": {"application/json": {"schema": two}}},
        "responses": {"200": {"content": {"application/json": {"schema": one}}}},
    }
    document = {
        "openapi": "3.1.0",
        "info": {"title": name},
        "paths": {f"/{path}": {method: operation}, f"/x{path}/{{{name}}}": {"get": operation}, "/safe": {"get": {}}},
        "components": {"schemas": {"One": two}},
    }
    imported(import_openapi, document)
