"""The contract on a real API server with its real controllers; only the kubelet is the tests' own.

``TIDEGATE_TEST_KUBERNETES`` names a folder with ``etcd``, ``kube-apiserver`` and ``kube-controller-manager``. No
package brings them, so without it these are skipped and ``test_target_kubernetes`` alone holds.
"""

import asyncio
import contextlib
import copy
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from ssl import CERT_NONE, SSLContext, create_default_context
from typing import Any, cast

import httpx2
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from lightkube import ApiError, AsyncClient, KubeConfig, codecs
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.apps_v1 import Deployment, StatefulSet
from lightkube.resources.core_v1 import Namespace, Node, Pod

from services.scaler.situation import Sizes
from services.scaler.targets.kubernetes import KubernetesTarget
from services.scaler.targets.target import RefusedError
from shared.contracts import scaling_targets as named
from tests.integration.kubernetes_api import ADMIN, Object
from tests.integration.kubernetes_controllers import Kubelet, node, workload
from tests.integration.kubernetes_stage import OTHER_SIZES, SCALER, SERVICE, documents
from tests.integration.target_contract import TargetContract, eventually, rolls, settled

BINARIES = os.environ.get("TIDEGATE_TEST_KUBERNETES", "")
CONTROLLERS = "deployment,replicaset,statefulset"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not BINARIES, reason="TIDEGATE_TEST_KUBERNETES names no folder with a kube-apiserver"),
]


@dataclass
class Server:
    """``api``: how its process is started; it is killed and started again by the tests."""

    url: str
    api: Callable[[], subprocess.Popen[bytes]]
    running: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.running = self.api()
        _wait_until_ready(self.url, self.running)

    def kill(self) -> None:
        assert self.running is not None
        self.running.kill()
        self.running.wait(20)

    def client(self, token: str, timeout_s: float) -> AsyncClient:
        config = KubeConfig.from_dict(kubeconfig(self.url, token)).get()
        return AsyncClient(config, timeout=httpx2.Timeout(timeout_s), lazy=False, trust_env=False)


