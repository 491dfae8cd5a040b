"""A Docker Engine of the tests' own: started, given an image, and removed with everything it made.

No image is pulled: one is imported from a folder that holds a static busybox.
"""

import contextlib
import io
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import psutil
import pytest

IMAGE = "tidegate-test:1"
START_S = 60.0
STOP_S = 30.0
KEPT_NETWORKS = ("none", "host", "bridge", "ingress", "docker_gwbridge")


@dataclass
class Engine:
    """``client`` speaks to it; it listens on a socket alone, and its network is its own: a loopback."""

    folder: Path
    parent: str
    own_network: bool = True
    client: Any = None
    daemon: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"unix://{self.folder}/sock"

    def start(self) -> None:
        """Again after ``kill`` with what it had."""
        folder = self.folder
        for stale in ("pid", "sock"):
            (folder / stale).unlink(missing_ok=True)
        command: list[str | Path] = [
            "dockerd",
            *("--data-root", folder / "data", "--exec-root", folder / "exec", "--pidfile", folder / "pid"),
            *("--host", self.url, "--bridge", "none", "--iptables=false", "--ip6tables=false"),
            *("--storage-driver", "vfs", "--cgroup-parent", f"/{self.parent}"),
            *("--exec-opt", "native.cgroupdriver=cgroupfs"),
        ]
        if self.own_network:
            command = ["unshare", "--net", "sh", "-c", 'busybox ip link set lo up && exec "$@"', "sh", *command]
        with (folder / "log").open("ab") as log:
            self.daemon = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.client = connect(self.daemon, self.url, folder / "log")

    def run(self, name: str, command: list[str], **options: Any) -> Any:
        settings = {"network_mode": "none", "init": False, **options}
        return self.client.containers.run(IMAGE, command, name=name, detach=True, **settings)

    def kill(self) -> None:
        """As an engine that crashes: SIGKILL, to its containerd too. Containers end when it has been started again."""
        assert self.daemon is not None
        self.client.close()
        helpers = [child for child in psutil.Process(self.daemon.pid).children() if child.name() == "containerd"]
        self.daemon.kill()
        self.daemon.wait(STOP_S)
        for helper in helpers:
            with contextlib.suppress(psutil.NoSuchProcess):
                helper.kill()
        # Whoever reaps it may be slow, and a zombie is taken for one that runs.
        (self.folder / "exec/containerd/containerd.pid").unlink(missing_ok=True)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """It is there, and answers nothing."""
        assert self.daemon is not None
        self.daemon.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.daemon.send_signal(signal.SIGCONT)

    def clear(self) -> None:
        if self.client.info()["Swarm"]["LocalNodeState"] == "active":
            for service in self.client.services.list():
                service.remove()
        for container in self.client.api.containers(all=True):
            # The Swarm, or the target of a test, may be about to remove it.
            with contextlib.suppress(docker.errors.APIError):
                self.client.api.remove_container(container["Id"], force=True)
        for network in self.client.networks.list():
            if network.name not in KEPT_NETWORKS:
                network.remove()
        for volume in self.client.volumes.list():
            volume.remove(force=True)


@contextlib.contextmanager
def run_engine(*, swarm: bool = False, own_network: bool = True) -> Iterator[Engine]:
    """Skips only where there is no engine to start; in CI as root that is a failure. ``swarm``: manager of one node.

    ``own_network``: else it has that of the tests, and its ports and bridges are there too.
    """
    if os.geteuid() != 0:
        pytest.skip("dockerd needs root")
    busybox = shutil.which("busybox")
    if shutil.which("dockerd") is None or busybox is None:
        lack = "no dockerd or no busybox here: apt-get install docker.io busybox-static"
        if os.environ.get("CI") == "true":
            pytest.fail(lack)
        pytest.skip(lack)
    # Its socket's path has to be short, so not pytest's own folder.
    engine = Engine(Path(tempfile.mkdtemp(prefix="tg-docker-")), f"tidegate-test-{uuid.uuid4().hex[:8]}", own_network)
    try:
        engine.start()
        engine.client.api.import_image_from_data(root_file_system(Path(busybox)), repository="tidegate-test", tag="1")
        if swarm:
            engine.client.swarm.init(advertise_addr="127.0.0.1")
        yield engine
        engine.clear()
    finally:
        if engine.client is not None:
            engine.client.close()
        if engine.daemon is not None:
            end(engine.daemon)
        remove(engine.folder, engine.parent)


def engine_fixtures(*, swarm: bool = False) -> tuple[Any, Any]:
    """``module_engine`` and ``engine`` of a module: one for all of its tests, cleared after each."""

    @pytest.fixture(scope="module")
    def module_engine() -> Iterator[Engine]:
        with run_engine(swarm=swarm) as started:
            yield started

    @pytest.fixture
    def engine(module_engine: Engine) -> Iterator[Engine]:
        yield module_engine
        module_engine.clear()

    return module_engine, engine


def connect(daemon: "subprocess.Popen[bytes]", url: str, log: Path) -> Any:
    """A client, as soon as the engine answers."""
    deadline = time.monotonic() + START_S
    while not answers(url.removeprefix("unix://")):
        if daemon.poll() is not None or time.monotonic() > deadline:
            pytest.fail(f"dockerd did not start: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.05)
    return docker.DockerClient(base_url=url, version="auto", timeout=START_S)


def answers(path: str) -> bool:
    """Whether something listens on a socket; the SDK would leave each failed try open."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


def root_file_system(busybox: Path) -> bytes:
    """A tar archive with a shell and what it needs, which is nothing."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(busybox.resolve(), "bin/busybox")
        link = tarfile.TarInfo("bin/sh")
        link.type, link.linkname = tarfile.SYMTYPE, "busybox"
        tar.addfile(link)
    return archive.getvalue()


def end(daemon: "subprocess.Popen[bytes]") -> None:
    """Stop the engine and, should it not heed, everything it started."""
    if daemon.poll() is not None:
        return
    family = [daemon.pid, *(child.pid for child in psutil.Process(daemon.pid).children(recursive=True))]
    daemon.terminate()
    try:
        daemon.wait(STOP_S)
    except subprocess.TimeoutExpired:
        for pid in family:
            with contextlib.suppress(psutil.Error):
                psutil.Process(pid).kill()
        daemon.wait(STOP_S)


def remove(folder: Path, parent: str) -> None:
    """What a killed engine leaves: its shims and containers, mounts, its folder, and its control groups."""
    for process in psutil.process_iter(["cmdline"]):
        if process.info["cmdline"] and f"{folder}/exec/containerd/containerd.sock" in process.info["cmdline"]:
            for one in [*process.children(recursive=True), process]:
                with contextlib.suppress(psutil.Error):
                    one.kill()
    mounted = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in reversed([one for one in mounted if one.startswith(str(folder))]):
        subprocess.run(["umount", "--lazy", mount], check=False)  # noqa: S607 - wherever it is
    shutil.rmtree(folder)
    for top in [*Path("/sys/fs/cgroup").glob(parent), *Path("/sys/fs/cgroup").glob(f"*/{parent}")]:
        for group in [*sorted(top.rglob("*"), reverse=True), top]:
            if group.is_dir():
                with contextlib.suppress(OSError):
                    group.rmdir()
