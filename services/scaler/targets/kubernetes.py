"""Adapter of the Kubernetes API: Deployments and StatefulSets, moved through their scale subresource.

Every change is a compare-and-set on the workload's resource version, and the epoch stands in one of its annotations.
A scaler stamps it before it moves anything, so that one which has been replaced finds a later version, reads again, and
sees the later epoch.
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterable, Awaitable, Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import httpx2
from lightkube import ApiError, AsyncClient, operators
from lightkube.core.exceptions import ConfigError as CredentialsError
from lightkube.models.autoscaling_v1 import ScaleSpec
from lightkube.models.core_v1 import PodTemplateSpec
from lightkube.models.meta_v1 import LabelSelector, ObjectMeta
from lightkube.resources.apps_v1 import Deployment, StatefulSet
from lightkube.resources.autoscaling_v1 import HorizontalPodAutoscaler
from lightkube.resources.core_v1 import Node, Pod
from lightkube.types import PatchType

from services.scaler.situation import Observation, Sizes
from services.scaler.targets.kubernetes_room import room_on
from services.scaler.targets.kubernetes_state import (
    Workload,
    main_container,
    observed,
    resources_for,
    seen_by_controller,
    sizes_of,
    updated_on_delete,
    wanted,
)
from services.scaler.targets.target import FencedError, RefusedError
from shared.contracts import scaling_targets as named
from shared.errors import TransientError

T = TypeVar("T")
ATTEMPTS = 3
BACKOFF_S = 0.1
CONFLICTS = 8
"""The controllers write to the same objects, so a change may have to be begun anew that often."""
LOOKS = 5
RETRIED_STATUSES = frozenset({408, 429})
PAGE = 500
LISTING = 5
"""A list of the cluster's pods may take so many times as long as one object."""
EVERYWHERE = "*"
"""All namespaces, as the client writes it."""
EPOCH = "tidegate.io/epoch"
DECISION = "tidegate.io/decision"

logger = logging.getLogger(__name__)


class _ConflictError(Exception):
    """The object has changed since it was read."""


class _ForbiddenError(RefusedError):
    """The rights are missing."""


