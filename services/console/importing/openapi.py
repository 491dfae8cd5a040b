"""An OpenAPI 3.0 or 3.1 or Swagger 2.0 document becomes a draft: a step for each operation, values as documented."""

import json
import re
from typing import Any
from urllib.parse import quote

from services.console.importing.draft import Draft, Wish, draft_scenario
from services.console.importing.naming import (
    DOLLAR,
    Names,
    one_line,
    scenario_name,
    singular,
    snake,
    system_id,
)
from services.console.importing.openapi_security import Credentials, read_credentials
from services.console.importing.operations import PARAMETER, Operation, collection_of, read_operations, server_url
from services.console.importing.references import References, Sampler
from services.console.importing.secrecy import Secrets, is_secret_name
from services.console.importing.source import plain
from services.console.importing.weaving import UnwritableError, Weaver
from shared.contracts.scenario import MAX_ACTIONS
from shared.contracts.sendable import HEADER_NAME, OWN_HEADERS
from shared.errors import ConfigError

MOST_BODY = 10_000
_GENERIC = frozenset({"id", "uuid", "guid", "key", "name", "slug", "code"})
# What a value may hold that becomes part of a path; the rest is encoded when the request is made.
_IN_PATH = " !$'()*,-.:;@[]^_`{|}~<>\"\\="
_IN_QUERY = _IN_PATH + "/"
_WRAPPERS = ("data", "result", "item")
_LEFT_OUT = OWN_HEADERS | {"accept", "content-type", "authorization", "user-agent", "host", "cookie"}


def import_openapi(document: Any, source: str, stem: str, wish: Wish) -> Draft:
    """The draft of a document's operations; ``ConfigError`` names what is wrong and where."""
    version = _version(document, source)
    references = References(document, source)
    operations, left_out = read_operations(document, references, source, wish.operations)
    if len(operations) > MAX_ACTIONS:
        raise ConfigError(
            f"{source}: {len(operations)} operations are more than the {MAX_ACTIONS} actions of a scenario; "
            "choose some with --operation"
        )
    raw = document.get("info")
    info = raw if isinstance(raw, dict) else {}
    title = one_line(str(info.get("title") or stem))
    system = wish.system or system_id(title)
    writer = _Writer(document, references, system)
    for operation in operations:
        try:
            writer.add(operation)
        except UnwritableError as error:
            left_out.append(f"{operation.place}: {error}")
    if not writer.steps:
        raise ConfigError(f"{source}: nothing to import: {'; '.join(left_out[:3])}")
    scenario = draft_scenario(scenario_name(title), title, writer.steps, writer.variables())
    about = f"{title} {one_line(str(info.get('version') or ''), 40)}".strip()
    return Draft(
        scenario,
        f"Imported from {source}: {about} ({version}).",
        ["What stands in `vars` and in bodies are examples of the document or placeholders: put real values there.",
         *writer.advice],
        left_out,
        {system: server_url(document)},
        writer.secrets.places,
    )  # fmt: skip


def _version(document: Any, source: str) -> str:
    if not isinstance(document, dict):
        raise ConfigError(f"{source}: no OpenAPI document: it has no fields")
    if "swagger" in document:
        if str(document["swagger"]) not in ("2.0", "2"):
            raise ConfigError(f"{source}: swagger: {one_line(str(document['swagger']), 20)!r} is not known; 2.0 is")
        return "Swagger 2.0"
    version = str(document.get("openapi", ""))
    if not re.match(r"3\.[01](\.|$)", version):
        raise ConfigError(f"{source}: openapi: {one_line(version, 20)!r} is not known; 3.0 and 3.1 are")
    return f"OpenAPI {one_line(version, 20)}"