def kubeconfig(url: str, token: str) -> Object:
    return {
        "current-context": "tests",
        "clusters": [{"name": "tests", "cluster": {"server": url, "insecure-skip-tls-verify": True}}],
        "users": [{"name": "tests", "user": {"token": token}}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
    }


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder, ports = tmp_path_factory.mktemp("kubernetes"), [_free_port() for _ in range(3)]
    etcd, peers, api = (f"http://127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}", f"https://127.0.0.1:{ports[2]}")
    key = rsa.generate_private_key(65537, 2048)
    (folder / "sa.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()))
    users = f"{ADMIN},admin,1,system:masters\n{SCALER},system:serviceaccount:tidegate:tidegate-scaler,2\n"
    (folder / "tokens.csv").write_text(users)
    (folder / "kubeconfig").write_text(yaml.safe_dump(kubeconfig(api, ADMIN)))
    with contextlib.ExitStack() as stack:
        _started(
            stack,
            folder,
            "etcd",
            f"--data-dir={folder / 'data'}",
            *(f"--listen-client-urls={etcd}", f"--advertise-client-urls={etcd}"),
            *(f"--listen-peer-urls={peers}", f"--initial-advertise-peer-urls={peers}"),
            f"--initial-cluster=default={peers}",
        )
        start = partial(
            _started,
            stack,
            folder,
            "kube-apiserver",
            *(f"--etcd-servers={etcd}", f"--secure-port={ports[2]}", f"--cert-dir={folder}"),
            *("--bind-address=127.0.0.1", "--advertise-address=127.0.0.1", "--service-cluster-ip-range=10.0.0.0/24"),
            *(f"--token-auth-file={folder / 'tokens.csv'}", "--authorization-mode=RBAC"),
            *(
                "--disable-admission-plugins=ServiceAccount,TaintNodesByCondition",
                "--service-account-issuer=https://tests.invalid",
            ),
            f"--service-account-key-file={folder / 'sa.key'}",
            f"--service-account-signing-key-file={folder / 'sa.key'}",
        )
        started = Server(api, start)
        started.start()
        _started(
            stack,
            folder,
            "kube-controller-manager",
            *(f"--kubeconfig={folder / 'kubeconfig'}", f"--controllers={CONTROLLERS}", "--leader-elect=false"),
            *("--port=0", "--secure-port=0"),
        )
        yield started


def _started(stack: contextlib.ExitStack, folder: Path, name: str, *flags: str) -> subprocess.Popen[bytes]:
    log = stack.enter_context((folder / f"{name}.log").open("wb"))
    process = subprocess.Popen([Path(BINARIES) / name, *flags], stdout=log, stderr=log)
    stack.callback(process.wait, 20)
    stack.callback(process.kill)
    return process


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    context = _trusting_all()
    request = urllib.request.Request(f"{url}/readyz", headers={"Authorization": f"Bearer {ADMIN}"})
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert process.poll() is None, "kube-apiserver has ended"
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            urllib.request.urlopen(request, timeout=2, context=context).close()
            return
        time.sleep(0.2)
    raise AssertionError("kube-apiserver was not ready within 60 s")


def _trusting_all() -> SSLContext:
    context = create_default_context()
    context.check_hostname, context.verify_mode = False, CERT_NONE
    return context


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@dataclass
class ServerStage:
    """A ``Stage``: a namespace and a node of its own, with the rights that the shipped roles give."""

    server: Server
    admin: AsyncClient
    kubelet: Kubelet
    namespace: str
    kind: Any
    clients: list[AsyncClient] = field(default_factory=list)
    service: str = SERVICE
    sizes: Sizes | None = OTHER_SIZES
    room: int | None = 14
    crash_loops: bool = True

    def target(self) -> KubernetesTarget:
        client = self.server.client(SCALER, 2.0)
        self.clients.append(client)
        where = named.KubernetesTarget(kind="kubernetes", namespace=self.namespace, workload=self.kind)
        return KubernetesTarget(client, where, 2.0)

    async def instances(self) -> set[str]:
        pods = [pod async for pod in self.admin.list(Pod, namespace=self.namespace)]
        return {str(pod.metadata.uid) for pod in pods if pod.metadata is not None}

    async def loop(self) -> None:
        self.kubelet.crash = True

    @asynccontextmanager
    async def away(self) -> AsyncIterator[None]:
        self.server.kill()
        try:
            yield
        finally:
            await asyncio.to_thread(self.server.start)


@asynccontextmanager
async def staged(server: Server, kind: str) -> AsyncIterator[ServerStage]:
    admin, name = server.client(ADMIN, 10.0), f"test-{uuid.uuid4().hex[:8]}"
    await admin.create(Namespace(metadata=ObjectMeta(name=name)))
    await admin.create(cast(Node, Node.from_dict(node(name))))
    for document in copy.deepcopy(documents()):
        if document["kind"] == "ServiceAccount":
            continue
        if document["metadata"].get("namespace"):
            document["metadata"]["namespace"] = name
        try:
            await admin.create(cast(Any, codecs.from_dict(document)))
        except ApiError as error:
            if error.response.status_code != 409:  # those of the cluster are there from the test before
                raise
    body = workload(SERVICE, statefulset=kind == "statefulset")
    body["metadata"]["namespace"] = name
    body["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] = 1
    await admin.create(cast(Any, (StatefulSet if kind == "statefulset" else Deployment).from_dict(body)))
    kubelet = Kubelet(server.url, name, namespace=name, ssl=False)
    running = asyncio.create_task(kubelet.run())
    stage = ServerStage(server, admin, kubelet, name, kind)
    try:
        yield stage
    finally:
        running.cancel()
        ended = await asyncio.gather(running, return_exceptions=True)
        await admin.delete(Node, name)
        for client in (admin, *stage.clients):
            await client.close()
        assert all(isinstance(one, asyncio.CancelledError) for one in ended), ended


class TestDeploymentOnARealServer(TargetContract):
    @pytest.fixture
    async def stage(self, server: Server) -> AsyncIterator[ServerStage]:
        async with staged(server, "deployment") as stage:
            yield stage

    async def test_new_sizes_roll_one_at_a_time_and_go_back_the_same_way(self, stage: ServerStage) -> None:
        target = stage.target()
        former = await target.sizes(SERVICE)
        await rolls(stage, target, OTHER_SIZES)
        await target.set_sizes(SERVICE, former, 7, "d-1")
        await settled(target, SERVICE, 2)
        assert await target.sizes(SERVICE) == former

    async def test_a_rollout_that_is_paused_or_cannot_go_on_is_told_as_an_update(self, stage: ServerStage) -> None:
        target = stage.target()
        await settled(target, SERVICE, 2)
        stage.kubelet.node = ""
        former = await target.sizes(SERVICE)
        await target.set_sizes(SERVICE, OTHER_SIZES, 7, "d-1")

        async def stuck() -> bool:
            seen = await target.observe(SERVICE)
            return (seen.ready, seen.starting, seen.updating) == (2, 1, True)

        await eventually("the new pod waits for a node", stuck)
        await stage.admin.patch(Deployment, SERVICE, {"spec": {"paused": True}}, namespace=stage.namespace)
        assert (await target.observe(SERVICE)).updating
        await stage.admin.patch(Deployment, SERVICE, {"spec": {"paused": False}}, namespace=stage.namespace)
        await target.set_sizes(SERVICE, former, 7, "d-2")
        await settled(target, SERVICE, 2)

    async def test_more_reserved_than_allowed_is_refused(self, stage: ServerStage) -> None:
        with pytest.raises(RefusedError, match="is above the limit"):
            await stage.target().set_sizes(SERVICE, Sizes(cpu_limit=1.0, cpu_reserved=2.0), 7, "d-1")


class TestStatefulSetOnARealServer(TargetContract):
    @pytest.fixture
    async def stage(self, server: Server) -> AsyncIterator[ServerStage]:
        async with staged(server, "statefulset") as stage:
            yield stage
