"""A Kubernetes API server of the tests' own: the paths and semantics that the scaler relies on, nothing behind them.

Written from the API's documentation: optimistic concurrency by ``resourceVersion``, ``generation``, the status and
scale subresources, strategic and JSON merge patches, label selectors, pages, bearer tokens, role-based access,
``Status`` answers. Controllers and kubelets stand in ``kubernetes_controllers``. It is not a cluster.
"""

import asyncio
import copy
import json
import re
import uuid
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from aiohttp import web

Object = dict[str, Any]
NAMESPACE = "platform"
ADMIN = "token-of-the-tests"
KINDS = {
    "pods": ("", "Pod"),
    "nodes": ("", "Node"),
    "deployments": ("apps", "Deployment"),
    "statefulsets": ("apps", "StatefulSet"),
    "horizontalpodautoscalers": ("autoscaling", "HorizontalPodAutoscaler"),
}
CLUSTER_WIDE = frozenset({"nodes"})
REASONS = {
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}
MERGED_BY_NAME = frozenset({"containers", "initContainers"})
"""Lists of objects that a strategic merge patch joins by name; it replaces the others."""


class Call(NamedTuple):
    """One request as access rules see it. ``resource`` with its subresource, as in ``deployments/scale``."""

    verb: str
    group: str
    resource: str
    namespace: str | None
    name: str


class Refusal(Exception):  # noqa: N818 - an answer
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Rule:
    """What a token may do: a rule of a Role, in its namespace, or of a ClusterRole, everywhere."""

    namespace: str | None
    groups: list[str]
    resources: list[str]
    verbs: list[str]

    def allows(self, call: Call) -> bool:
        here = self.namespace is None or self.namespace == call.namespace
        return here and call.group in self.groups and call.resource in self.resources and call.verb in self.verbs


