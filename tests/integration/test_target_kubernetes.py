"""The target of a Kubernetes cluster: the contract, and what it does when the API refuses, stumbles or is faster.

The API server is the tests' own, written from its documentation; see ``kubernetes_api``. What lets the scaler in is
tested in ``test_target_kubernetes_access``.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from aiohttp import web

from services.scaler.situation import Observation, Sizes
from services.scaler.targets.kubernetes import DECISION, EPOCH, KubernetesTarget
from services.scaler.targets.target import FencedError, RefusedError
from shared.contracts.breach import BreachStatus
from shared.contracts.scaling import Action
from shared.errors import TransientError
from tests.integration.kubernetes_api import NAMESPACE, Call, hang, status_answer
from tests.integration.kubernetes_stage import OTHER_SIZES, SCALER, SERVICE, KubernetesStage, staged
from tests.integration.scaler_rig import Supervisor, background, open_world
from tests.integration.target_contract import TargetContract, eventually, rolls, settled

pytestmark = pytest.mark.integration


class TestDeployment(TargetContract):
    """On the stage of this module."""


class TestStatefulSet(TargetContract):
    @pytest.fixture
    async def stage(self) -> AsyncIterator[KubernetesStage]:
        async with staged("statefulset") as stage:
            yield stage


@pytest.fixture
async def stage() -> AsyncIterator[KubernetesStage]:
    async with staged("deployment") as stage:
        yield stage


async def test_an_autoscaler_that_owns_the_workload_is_refused_by_name(stage: KubernetesStage) -> None:
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": SERVICE}
    spec = {"scaleTargetRef": reference, "maxReplicas": 9}
    stage.api.create("horizontalpodautoscalers", {"metadata": {"name": "by-cpu"}, "spec": spec})
    with pytest.raises(RefusedError, match="scaled by the HorizontalPodAutoscaler by-cpu too"):
        await stage.target().set_replicas(SERVICE, 3, 7, "d-1")
    with pytest.raises(RefusedError, match="scaled by the HorizontalPodAutoscaler by-cpu too"):
        await stage.target().set_sizes(SERVICE, OTHER_SIZES, 7, "d-1")
    assert stage.stored()["spec"]["replicas"] == 2
    assert "annotations" not in stage.stored()["metadata"]
    spec["scaleTargetRef"] = {**reference, "name": "another"}
    await stage.target().set_replicas(SERVICE, 3, 7, "d-1")
    assert stage.stored()["spec"]["replicas"] == 3


async def test_a_scaler_frozen_between_its_stamp_and_its_move_moves_nothing_once_another_has_stamped(
    stage: KubernetesStage,
) -> None:
    await settled(stage.target(), SERVICE, 2)
    frozen, thawed = asyncio.Event(), asyncio.Event()

    async def freeze(call: Call) -> None:
        if call.verb == "update" and not frozen.is_set():
            frozen.set()
            await thawed.wait()

    stage.api.fault = freeze
    old = asyncio.create_task(_patient(stage).set_replicas(SERVICE, 9, 7, "d-1"))
    await asyncio.wait_for(frozen.wait(), 5)
    await stage.target().set_replicas(SERVICE, 2, 8, "")
    thawed.set()
    with pytest.raises(FencedError, match="epoch 7 is older than 8"):
        await old
    assert stage.stored()["spec"]["replicas"] == 2


def _patient(stage: KubernetesStage) -> KubernetesTarget:
    target = stage.target()
    target._timeout_s = 10.0
    target._client._client._client.timeout = httpx2.Timeout(10.0)
    return target


async def test_who_is_always_slower_than_the_controllers_tries_again_and_says_so(stage: KubernetesStage) -> None:
    await settled(stage.target(), SERVICE, 2)
    conflicts = 3

    async def meddle(call: Call) -> None:
        nonlocal conflicts
        if call.verb in ("patch", "update") and conflicts:
            conflicts -= 1
            stage.api.change(stage.stored(), lambda one: one["metadata"].update(labels={"left": str(conflicts)}))

    stage.api.fault = meddle
    await stage.target().set_replicas(SERVICE, 3, 7, "d-1")
    assert stage.stored()["spec"]["replicas"] == 3
    conflicts = 1000
    with pytest.raises(TransientError, match=r"changed 8 times.*409"):
        await stage.target().set_replicas(SERVICE, 4, 7, "d-2")
    assert stage.stored()["spec"]["replicas"] == 3


async def test_a_change_whose_answer_is_lost_is_made_once(stage: KubernetesStage) -> None:
    target = stage.target()
    await settled(target, SERVICE, 2)
    for lost in (1, 2):
        stage.api.lost = lost
        await target.set_replicas(SERVICE, 2 + lost, 7, f"d-{lost}")
        await settled(target, SERVICE, 2 + lost)
    generation = stage.stored()["metadata"]["generation"]
    assert generation == 5  # twice a stamp and a move
    stage.api.lost = 1
    await target.set_sizes(SERVICE, OTHER_SIZES, 7, "d-3")
    await settled(target, SERVICE, 4)
    assert stage.stored()["metadata"]["generation"] == generation + 1


@pytest.mark.parametrize(
    ("statuses", "raised", "calls"),
    [
        ((503,), None, 2),
        ((429, 500), None, 3),
        ((503, 503, 503), TransientError, 3),
        ((500, 502, 504), TransientError, 3),
        ((400,), RefusedError, 1),
        ((422,), RefusedError, 1),
    ],
    ids=str,
)
async def test_passing_faults_are_tried_again_a_few_times_and_refusals_are_not(
    stage: KubernetesStage, statuses: tuple[int, ...], raised: type[Exception] | None, calls: int
) -> None:
    await settled(stage.target(), SERVICE, 2)
    stage.api.calls.clear()
    answers = list(statuses)

    async def fault(call: Call) -> Any:
        if not answers:
            return None
        status = answers.pop(0)
        if status == 502:
            # What a proxy in between says, which is not the API's notation.
            return web.Response(status=502, text="<html>Bad Gateway</html>", content_type="text/html")
        return status_answer(status, "for a while")

    stage.api.fault = fault
    if raised is None:
        assert (await stage.target().sizes(SERVICE)).cpu_limit == 2
    else:
        with pytest.raises(raised, match=rf"get deployments {SERVICE}: {statuses[-1]} "):
            await stage.target().sizes(SERVICE)
    assert stage.api.calls.total() == calls


async def test_an_api_that_hangs_is_given_up_in_time(stage: KubernetesStage) -> None:
    stage.api.fault = hang
    began = asyncio.get_running_loop().time()
    with pytest.raises(TransientError, match="get deployments relaycore: "):
        await stage.target().observe(SERVICE)
    assert asyncio.get_running_loop().time() - began < 4


async def test_an_epoch_that_someone_overwrote_is_refused_and_named(stage: KubernetesStage) -> None:
    stage.api.change(stage.stored(), lambda one: one["metadata"].update(annotations={EPOCH: "soon"}))
    with pytest.raises(RefusedError, match=r"annotation tidegate.io/epoch is 'soon', no number; remove it"):
        await stage.target().set_replicas(SERVICE, 3, 7, "d-1")


async def test_a_workload_removed_by_hand_is_refused_and_none_is_made(stage: KubernetesStage) -> None:
    stage.api.delete("deployments", stage.stored())
    with pytest.raises(RefusedError, match="there is no deployment relaycore in namespace platform"):
        await stage.target().set_replicas(SERVICE, 3, 7, "d-1")
    assert not stage.api.all("deployments")


async def test_a_service_someone_stopped_is_stamped_and_left_at_zero(stage: KubernetesStage) -> None:
    stage.api.change(stage.stored(), lambda one: one["spec"].update(replicas=0))
    await stage.target().set_replicas(SERVICE, 0, 7, "")
    assert stage.stored()["metadata"]["annotations"][EPOCH] == "7"
    assert stage.stored()["spec"]["replicas"] == 0


async def test_new_sizes_roll_one_at_a_time_and_go_back_the_same_way(stage: KubernetesStage) -> None:
    target = stage.target()
    former = await target.sizes(SERVICE)
    await rolls(stage, target, OTHER_SIZES)
    assert stage.stored()["spec"]["template"]["spec"]["containers"][0]["resources"] == {
        "limits": {"cpu": "1500m", "memory": "2Gi"},
        "requests": {"cpu": "250m", "memory": "512Mi"},
    }
    await target.set_sizes(SERVICE, former, 7, "d-1")
    await settled(target, SERVICE, 2)
    assert await target.sizes(SERVICE) == former


async def test_a_rollout_that_is_stuck_is_told_as_an_update_until_it_is_taken_back(stage: KubernetesStage) -> None:
    target = stage.target()
    await settled(target, SERVICE, 2)
    former = await target.sizes(SERVICE)
    stage.api.change(stage.stored(), lambda one: one["spec"].update(paused=True))
    await target.set_sizes(SERVICE, OTHER_SIZES, 7, "d-1")
    for _ in range(5):
        await asyncio.sleep(0.1)
        assert await target.observe(SERVICE) == Observation(desired=2, ready=2, updating=True)
    await target.set_sizes(SERVICE, former, 7, "d-2")
    await settled(target, SERVICE, 2)


async def test_a_controller_that_does_not_look_leaves_the_service_updating(stage: KubernetesStage) -> None:
    target = stage.target()
    await settled(target, SERVICE, 2)
    stage.controllers.cancel()
    await asyncio.wait([stage.controllers])
    await target.set_replicas(SERVICE, 2, 7, "d-1")
    assert await target.observe(SERVICE) == Observation(desired=2, ready=2, updating=True)


async def test_sizes_that_cannot_be_are_refused_with_the_reason(stage: KubernetesStage) -> None:
    target = stage.target()
    with pytest.raises(RefusedError, match="reserved 2 is above the limit of 1"):
        await target.set_sizes(SERVICE, Sizes(cpu_limit=1.0, cpu_reserved=2.0), 7, "d-1")
    several = stage.stored()["spec"]["template"]["spec"]["containers"]
    several[0]["name"] = "main"
    several.append({"name": "proxy", "image": "proxy"})
    assert await target.sizes(SERVICE) == Sizes()
    with pytest.raises(RefusedError, match="several containers; name the one to size"):
        await target.set_sizes(SERVICE, OTHER_SIZES, 7, "d-1")
    annotation = {"kubectl.kubernetes.io/default-container": "main"}
    stage.stored()["spec"]["template"]["metadata"]["annotations"] = annotation
    await target.set_sizes(SERVICE, OTHER_SIZES, 7, "d-1")
    assert "resources" not in several[1]
    assert await target.sizes(SERVICE) == OTHER_SIZES


async def test_replicas_that_find_no_node_take_their_room_first(stage: KubernetesStage) -> None:
    target = stage.target()
    await settled(target, SERVICE, 2)
    room = await target.room(SERVICE)
    assert room is not None
    stage.kubelet.node = ""
    await target.set_replicas(SERVICE, 4, 7, "d-1")

    async def waiting() -> bool:
        return await target.observe(SERVICE) == Observation(desired=4, ready=2, starting=2)

    await eventually("two that wait", waiting)
    assert await target.room(SERVICE) == room - 2


async def test_many_pods_come_in_pages(stage: KubernetesStage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.scaler.targets.kubernetes.PAGE", 2)
    target = stage.target()
    await target.set_replicas(SERVICE, 7, 7, "d-1")
    await settled(target, SERVICE, 7)
    assert await target.room(SERVICE) == 9

    async def several_pages() -> bool:
        return any(call.resource == "pods" and count > 4 for call, count in stage.api.calls.items())

    await eventually("pages", several_pages)


async def test_a_breach_becomes_replicas_of_a_deployment_and_the_record_tells_that_it_helped(
    stage: KubernetesStage, nats_url: str, environment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(stage.api.kubeconfig(SCALER)))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    where = {"kind": "kubernetes", "namespace": NAMESPACE, "context": "tests"}
    async with open_world(nats_url, environment, tmp_path, Supervisor()) as world:

        async def replicas_as_samples() -> None:
            while True:
                world.supervisor.ready = (await stage.target().observe(SERVICE)).ready
                await asyncio.sleep(0.1)

        await settled(stage.target(), SERVICE, 2)
        async with (
            background(replicas_as_samples()),
            background(world.load()),
            world.scaler(platform_url=None, scaler_target=where),
        ):
            await world.breach(BreachStatus.OPENED)
            await eventually("an effectiveness record", lambda: world.records("effectiveness"))
        [decision] = await world.records("decision", Action.SCALE_UP)
        [result] = await world.records("result")
        [effect] = await world.records("effectiveness")
    assert (decision.target, result.ok, effect.verdict) == (4, True, "helped")
    annotations = stage.stored()["metadata"]["annotations"]
    assert annotations == {EPOCH: str(decision.lease_epoch), DECISION: decision.decision}
    assert stage.stored()["spec"]["replicas"] == 4
