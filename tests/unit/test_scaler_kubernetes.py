"""What a cluster's objects say: states of pods, rollouts, sizes, and the room on the nodes."""

from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, cast

import pytest
from lightkube.models.core_v1 import PodSpec, PodTemplateSpec
from lightkube.resources.apps_v1 import Deployment, StatefulSet
from lightkube.resources.core_v1 import Node, Pod

from services.scaler.situation import Observation, Sizes
from services.scaler.targets.kubernetes_room import accepts, requests_of, room_on
from services.scaler.targets.kubernetes_state import (
    main_container,
    observed,
    resources_for,
    rolling_out,
    sizes_of,
    standing,
)

NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)
T = TypeVar("T")
Object = dict[str, Any]


def made(kind: type[T], body: Object) -> T:
    return cast(T, cast(Any, kind).from_dict(body))


def ago(seconds: float) -> str:
    return (NOW - timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def pod(ready: str | None = "True", since: float = 100, *, started: float | None = 110, **container: Any) -> Object:
    state = {"running": {"startedAt": ago(started)}} if started is not None else {}
    its = {"name": "main", "ready": ready == "True", "restartCount": 0, "image": "i", "imageID": "i", "state": state}
    conditions = [] if ready is None else [{"type": "Ready", "status": ready, "lastTransitionTime": ago(since)}]
    status = {"phase": "Running", "conditions": conditions, "containerStatuses": [its | container]}
    return {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "main"}]}, "status": status}


def waiting(reason: str) -> Object:
    return {"state": {"waiting": {"reason": reason}}}


def ended(seconds: float) -> Object:
    return {"terminated": {"exitCode": 1, "finishedAt": ago(seconds)}}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param(pod(), "ready", id="ready"),
        pytest.param(pod(None, started=None), "starting", id="just made"),
        pytest.param(pod("False", 110, started=100), "starting", id="never ready since its start"),
        pytest.param(pod("False", 100, started=100), "starting", id="in the same second"),
        pytest.param(pod("False", 50, started=100), "unhealthy", id="ready once, and no longer"),
        pytest.param(pod("False", 50, started=None), "starting", id="its container is being started again"),
        pytest.param(pod("Unknown", 5, started=100), "unhealthy", id="its node is silent"),
        pytest.param(pod("False", 110, started=None, **waiting("ImagePullBackOff")), "unhealthy", id="no image"),
        pytest.param(pod("False", **waiting("CreateContainerConfigError")), "unhealthy", id="no configuration"),
        pytest.param(pod("False", **waiting("ContainerCreating")), "starting", id="being made"),
        pytest.param(pod("False", **waiting("CrashLoopBackOff")), "restarting", id="backing off"),
        pytest.param(pod(restartCount=3, lastState=ended(20)), "restarting", id="ready between two ends"),
        pytest.param(pod(restartCount=3, lastState=ended(600)), "ready", id="it has recovered"),
        pytest.param(pod(restartCount=1, lastState=ended(20)), "ready", id="one restart is no loop"),
    ],
)
def test_the_state_of_a_pod(body: Object, expected: str) -> None:
    assert standing(made(Pod, body), NOW) == expected


def test_pods_that_are_leaving_or_have_ended_are_none() -> None:
    leaving, evicted = pod(), pod("False", 5, started=100)
    leaving["metadata"]["deletionTimestamp"] = ago(1)
    evicted["status"]["phase"] = "Failed"
    bodies = [pod(), pod("False", **waiting("CrashLoopBackOff")), pod("False", 50, started=100), leaving, evicted]
    pods = [made(Pod, body) for body in [*bodies, pod(None, started=None)]]
    expected = Observation(desired=4, ready=1, starting=1, unhealthy=2, restarting=1)
    assert observed(deployment(wanted=4), pods, NOW) == expected


def deployment(wanted: int | None = 3, generation: int = 2, **status: Any) -> Deployment:
    told = {"observedGeneration": 2, "replicas": wanted or 1, "updatedReplicas": wanted or 1} | status
    spec: Object = {"selector": {}, "template": {}} | ({} if wanted is None else {"replicas": wanted})
    return made(Deployment, {"metadata": {"name": "d", "generation": generation}, "spec": spec, "status": told})


def stateful(strategy: Object, **status: Any) -> StatefulSet:
    told = {"observedGeneration": 1, "replicas": 3, "currentRevision": "a", "updateRevision": "a"} | status
    spec = {"selector": {}, "template": {}, "serviceName": "s", "replicas": 3, "updateStrategy": strategy}
    return made(StatefulSet, {"metadata": {"name": "s", "generation": 1}, "spec": spec, "status": told})


ROLLING = {"type": "RollingUpdate"}
STUCK = [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]
HALF = {"updateRevision": "b", "updatedReplicas": 1}