@dataclass
class ApiServer:
    """``rules``: by token. ``fault``: asked before each call that is not the tests' own; what it answers is the answer.

    ``lost``: so many of the next changes are made and their answer is lost.
    """

    rules: dict[str, list[Rule]] = field(default_factory=dict)
    fault: Callable[[Call], Awaitable[web.StreamResponse | None]] | None = None
    lost: int = 0
    calls: Counter[Call] = field(default_factory=Counter)
    objects: dict[tuple[str, str | None, str], Object] = field(default_factory=dict)
    url: str = ""
    _version: int = 100
    _port: int = 0
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application(client_max_size=8 << 20)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"

    async def stop(self) -> None:
        """Connections are refused from now on; started again it is where it was."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    def kubeconfig(self, token: str) -> Object:
        return {
            "current-context": "tests",
            "clusters": [{"name": "tests", "cluster": {"server": self.url}}],
            "users": [{"name": "tests", "user": {"token": token}}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
        }

    # What controllers do, which are part of the server here

    def all(self, plural: str) -> list[Object]:
        return [found for (kind, _, _), found in self.objects.items() if kind == plural]

    def create(self, plural: str, body: Object) -> Object:
        group, kind = KINDS[plural]
        meta = body.setdefault("metadata", {})
        key = (plural, None if plural in CLUSTER_WIDE else meta.setdefault("namespace", NAMESPACE), meta["name"])
        if key in self.objects:
            raise Refusal(409, f'{plural} "{meta["name"]}" already exists')
        body |= {"apiVersion": f"{group}/v1" if group else "v1", "kind": kind}
        meta |= {"uid": str(uuid.uuid4()), "generation": 1, "creationTimestamp": now()}
        self.objects[key] = body
        self._touch(body)
        return body

    def change(self, stored: Object, change: Callable[[Object], None]) -> None:
        """Give an object another version, where it is another then; and another generation where its spec is.

        A Deployment's generation changes with its annotations too, as on the real server.
        """
        before = copy.deepcopy(stored)
        change(stored)
        if stored == before:
            return
        counted = [one.get("spec") for one in (stored, before)]
        if stored["kind"] == "Deployment":
            counted = [(one.get("spec"), one["metadata"].get("annotations")) for one in (stored, before)]
        if counted[0] != counted[1]:
            stored["metadata"]["generation"] += 1
        self._touch(stored)

    def delete(self, plural: str, stored: Object) -> None:
        meta = stored["metadata"]
        self.objects.pop((plural, meta.get("namespace"), meta["name"]), None)

    def _touch(self, stored: Object) -> None:
        self._version += 1
        stored["metadata"]["resourceVersion"] = str(self._version)

    # Requests

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        try:
            call = _call_of(request)
            token = request.headers.get("Authorization", "").removeprefix("Bearer ")
            if token != ADMIN:
                self.calls[call] += 1
                answer = None if self.fault is None else await self.fault(call)
                if answer is not None:
                    return answer
                self._authorize(call, token)
            body = json.loads(await request.read() or b"null")
            answered = self._carry_out(call, request, body)
            if token != ADMIN and call.verb in ("update", "patch") and self.lost > 0:
                self.lost -= 1
                assert request.transport is not None
                request.transport.abort()
            return web.json_response(answered, status=201 if call.verb == "create" else 200)
        except Refusal as refusal:
            return status_answer(refusal.status, str(refusal))

    def _authorize(self, call: Call, token: str) -> None:
        if token not in self.rules:
            raise Refusal(401, "Unauthorized")
        if not any(rule.allows(call) for rule in self.rules[token]):
            resource, _, sub = call.resource.partition("/")
            group = f"{resource}.{call.group}" if call.group else resource
            named = f'{group} "{call.name}"' if call.name else group
            raise Refusal(
                403,
                f'{named} is forbidden: User "{token}" cannot {call.verb} resource "{resource}{sub and "/" + sub}" in '
                f'API group "{call.group}"' + (f' in the namespace "{call.namespace}"' if call.namespace else ""),
            )

    def _carry_out(self, call: Call, request: web.Request, body: Any) -> Object:
        plural, _, sub = call.resource.partition("/")
        if call.verb == "list":
            return self._page(plural, call.namespace, request)
        if call.verb == "create" and sub != "binding":
            return self.create(plural, body)
        stored = self.objects.get((plural, call.namespace, call.name))
        if stored is None:
            raise Refusal(404, f'{plural} "{call.name}" not found')
        if sub == "scale":
            return self._scale(call, stored, request, body)
        if call.verb == "get":
            return stored
        if call.verb == "delete":
            self._delete(plural, stored, body)
        elif sub == "binding":
            self.change(stored, lambda pod: pod["spec"].update(nodeName=body["target"]["name"]))
        else:
            self._write(call, stored, request, body, sub)
        return stored

    def _write(self, call: Call, stored: Object, request: web.Request, body: Object, sub: str) -> None:
        written = body if call.verb == "update" else _patched(stored, body, request.headers["Content-Type"])
        _check_version(call, stored, (body.get("metadata") or {}).get("resourceVersion"))
        _check_resources(call.name, written)

        def write(target: Object) -> None:
            if sub == "status":
                target["status"] = written.get("status", {})
            else:
                meta = {**written["metadata"], "resourceVersion": target["metadata"]["resourceVersion"]}
                target |= {"metadata": meta, "spec": written.get("spec")}

        self.change(stored, write)

    def _scale(self, call: Call, stored: Object, request: web.Request, body: Any) -> Object:
        if call.verb != "get":
            asked = (
                body if call.verb == "update" else _patched(_scale_of(stored), body, request.headers["Content-Type"])
            )
            _check_version(call, stored, (body.get("metadata") or {}).get("resourceVersion"))
            replicas = (asked.get("spec") or {}).get("replicas", 0)
            if replicas < 0:
                raise Refusal(422, f"spec.replicas: Invalid value: {replicas}: must be greater than or equal to 0")
            self.change(stored, lambda target: target["spec"].update(replicas=replicas))
        return _scale_of(stored)

    def _delete(self, plural: str, stored: Object, options: Any) -> None:
        """A pod that has a node is left to its kubelet, which deletes it without grace."""
        if plural == "pods" and stored["spec"].get("nodeName") and (options or {}).get("gracePeriodSeconds") != 0:
            self.change(stored, lambda pod: pod["metadata"].update(deletionTimestamp=now()))
        else:
            self.delete(plural, stored)

    def _page(self, plural: str, namespace: str | None, request: web.Request) -> Object:
        group, kind = KINDS[plural]
        found = [
            one
            for one in self.all(plural)
            if (namespace is None or one["metadata"].get("namespace") == namespace)
            and selects(request.query.get("labelSelector", ""), one["metadata"].get("labels") or {})
        ]
        begin, limit = int(request.query.get("continue") or 0), int(request.query.get("limit") or 0)
        page = found[begin : begin + limit] if limit else found[begin:]
        rest = {"continue": str(begin + limit)} if limit and begin + limit < len(found) else {}
        api_version = f"{group}/v1" if group else "v1"
        meta = {"resourceVersion": str(self._version), **rest}
        return {"apiVersion": api_version, "kind": f"{kind}List", "metadata": meta, "items": page}


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def status_answer(status: int, message: str) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message}
    return web.json_response(body | {"reason": REASONS.get(status, "Unknown"), "code": status}, status=status)


def selects(selector: str, labels: dict[str, str]) -> bool:
    """Whether a label selector in the notation of queries matches."""
    for term in filter(None, re.split(r",(?![^(]*\))", selector)):
        if found := re.fullmatch(r"(\S+) (in|notin) \((.*)\)", term):
            key, operator, values = found.groups()
            if (labels.get(key) in values.split(",")) is not (operator == "in"):
                return False
        elif "=" in term:
            key, value = re.split("!?==?", term)
            if (labels.get(key) == value) is ("!=" in term):
                return False
        elif (term.removeprefix("!") in labels) is term.startswith("!"):
            return False
    return True


def rules_of(documents: Iterable[Object]) -> list[Rule]:
    """The rules of Roles and ClusterRoles as manifests have them."""
    return [
        Rule(
            document["metadata"].get("namespace") if document["kind"] == "Role" else None,
            rule["apiGroups"],
            rule["resources"],
            rule["verbs"],
        )
        for document in documents
        if document["kind"] in ("Role", "ClusterRole")
        for rule in document["rules"]
    ]


def _call_of(request: web.Request) -> Call:
    found = re.fullmatch(
        r"/api(?:s/(?P<group>[\w.-]+))?/v1/(?:namespaces/(?P<namespace>[^/]+)/)?(?P<plural>\w+)"
        r"(?:/(?P<name>[^/]+))?(?:/(?P<sub>\w+))?",
        request.path,
    )
    if found is None or found["plural"] not in KINDS or (found["group"] or "") != KINDS[found["plural"]][0]:
        raise Refusal(404, "the server could not find the requested resource")
    named = {"GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "POST": "create"}
    verb = named[request.method] if found["name"] else {"GET": "list", "POST": "create"}[request.method]
    resource = f"{found['plural']}/{found['sub']}" if found["sub"] else found["plural"]
    return Call(verb, found["group"] or "", resource, found["namespace"], found["name"] or "")


def _check_version(call: Call, stored: Object, asked: str | None) -> None:
    if asked and asked != stored["metadata"]["resourceVersion"]:
        raise Refusal(
            409,
            f'Operation cannot be fulfilled on {call.resource} "{call.name}": the object has been modified; please '
            "apply your changes to the latest version and try again",
        )


def _check_resources(name: str, written: Object) -> None:
    template = (written.get("spec") or {}).get("template") or {}
    for container in (template.get("spec") or {}).get("containers", []):
        resources = container.get("resources") or {}
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        for what, requested in requests.items():
            if what in limits and _plain(requested) > _plain(limits[what]):
                raise Refusal(
                    422, f'"{name}" is invalid: {what}: Invalid value: "{requested}": must be less than limit'
                )


def _plain(quantity: str) -> float:
    units = {"m": 1e-3, "Ki": 1024.0, "Mi": 1024.0**2, "Gi": 1024.0**3}
    found = re.fullmatch(r"([\d.]+)(\D*)", str(quantity))
    assert found is not None
    return float(found[1]) * units.get(found[2], 1.0)


def _scale_of(stored: Object) -> Object:
    meta = {key: stored["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")}
    labels = stored["spec"]["selector"].get("matchLabels", {})
    status = {
        "replicas": (stored.get("status") or {}).get("replicas", 0),
        "selector": ",".join(f"{key}={value}" for key, value in labels.items()),
    }
    spec = {"replicas": stored["spec"].get("replicas", 1)}
    return {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": meta, "spec": spec, "status": status}


def _patched(stored: Object, patch: Object, content_type: str) -> Object:
    strategic = content_type.startswith("application/strategic-merge-patch+json")
    if not strategic and not content_type.startswith("application/merge-patch+json"):
        raise Refusal(415, f"{content_type} is not supported")
    merged: Object = _merge(copy.deepcopy(stored), patch, strategic)
    return merged


def _merge(old: Any, patch: Any, strategic: bool, key: str = "") -> Any:
    if strategic and key in MERGED_BY_NAME:
        by_name = {one["name"]: one for one in old or []}
        for one in patch:
            by_name[one["name"]] = _merge(by_name.get(one["name"], {}), one, strategic)
        return list(by_name.values())
    if not isinstance(patch, dict):
        return patch
    merged = dict(old) if isinstance(old, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), value, strategic, name)
    return merged


async def hang(_: Call) -> web.StreamResponse | None:
    """A fault: nothing is answered."""
    await asyncio.sleep(3600)
    return None
