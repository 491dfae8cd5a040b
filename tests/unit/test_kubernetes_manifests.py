"""deploy/kubernetes: whole by its own references, with the limits that were asked for, and one actor only."""

import shutil
import subprocess
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from lightkube.models.core_v1 import PodTemplateSpec

from services.collector.source_config import PlatformSpec, Resources
from services.scaler.targets.kubernetes_state import main_container, sizes_of
from shared.config import load_document
from shared.contracts import scaling_targets as named
from shared.contracts.scaling_rules import ScalingRules

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy/kubernetes"
BY_HAND = {"tidegate-store", "tidegate-config"}
"""The password, which does not stand in the repository, and the files of ``config/``; docs/targets.md says how."""

Object = dict[str, Any]


def kustomization(folder: Path) -> Object:
    read: Object = yaml.safe_load((folder / "kustomization.yaml").read_text())
    return read


def objects(folder: Path = FOLDER) -> list[Object]:
    """What a build of the folder makes, without the hashes in the names of configuration maps."""
    its = kustomization(folder)
    assert set(its) <= {"apiVersion", "kind", "resources", "configMapGenerator", "images"}
    found: list[Object] = []
    for name in its["resources"]:
        path = folder / name
        assert path.exists(), f"{folder}: {name} is not there"
        found += objects(path) if path.is_dir() else [one for one in yaml.safe_load_all(path.read_text()) if one]
    for made in its.get("configMapGenerator", []):
        data = dict(line.split("=", 1) for line in made["literals"])
        meta = {"name": made["name"], "namespace": made["namespace"]}
        found.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data})
    return found


ALL = objects()
WORKLOADS = {
    (one["metadata"]["namespace"], one["metadata"]["name"]): one
    for one in ALL
    if one["kind"] in ("Deployment", "StatefulSet")
}


RULES = load_document(ScalingRules, ROOT / "config/scaling.yaml").services
SCALED = {service: rules for service, rules in RULES.items() if rules.target is None}
"""Those that run where ``TIDEGATE_SCALER_TARGET`` says."""


def named_things(kind: str) -> set[tuple[str, str]]:
    return {(one["metadata"]["namespace"], one["metadata"]["name"]) for one in ALL if one["kind"] == kind}


def pod_spec(workload: Object) -> Object:
    spec: Object = workload["spec"]["template"]["spec"]
    return spec


