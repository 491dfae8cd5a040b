"""What runs behind the tests' API server: the controllers of workloads, and a kubelet that only tells that pods run.

The kubelet speaks HTTP alone, so that it serves a real API server too. ``crash`` makes containers end soon after their
start from then on; without a ``node`` it places nothing.
"""

import asyncio
import contextlib
import copy
import hashlib
import itertools
import json
from typing import Any

import aiohttp

from tests.integration.kubernetes_api import ADMIN, NAMESPACE, ApiServer, Object, now, selects

STEP_S = 0.03
_numbers = itertools.count()


def node(name: str, cores: str = "8", memory: str = "16Gi", **spec: Any) -> Object:
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "spec": spec,
        "status": {
            "allocatable": {"cpu": cores, "memory": memory, "pods": "110"},
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }


def workload(name: str, replicas: int = 2, *, statefulset: bool = False, **resources: Any) -> Object:
    """A Deployment or StatefulSet as in its manifest: updated one at a time, 500m and 1Gi requested by default."""
    asked = resources or {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "4Gi"}}
    labels = {"app.kubernetes.io/name": name}
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    template = {
        "metadata": {"labels": labels},
        "spec": {"containers": [{"name": name, "image": "registry.invalid/service:1", "resources": asked}]},
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    if statefulset:
        spec |= {"serviceName": name, "podManagementPolicy": "Parallel", "updateStrategy": {"type": "RollingUpdate"}}
    else:
        spec |= {"strategy": strategy}
    return {"metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}


class Controllers:
    """Keeps the pods of each workload as its spec says. One step changes one pod of a rollout at most."""

    def __init__(self, api: ApiServer) -> None:
        self._api = api

    async def run(self) -> None:
        while True:
            for stored in self._api.all("deployments"):
                self._deployment(stored)
            for stored in self._api.all("statefulsets"):
                self._statefulset(stored)
            await asyncio.sleep(STEP_S)

    def _deployment(self, stored: Object) -> None:
        current, pods = _digest(stored), self._pods(stored)
        replicas = stored["spec"]["replicas"]
        new = [pod for pod in pods if pod["metadata"]["labels"]["pod-template-hash"] == current]
        old = [pod for pod in pods if pod not in new]
        if not (old and stored["spec"].get("paused")):
            allowed = replicas + (1 if old else 0)
            if len(pods) < allowed and len(new) < replicas:
                self._start(stored, current, f"{stored['metadata']['name']}-{current}-{next(_numbers):05d}")
            elif len(pods) > allowed:
                self._end(min(pods, key=_is_ready))
            elif old and sum(map(_is_ready, pods)) > replicas:
                self._end(old[-1])
        status = {"updatedReplicas": len(new), **self._counted(stored, pods)}
        self._api.change(stored, lambda one: one.update(status=status))

    def _statefulset(self, stored: Object) -> None:
        current, pods = _digest(stored), self._pods(stored)
        name, replicas = stored["metadata"]["name"], stored["spec"]["replicas"]
        by_name = {pod["metadata"]["name"]: pod for pod in pods}
        missing = [number for number in range(replicas) if f"{name}-{number}" not in by_name]
        excess = [by_name[one] for one in by_name if int(one.rpartition("-")[2]) >= replicas]
        old = [pod for pod in pods if pod["metadata"]["labels"]["pod-template-hash"] != current]
        leaving = {("pods", NAMESPACE, f"{name}-{number}") for number in missing} & self._api.objects.keys()
        if excess:
            self._end(max(excess, key=lambda pod: str(pod["metadata"]["name"])))
        elif missing and not leaving:
            self._start(stored, current, f"{name}-{missing[0]}")
        elif old and all(map(_is_ready, pods)) and stored["spec"]["updateStrategy"]["type"] == "RollingUpdate":
            self._end(max(old, key=lambda pod: str(pod["metadata"]["name"])))
        revisions = {"updateRevision": current, "currentRevision": f"before-{current}" if old else current}
        status = {"updatedReplicas": len(pods) - len(old), **revisions, **self._counted(stored, pods)}
        self._api.change(stored, lambda one: one.update(status=status))

    def _pods(self, stored: Object) -> list[Object]:
        labels = stored["spec"]["selector"]["matchLabels"]
        selector = ",".join(f"{key}={value}" for key, value in labels.items())
        return [
            pod
            for pod in self._api.all("pods")
            if selects(selector, pod["metadata"]["labels"]) and "deletionTimestamp" not in pod["metadata"]
        ]

    def _start(self, stored: Object, digest: str, name: str) -> None:
        template = copy.deepcopy(stored["spec"]["template"])
        meta = {"name": name, "namespace": stored["metadata"]["namespace"]}
        labels = {**template["metadata"]["labels"], "pod-template-hash": digest}
        status = {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False"}]}
        self._api.create("pods", {"metadata": {**meta, "labels": labels}, "spec": template["spec"], "status": status})

    def _end(self, pod: Object) -> None:
        self._api._delete("pods", pod, None)

    @staticmethod
    def _counted(stored: Object, pods: list[Object]) -> Object:
        ready = sum(map(_is_ready, pods))
        generation = stored["metadata"]["generation"]
        return {"observedGeneration": generation, "replicas": len(pods), "readyReplicas": ready}


class Kubelet:
    """Scheduler and kubelet of one node: binds what waits, tells that it runs, and lets go of what is deleted."""

    def __init__(self, url: str, node_name: str, *, namespace: str = NAMESPACE, ssl: bool = True) -> None:
        self.node, self._ssl = node_name, ssl
        self._pods = f"{url}/api/v1/namespaces/{namespace}/pods"
        self._restarts: dict[str, int] = {}
        self.crash = False

    async def run(self) -> None:
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {ADMIN}"}) as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    await self._step(session)
                await asyncio.sleep(STEP_S)

    async def _step(self, session: aiohttp.ClientSession) -> None:
        async with session.get(self._pods, ssl=self._ssl) as answer:
            pods = (await answer.json())["items"]
        for pod in pods:
            meta = pod["metadata"]
            path = f"{self._pods}/{meta['name']}"
            if "deletionTimestamp" in meta:
                await self._send(session, "DELETE", path, {"gracePeriodSeconds": 0})
            elif not pod["spec"].get("nodeName"):
                if not self.node:
                    continue
                target = {"apiVersion": "v1", "kind": "Node", "name": self.node}
                binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": meta["name"]}, "target": target}
                await self._send(session, "POST", f"{path}/binding", binding)
            elif (status := self._status(pod)) is not None:
                await self._send(session, "PATCH", f"{path}/status", {"status": status})

    def _status(self, pod: Object) -> Object | None:
        """What is to be told of a pod; None where that is told already."""
        ready = _is_ready(pod)
        if ready and not self.crash:
            return None
        container = {
            "name": pod["spec"]["containers"][0]["name"],
            "image": "i",
            "imageID": "i",
            "ready": not self.crash,
        }
        if self.crash:
            uid = pod["metadata"]["uid"]
            restarts = self._restarts[uid] = self._restarts.get(uid, 0) + 1
            container |= {"restartCount": restarts, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}
        else:
            container |= {"restartCount": 0, "state": {"running": {"startedAt": now()}}}
        condition = {"type": "Ready", "status": "False" if self.crash else "True", "lastTransitionTime": now()}
        return {"phase": "Running", "conditions": [condition], "containerStatuses": [container]}

    async def _send(self, session: aiohttp.ClientSession, method: str, url: str, body: Object) -> None:
        kind = "application/strategic-merge-patch+json" if method == "PATCH" else "application/json"
        async with session.request(
            method, url, data=json.dumps(body), headers={"Content-Type": kind}, ssl=self._ssl
        ) as answer:
            await answer.read()


def _digest(stored: Object) -> str:
    return hashlib.sha256(json.dumps(stored["spec"]["template"], sort_keys=True).encode()).hexdigest()[:10]


def _is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
