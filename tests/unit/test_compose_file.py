"""docker-compose.yml: the limits that were asked for, as the Docker target reads them, and whole."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from shared.config import load_document
from shared.contracts import scaling_targets as named
from shared.contracts.scaling_rules import ScalingRules

ROOT = Path(__file__).parents[2]
Object = dict[str, Any]
FILE: Object = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Object] = FILE["services"]


@pytest.mark.parametrize(
    ("service", "replicas", "limits", "reserved_cores", "reserved_memory", "health"),
    [
        ("autmatrix-backend", 2, {"cpus": "2.0", "memory": "4G"}, 0.5, "1G", ("30s", "10s", 3)),
        ("relaycore", 3, {"cpus": "1.5", "memory": "2G"}, 0.25, "512M", ("15s", "5s", 3)),
        ("neuroweaver-backend", 1, {"cpus": "4.0", "memory": "8G"}, 1.0, "2G", ("60s", "15s", 2)),
    ],
)
def test_each_system_has_what_was_asked_for(
    service: str,
    replicas: int,
    limits: Object,
    reserved_cores: float,
    reserved_memory: str,
    health: tuple[str, str, int],
) -> None:
    its = SERVICES[service]
    assert its["deploy"]["replicas"] == replicas
    assert its["deploy"]["resources"] == {"limits": limits, "reservations": {"memory": reserved_memory}}
    assert its["cpu_shares"] == reserved_cores * 1024
    assert its["deploy"]["restart_policy"] == {"condition": "on-failure", "delay": "5s", "max_attempts": 3}
    assert (its["healthcheck"]["interval"], its["healthcheck"]["timeout"], its["healthcheck"]["retries"]) == health


def test_what_is_scaled_is_labelled_followed_by_the_proxy_and_publishes_no_port_that_a_copy_could_not_have() -> None:
    proxy = (ROOT / "deploy/swarm/haproxy.cfg").read_text()
    target = SERVICES["scaler"]["environment"]["TIDEGATE_SCALER_TARGET"]
    assert named.DockerTarget.model_validate_json(target).name is None
    for name, rules in load_document(ScalingRules, ROOT / "config/scaling.yaml").services.items():
        if rules.target is not None:
            continue
        its = SERVICES[name]
        assert its["labels"] == {"tidegate.service": name, "tidegate.system": rules.system}
        (alias,) = its["networks"]["platform"]["aliases"]
        assert f" {alias}:" in proxy
        assert not {"ports", "container_name"} & its.keys()


def test_what_is_mounted_named_and_waited_for_is_there() -> None:
    for name, its in SERVICES.items():
        assert set(its.get("depends_on", {})) <= SERVICES.keys(), name
        for mount in its.get("volumes", []):
            source = mount.split(":")[0]
            assert source.startswith("/var/run/") or source in FILE["volumes"] or (ROOT / source).is_file(), source
        if its["image"].startswith("${TIDEGATE_IMAGE"):
            assert (ROOT / "services" / its["command"][2]).is_dir()
    secret = re.compile(r"PASSWORD: (?!\$\{)")
    assert not secret.search((ROOT / "docker-compose.yml").read_text())
