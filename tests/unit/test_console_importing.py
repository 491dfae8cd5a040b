"""Documents of other tools become scenarios: valid, in an order that works, and without a secret in them."""

from pathlib import Path
from typing import Any

import pytest

from services.console.importing.draft import to_yaml
from services.console.importing.har import import_har
from services.console.importing.naming import Names, action_name, singular, snake, system_id
from services.console.importing.openapi import import_openapi
from services.console.importing.secrecy import is_secret_name
from services.console.importing.source import tell_kind
from shared.contracts.scenario import Scenario
from shared.errors import ConfigError
from tests.unit.imported import API, PETS_SWAGGER_2, SESSION, SHOP, THING, TOKEN, imported, log, read, request

SECRETS = ("hunter2", "abcd1234", "S3CR3TC00KIE", "KEY-9f8e7d6c", "0ther-t0ken", "123456\n", TOKEN, "xyzDEF123456")


def steps(scenario: Scenario) -> dict[str, Any]:
    return {step.action: step for step in scenario.steps}


@pytest.fixture
def shop(tmp_path: Path) -> Any:
    return read(tmp_path, SHOP)


def test_operations_come_in_an_order_that_works(shop: Any) -> None:
    scenario, _ = imported(import_openapi, shop)
    assert [step.action for step in scenario.steps] == [
        *("createThing", "get_things", "getThing", "change_thing", "deleteThing", "get_search", "get_colours_name"),
    ]


def test_what_one_operation_creates_the_next_ones_use(shop: Any) -> None:
    found = steps(imported(import_openapi, shop)[0])
    assert found["createThing"].capture == {"thing_id": "$.id"}
    assert {found[name].path for name in ("getThing", "change_thing", "deleteThing")} == {"/things/${thing_id}"}


def test_without_its_creation_an_id_is_a_variable(shop: Any) -> None:
    scenario, _ = imported(import_openapi, shop, operations=("getThing",))
    assert scenario.vars == {"thing_id": "00000000-0000-4000-8000-000000000000"}


def test_a_body_is_made_of_its_schema(shop: Any) -> None:
    body = steps(imported(import_openapi, shop)[0])["createThing"].body
    assert body == {
        "name": "cost ${dollar}{amount",
        "made": "2026-02-03",
        "password": "${secret.password}",
        "tags": ["string"],
        "kind": "a",
    }


def test_parameters_are_variables_with_examples(shop: Any) -> None:
    scenario, _ = imported(import_openapi, shop)
    assert scenario.vars == {
        "dollar": "$",
        "limit": "5",
        "x_tenant": "a ${dollar}{b} c",
        "q": "a%26b c",
        "colour_name": "no",
    }
    assert steps(scenario)["get_things"].path == "/things?limit=${limit}"


def test_security_becomes_secrets_and_good_statuses_are_expected(shop: Any) -> None:
    found = steps(imported(import_openapi, shop)[0])
    assert found["getThing"].headers == {"Authorization": "Bearer ${secret.bearer_auth}"}
    assert found["get_search"].path == "/search?q=${q}&api_key=${secret.key}"
    assert found["get_colours_name"].headers == {}
    assert found["change_thing"].expect.status == [200, 202]
    assert found["get_things"].expect.status is None


def test_the_comments_say_whence_where_to_and_what_is_missing(shop: Any) -> None:
    text = to_yaml(imported(import_openapi, shop)[1])
    comments = text.partition("\nname: ")[0]
    assert comments.startswith("# Imported from doc: Shop API 1.0.0 (OpenAPI 3.0.3).\n")
    assert "--target shop_api=https://staging.example.com/v1 --allow-host staging.example.com" in comments
    assert "GET /old: deprecated" in comments
    assert "POST /upload: its body is multipart/form-data; only JSON can be sent" in comments
    assert "TIDEGATE_SECRET_BEARER_AUTH" in comments