def test_every_file_is_reached_and_every_object_stands_once_in_a_namespace_that_is_made() -> None:
    reached = {FOLDER / "kustomization.yaml"}
    for folder in (FOLDER, FOLDER / "platform", FOLDER / "tidegate"):
        its = kustomization(folder)
        reached |= {folder / "kustomization.yaml", *(folder / name for name in its["resources"])}
    reached = {path for path in reached if path.is_file()}
    assert {path for path in FOLDER.rglob("*") if path.is_file()} == {*reached, FOLDER / "resources.yaml"}
    keys = [(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in ALL]
    assert len(keys) == len(set(keys))
    namespaces = {one["metadata"]["name"] for one in ALL if one["kind"] == "Namespace"}
    for kind, namespace, name in keys:
        assert namespace in namespaces or kind in ("Namespace", "ClusterRole", "ClusterRoleBinding"), name


@pytest.mark.parametrize(
    ("service", "replicas", "limits", "reserved", "health", "port"),
    [
        ("autmatrix-backend", 2, (2.0, 4096), (0.5, 1024), (30, 10, 3), 8000),
        ("relaycore", 3, (1.5, 2048), (0.25, 512), (15, 5, 3), 3001),
        ("neuroweaver-backend", 1, (4.0, 8192), (1.0, 2048), (60, 15, 2), 8001),
    ],
)
def test_each_system_has_the_replicas_limits_and_health_checks_that_were_asked_for(
    service: str,
    replicas: int,
    limits: tuple[float, float],
    reserved: tuple[float, float],
    health: tuple[int, int, int],
    port: int,
) -> None:
    deployment = WORKLOADS["platform", service]
    spec = deployment["spec"]
    assert spec["replicas"] == replicas
    assert spec["strategy"] == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}
    assert spec["minReadySeconds"] == 10
    container = main_container(cast(PodTemplateSpec, PodTemplateSpec.from_dict(spec["template"])), service)
    assert container is not None
    sizes = sizes_of(container)
    assert (sizes.cpu_limit, sizes.memory_limit) == limits
    assert (sizes.cpu_reserved, sizes.memory_reserved) == reserved
    written = pod_spec(deployment)["containers"][0]
    probe = written["livenessProbe"]
    assert (probe["periodSeconds"], probe["timeoutSeconds"], probe["failureThreshold"]) == health
    startup = written["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 40
    assert written["ports"][0]["containerPort"] == port
    (door,) = [one for one in ALL if one["kind"] == "Service" and one["metadata"]["name"] == service]
    assert door["spec"]["ports"][0]["port"] == port


def test_nothing_else_scales_what_tidegate_scales() -> None:
    assert not [
        one for one in ALL if one["kind"] in ("HorizontalPodAutoscaler", "VerticalPodAutoscaler", "ScaledObject")
    ]


def test_what_the_rules_name_is_there_within_their_limits_and_where_the_scaler_may_act() -> None:
    (container,) = pod_spec(WORKLOADS["tidegate", "scaler"])["containers"]
    variables = {one["name"]: one.get("value") for one in container["env"]}
    target = named.KubernetesTarget.model_validate_json(variables["TIDEGATE_SCALER_TARGET"])
    assert target.context is None
    (role,) = [one for one in ALL if one["kind"] == "Role"]
    assert role["metadata"]["namespace"] == target.namespace
    for service, rules in SCALED.items():
        workload = WORKLOADS[target.namespace, target.name or service]
        assert workload["kind"].lower() == target.workload
        assert rules.min <= workload["spec"]["replicas"] <= rules.max


def test_the_replicas_that_are_read_are_those_of_the_headless_services() -> None:
    shipped = load_document(Resources, ROOT / "config/resources.yaml")
    here = load_document(Resources, FOLDER / "resources.yaml")
    assert here.metrics == shipped.metrics
    (source,) = here.sources
    assert isinstance(source, PlatformSpec)
    headless = {
        f"{one['metadata']['name']}.{one['metadata']['namespace']}": (
            one["spec"]["ports"][0]["port"],
            one["spec"]["selector"]["app.kubernetes.io/name"],
        )
        for one in ALL
        if one["kind"] == "Service" and one["metadata"]["namespace"] == "platform" and "clusterIP" in one["spec"]
    }
    assert {rule.name: (rule.port, rule.service) for rule in source.dns} == headless
    assert {rule.service: rule.system for rule in source.dns} == {name: rules.system for name, rules in SCALED.items()}


def test_what_pods_refer_to_is_there() -> None:
    accounts, maps = named_things("ServiceAccount"), named_things("ConfigMap")
    for (namespace, name), workload in WORKLOADS.items():
        spec = pod_spec(workload)
        if "serviceAccountName" in spec:
            assert (namespace, spec["serviceAccountName"]) in accounts, name
        else:
            assert spec["automountServiceAccountToken"] is False, name
        for container in spec["containers"]:
            for source in container.get("envFrom", []):
                assert (namespace, source["configMapRef"]["name"]) in maps, name
            for variable in container.get("env", []):
                if "valueFrom" in variable:
                    assert variable["valueFrom"]["secretKeyRef"]["name"] in BY_HAND, name
        for volume in spec.get("volumes", []):
            if "configMap" in volume:
                assert volume["configMap"]["name"] in BY_HAND, name
        assert (
            workload["spec"]["selector"]["matchLabels"].items()
            <= workload["spec"]["template"]["metadata"]["labels"].items()
        )
    roles = {(one["kind"], one["metadata"].get("namespace"), one["metadata"]["name"]) for one in ALL}
    for binding in (one for one in ALL if one["kind"].endswith("Binding")):
        assert (binding["roleRef"]["kind"], binding["metadata"].get("namespace"), binding["roleRef"]["name"]) in roles
        assert all((one["namespace"], one["name"]) in accounts for one in binding["subjects"])


def test_every_container_is_bounded_and_every_door_leads_to_a_pod_that_listens() -> None:
    ports: dict[tuple[str, str], set[str]] = {}
    for (namespace, name), workload in WORKLOADS.items():
        for container in pod_spec(workload)["containers"]:
            assert {"cpu", "memory"} == set(container["resources"]["limits"]) == set(container["resources"]["requests"])
            assert "readinessProbe" in container, name
            ports.setdefault((namespace, name), set()).update(port["name"] for port in container.get("ports", []))
    for door in (one for one in ALL if one["kind"] == "Service"):
        selected = door["spec"]["selector"]["app.kubernetes.io/name"]
        assert {port["targetPort"] for port in door["spec"]["ports"]} <= ports[door["metadata"]["namespace"], selected]


def test_a_second_scaler_stands_by() -> None:
    assert WORKLOADS["tidegate", "scaler"]["spec"]["replicas"] == 2


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_builds_it() -> None:
    kubectl = shutil.which("kubectl")
    assert kubectl is not None
    built = subprocess.run([kubectl, "kustomize", str(FOLDER)], capture_output=True, text=True, check=True, timeout=60)
    assert len(list(yaml.safe_load_all(built.stdout))) == len(ALL)