class KubernetesTarget:
    """Speaks of one namespace of one cluster. The client belongs to the caller."""

    dry_run = False

    def __init__(self, client: AsyncClient, where: named.KubernetesTarget, timeout_s: float) -> None:
        self._client, self._where, self._timeout_s = client, where, timeout_s
        self._kind: type[Deployment] | type[StatefulSet] = Deployment if where.workload == "deployment" else StatefulSet
        self._resource = f"{where.workload}s"
        self._blind = False

    async def observe(self, service: str) -> Observation:
        workload = await self._read(service)
        for _ in range(LOOKS):
            if seen_by_controller(workload):
                break
            # A stamp gives a Deployment another generation too: no rollout, and over when its controller has looked.
            await asyncio.sleep(BACKOFF_S)
            workload = await self._read(service)
        return observed(workload, await self._pods(workload), datetime.now(UTC))

    async def room(self, service: str) -> int | None:
        """None without the right to see all nodes and pods, which a namespace's own role does not give."""
        workload = await self._read(service)
        template = _template(workload)
        if template is None or template.spec is None:
            return None
        try:
            nodes = await self._list("nodes", lambda: self._client.list(Node, chunk_size=PAGE))
            every = partial(self._client.list, Pod, namespace=EVERYWHERE, chunk_size=PAGE)
            pods = await self._list("pods of all namespaces", every)
        except _ForbiddenError as error:
            if not self._blind:
                logger.warning("%s: its room is not known: %s", service, error)
            self._blind = True
            return None
        own = await self._pods(workload)
        waiting = sum(pod.spec is not None and not pod.spec.nodeName for pod in own)
        return room_on(nodes, pods, template.spec, waiting)

    async def sizes(self, service: str) -> Sizes:
        container = main_container(_template(await self._read(service)), self._name(service))
        return Sizes() if container is None else sizes_of(container)

    async def set_sizes(self, service: str, sizes: Sizes, epoch: int, decision: str) -> None:
        """A rollout with other resources of the main container; the stamp is part of the same patch.

        More reserved than allowed is refused here: the API takes it for a stateful set, whose pods it then refuses.
        """
        for reserved, limit in ((sizes.cpu_reserved, sizes.cpu_limit), (sizes.memory_reserved, sizes.memory_limit)):
            if reserved is not None and limit is not None and reserved > limit:
                raise RefusedError(f"{self._named(service)}: reserved {reserved:g} is above the limit of {limit:g}")

        async def resize(workload: Workload) -> None:
            container = main_container(_template(workload), self._name(service))
            if container is None:
                raise RefusedError(
                    f"{self._named(service)} has several containers; name the one to size in the template's annotation "
                    "kubectl.kubernetes.io/default-container"
                )
            if updated_on_delete(workload):
                raise RefusedError(f"{self._named(service)} is updated only when its pods are deleted (OnDelete)")
            if sizes_of(container) == sizes:
                await self._stamp(workload, service, {EPOCH: str(epoch)})
                return
            resized = {"name": container.name, "resources": resources_for(sizes)}
            stamp = {EPOCH: str(epoch), DECISION: decision}
            spec = {"template": {"spec": {"containers": [resized]}}}
            await self._patch(workload, service, {"metadata": {"annotations": stamp}, "spec": spec})

        await self._change(service, epoch, resize)

    async def set_replicas(self, service: str, replicas: int, epoch: int, decision: str) -> None:
        async def scale(workload: Workload) -> None:
            if replicas == wanted(workload):
                await self._stamp(workload, service, {EPOCH: str(epoch)})
                return
            if replicas < 1:
                raise RefusedError(f"{self._named(service)}: {replicas} replicas are refused; 1 is the least")
            stamped = await self._stamp(workload, service, {EPOCH: str(epoch), DECISION: decision})
            name, namespace = self._name(service), self._where.namespace
            version = _metadata(stamped).resourceVersion
            meta = ObjectMeta(name=name, namespace=namespace, resourceVersion=version)
            asked = self._kind.Scale(metadata=meta, spec=ScaleSpec(replicas=replicas))
            await self._ask(
                "update",
                f"{self._resource}/scale",
                service,
                lambda: self._client.replace(asked, name, namespace=namespace),
            )

        await self._change(service, epoch, scale)

    async def _change(self, service: str, epoch: int, change: Callable[[Workload], Awaitable[None]]) -> None:
        """Read, fence, change; from the start again when someone was faster."""
        problem = ""
        for attempt in range(CONFLICTS):
            await asyncio.sleep(0.02 * attempt * random.uniform(0.5, 1.5))
            workload = await self._read(service)
            heard = (_metadata(workload).annotations or {}).get(EPOCH, "0")
            if not heard.isdecimal():
                raise RefusedError(f"{self._named(service)}: annotation {EPOCH} is {heard!r}, no number; remove it")
            if int(heard) > epoch:
                raise FencedError(f"{self._named(service)}: epoch {epoch} is older than {heard}")
            await self._refuse_two_actors(service)
            try:
                return await change(workload)
            except _ConflictError as error:
                problem = str(error)
        raise TransientError(f"{self._named(service)} changed {CONFLICTS} times meanwhile: {problem}")

    async def _refuse_two_actors(self, service: str) -> None:
        here = partial(self._client.list, HorizontalPodAutoscaler, namespace=self._where.namespace, chunk_size=PAGE)
        for scaler in await self._list("horizontalpodautoscalers", here):
            of = scaler.spec and scaler.spec.scaleTargetRef
            if of and of.name == self._name(service) and of.kind.lower() == self._where.workload:
                raise RefusedError(
                    f"{self._named(service)} is scaled by the HorizontalPodAutoscaler {_metadata(scaler).name} too; "
                    "two would undo each other's moves, so delete it, or do not name the service in scaling.yaml"
                )

    async def _stamp(self, workload: Workload, service: str, annotations: dict[str, str]) -> Workload:
        """The workload with these annotations; what is there already is not written again."""
        if annotations.items() <= (_metadata(workload).annotations or {}).items():
            return workload
        return await self._patch(workload, service, {"metadata": {"annotations": annotations}})

    async def _patch(self, workload: Workload, service: str, patch: dict[str, Any]) -> Workload:
        version = _metadata(workload).resourceVersion
        patch = {**patch, "metadata": {**patch["metadata"], "resourceVersion": version}}
        name, namespace = self._name(service), self._where.namespace
        return await self._ask(
            "patch",
            self._resource,
            service,
            lambda: self._client.patch(self._kind, name, patch, namespace=namespace, patch_type=PatchType.STRATEGIC),
        )

    async def _read(self, service: str) -> Workload:
        name, namespace = self._name(service), self._where.namespace
        return await self._ask(
            "get", self._resource, service, lambda: self._client.get(self._kind, name, namespace=namespace)
        )

    async def _pods(self, workload: Workload) -> list[Pod]:
        selector = _selector(None if workload.spec is None else workload.spec.selector)
        return await self._list(
            "pods",
            lambda: self._client.list(Pod, namespace=self._where.namespace, labels=selector, chunk_size=PAGE),
        )

    async def _list(self, resource: str, pages: Callable[[], AsyncIterable[T]]) -> list[T]:
        async def whole() -> list[T]:
            return [item async for item in pages()]

        return await self._ask("list", resource, "", whole, LISTING)

    async def _ask(
        self, verb: str, resource: str, service: str, call: Callable[[], Awaitable[T]], patience: int = 1
    ) -> T:
        """A call may be made again after its answer was lost: a change that was heard has a later version then."""
        problem = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(BACKOFF_S * 2**attempt * random.uniform(0.5, 1.5))
            try:
                async with asyncio.timeout(self._timeout_s * patience):
                    return await call()
            except httpx2.HTTPStatusError as error:
                problem = f"{verb} {resource} {self._name(service)}: {_words(error)}".replace(" :", ":")
                self._refuse(error, verb, resource, service, problem)
            except (httpx2.HTTPError, CredentialsError, TimeoutError, ValueError, KeyError) as error:
                problem = f"{verb} {resource} {self._name(service)}: {error or type(error).__name__}"
        raise TransientError(problem)

    def _refuse(self, error: httpx2.HTTPStatusError, verb: str, resource: str, service: str, problem: str) -> None:
        """Raises for every answer that will not be another when asked again."""
        status = error.response.status_code
        if status == 404 and service:
            raise RefusedError(f"there is no {self._named(service)}") from error
        if status == 401:
            whose = f"context {self._where.context!r}" if self._where.context else "this pod's service account"
            raise RefusedError(f"{problem}: the credentials of {whose} are not accepted") from error
        if status == 403:
            where = f"namespace {self._where.namespace}"
            raise _ForbiddenError(f"{problem}: its role lacks the verb {verb} on {resource} in {where}") from error
        if status == 409:
            raise _ConflictError(problem) from error
        if status < 500 and status not in RETRIED_STATUSES:
            raise RefusedError(problem) from error

    def _name(self, service: str) -> str:
        return self._where.name or service

    def _named(self, service: str) -> str:
        return f"{self._where.workload} {self._name(service)} in namespace {self._where.namespace}"


def _metadata(object_: Any) -> ObjectMeta:
    found = object_.metadata
    return found if isinstance(found, ObjectMeta) else ObjectMeta()


def _template(workload: Workload) -> PodTemplateSpec | None:
    return None if workload.spec is None else workload.spec.template


def _selector(selector: LabelSelector | None) -> Any:
    """A workload's selector as the client writes it into a query."""
    terms: list[tuple[str, Any]] = list(((selector and selector.matchLabels) or {}).items())
    for one in (selector and selector.matchExpressions) or []:
        match one.operator:
            case "In":
                terms.append((one.key, operators.in_(one.values or [])))
            case "NotIn":
                terms.append((one.key, operators.not_in(one.values or [])))
            case "Exists":
                terms.append((one.key, operators.exists()))
            case "DoesNotExist":
                terms.append((one.key, operators.not_exists()))
    return terms


def _words(error: httpx2.HTTPStatusError) -> str:
    text = error.status.message if isinstance(error, ApiError) else error.response.text[:200].strip()
    return f"{error.response.status_code} {text or error.response.reason_phrase}"
