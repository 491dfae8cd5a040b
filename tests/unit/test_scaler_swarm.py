"""What a Swarm tells of a service, what would be written back, and the room its scheduler would find."""

import copy
from datetime import UTC, datetime
from typing import Any

import pytest

from services.scaler.situation import Observation, Sizes
from services.scaler.targets.swarm_room import room
from services.scaler.targets.swarm_service import observation, sizes_of, with_replicas, with_sizes
from services.scaler.targets.target import FencedError, RefusedError

NOW = 1_800_000_000.0
MB = 1_048_576


def service(replicas: int = 2, *, state: str = "", labels: dict[str, str] | None = None, **template: Any) -> Any:
    return {
        "ID": "s1",
        "Version": {"Index": 7},
        "Spec": {
            "Name": "relaycore",
            "Labels": labels or {},
            "TaskTemplate": {"ContainerSpec": {"Image": "web:1"}, "ForceUpdate": 3, **template},
            "Mode": {"Replicated": {"Replicas": replicas}},
        },
        **({"UpdateStatus": {"State": state}} if state else {}),
    }


def task(slot: int, state: str, *, wanted: str = "running", age_s: float = 600, **more: Any) -> dict[str, Any]:
    at = datetime.fromtimestamp(NOW - age_s, UTC).isoformat().replace("+00:00", "Z")
    return {"Slot": slot, "DesiredState": wanted, "CreatedAt": at, "Status": {"State": state, "Timestamp": at}, **more}


def ended(slot: int, age_s: float, state: str = "failed") -> dict[str, Any]:
    return task(slot, state, wanted="shutdown", age_s=age_s)


RUNNING = [task(1, "running"), task(2, "running")]


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        (RUNNING, Observation(desired=2, ready=2)),
        ([], Observation(desired=2, ready=0, starting=2)),
        ([RUNNING[0], task(2, "pending")], Observation(desired=2, ready=1, starting=1)),
        ([RUNNING[0], task(2, "starting", age_s=9)], Observation(desired=2, ready=1, starting=1)),
        ([*RUNNING, task(3, "running", wanted="shutdown")], Observation(desired=2, ready=2)),
        ([*RUNNING, ended(3, 5)], Observation(desired=2, ready=2)),
        ([RUNNING[0], ended(2, 9), task(2, "starting", age_s=4)], Observation(desired=2, ready=1, starting=1)),
        (
            [RUNNING[0], ended(2, 20), ended(2, 11), task(2, "starting", age_s=4)],
            Observation(desired=2, ready=1, unhealthy=1, restarting=1),
        ),
        (
            [RUNNING[0], ended(2, 20), ended(2, 11, "complete"), task(2, "running", age_s=4)],
            Observation(desired=2, ready=1, unhealthy=1, restarting=1),
        ),
        ([RUNNING[0], ended(2, 60), ended(2, 50), task(2, "running", age_s=40)], Observation(desired=2, ready=2)),
        ([RUNNING[0], ended(2, 999), ended(2, 800), task(2, "running", age_s=4)], Observation(desired=2, ready=2)),
        ([RUNNING[0], ended(2, 700), ended(2, 600)], Observation(desired=2, ready=1, unhealthy=1)),
        ([RUNNING[0], task(2, "running", age_s=90), task(2, "starting", age_s=3)], Observation(desired=2, ready=2)),
    ],
    ids=[
        "all run",
        "none placed yet",
        "one finds no node",
        "one not healthy yet",
        "one of a slot that goes",
        "the history of a slot that went",
        "one that failed once",
        "one that keeps failing",
        "one that keeps ending and runs just now",
        "one that has run since",
        "one that failed long ago",
        "one that was given up",
        "one whose successor starts first",
    ],
)
def test_replicas_are_told_by_their_slots(tasks: list[dict[str, Any]], expected: Observation) -> None:
    assert observation(service(), tasks[::-1], NOW) == expected


@pytest.mark.parametrize(
    ("state", "rolls"),
    {
        **dict.fromkeys(("updating", "paused", "rollback_started", "rollback_paused"), True),
        **dict.fromkeys(("completed", "rollback_completed", ""), False),
    }.items(),
)
def test_an_update_and_its_rollback_are_told_until_they_are_through(state: str, rolls: bool) -> None:
    assert observation(service(state=state), RUNNING, NOW).updating is rolls