class _Writer:
    """Writes steps one after another; what an operation creates is known to those after it."""

    def __init__(self, document: dict[str, Any], references: References, system: str) -> None:
        self._document, self._references, self._system = document, references, system
        self.secrets = Secrets(recorded=False)
        self.steps: list[dict[str, Any]] = []
        self.advice: list[str] = []
        self._sampler, self._answers = Sampler(references), Sampler(references, answers=True)
        self._weaver = Weaver(self.secrets)
        self._names = Names()
        self._variables: dict[str, str] = {}
        self._by_value: dict[tuple[str, str], str] = {}
        self._created: dict[str, tuple[dict[str, Any], Operation]] = {}
        self._captured: dict[tuple[str, str], str] = {}

    def variables(self) -> dict[str, str]:
        return ({DOLLAR: "$"} if self._weaver.has_dollar else {}) | self._variables

    def add(self, operation: Operation) -> None:
        """The step of an operation; ``UnwritableError`` when it needs what a scenario cannot send."""
        body, content_type = self._body(operation)
        credentials = read_credentials(self._document, self._references, operation.data, self.secrets, operation.place)
        headers = {"Content-Type": content_type} if content_type else {}
        headers |= self._headers(operation) | credentials.headers
        step: dict[str, Any] = {"action": operation.action, "system": self._system, "method": operation.method}
        step["path"] = self._path(operation, credentials)
        step["headers"], step["body"] = headers, body
        status = _good_statuses(operation)
        step["expect"] = {"status": status[0] if len(status) == 1 else status} if status else {}
        self.advice += [line for line in credentials.advice if line not in self.advice]
        self.steps.append(step)
        if operation.method == "POST" and not operation.path.rstrip("/").endswith("}"):
            self._created.setdefault(collection_of(operation.path), (step, operation))

    def _path(self, operation: Operation, credentials: Credentials) -> str:
        path = operation.path.partition("#")[0]
        declared = {item["name"]: item for item in operation.parameters if item["in"] == "path"}
        parts, end = [], 0
        for match in PARAMETER.finditer(path):
            name = match[1].lstrip("+./;?&#").rstrip("*") or "value"
            before = path[: match.start()]
            parts.append(path[end : match.start()].replace("${", "$%7B"))
            captured = self._capture(collection_of(before[:-1]), name) if before.endswith("/") else None
            parts.append(captured or self._variable(name, before, declared.get(name, {}), operation.place))
            end = match.end()
        parts.append(path[end:].replace("${", "$%7B"))
        pairs = [
            f"{quote(item['name'], safe='[]')}={self._variable(item['name'], '', item, operation.place)}"
            for item in operation.parameters
            if item["in"] == "query" and item.get("required") is True and item["name"] not in credentials.query
        ]
        pairs += [f"{quote(name, safe='[]')}={value}" for name, value in credentials.query.items()]
        whole = "".join(parts)
        return whole + (("&" if "?" in whole else "?") + "&".join(pairs) if pairs else "")

    def _capture(self, collection: str, name: str) -> str | None:
        """Template of the id that the creation of a collection's thing answers with, captured there."""
        if collection not in self._created:
            return None
        if (collection, "") not in self._captured:
            step, operation = self._created[collection]
            thing = singular(snake(collection.rsplit("/", 1)[-1], "thing"))
            found = _id_path(self._answer(operation), name, thing)
            if found is None:
                return None
            given = self._names.give(f"{thing}_id" if snake(name) in _GENERIC else snake(name))
            self._captured[collection, ""] = given
            step["capture"] = {given: found}
        return f"${{{self._captured[collection, '']}}}"

    def _answer(self, operation: Operation) -> Any:
        """A sample of what an operation answers when it went well."""
        responses = operation.data.get("responses")
        for status, raw in responses.items() if isinstance(responses, dict) else ():
            if not str(status).startswith("2"):
                continue
            response = self._references.resolve(raw)
            media = _json_media(response.get("content"))
            if media is not None:
                return self._example(self._references.resolve(media[1]), self._answers)
            if "schema" in response:
                return self._answers.sample(response["schema"])
            examples = response.get("examples")
            if isinstance(examples, dict) and examples:
                return next(iter(examples.values()))
        return None

    def _variable(self, name: str, before: str, parameter: dict[str, Any], place: str) -> str:
        """Template of a parameter, whose value stands in ``vars``; one name and value are one variable."""
        if is_secret_name(name):
            return self.secrets.template("", name, f"{place}, {name}")
        wanted = snake(name)
        if wanted in _GENERIC and before.endswith("/"):
            static = [part for part in before.split("/") if part and "{" not in part]
            wanted = f"{singular(snake(static[-1]))}_{wanted}" if static else wanted
        value = _as_text(plain(self._parameter_value(parameter), MOST_BODY))
        if parameter.get("in") != "header":
            value = quote(value, safe=_IN_PATH if before else _IN_QUERY)
        if (wanted, value) not in self._by_value:
            text = self._weaver.text(name, value, place)
            given = self._by_value[wanted, value] = self._names.give(wanted)
            self._variables[given] = text
        return f"${{{self._by_value[wanted, value]}}}"

    def _parameter_value(self, parameter: dict[str, Any]) -> Any:
        content = parameter.get("content")
        if isinstance(content, dict) and content:
            return self._example(self._references.resolve(next(iter(content.values()))), self._sampler)
        if "x-example" in parameter:
            return parameter["x-example"]
        # In Swagger 2 the parameter is itself the schema.
        schema = parameter.get("schema", parameter if "type" in parameter else {"type": "string"})
        return self._example({**parameter, "schema": schema}, self._sampler)

    def _example(self, media: dict[str, Any], sampler: Sampler) -> Any:
        if "example" in media:
            return media["example"]
        examples = media.get("examples")
        if isinstance(examples, dict) and examples:
            first = self._references.resolve(next(iter(examples.values())))
            if "value" in first:
                return first["value"]
        return sampler.sample(media.get("schema", {}))

    def _headers(self, operation: Operation) -> dict[str, str]:
        return {
            item["name"]: self._variable(item["name"], "", item, operation.place)
            for item in operation.parameters
            if item["in"] == "header" and item.get("required") is True and item["name"].lower() not in _LEFT_OUT
            and HEADER_NAME.fullmatch(item["name"])
        }  # fmt: skip

    def _body(self, operation: Operation) -> tuple[Any, str | None]:
        """The JSON body, None for no body, and its type where that is not the usual one."""
        sent = self._media(operation)
        if sent is None:
            return None, None
        kind, media = sent
        if not re.fullmatch(r"[\w.+*/;= -]+", kind, re.ASCII):
            raise UnwritableError("its body's type is none that HTTP can carry")
        try:
            sample = plain(self._example(media, self._sampler), MOST_BODY)
        except ConfigError as error:
            raise UnwritableError(str(error)) from error
        usual = kind.partition(";")[0].strip() in ("application/json", "*/*", "application/*")
        return self._weaver.body(sample, operation.place), None if usual else kind

    def _media(self, operation: Operation) -> tuple[str, dict[str, Any]] | None:
        if "swagger" in self._document:
            return self._swagger_media(operation)
        request = self._references.resolve(operation.data.get("requestBody"))
        content = request.get("content")
        if not isinstance(content, dict) or not content:
            return None
        found = _json_media(content)
        if found is None:
            if request.get("required") is not True and operation.method not in ("POST", "PUT", "PATCH"):
                return None
            raise UnwritableError(f"its body is {one_line(str(next(iter(content))), 60)}; only JSON can be sent")
        return found[0], self._references.resolve(found[1])

    def _swagger_media(self, operation: Operation) -> tuple[str, dict[str, Any]] | None:
        kinds = operation.data.get("consumes", self._document.get("consumes"))
        listed = [str(kind) for kind in kinds] if isinstance(kinds, list) and kinds else ["application/json"]
        kind = next((kind for kind in listed if "json" in kind.lower()), None)
        for parameter in operation.parameters:
            if parameter["in"] == "formData" and parameter.get("required") is True:
                raise UnwritableError("its body is a form; only JSON can be sent")
            if parameter["in"] == "body":
                if kind is None:
                    raise UnwritableError(f"its body is {one_line(listed[0], 60)}; only JSON can be sent")
                return kind, {"schema": parameter.get("schema", {})}
        return None


