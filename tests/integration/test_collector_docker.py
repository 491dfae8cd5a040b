"""A real Docker Engine, read: a container that burns its limit, one that is sick, an engine away, one that hangs."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest
import yaml

from services.collector.docker_engine import DockerEngine
from services.collector.source import Seen
from services.collector.source_config import DockerSpec
from shared.contracts.resource import ResourceSample
from shared.errors import TransientError
from shared.settings import PROJECT_ROOT
from tests.integration.collector_rig import Rig, eventually, open_rig
from tests.integration.docker_engine import Engine, engine_fixtures

# One engine for all of them, whichever process they run in.
pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("docker")]
BURN = ["/bin/sh", "-c", "while :; do :; done"]
SLEEP = ["/bin/busybox", "sleep", "1000"]
module_engine, engine = engine_fixtures()


@pytest.fixture
async def source(engine: Engine) -> AsyncIterator[DockerEngine]:
    made = DockerEngine(DockerSpec(kind="docker", url=engine.url, timeout_s=10))
    yield made
    await made.close()


@pytest.fixture
async def rig(nats_url: str, environment: str, postgres_dsn: str) -> AsyncIterator[Rig]:
    async with open_rig(nats_url, environment, postgres_dsn) as opened:
        yield opened


def config_of(folder: Path, *sources: Mapping[str, object]) -> Path:
    """A configuration folder with these sources."""
    shipped = yaml.safe_load((PROJECT_ROOT / "config" / "resources.yaml").read_text())
    shutil.copy(PROJECT_ROOT / "config" / "benchmarks.yaml", folder)
    (folder / "resources.yaml").write_text(yaml.safe_dump({**shipped, "sources": [*map(dict, sources)]}))
    return folder


def samples(rig: Rig, service: str) -> list[ResourceSample]:
    subject = rig.bus.subjects.resource(service)
    return [ResourceSample.model_validate_json(msg.data) for msg in rig.heard if msg.subject == subject]


async def test_a_container_that_burns_its_limit_is_published_and_stored(
    rig: Rig, engine: Engine, tmp_path: Path
) -> None:
    engine.run(
        "burner",
        BURN,
        nano_cpus=300_000_000,
        mem_limit="64m",
        labels={"tidegate.service": "relaycore", "tidegate.system": "relaycore"},
    )
    engine.run("idler", SLEEP, labels={"com.docker.compose.service": "idle"})
    engine.run("stranger", SLEEP)
    rule = {"label": "com.docker.compose.service=idle", "service": "autmatrix-backend", "system": "autmatrix"}
    docker = {"kind": "docker", "url": engine.url, "containers": [rule]}
    away = {"kind": "docker", "name": "away", "url": f"unix://{tmp_path}/no.sock"}
    async with rig.collector(config_dir=config_of(tmp_path, away, docker), scrape_interval_s=0.5):
        told = await eventually(
            lambda: asyncio.sleep(0, [one for one in samples(rig, "relaycore") if "cpu_usage" in one.values]),
            lambda found: len(found) >= 4,
            30.0,
        )
        idle = await eventually(
            lambda: asyncio.sleep(0, [one for one in samples(rig, "autmatrix-backend") if "cpu_usage" in one.values]),
            bool,
        )
        await eventually(lambda: rig.count("resource_sample"), lambda count: count >= len(told))
    assert {(one.instance, one.system, one.ready) for one in told} == {("burner", "relaycore", True)}
    usage = [one.values["cpu_usage"] for one in told]
    # The kernel lets a group have its quota of each period, give or take one period and what others leave of the CPU.
    assert 0.3 < sum(usage) / len(usage) < 1.3, usage
    assert 0 < told[-1].values["memory_ratio"] == pytest.approx(told[-1].values["memory_usage"] / 64)
    assert told[-1].values["threads"] == 1
    assert "network_received" not in told[-1].values
    assert idle[0].instance == "idler"
    assert idle[0].values["cpu_usage"] < 0.05
    services = await rig.query("SELECT DISTINCT service FROM resource_sample ORDER BY 1")
    assert services == [("autmatrix-backend",), ("relaycore",)]


async def seen_with(source: DockerEngine, metric: str, within_s: float = 20.0) -> Seen:
    """The first instance as soon as it tells a metric."""

    async def read() -> Seen | None:
        return next((one for one in await source.read() if metric in one.values), None)

    found = await eventually(read, lambda seen: seen is not None, within_s)
    assert found is not None
    return found


async def test_a_restart_begins_anew_and_is_no_burst(engine: Engine, source: DockerEngine) -> None:
    container = engine.run("burner", BURN, nano_cpus=500_000_000, labels={"tidegate.service": "relaycore"})
    await seen_with(source, "cpu_usage")
    container.restart(timeout=0)
    (first,) = await source.read()
    assert "cpu_usage" not in first.values
    assert (await seen_with(source, "cpu_usage")).values["cpu_usage"] < 2


async def test_the_network_of_a_container_is_told_as_rates(engine: Engine, source: DockerEngine) -> None:
    engine.client.networks.create("wire", driver="bridge")
    send = "while :; do /bin/busybox arping -c 1 -w 1 10.99.99.99; done"
    engine.run("talker", ["/bin/sh", "-c", send], network_mode="wire", labels={"tidegate.service": "relaycore"})
    seen = await seen_with(source, "network_received")
    assert seen.values.keys() >= {"network_sent", "network_errors", "network_drops"}
    assert seen.values["network_errors"] == 0.0
    assert seen.values["network_received"] >= 0.0


async def test_a_container_is_ready_while_it_runs_healthy_and_is_not_paused(
    engine: Engine, source: DockerEngine
) -> None:
    check = {"test": ["CMD-SHELL", "exit 1"], "interval": 300_000_000, "retries": 1, "timeout": 5_000_000_000}
    engine.run("sick", SLEEP, healthcheck=check, labels={"tidegate.service": "relaycore"})
    container = engine.run("well", SLEEP, labels={"tidegate.service": "relaycore"})

    async def ready() -> dict[str, bool]:
        return {one.instance: one.ready for one in await source.read()}

    assert await ready() == {"sick": False, "well": True}
    container.pause()
    assert await ready() == {"sick": False, "well": False}
    container.unpause()
    container.remove(force=True)
    assert await ready() == {"sick": False}


async def test_an_engine_without_our_containers_says_which_label_is_missing(
    engine: Engine, source: DockerEngine
) -> None:
    engine.run("stranger", SLEEP)
    with pytest.raises(TransientError, match=r"label them tidegate\.service=NAME"):
        await source.read()


async def test_two_ways_to_one_engine_have_one_lease_and_another_engine_another(
    engine: Engine, source: DockerEngine, tmp_path: Path
) -> None:
    link = tmp_path / "s"
    link.symlink_to(engine.url.removeprefix("unix://"))
    other = DockerEngine(DockerSpec(kind="docker", url=f"unix://{link}"))
    assert await source.lease_key() == await other.lease_key()
    assert (await source.lease_key()).startswith("sampler.docker.engine-")
    await other.close()


async def test_an_engine_that_hangs_holds_nobody_up(tmp_path: Path) -> None:
    async def hang(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hanging.append(writer)

    hanging: list[asyncio.StreamWriter] = []
    server = await asyncio.start_unix_server(hang, tmp_path / "s")
    source = DockerEngine(DockerSpec(kind="docker", url=f"unix://{tmp_path}/s", timeout_s=0.3))
    began = time.monotonic()
    with pytest.raises(TransientError):
        await source.read()
    assert time.monotonic() - began < 5
    for writer in hanging:
        writer.close()
    server.close()
    await source.close()