def test_swagger_2_is_read_too() -> None:
    scenario, draft = imported(import_openapi, PETS_SWAGGER_2)
    assert draft.targets == {"pets": "http://pets.example.com/api"}
    found = steps(scenario)
    assert found["post_pets"].headers == {"Authorization": "Basic ${secret.login}", "X-Key": "${secret.key}"}
    assert found["post_pets"].body == {"id": 1, "name": "stringst"}
    assert found["get_pets_id"].path == "/pets/${pet_id}"
    assert found["head_pets_id"].path == "/pets/${pet_id}?since=${since}"
    assert found["get_shops_shop_pets_id"].path == "/shops/${shop}/pets/${pet_id_2}"
    assert draft.left_out == ["POST /pets/{id}/photo: its body is a form; only JSON can be sent"]


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": "#/components/schemas/Node"},
        {"allOf": [{"$ref": "#/components/schemas/Node"}, {"$ref": "#/components/schemas/Node"}]},
        {"type": ["array", "null"], "items": {"anyOf": [{"type": "null"}, {"$ref": "#/components/schemas/Node"}]}},
        {"type": "object", "additionalProperties": True, "example": {"n": float("nan"), 3: ["${x}"], "s": "\ud800"}},
        {"$ref": "other.yaml#/Thing"},
        {"const": False},
        True,
    ],
)
def test_whatever_the_schema_the_result_is_a_scenario(schema: Any) -> None:
    node = {
        "type": "object",
        "properties": {
            "next": {"$ref": "#/components/schemas/Node"},
            "all": {"type": "array", "items": {"$ref": "#/components/schemas/Node"}},
            "n": {"type": "number", "exclusiveMinimum": 2},
        },
    }
    document = {
        "openapi": "3.1.0",
        "paths": {"/a": {"post": {"requestBody": {"content": {"application/vnd.a+json": {"schema": schema}}}}}},
        "components": {"schemas": {"Node": node}},
    }
    scenario, _ = imported(import_openapi, document)
    assert scenario.steps[0].headers == {"Content-Type": "application/vnd.a+json"}


def test_a_schema_that_doubles_at_every_level_is_cut() -> None:
    def level(n: int) -> Any:
        return {"properties": {name: {"$ref": f"#/components/schemas/L{n + 1}"} for name in "abc"}}

    schemas = {f"L{n}": level(n) for n in range(14)} | {"L14": {"type": "string"}}
    body = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/L0"}}}}
    document = {
        "openapi": "3.0.0",
        "paths": {"/a": {"post": {"requestBody": body}}},
        "components": {"schemas": schemas},
    }
    assert len(to_yaml(imported(import_openapi, document)[1])) < 500_000


def test_deprecated_operations_come_when_they_are_named(shop: Any) -> None:
    assert [step.path for step in imported(import_openapi, shop, operations=("get_old",))[0].steps] == ["/old"]


def test_a_log_becomes_steps_with_captures() -> None:
    scenario, draft = imported(import_har, SESSION)
    found = steps(scenario)
    assert list(found) == [
        *("get_root", "post_login", "post_things", "get_things_thing_id"),
        *("get_things_thing_id_parts_id", "get_reset_secret"),
    ]
    assert found["post_login"].capture == {"access_token": "$.access_token", "user_id": "$.user.id"}
    assert found["post_things"].capture == {"thing_id": "$.id"}
    assert found["post_things"].headers == {
        "Authorization": "Bearer ${access_token}",
        "X-Request-Id": "${uuid}",
        "Accept": "*/*",
    }
    assert found["post_things"].body == {
        "owner": "${user_id}",
        "note": "see ${dollar}{user} cost ${dollar}{",
        "within": '{"password":"${secret.password}"}',
    }
    assert found["get_things_thing_id"].path == "/things/${thing_id}?by=${user_id}&t=a%20b"
    assert found["get_things_thing_id_parts_id"].path == "/things/${thing_id}/parts/998877?q=$%7Bx}"
    assert draft.targets == {
        "api_shop_example_com": "https://api.shop.example.com",
        "www_example_com": "https://www.example.com",
    }


def test_pauses_statuses_and_cookies_are_those_of_the_recording() -> None:
    scenario, _ = imported(import_har, SESSION)
    found = steps(scenario)
    assert (found["get_root"].think_time.min, found["get_root"].think_time.max) == (3.3, 3.3)
    assert found["post_things"].think_time.max == 5.0
    assert found["post_login"].think_time.max == 0
    assert [step.expect.status for step in scenario.steps] == [200, 200, 201, 200, 200, 503]
    assert scenario.client.cookies


def test_no_secret_of_a_log_is_in_its_scenario() -> None:
    text = to_yaml(imported(import_har, SESSION)[1])
    assert [secret for secret in SECRETS if secret in text] == []
    assert "max_tokens: 500" in text


