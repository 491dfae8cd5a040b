"""What lets the scaler in to a Kubernetes cluster: rights, credentials, a kubeconfig, the account of its own pod."""

from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from ssl import Purpose, create_default_context
from typing import Any

import pytest
import trustme
import yaml
from lightkube import KubeConfig

from services.scaler.readings import SampleWindow
from services.scaler.settings import ScalerSettings
from services.scaler.targets.kubernetes import KubernetesTarget
from services.scaler.targets.kubernetes_cluster import open_cluster
from services.scaler.targets.opening import open_targets
from services.scaler.targets.target import RefusedError
from shared.config import load_document
from shared.contracts import scaling_targets as named
from shared.contracts.scaling_rules import ScalingRules
from shared.errors import ConfigError
from shared.settings import PROJECT_ROOT
from tests.integration.kubernetes_api import NAMESPACE, ApiServer, rules_of
from tests.integration.kubernetes_controllers import workload
from tests.integration.kubernetes_stage import OTHER_SIZES, SCALER, SERVICE, KubernetesStage, documents, staged
from tests.integration.target_contract import settled

pytestmark = pytest.mark.integration

EXEC = {"apiVersion": "client.authentication.k8s.io/v1", "command": "sign-in"}


@pytest.fixture
async def stage() -> AsyncIterator[KubernetesStage]:
    async with staged("deployment") as stage:
        yield stage


async def test_each_right_that_is_used_is_given_and_each_that_is_given_is_used() -> None:
    used: set[tuple[str, str, str, bool]] = set()
    for kind in ("deployment", "statefulset"):
        async with staged(kind) as stage:
            target = stage.target()
            await settled(target, SERVICE, 2)
            await target.set_replicas(SERVICE, 3, 7, "d-1")
            await target.set_sizes(SERVICE, OTHER_SIZES, 7, "d-2")
            await target.sizes(SERVICE)
            await target.room(SERVICE)
            used |= {(call.group, call.resource, call.verb, call.namespace is None) for call in stage.api.calls}
    given = {
        (group, resource, verb, document["kind"] == "ClusterRole")
        for document in documents()
        for rule in document.get("rules", [])
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert used == given


@pytest.mark.parametrize("verb", ["get", "patch", "update", "list"])
async def test_a_right_that_is_missing_is_named_and_nothing_moves(stage: KubernetesStage, verb: str) -> None:
    await settled(stage.target(), SERVICE, 2)
    for rule in stage.api.rules[SCALER]:
        rule.verbs = [one for one in rule.verbs if one != verb]
    with pytest.raises(RefusedError, match=rf"403.*lacks the verb {verb} on \w+.* in namespace platform"):
        await stage.target().set_replicas(SERVICE, 3, 7, "d-1")
    assert stage.stored()["spec"]["replicas"] == 2


async def test_without_the_right_to_see_nodes_the_room_is_not_known_and_the_rest_works(stage: KubernetesStage) -> None:
    stage.api.rules[SCALER] = [rule for rule in stage.api.rules[SCALER] if rule.namespace is not None]
    target = stage.target()
    assert await target.room(SERVICE) is None
    await target.set_replicas(SERVICE, 3, 7, "d-1")
    await settled(target, SERVICE, 3)


async def test_credentials_that_are_not_accepted_are_refused_and_named(stage: KubernetesStage) -> None:
    stage.api.rules.clear()
    with pytest.raises(RefusedError, match=r"401.*credentials of this pod's service account are not accepted"):
        await stage.target().observe(SERVICE)


async def test_the_credentials_of_a_context_are_taken_and_one_that_is_not_there_is_named(
    stage: KubernetesStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(yaml.safe_dump(stage.api.kubeconfig(SCALER)))
    monkeypatch.setenv("KUBECONFIG", str(path))
    where = named.KubernetesTarget(kind="kubernetes", context="tests", namespace=NAMESPACE, name=SERVICE)
    async with open_cluster("tests", 1.0) as client:
        await settled(KubernetesTarget(client, where, 1.0), "routing", 2)
    with pytest.raises(ConfigError, match="context 'elsewhere'"):
        async with open_cluster("elsewhere", 1.0):
            pass
    with pytest.raises(ConfigError, match="not in a cluster; name a context"):
        async with open_cluster(None, 1.0):
            pass


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda config: config["contexts"].clear(), "context 'tests'"),
        (
            lambda config: config["users"][0]["user"].update(exec=EXEC),
            "no credentials by client.",
        ),
        (lambda config: config["users"][0]["user"].update(token=7), "context 'tests': Expected `str"),
        (lambda config: config["clusters"][0]["cluster"].update({"certificate-authority": "/gone"}), "context 'tests'"),
        (lambda config: config.pop("clusters"), "context 'tests': 'clusters'"),
    ],
    ids=["no context", "plugin of another version", "token", "no authority", "no clusters"],
)
async def test_a_kubeconfig_that_is_wrong_is_one_line(
    change: Callable[[Any], None], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ApiServer(url="https://127.0.0.1:1").kubeconfig(SCALER)
    change(config)
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    with pytest.raises(ConfigError) as caught:
        async with open_cluster("tests", 1.0):
            pass
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_the_pods_own_account_is_taken_and_its_token_read_again_when_it_is_rotated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, context = trustme.CA(), create_default_context(Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    (tmp_path / "namespace").write_text("tidegate")
    (tmp_path / "token").write_text("first")
    api = ApiServer(rules={"first": rules_of(documents())}, ssl=context)
    await api.start()
    host, _, port = api.url.removeprefix("https://").partition(":")
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    monkeypatch.setattr(KubeConfig, "from_service_account", partial(KubeConfig.from_service_account, tmp_path))
    api.create("deployments", workload(SERVICE))
    where = named.KubernetesTarget(kind="kubernetes", namespace=NAMESPACE)
    try:
        async with open_cluster(None, 2.0) as client:
            target = KubernetesTarget(client, where, 2.0)
            assert (await target.sizes(SERVICE)).cpu_limit == 2
            (tmp_path / "token").write_text("second")
            api.rules = {"second": api.rules["first"]}
            assert (await target.sizes(SERVICE)).cpu_limit == 2
    finally:
        await api.stop()


async def test_a_scaler_outside_a_cluster_says_which_service_needs_a_context() -> None:
    shipped = load_document(ScalingRules, PROJECT_ROOT / "config/scaling.yaml")
    settings = ScalerSettings.model_validate({"scaler_target": {"kind": "kubernetes"}})
    with pytest.raises(ConfigError, match=r"services.autmatrix-backend.target: not in a cluster; name a context"):
        async with open_targets(shipped, settings, SampleWindow()):
            pass