def test_an_update_that_has_not_begun_is_told_by_tasks_of_the_specification_before() -> None:
    old = {"ContainerSpec": {"Image": "web:1"}, "ForceUpdate": 3}
    tasks = [task(1, "running", Spec=old), task(2, "running", Spec=old), task(3, "running", wanted="shutdown", Spec={})]
    assert observation(service(), tasks, NOW) == Observation(desired=2, ready=2)
    for changed in ({"Resources": ONE}, {"ContainerSpec": {"Image": "web:2"}}, {"ForceUpdate": 4}):
        assert observation(service(**changed), tasks, NOW).updating


def test_a_service_without_a_number_of_replicas_is_refused() -> None:
    every = service()
    every["Spec"]["Mode"] = {"Global": {}}
    with pytest.raises(RefusedError, match="relaycore is of the mode Global"):
        observation(every, [], NOW)
    with pytest.raises(RefusedError, match="Global"):
        with_replicas(every, 3, 1, "d")


def test_nothing_but_the_count_and_the_stamp_differs() -> None:
    found = service(labels={"team": "a", "tidegate.epoch": "4"})
    before = copy.deepcopy(found)
    spec = with_replicas(found, 5, 6, "relaycore-9")
    assert found == before
    assert spec is not None
    assert spec["Labels"] == {"team": "a", "tidegate.epoch": "6", "tidegate.decision": "relaycore-9"}
    assert spec["Mode"] == {"Replicated": {"Replicas": 5}}
    assert spec["TaskTemplate"] == before["Spec"]["TaskTemplate"]
    assert spec.keys() == before["Spec"].keys()


def test_what_stands_is_not_written_again_and_an_older_epoch_not_at_all() -> None:
    found = service(2, labels={"tidegate.epoch": "6", "tidegate.decision": "relaycore-8"})
    assert with_replicas(found, 2, 6, "relaycore-9") is None
    assert with_replicas(found, 2, 7, "") is not None
    for replicas in (2, 3):
        with pytest.raises(FencedError, match="epoch 5 is older than 6"):
            with_replicas(found, replicas, 5, "relaycore-7")
    with pytest.raises(RefusedError, match="0 replicas are asked for"):
        with_replicas(found, 0, 6, "relaycore-9")
    with pytest.raises(RefusedError, match=r"tidegate.epoch is 'x'"):
        with_replicas(service(labels={"tidegate.epoch": "x"}), 3, 6, "d")


@pytest.mark.parametrize("state", ["updating", "paused", "rollback_started"])
def test_an_update_under_way_is_left_alone(state: str) -> None:
    found = service(2, state=state, labels={"tidegate.epoch": "6"})
    assert with_replicas(found, 2, 6, "d") is None
    for replicas, epoch in ((3, 6), (2, 7)):
        with pytest.raises(RefusedError, match=f"being updated \\({state}\\)"):
            with_replicas(found, replicas, epoch, "d")


def test_sizes_are_given_by_an_update_that_rolls_back_and_keep_what_else_is_reserved() -> None:
    gpu = [{"DiscreteResourceSpec": {"Kind": "gpu", "Value": 1}}]
    resources = {"Limits": {"NanoCPUs": 2_000_000_000, "Pids": 50}, "Reservations": {"GenericResources": gpu}}
    found = service(2, Resources=resources)
    found["Spec"]["UpdateConfig"] = {"Parallelism": 2, "FailureAction": "pause", "Order": "start-first"}
    assert sizes_of(found) == Sizes(cpu_limit=2)
    wanted = Sizes(cpu_limit=1.5, memory_limit=512, memory_reserved=256)
    spec = with_sizes(found, wanted, 6, "relaycore-9")
    assert spec is not None
    assert sizes_of({"Spec": spec}) == wanted
    assert spec["UpdateConfig"] == {"Parallelism": 2, "FailureAction": "rollback", "Order": "start-first"}
    assert spec["TaskTemplate"]["Resources"]["Limits"] == {
        "NanoCPUs": 1_500_000_000,
        "MemoryBytes": 512 * MB,
        "Pids": 50,
    }
    assert spec["TaskTemplate"]["Resources"]["Reservations"]["GenericResources"] == gpu
    assert with_sizes({**found, "Spec": spec}, wanted, 6, "relaycore-9") is None
    back = with_sizes({**found, "Spec": spec}, Sizes(cpu_limit=2), 6, "relaycore-10")
    assert back is not None
    assert sizes_of({"Spec": back}) == Sizes(cpu_limit=2)


def reserving(cores: float = 0, memory: int = 0, gpus: int = 0) -> dict[str, Any]:
    generic = [{"DiscreteResourceSpec": {"Kind": "gpu", "Value": gpus}}] if gpus else []
    told = {"NanoCPUs": int(cores * 1e9), "MemoryBytes": memory * MB, "GenericResources": generic}
    return {"Reservations": told}


