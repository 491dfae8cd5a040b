"""The target Docker Engine: the contract on a real one, and what only containers do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from docker.types import Mount

from services.scaler.situation import Observation, Sizes
from services.scaler.targets.containers import copy_of
from services.scaler.targets.docker_engine import DockerTarget
from services.scaler.targets.target import RefusedError
from shared.errors import TransientError
from tests.integration.docker_engine import IMAGE, Engine, engine_fixtures
from tests.integration.engine_stage import SERVICE, UNTIL_TOLD, EngineStage
from tests.integration.target_contract import TargetContract, eventually, settled

# One engine for all of them, whichever process they run in.
pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("docker")]
SIZES: dict[str, Any] = {"nano_cpus": int(4e8), "cpu_shares": 16, "mem_limit": "64m", "mem_reservation": "32m"}
module_engine, engine = engine_fixtures()


@dataclass
class DockerStage(EngineStage):
    """A ``Stage``: containers that end when a file appears and are started again by the engine."""

    sizes: Sizes | None = field(
        default_factory=lambda: Sizes(cpu_limit=0.5, memory_limit=96, cpu_reserved=0.03125, memory_reserved=48)
    )

    def create(self, *names: str, command: list[str] = UNTIL_TOLD, **more: Any) -> list[Any]:
        """Containers of the service, as a person or Compose would have made them."""
        options = {
            "labels": {"tidegate.service": SERVICE},
            "volumes": [f"{self.folder}:/stage:ro"],
            "restart_policy": {"Name": "always"},
            "stop_signal": "SIGKILL",
            **more,
        }
        return [self.engine.run(name, command, **options) for name in names]

    def target(self, name: str | None = None) -> DockerTarget:
        return DockerTarget(self.connect(), name)

    async def instances(self) -> set[str]:
        found = await asyncio.to_thread(self.engine.client.api.containers, all=True)
        return {one["Id"] for one in found}


@pytest.fixture
async def empty_stage(engine: Engine, tmp_path: Path) -> AsyncIterator[DockerStage]:
    async with AsyncExitStack() as stack:
        yield DockerStage(engine, tmp_path, stack)


class TestDocker(TargetContract):
    @pytest.fixture
    def stage(self, empty_stage: DockerStage) -> DockerStage:
        # Of memory the machine has plenty, so it is the cores that bound it: 64 containers on each.
        empty_stage.create("web-1", "web-2", **SIZES)
        empty_stage.room = 64 * empty_stage.engine.client.info()["NCPU"] - 2
        return empty_stage


async def test_one_that_takes_long_to_stop_is_no_replica_from_the_start(empty_stage: DockerStage) -> None:
    slow = ["/bin/sh", "-c", "trap '' TERM; while :; do /bin/busybox sleep 0.3; done"]
    empty_stage.create("web-1", "web-2", command=slow, stop_signal="SIGTERM")
    target = empty_stage.target()
    await settled(target, SERVICE, 2)
    api = empty_stage.engine.client.api
    await target.set_replicas(SERVICE, 1, 7, "d-1")
    assert await target.observe(SERVICE) == Observation(desired=1, ready=1)
    leaving = [one for one in api.containers() if ".leaving." in one["Names"][0]]
    assert len(leaving) == 1
    # Its slot is free at once.
    await target.set_replicas(SERVICE, 2, 7, "d-2")
    await settled(target, SERVICE, 2)

    async def gone() -> bool:
        return len(await empty_stage.instances()) == 2

    await eventually("it to be gone after its grace of 10 s", gone)


async def test_what_a_scaler_that_died_left_half_done_is_finished_by_the_next(empty_stage: DockerStage) -> None:
    made, going = empty_stage.create("web-1", "web-3")
    api = empty_stage.engine.client.api
    body = copy_of(api.inspect_container(made.id), SERVICE, 2, IMAGE, 6, "d-0")
    api.create_container_from_config(body, f"{SERVICE}.2")
    api.rename(going.id, f"{SERVICE}.leaving.{going.id[:12]}")
    target = empty_stage.target()
    assert await target.observe(SERVICE) == Observation(desired=2, ready=1, starting=1)
    await target.set_replicas(SERVICE, 2, 7, "")
    await settled(target, SERVICE, 2)

    async def gone() -> bool:
        return going.id not in await empty_stage.instances()

    await eventually("the one that goes to be gone", gone)


async def test_a_copy_that_cannot_start_is_refused_and_leaves_nothing(empty_stage: DockerStage) -> None:
    empty_stage.create("web-1")
    folder = empty_stage.folder / "data"
    folder.mkdir()
    mount = Mount("/data", str(folder), type="bind")
    (one,) = empty_stage.create("web-2", mounts=[mount])
    empty_stage.engine.client.api.remove_container("web-1", force=True)
    folder.rmdir()
    target = empty_stage.target()
    with pytest.raises((RefusedError, TransientError), match="bind"):
        await target.set_replicas(SERVICE, 2, 7, "d-1")
    assert await empty_stage.instances() == {one.id}


async def test_a_name_that_is_anothers_and_a_fixed_port_are_refused(empty_stage: DockerStage) -> None:
    empty_stage.create("web-1")
    empty_stage.engine.run(f"{SERVICE}.2", UNTIL_TOLD)
    target = empty_stage.target()
    with pytest.raises(RefusedError, match=r"the name relaycore\.2 is taken by a container that is no replica"):
        await target.set_replicas(SERVICE, 2, 7, "d-1")
    empty_stage.engine.client.api.remove_container("web-1", force=True)
    empty_stage.engine.client.networks.create("lan", driver="bridge")
    empty_stage.create("web-2", network_mode="lan", ports={"80/tcp": None})
    await target.set_replicas(SERVICE, 1, 7, "d-1")
    spec = empty_stage.engine.client.api.inspect_container("web-2")
    with pytest.raises(RefusedError, match="8080"):
        copy_of({**spec, "HostConfig": {"PortBindings": {"80/tcp": [{"HostPort": "8080"}]}}}, SERVICE, 2, IMAGE, 1, "")


async def test_a_copy_joins_the_same_networks_under_the_services_name(empty_stage: DockerStage) -> None:
    networks = [empty_stage.engine.client.networks.create(name, driver="bridge") for name in ("lan", "wire")]
    (one,) = empty_stage.create("web-1", network_mode="lan")
    networks[1].connect(one, aliases=["web"])
    target = empty_stage.target()
    await target.set_replicas(SERVICE, 2, 7, "d-1")
    await settled(target, SERVICE, 2)
    copied = empty_stage.engine.client.api.inspect_container(f"{SERVICE}.2")
    joined = copied["NetworkSettings"]["Networks"]
    assert joined.keys() == {"lan", "wire"}
    assert "web" in joined["wire"]["Aliases"]


async def test_sizes_that_one_of_them_cannot_have_are_taken_back_from_all(empty_stage: DockerStage) -> None:
    empty_stage.create("web-1", "web-2", **SIZES)
    target = empty_stage.target()
    before = await target.sizes(SERVICE)
    with pytest.raises(RefusedError, match="CPUs"):
        await target.set_sizes(SERVICE, before.model_copy(update={"cpu_limit": 9999.0}), 7, "d-1")
    assert await target.sizes(SERVICE) == before
    await settled(target, SERVICE, 2)
