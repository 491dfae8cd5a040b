"""The stage of a Kubernetes cluster: the tests' own API server, controllers and kubelet with one workload on them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import yaml
from lightkube import AsyncClient, KubeConfig

from services.scaler.situation import Sizes
from services.scaler.targets.kubernetes import KubernetesTarget
from shared.contracts import scaling_targets as named
from tests.integration.kubernetes_api import NAMESPACE, ApiServer, Object, rules_of
from tests.integration.kubernetes_controllers import Controllers, Kubelet, node, workload

RBAC = Path(__file__).parents[2] / "deploy/kubernetes/tidegate/rbac.yaml"
SERVICE = "relaycore"
SCALER = "token-of-the-scaler"
OTHER_SIZES = Sizes(cpu_limit=1.5, memory_limit=2048.0, cpu_reserved=0.25, memory_reserved=512.0)


def documents() -> list[Object]:
    """The roles that are shipped, and whom they are bound to."""
    return list(yaml.safe_load_all(RBAC.read_text()))


@dataclass
class KubernetesStage:
    """A ``Stage``: one workload on two nodes of which one fits, with the rights that the shipped roles give."""

    api: ApiServer
    kubelet: Kubelet
    controllers: asyncio.Task[None]
    clients: list[AsyncClient] = field(default_factory=list)
    kind: Any = "deployment"
    service: str = SERVICE
    sizes: Sizes | None = OTHER_SIZES
    room: int | None = 14
    crash_loops: bool = True

    def target(self) -> KubernetesTarget:
        config = KubeConfig.from_dict(self.api.kubeconfig(SCALER)).get()
        client = AsyncClient(config, timeout=httpx2.Timeout(0.5), lazy=False, trust_env=False)
        self.clients.append(client)
        where = named.KubernetesTarget(kind="kubernetes", namespace=NAMESPACE, workload=self.kind)
        return KubernetesTarget(client, where, 0.5)

    async def instances(self) -> set[str]:
        return {pod["metadata"]["uid"] for pod in self.api.all("pods")}

    async def loop(self) -> None:
        self.kubelet.crash = True

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        await self.api.stop()
        try:
            yield
        finally:
            await self.api.start()

    def stored(self) -> Object:
        return self.api.objects[(f"{self.kind}s", NAMESPACE, SERVICE)]


@asynccontextmanager
async def staged(kind: str) -> AsyncIterator[KubernetesStage]:
    api = ApiServer(rules={SCALER: rules_of(documents())})
    await api.start()
    api.create("nodes", node("node-1", memory="16Gi"))
    api.create("nodes", node("node-2", taints=[{"key": "gpu", "value": "only", "effect": "NoSchedule"}]))
    api.create(f"{kind}s", workload(SERVICE, statefulset=kind == "statefulset"))
    kubelet = Kubelet(api.url, "node-1")
    behind = [asyncio.create_task(one.run()) for one in (Controllers(api), kubelet)]
    stage = KubernetesStage(api, kubelet, behind[0], kind=kind)
    try:
        yield stage
    finally:
        for task in behind:
            task.cancel()
        ended = await asyncio.gather(*behind, return_exceptions=True)
        for client in stage.clients:
            await client.close()
        await api.stop()
        assert all(isinstance(one, asyncio.CancelledError) for one in ended), ended