@pytest.mark.parametrize(
    "sent",
    [
        request("GET", f"{API}/a?api_key=p%2Fq%3DS3CRET&z=1"),
        request("GET", f"{API}/a?filter=%7B%22password%22%3A%22S3CRET%22%7D"),
        request("GET", "https://bob:S3CRET@api.shop.example.com/a"),
        request("GET", f"{API}/a", headers={"Referer": f"{API}/?token=S3CRET", "Origin": "S3CRET"}),
        request("GET", f"{API}/a", headers={"authorization": "S3CRET"}),
        request("GET", f"{API}/a", headers={"Authorization": "Digest username=x, response=S3CRET"}),
        request("GET", f"{API}/a", headers={"X-Session-Id": "S3CRET"}),
        request("POST", f"{API}/a", body={"credentials": {"user": "S3CRET", "more": ["S3CRET", {"x": "S3CRET"}]}}),
        request("POST", f"{API}/a", body={"a": "Bearer S3CRETS3CRETS3CRET", "b": "use sk-live-S3CRETS3CRETS3CRET"}),
        request("POST", f"{API}/a", body={"a": "vT9xQ2mLr8KcZ4nWb7YdS3CRETe6"}),
        request("POST", f"{API}/a", body=[{"password": "S3CRET"}, "S3CRET"]),
        request("POST", f"{API}/a", body="password=S3CRET", kind="application/x-www-form-urlencoded"),
        request("POST", f"{API}/token/S3CRET0123456789ab", body="x", kind="text/plain"),
        request("GET", f"{API}/a#token=S3CRET"),
        request("GET", f"{API}/a", answer={"token": "S3CRETS3CRET", "id": "S3CRET77"}, given={"Set-Cookie": "S3CRET"}),
    ],
)
def test_a_secret_is_kept_out_wherever_it_stands(sent: Any) -> None:
    assert "S3CRET" not in to_yaml(imported(import_har, log(request("GET", f"{API}/b"), sent))[1])


def test_what_was_left_out_of_a_log_is_said() -> None:
    left_out = imported(import_har, SESSION)[1].left_out
    assert [line.partition(":")[0] for line in left_out] == [
        "request 8, POST /form",
        "request 10, GET /hang",
        "request 12, GET /socket",
    ]


def test_only_the_hosts_asked_for_are_taken() -> None:
    scenario, draft = imported(import_har, SESSION, hosts=("api.shop.example.com",), system="shop")
    assert scenario.systems == {"shop"}
    assert draft.targets == {"shop": "https://api.shop.example.com"}
    with pytest.raises(ConfigError, match=r"--host: no request to 'other'.*there are: www.example.com, api.shop"):
        imported(import_har, SESSION, hosts=("other",))
    with pytest.raises(ConfigError, match="--system: one name, but 2 hosts"):
        imported(import_har, SESSION, system="shop")


def test_a_number_is_captured_where_its_type_stays() -> None:
    scenario, _ = imported(
        import_har,
        log(
            request("POST", f"{API}/orders", answer={"data": {"order_id": 1234567}}),
            request("POST", f"{API}/pay", body={"order": 1234567, "text": "1234567"}),
            request("GET", f"{API}/orders/1234567/state"),
        ),
    )
    assert scenario.steps[0].capture == {"order_id": "$.data.order_id"}
    assert scenario.steps[1].body == {"order": "${order_id}", "text": "1234567"}
    assert scenario.steps[2].path == "/orders/${order_id}/state"


def test_an_id_is_taken_from_the_answer_about_the_thing_rather_than_from_a_list() -> None:
    entries = [
        request("GET", f"{API}/things", answer=[{"id": "aa-1111"}, {"id": THING}]),
        request("POST", f"{API}/things/pick", answer={"id": THING}),
        request("GET", f"{API}/things/{THING}"),
        request("GET", f"{API}/things/aa-1111"),
    ]
    scenario, _ = imported(import_har, log(*entries))
    assert [step.capture for step in scenario.steps] == [{"thing_id": "$[0].id"}, {"pick_id": "$.id"}, {}, {}]