@pytest.mark.parametrize(
    ("workload", "expected"),
    [
        pytest.param(deployment(), False, id="nothing goes on"),
        pytest.param(deployment(generation=3), True, id="the controller has not looked yet"),
        pytest.param(deployment(wanted=5, replicas=3, updatedReplicas=3), False, id="more are on their way"),
        pytest.param(deployment(replicas=4, updatedReplicas=1), True, id="some are of the older template"),
        pytest.param(deployment(updatedReplicas=0), True, id="paused before the first"),
        pytest.param(deployment(conditions=STUCK), True, id="stuck"),
        pytest.param(stateful(ROLLING, updatedReplicas=3), False, id="a set at rest"),
        pytest.param(stateful(ROLLING, **HALF), True, id="a set that rolls"),
        pytest.param(stateful(ROLLING, updateRevision="b"), True, id="a set about to roll"),
        pytest.param(stateful({"type": "OnDelete"}, **HALF), False, id="a set that never rolls by itself"),
        pytest.param(
            stateful({**ROLLING, "rollingUpdate": {"partition": 2}}, **HALF),
            False,
            id="rolled up to its partition",
        ),
    ],
)
def test_whether_a_rollout_is_under_way(workload: Deployment | StatefulSet, expected: bool) -> None:
    assert rolling_out(workload) is expected


def test_one_replica_is_wanted_where_nothing_is_said() -> None:
    assert observed(deployment(wanted=None), [], NOW).desired == 1


@pytest.mark.parametrize(
    ("limits", "requests", "expected"),
    [
        (
            {"cpu": "1500m", "memory": "2Gi"},
            {"cpu": "0.25", "memory": "512Mi"},
            Sizes(cpu_limit=1.5, memory_limit=2048, cpu_reserved=0.25, memory_reserved=512),
        ),
        ({"cpu": "2"}, {}, Sizes(cpu_limit=2.0, cpu_reserved=2.0)),
        ({}, {"memory": "1G"}, Sizes(memory_reserved=1e9 / 1_048_576)),
        ({}, {}, Sizes()),
    ],
    ids=["both", "a limit alone is what is reserved", "powers of ten", "none"],
)
def test_sizes_are_read_in_cores_and_mib(limits: Object, requests: Object, expected: Sizes) -> None:
    container = {"name": "main", "resources": {"limits": limits, "requests": requests}}
    template = made(PodTemplateSpec, {"spec": {"containers": [container]}})
    found = main_container(template, "other")
    assert found is not None
    assert sizes_of(found) == expected


def test_sizes_are_written_in_canonical_notation_and_what_they_have_not_is_taken_away() -> None:
    assert resources_for(Sizes(cpu_limit=2.0, memory_limit=4096, cpu_reserved=0.25, memory_reserved=1536)) == {
        "limits": {"cpu": "2", "memory": "4Gi"},
        "requests": {"cpu": "250m", "memory": "1536Mi"},
    }
    assert resources_for(Sizes(memory_limit=0.5)) == {
        "limits": {"cpu": None, "memory": "512Ki"},
        "requests": {"cpu": None, "memory": None},
    }


@pytest.mark.parametrize(
    ("names", "annotation", "expected"),
    [
        (["only"], None, "only"),
        (["proxy", "relaycore"], None, "relaycore"),
        (["proxy", "relaycore"], "proxy", "proxy"),
        (["proxy", "main"], None, None),
        ([], None, None),
    ],
)
def test_which_container_the_sizes_are_of(names: list[str], annotation: str | None, expected: str | None) -> None:
    notes = {"kubectl.kubernetes.io/default-container": annotation} if annotation else {}
    body = {"metadata": {"annotations": notes}, "spec": {"containers": [{"name": name} for name in names]}}
    found = main_container(made(PodTemplateSpec, body), "relaycore")
    assert (found and found.name) == expected


def node(name: str = "n", cpu: str = "4", memory: str = "8Gi", ready: str = "True", **spec: Any) -> Node:
    labels = {"zone": "a", "cores": "16", "kubernetes.io/hostname": name}
    status = {
        "allocatable": {"cpu": cpu, "memory": memory, "pods": "10"},
        "conditions": [{"type": "Ready", "status": ready}],
    }
    return made(Node, {"metadata": {"name": name, "labels": labels}, "spec": spec, "status": status})


def template(**spec: Any) -> PodSpec:
    asked = {"requests": {"cpu": "500m", "memory": "1Gi"}}
    return made(PodSpec, {"containers": [{"name": "main", "resources": asked}], **spec})


def running(name: str, cpu: str, phase: str = "Running") -> Pod:
    container = {"name": "c", "resources": {"requests": {"cpu": cpu}}}
    spec = {"nodeName": name, "containers": [container]} if name else {"containers": [container]}
    return made(Pod, {"metadata": {"name": "other"}, "spec": spec, "status": {"phase": phase}})


