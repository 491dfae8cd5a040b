"""Small OpenAPI documents and HAR logs for the tests of importing, and the proof of what is made of them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from services.console.importing.draft import Draft, Wish, to_yaml
from services.console.importing.source import read_document
from services.console.json_paths import check_json_paths
from services.generator.compiled import compile_run
from services.generator.event_stream import EventStream
from shared.clock import Anchor
from shared.config import parse
from shared.contracts.run import Load
from shared.contracts.scenario import Scenario
from shared.contracts.sendable import TEMPLATE
from tests.unit.scenarios import desired

API = "https://api.shop.example.com"
TOKEN = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcDEF123456"
THING = "5b0c1c54-8a7e-4d7d-a3a0-1f2e3d4c5b6a"

SHOP = """
openapi: 3.0.3
info: {title: Shop API, version: 1.0.0}
servers: [{url: "https://{env}.example.com/v1", variables: {env: {default: staging}}}]
security: [{bearerAuth: []}]
paths:
  /things/{thingId}:
    parameters: [{name: thingId, in: path, required: true, schema: {type: string, format: uuid}}]
    delete: {operationId: deleteThing, responses: {'204': {description: gone}}}
    get: {operationId: getThing, responses: {'200': {description: ok}}}
    put:
      operationId: change thing!
      requestBody: {content: {application/json: {schema: {$ref: '#/components/schemas/Thing'}}}}
      responses: {200: {description: ok}, 202: {description: later}}
  /things:
    get:
      parameters:
        - {name: limit, in: query, required: true, schema: {type: integer, minimum: 5}}
        - {name: sort, in: query, schema: {type: string}}
        - {name: X-Tenant, in: header, required: true, schema: {type: string, example: "a ${b} c"}}
      responses: {default: {description: ok}}
    post:
      operationId: createThing
      requestBody: {required: true, content: {application/json: {schema: {$ref: '#/components/schemas/Thing'}}}}
      responses: {'201': {content: {application/json: {schema: {$ref: '#/components/schemas/Thing'}}}}}
  /old: {get: {deprecated: true, responses: {'200': {description: ok}}}}
  /upload: {post: {requestBody: {content: {multipart/form-data: {}}}, responses: {'200': {description: ok}}}}
  /search:
    get:
      security: [{key: []}, {}]
      parameters: [{name: q, in: query, required: true, example: "a&b c"}]
      responses: {2XX: {description: ok}}
  /colours/{name}:
    get:
      security: []
      parameters: [{name: name, in: path, required: true, schema: {enum: [no, red]}}]
      responses: {'200': {description: ok}}
components:
  securitySchemes:
    bearerAuth: {type: http, scheme: bearer}
    key: {type: apiKey, in: query, name: api_key}
  schemas:
    Base: {type: object, properties: {id: {type: string, format: uuid, readOnly: true}}}
    Thing:
      allOf:
        - $ref: '#/components/schemas/Base'
        - type: object
          properties:
            name: {type: string, example: "cost ${amount"}
            made: {type: string, format: date, example: 2026-02-03}
            password: {type: string, example: hunter2}
            parent: {$ref: '#/components/schemas/Thing'}
            tags: {type: array, items: {type: string}}
            kind: {oneOf: [{type: string, enum: [a, b]}, {type: integer}]}