ONE = reserving(1, 1024)


def node(number: int = 1, *, cores: float = 4, memory: int = 4096, **more: Any) -> dict[str, Any]:
    return {
        "ID": f"n{number}",
        "Spec": {
            "Availability": more.get("availability", "active"),
            "Role": "worker",
            "Labels": more.get("labels", {}),
        },
        "Description": {
            "Hostname": f"host-{number}",
            "Platform": {"Architecture": "x86_64", "OS": "linux"},
            "Resources": {
                "NanoCPUs": int(cores * 1e9),
                "MemoryBytes": memory * MB,
                "GenericResources": [
                    {"NamedResourceSpec": {"Kind": "gpu", "Value": name}} for name in more.get("gpus", ())
                ],
            },
            "Engine": {"Labels": {"zone": "west"}},
        },
        "Status": {"State": more.get("state", "ready"), "Addr": f"10.0.0.{number}"},
    }


def placed(number: int, resources: dict[str, Any], of: str = "s2") -> dict[str, Any]:
    return {"NodeID": f"n{number}" if number else "", "ServiceID": of, "Spec": {"Resources": resources}}


@pytest.mark.parametrize(
    ("template", "nodes", "tasks", "expected"),
    [
        ({"Resources": ONE}, [node()], [], 4),
        ({"Resources": ONE}, [node(1), node(2, memory=2500)], [], 6),
        ({"Resources": ONE}, [node()], [placed(1, reserving(2.5)), placed(1, ONE, "s1")], 0),
        ({"Resources": ONE}, [node()], [placed(1, reserving(9))], 0),
        ({"Resources": ONE}, [node()], [placed(0, ONE, "s1")], 3),
        ({"Resources": ONE}, [node(1, availability="drain"), node(2, state="down")], [], 0),
        ({"Resources": reserving(0.1, 1, 1)}, [node(gpus=("a", "b", "c"))], [placed(1, reserving(gpus=1))], 2),
        ({}, [node()], [], None),
        ({"Placement": {"MaxReplicas": 3}}, [node(1), node(2)], [placed(1, {}, "s1")], 5),
        ({"Resources": ONE, "Placement": {"Constraints": ["node.labels.disk==ssd"]}}, [node()], [], 0),
        ({"Placement": {"Constraints": ["node.labels.disk==ssd"]}}, [node()], [], 0),
        ({"Placement": {"Platforms": [{"Architecture": "arm64", "OS": "linux"}]}, "Resources": ONE}, [node()], [], 0),
        ({"Placement": {"Platforms": [{"Architecture": "amd64", "OS": "linux"}]}, "Resources": ONE}, [node()], [], 4),
    ],
    ids=[
        "an empty node",
        "two nodes, each rounded down",
        "what others reserved is gone",
        "more reserved than there is",
        "one not placed yet counts",
        "a node that takes none",
        "graphics cards",
        "nothing reserved, nothing bounds it",
        "so many a node",
        "a label no node has",
        "a label no node has, nothing reserved",
        "another architecture",
        "this architecture by its other name",
    ],
)
def test_room_is_what_the_scheduler_would_find(template: Any, nodes: Any, tasks: Any, expected: int | None) -> None:
    assert room(service(**template), nodes, tasks) == expected


def test_a_port_of_the_host_is_there_once_a_node() -> None:
    found = service(Resources=ONE)
    found["Spec"]["EndpointSpec"] = {"Ports": [{"PublishMode": "host", "PublishedPort": 80}]}
    assert room(found, [node(1), node(2)], [placed(1, ONE, "s1")]) == 1


@pytest.mark.parametrize(
    ("constraint", "met"),
    [
        ("node.id == n1", True),
        ("node.hostname!=host-1", False),
        ("node.role==Worker", True),
        ("node.labels.disk == SSD", True),
        ("node.labels.rack != 7", True),
        ("engine.labels.zone==west", True),
        ("node.ip == 10.0.0.0/24", True),
        ("node.ip != 10.0.0.1", False),
        ("node.platform.os==windows", False),
        ("node.colour == red", False),
        ("nonsense", False),
    ],
)
def test_constraints_are_met_as_the_scheduler_meets_them(constraint: str, met: bool) -> None:
    found = service(Resources=ONE, Placement={"Constraints": [constraint]})
    assert room(found, [node(labels={"disk": "ssd"})], []) == (4 if met else 0)