@pytest.mark.parametrize(
    ("nodes", "pods", "waits", "room"),
    [
        pytest.param([node()], [], 0, 8, id="cores bound it"),
        pytest.param([node(cpu="64")], [], 0, 8, id="memory bounds it"),
        pytest.param([node(cpu="64", memory="64Gi")], [], 0, 10, id="the number of pods bounds it"),
        pytest.param([node()], [running("n", "1200m")], 0, 5, id="beside others"),
        pytest.param([node()], [running("n", "1200m", "Succeeded")], 0, 8, id="those that have ended hold nothing"),
        pytest.param([node()], [running("", "1200m")], 0, 8, id="those without a node hold nothing yet"),
        pytest.param([node()], [running("n", "9")], 0, 0, id="never below none"),
        pytest.param([node("n"), node("m")], [running("m", "3600m")], 0, 8, id="scraps are no room"),
        pytest.param([node()], [], 3, 5, id="those that wait come first"),
        pytest.param([node(ready="Unknown"), node("m", unschedulable=True)], [], 0, 0, id="silent and cordoned nodes"),
        pytest.param([], [], 0, 0, id="no node"),
    ],
)
def test_room_is_what_whole_replicas_fit_on_each_node(
    nodes: list[Node], pods: list[Pod], waits: int, room: int
) -> None:
    assert room_on(nodes, pods, template(), waits) == room


def test_what_a_node_does_not_offer_is_no_room() -> None:
    gpu = {"limits": {"nvidia.com/gpu": "1"}}
    asking = made(PodSpec, {"containers": [{"name": "main", "resources": gpu}]})
    assert room_on([node()], [], asking, 0) == 0


def test_sidecars_initial_containers_and_overhead_count_as_the_scheduler_counts() -> None:
    def asks(cpu: str, **more: Any) -> Object:
        return {"name": f"c{cpu}", "resources": {"requests": {"cpu": cpu}}, **more}

    sidecar = asks("200m", restartPolicy="Always")
    together = made(PodSpec, {"containers": [asks("500m")], "initContainers": [sidecar, asks("400m")]})
    assert float(requests_of(together)["cpu"]) == pytest.approx(0.7)
    before = made(PodSpec, {"containers": [asks("500m")], "initContainers": [sidecar, asks("1")]})
    assert float(requests_of(before)["cpu"]) == pytest.approx(1.2)
    heavy = made(PodSpec, {"containers": [asks("500m")], "overhead": {"cpu": "100m", "memory": "64Mi"}})
    assert float(requests_of(heavy)["cpu"]) == pytest.approx(0.6)
    assert requests_of(heavy)["memory"] == 64 * 1_048_576


TAINT = {"key": "gpu", "value": "yes", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("taint", "toleration", "expected"),
    [
        (TAINT, None, False),
        ({**TAINT, "effect": "NoExecute"}, None, False),
        ({**TAINT, "effect": "PreferNoSchedule"}, None, True),
        (TAINT, {"key": "gpu", "value": "yes"}, True),
        (TAINT, {"key": "gpu", "value": "no"}, False),
        (TAINT, {"key": "gpu", "operator": "Exists"}, True),
        (TAINT, {"operator": "Exists"}, True),
        (TAINT, {"key": "gpu", "operator": "Exists", "effect": "NoExecute"}, False),
    ],
)
def test_taints_need_a_toleration(taint: Object, toleration: Object | None, expected: bool) -> None:
    spec = template(tolerations=[toleration] if toleration else [])
    assert accepts(node(taints=[taint]), spec) is expected


@pytest.mark.parametrize(
    ("operator", "key", "values", "expected"),
    [
        ("In", "zone", ["a", "b"], True),
        ("In", "zone", ["b"], False),
        ("NotIn", "zone", ["b"], True),
        ("NotIn", "missing", ["b"], True),
        ("Exists", "zone", [], True),
        ("DoesNotExist", "zone", [], False),
        ("Gt", "cores", ["8"], True),
        ("Gt", "cores", ["16"], False),
        ("Lt", "cores", ["32"], True),
        ("Gt", "missing", ["8"], False),
        ("Lt", "zone", ["8"], False),
    ],
)
def test_required_affinity_is_held_against_the_labels(
    operator: str, key: str, values: list[str], expected: bool
) -> None:
    term = {"matchExpressions": [{"key": key, "operator": operator, "values": values}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{}, term]}}
    assert accepts(node(), template(affinity={"nodeAffinity": required})) is expected


def test_a_node_selector_must_match_whole() -> None:
    assert accepts(node(), template(nodeSelector={"zone": "a", "cores": "16"}))
    assert not accepts(node(), template(nodeSelector={"zone": "a", "disk": "fast"}))