"""

PETS_SWAGGER_2: dict[str, Any] = {
    "swagger": "2.0",
    "info": {"title": "Pets"},
    "host": "pets.example.com",
    "basePath": "/api",
    "schemes": ["http"],
    "consumes": ["application/json"],
    "securityDefinitions": {"login": {"type": "basic"}, "key": {"type": "apiKey", "in": "header", "name": "X-Key"}},
    "paths": {
        "/pets": {
            "post": {
                "security": [{"login": [], "key": []}],
                "parameters": [{"in": "body", "name": "pet", "schema": {"$ref": "#/definitions/Pet"}}],
                "responses": {"200": {"schema": {"$ref": "#/definitions/Pet"}}},
            }
        },
        "/pets/{id}/photo": {"post": {"parameters": [{"in": "formData", "name": "file", "required": True}]}},
        "/pets/{id}": {
            "get": {"parameters": [{"in": "path", "name": "id", "type": "integer"}]},
            "head": {"parameters": [{"in": "query", "name": "since", "required": True, "type": "string"}]},
        },
        "/shops/{shop}/pets/{id}": {"get": {"parameters": [{"in": "path", "name": "id", "type": "integer"}]}},
    },
    "definitions": {"Pet": {"properties": {"id": {"type": "integer"}, "name": {"type": "string", "minLength": 8}}}},
}


def request(method: str, url: str, status: int = 200, answer: Any = None, body: Any = None, **more: Any) -> Any:
    """An entry of a log: ``headers`` sent and ``given`` by name, ``kind`` of the body, ``mime`` of the answer."""
    sent: dict[str, Any] = {"method": method, "url": url, "headers": _listed(more.get("headers", {}))}
    if body is not None:
        text = body if isinstance(body, str) else json.dumps(body)
        sent["postData"] = {"mimeType": more.get("kind", "application/json"), "text": text}
    content = {"mimeType": more.get("mime", "application/json"), "text": "" if answer is None else json.dumps(answer)}
    got = {"status": status, "headers": _listed(more.get("given", {})), "content": content}
    entry = {"request": sent, "response": got, "time": more.get("took", 0.05) * 1000}
    return entry | ({"startedDateTime": f"2026-01-31T12:00:{more['at']:06.3f}Z"} if "at" in more else {})


def _listed(headers: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in headers.items()]


def log(*entries: Any, version: str = "1.2") -> dict[str, Any]:
    return {"log": {"version": version, "creator": {"name": "browser"}, "entries": list(entries)}}


SESSION = log(
    request("GET", "https://www.example.com/", mime="text/html", at=0),
    request("GET", "https://www.example.com/a.css", mime="text/css", at=0.1),
    request("GET", "https://www.example.com/logo.png?v=2", mime="", at=0.1),
    request(
        "POST",
        f"{API}/login",
        answer={"access_token": TOKEN, "user": {"id": "u-829311"}, "expires_in": 3600},
        body={"username": "bob", "password": "hunter2", "otp": 123456, "max_tokens": 500},
        headers={"Cookie": "sid=S3CR3TC00KIE", "sec-ch-ua": "x", "User-Agent": "u", "x-api-key": "KEY-9f8e7d6c"},
        given={"Set-Cookie": "a=b"},
        at=3.45,
    ),
    request(
        "POST",
        f"{API}/things?api_key=abcd1234&x=1",
        201,
        answer={"id": THING, "number": 12345678},
        body={"owner": "u-829311", "note": "see ${user} cost ${", "within": '{"password":"hunter2"}'},
        headers={"Authorization": f"Bearer {TOKEN}", "Cookie": "a=b", "X-Request-Id": "abc", "Accept": "*/*"},
        at=4,
    ),
    request(
        "GET", f"{API}/things/{THING}?by=u-829311&t=a%20b", 304, headers={"Authorization": f"Bearer {TOKEN}"}, at=9
    ),
    request(
        "GET", f"{API}/things/{THING}/parts/998877?q=${{x}}", headers={"Authorization": "Bearer 0ther-t0ken"}, at=9.1
    ),
    request("POST", f"{API}/form", body="user=bob&password=hunter2", kind="application/x-www-form-urlencoded", at=9.2),
    request("OPTIONS", f"{API}/x", 204, at=9.3),
    request("GET", f"{API}/hang", 0, at=9.3),
    request("GET", f"{API}/reset/{TOKEN.replace('abc', 'xyz')}", 503, at=9.4),
    request("GET", f"{API}/socket", 101, at=9.4),
)


def imported(make: Callable[[Any, str, str, Wish], Draft], document: Any, **wish: Any) -> tuple[Scenario, Draft]:
    """A draft that is proved: the contract takes it, its YAML reads as the same, and a worker could run it."""
    draft = make(document, "doc", "doc", Wish(**wish))
    scenario = parse(Scenario, draft.scenario, "doc")
    check_json_paths(scenario)
    assert yaml.safe_load(to_yaml(draft)) == draft.scenario
    assert set(draft.targets) == scenario.systems
    names = set().union(*(step.templates() for step in scenario.steps), TEMPLATE.findall(str(scenario.vars)))
    secrets = {name.removeprefix("secret."): "x" for name in names if name.startswith("secret.")}
    assert secrets.keys() <= draft.secrets.keys()
    run = desired(
        loads=(Load(scenario=scenario, users=1, duration_s=60.0),),
        targets=dict.fromkeys(scenario.systems, "http://127.0.0.1:9"),
    )
    compile_run(run, secrets, lambda system: EventStream("run-1", "w1", 1, system, Anchor.now()))
    return scenario, draft


def read(tmp_path: Path, text: str, name: str = "doc.yaml") -> Any:
    path = tmp_path / name
    path.write_text(text)
    return read_document(path)
