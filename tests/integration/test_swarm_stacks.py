"""The stacks of deploy/swarm/ as a real Swarm takes them: the limits, and what scaler and collector rely on."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.collector.source_config import Resources
from shared.config import load_document
from shared.settings import PROJECT_ROOT
from tests.integration.docker_engine import IMAGE, Engine, run_engine

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("docker")]
FOLDER = PROJECT_ROOT / "deploy" / "swarm"
IMAGES = {f"{name}_IMAGE": IMAGE for name in ("AUTMATRIX", "RELAYCORE", "NEUROWEAVER", "HAPROXY", "TIDEGATE")}
GIB = 1 << 30
SECOND = 1_000_000_000


@pytest.fixture(scope="module")
def specs() -> Iterator[dict[str, Any]]:
    """The specification of every service of both stacks, by name."""
    with run_engine(swarm=True) as engine:
        engine.client.networks.create("tidegate", driver="overlay", attachable=True)
        for secret in ("tidegate-store-dsn", "tidegate-store-password"):
            engine.client.secrets.create(name=secret, data=b"only-for-tests")
        for stack in ("platform", "tidegate"):
            deploy(engine, FOLDER / f"{stack}.yaml", stack)
        yield {one["Spec"]["Name"]: one["Spec"] for one in engine.client.api.services()}


def deploy(engine: Engine, file: Path, stack: str) -> None:
    subprocess.run(
        ["docker", "--host", engine.url, "stack", "deploy", "--resolve-image", "never", "-c", str(file), stack],  # noqa: S607
        env={**os.environ, **IMAGES},
        check=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("name", "replicas", "limit", "reserved", "check_s"),
    [
        ("autmatrix-backend", 2, (2.0, 4 * GIB), (0.5, GIB), (30, 10, 3)),
        ("relaycore", 3, (1.5, 2 * GIB), (0.25, GIB // 2), (15, 5, 3)),
        ("neuroweaver-backend", 1, (4.0, 8 * GIB), (1.0, 2 * GIB), (60, 15, 2)),
    ],
    ids=str,
)
def test_the_three_systems_have_their_deployment_limits(
    specs: dict[str, Any],
    name: str,
    replicas: int,
    limit: tuple[float, int],
    reserved: tuple[float, int],
    check_s: tuple[int, int, int],
) -> None:
    spec = specs[f"platform_{name}"]
    task = spec["TaskTemplate"]
    assert spec["Mode"] == {"Replicated": {"Replicas": replicas}}
    for told, (cores, memory) in ((task["Resources"]["Limits"], limit), (task["Resources"]["Reservations"], reserved)):
        assert (told["NanoCPUs"], told["MemoryBytes"]) == (int(cores * 1e9), memory)
    assert (spec["UpdateConfig"]["Parallelism"], spec["UpdateConfig"]["Delay"]) == (1, 10 * SECOND)
    restart = task["RestartPolicy"]
    assert (restart["Condition"], restart["Delay"], restart["MaxAttempts"]) == ("on-failure", 5 * SECOND, 3)
    check = task["ContainerSpec"]["Healthcheck"]
    assert (check["Interval"], check["Timeout"], check["Retries"]) == (
        check_s[0] * SECOND,
        check_s[1] * SECOND,
        check_s[2],
    )
    assert task["ContainerSpec"]["Labels"]["tidegate.service"] == name
    assert spec["EndpointSpec"]["Mode"] == "dnsrr"


def test_two_scalers_stand_on_managers_and_every_node_has_a_collector(specs: dict[str, Any]) -> None:
    scaler = specs["tidegate_scaler"]
    assert scaler["Mode"] == {"Replicated": {"Replicas": 2}}
    assert scaler["TaskTemplate"]["Placement"]["Constraints"] == ["node.role == manager"]
    assert "Global" in specs["tidegate_collector"]["Mode"]
    for name in ("collector", "validator"):
        container = specs[f"tidegate_{name}"]["TaskTemplate"]["ContainerSpec"]
        assert [one["SecretName"] for one in container["Secrets"]] == ["tidegate-store-dsn"]
        assert not [one for one in container["Env"] if one.startswith("TIDEGATE_STORE_DSN")]


def test_the_front_door_has_a_line_for_every_replica_that_the_rules_allow() -> None:
    lines = (FOLDER / "haproxy.cfg").read_text().splitlines()
    templates = dict(line.split()[3:1:-1] for line in lines if line.strip().startswith("server-template"))
    rules = yaml.safe_load((PROJECT_ROOT / "config" / "scaling.yaml").read_text())["services"]
    for target, count in templates.items():
        service = target.removeprefix("tasks.").rpartition(":")[0]
        assert int(count) >= rules[service]["max"], service


def test_the_samples_of_containers_are_a_valid_configuration() -> None:
    assert [source.kind for source in load_document(Resources, FOLDER / "resources.yaml").sources] == ["docker"]
