"""The operations of an OpenAPI 3 or Swagger 2 document in one form, in the order in which they can work."""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin, urlsplit, urlunsplit

from services.console.importing.naming import Names, action_name, one_line, snake
from services.console.importing.references import References
from shared.errors import ConfigError, closest

METHODS = ("post", "get", "head", "put", "patch", "delete")
NOT_SENT = ("options", "trace")
PARAMETER = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class Operation:
    """``parameters`` are resolved, those of the path first; ``place`` is e.g. ``POST /things``."""

    action: str
    method: str
    path: str
    data: dict[str, Any]
    parameters: tuple[dict[str, Any], ...]

    @property
    def place(self) -> str:
        return f"{self.method} {self.path}"


def collection_of(path: str) -> str:
    """A path with its parameters nameless, to be compared: ``/things/{}/parts``."""
    return PARAMETER.sub("{}", path).rstrip("/")


def read_operations(
    document: dict[str, Any], references: References, source: str, wanted: tuple[str, ...]
) -> tuple[list[Operation], list[str]]:
    """The operations in order, and what was left out; ``ConfigError`` for a wrong path or an unknown wanted one."""
    paths = document.get("paths")
    if not isinstance(paths, dict) or not paths:
        raise ConfigError(f"{source}: paths: no operations in it")
    names = Names(longest=80, taken=frozenset())
    found: list[Operation] = []
    left_out: list[str] = []
    known: dict[str, None] = {}
    for path, raw in paths.items():
        if str(path).startswith("x-"):
            continue
        if not str(path).startswith("/"):
            raise ConfigError(f"{source}: paths: {one_line(str(path), 60)!r} does not begin with /")
        item = references.resolve(raw)
        left_out += [f"{method.upper()} {path}: not sent by a scenario" for method in NOT_SENT if method in item]
        for method in METHODS:
            data = item.get(method)
            if not isinstance(data, dict):
                continue
            own = data.get("operationId")
            otherwise = f"{method}_{snake(str(path), 'root')}"
            action = names.give(action_name(str(own) if own else otherwise, otherwise[:80]))
            known |= dict.fromkeys([action, *([str(own)] if own else [])])
            if wanted and action not in wanted and own not in wanted:
                continue
            if data.get("deprecated") is True and not wanted:
                left_out.append(f"{method.upper()} {path}: deprecated")
                continue
            parameters = _parameters(references, item.get("parameters"), data.get("parameters"))
            found.append(Operation(action, method.upper(), str(path), data, parameters))
    for name in wanted:
        if name not in known:
            raise ConfigError(f"--operation: {name!r} is not in {source}{closest(name, known)}")
    if not found:
        raise ConfigError(f"{source}: paths: no operations that can be sent in it")
    return _in_working_order(found), left_out


def _parameters(references: References, *lists: Any) -> tuple[dict[str, Any], ...]:
    """Those of the path and of the operation, which wins; those without a name or place are none."""
    merged: dict[tuple[str, str], dict[str, Any]] = {}
    for listed in lists:
        for raw in listed if isinstance(listed, list) else []:
            parameter = references.resolve(raw)
            if isinstance(parameter.get("name"), str) and isinstance(parameter.get("in"), str):
                merged[parameter["in"], parameter["name"]] = parameter
    return tuple(merged.values())


def _in_working_order(operations: list[Operation]) -> list[Operation]:
    """By collection in the document's order; in each what creates, then what reads and changes, then what deletes.

    A thing's parts are created after it and deleted before it.
    """
    roots = {root: number for number, root in enumerate(dict.fromkeys(_root(operation) for operation in operations))}

    def place(operation: Operation) -> tuple[int, int, int]:
        depth = len(PARAMETER.findall(operation.path))
        if operation.method == "POST":
            return roots[_root(operation)], 0, depth
        return roots[_root(operation)], *((2, -depth) if operation.method == "DELETE" else (1, depth))

    return sorted(operations, key=place)


def _root(operation: Operation) -> str:
    return operation.path.partition("{")[0].rstrip("/")


def server_url(document: dict[str, Any]) -> str:
    """Where the service is, with the path that all of its paths begin with; a stand-in host where it is not said."""
    if "swagger" in document:
        schemes = document.get("schemes")
        scheme = schemes[0] if isinstance(schemes, list) and schemes and isinstance(schemes[0], str) else "https"
        url = f"{scheme}://{document.get('host') or 'HOST'}{document.get('basePath') or ''}"
    else:
        servers = document.get("servers")
        server = servers[0] if isinstance(servers, list) and servers and isinstance(servers[0], dict) else {}
        variables = server.get("variables") if isinstance(server.get("variables"), dict) else {}
        url = PARAMETER.sub(lambda match: _default(variables, match[1]), str(server.get("url") or "/"))
    try:
        parts = urlsplit(urljoin("https://HOST/", url))
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
    except ValueError:
        return "https://HOST"


def _default(variables: dict[str, Any] | None, name: str) -> str:
    variable = (variables or {}).get(name)
    return str(variable.get("default", name)) if isinstance(variable, dict) else name