def _json_media(content: Any) -> tuple[str, Any] | None:
    """The first JSON of the media types, plain ``application/json`` before others."""
    if not isinstance(content, dict):
        return None
    kinds = [str(kind) for kind in content]
    fit = [kind for kind in kinds if "json" in kind.lower() and "seq" not in kind.lower()]
    fit.sort(key=lambda kind: not kind.lower().startswith("application/json"))
    chosen = next(iter([*fit, *(kind for kind in kinds if kind in ("*/*", "application/*"))]), None)
    return None if chosen is None else (chosen, content[chosen])


def _good_statuses(operation: Operation) -> list[int]:
    responses = operation.data.get("responses")
    given = [str(status).upper() for status in responses] if isinstance(responses, dict) else []
    statuses = {int(status) for status in given if re.fullmatch(r"2\d\d", status)}
    if "2XX" in given:
        statuses |= {200, 201, 202, 203, 204, 206}
    return sorted(statuses)


def _id_path(answer: Any, name: str, thing: str) -> str | None:
    """JSON path of the id in an answer, at its top or one level within."""
    wanted = dict.fromkeys([name, "id", f"{thing}_id", f"{thing}Id", "uuid", "_id"])
    for within in ("", *_WRAPPERS, thing):
        inner: Any = answer.get(within) if within and isinstance(answer, dict) else answer
        if not isinstance(inner, dict):
            continue
        for key in wanted:
            usable = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key) and key not in ("parent", "where", "wherenot")
            if usable and key in inner and not isinstance(inner[key], dict | list):
                return f"$.{within}.{key}" if within else f"$.{key}"
    return None


def _as_text(value: Any) -> str:
    """A value as it stands in a path: a list with commas, an object as JSON."""
    if isinstance(value, list):
        return ",".join(_as_text(item) for item in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, separators=(",", ":")) if isinstance(value, dict) else "" if value is None else str(value)