def test_requests_to_the_same_place_are_one_action() -> None:
    scenario, _ = imported(import_har, log(*(request("GET", f"{API}/things/{n}?page={n}") for n in range(300))))
    assert {step.action for step in scenario.steps} == {"get_things_id"}
    with pytest.raises(ConfigError, match="300 actions are more than the 256"):
        imported(import_har, log(*(request("GET", f"{API}/t{n}") for n in range(300))))


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (request("POST", f"{API}/a", body="{broken"), "its body is application/json; only JSON can be sent"),
        (request("POST", f"{API}/a", body={"${key}": 1}), "a key of its body has"),
        (request("POST", f"{API}/a", body="<a/>", kind="text/xml"), "its body is text/xml"),
        (request("TRACE", f"{API}/a"), "method TRACE is none"),
        (request("GET", "wss://api.shop.example.com/a"), "wss is neither http nor https"),
    ],
    ids=["broken", "key", "xml", "method", "scheme"],
)
def test_a_request_that_cannot_be_expressed_is_left_out_with_its_reason(entry: Any, reason: str) -> None:
    _, draft = imported(import_har, log(request("GET", f"{API}/b"), entry))
    assert len(draft.left_out) == 1
    assert reason in draft.left_out[0]
    with pytest.raises(ConfigError, match="nothing to import"):
        imported(import_har, log(entry))


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "no OpenAPI document"),
        ({"openapi": "4.0.0", "paths": {"/": {"get": {}}}}, "openapi: '4.0.0' is not known; 3.0 and 3.1 are"),
        ({"swagger": 1.2}, "swagger: '1.2' is not known; 2.0 is"),
        ({"openapi": "3.0.0"}, "paths: no operations"),
        ({"openapi": "3.0.0", "paths": {"/a": {"options": {}}}}, "paths: no operations that can be sent"),
        ({"openapi": "3.0.0", "paths": {"a": {}}}, "paths: 'a' does not begin with /"),
        ({"openapi": "3.0.0", "paths": {"/a": {"$ref": "#/nope"}}}, r"\$ref '#/nope': points to nothing"),
        ({"openapi": "3.0.0", "paths": {"/a": {"$ref": "#/paths/~1a"}}}, "points to itself"),
        ({"openapi": "3.0.0", "paths": {f"/a{n}": {"get": {}} for n in range(257)}}, "257 operations are more than"),
    ],
    ids=["list", "version", "swagger", "no paths", "nothing to send", "path", "reference", "circle", "many"],
)
def test_a_wrong_openapi_document_is_one_line(document: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        imported(import_openapi, document)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "log: missing"),
        (log(version="2.0"), "log.version: HAR '2.0' is not known; 1.2 is"),
        (log(), "log.entries: no requests"),
        (log("x"), r"log.entries\[0\]: request.url and request.method are missing"),
        (log(request("GET", "http://[::1/")), r"log.entries\[0\]: request.url is no URL"),
        (log(request("GET", f"{API}/a.png", mime="")), "nothing to import"),
    ],
    ids=["no log", "version", "empty", "no entry", "url", "static only"],
)
def test_a_wrong_log_is_one_line(document: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        imported(import_har, document)


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ('{"log": {', "a.har", "a.har line 1: .*; not JSON"),
        ("a: [", "a.yaml", "a.yaml:2: "),
        ("a: b: c", "a.yaml", "a.yaml:1: "),
        ("[" * 100_000, "a.json", "nested too deep"),
        ("hello", "a.txt", "neither an OpenAPI document .* nor a HAR log"),
        ("", "a.txt", "neither an OpenAPI document"),
    ],
)
def test_a_file_that_is_neither_json_nor_yaml_is_one_line(tmp_path: Path, text: str, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        tell_kind(read(tmp_path, text, name), "a")


def test_yaml_words_stay_words(tmp_path: Path) -> None:
    assert read(tmp_path, "{a: no, b: 2026-01-31, c: 1.5, d: 12, e: 012, f: ~, g: true, h: 1e3, i: 12:30}") == {
        **{"a": "no", "b": "2026-01-31", "c": 1.5, "d": 12},
        **{"e": "012", "f": None, "g": True, "h": 1000.0, "i": "12:30"},
    }


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("X-Auth-Token", "x", True),
        ("apiKey", "x", True),
        ("client_secret", "x", True),
        ("sessionId", "x", True),
        ("pin", 1234, True),
        ("max_tokens", 100, False),
        ("token_type", "Bearer", False),
        ("author", "x", False),
        ("keyword", "x", False),
        ("shipping", "x", False),
    ],
)
def test_secrets_are_told_by_name(name: str, value: Any, secret: bool) -> None:
    assert is_secret_name(name, value) is secret


def test_names_are_valid_and_given_once() -> None:
    assert [snake("thingId"), snake("HTTPServer"), snake("Größe"), snake("日本")] == [
        *("thing_id", "http_server", "groe", "value"),
    ]
    assert action_name("/a b/{c}", "x") == "a_b_c"
    assert system_id("API.Example.com:8080") == "api_example_com_8080"
    assert [singular(word) for word in ("entries", "boxes", "things", "address")] == [
        "entry",
        "box",
        "thing",
        "address",
    ]
    names = Names(longest=6)
    assert [names.give("user"), names.give("user"), names.give("thing_long"), names.give("thing_long")] == [
        *("user_2", "user_3", "thing_", "thin_2"),
    ]
