"""Containers as replicas: their slots and states, the copy of one, other sizes, and the room of the machine."""

from datetime import UTC, datetime
from typing import Any

import pytest

from services.scaler.situation import Observation, Sizes
from services.scaler.targets.containers import (
    Replicas,
    copy_of,
    endpoints,
    observation,
    replicas_of,
    resizing,
    room,
    sizes_of,
)
from services.scaler.targets.target import RefusedError

NOW = 1_800_000_000.0
MB = 1_048_576


def container(name: str, *, slot: int | None = None, created: int = 0, **more: Any) -> dict[str, Any]:
    labels = {"tidegate.service": "web", **more.get("labels", {})}
    if slot is not None:
        labels["tidegate.slot"] = str(slot)
    started = datetime.fromtimestamp(NOW - more.get("age_s", 600), UTC).isoformat()
    status = more.get("status", "running")
    state = {
        "Status": status,
        "Running": status in ("running", "restarting", "paused"),
        "Restarting": status == "restarting",
        "Paused": status == "paused",
        "StartedAt": started,
    }
    if "health" in more:
        state["Health"] = {"Status": more["health"]}
    return {
        "Id": f"{name:x<64}",
        "Name": f"/{name}",
        "Created": f"2026-01-01T00:00:{created:02}Z",
        "Image": "sha256:abc",
        "RestartCount": more.get("restarts", 0),
        "State": state,
        "Config": {"Image": "web:1", "Labels": labels, "Env": ["A=1"], **more.get("config", {})},
        "HostConfig": {"NetworkMode": "lan", **more.get("host", {})},
        "NetworkSettings": {"Networks": more.get("networks", {})},
    }


def replicas(*containers: dict[str, Any]) -> Replicas:
    return replicas_of("web", containers)


def names(found: Replicas) -> dict[int, str]:
    return {number: one["Name"].lstrip("/") for number, one in sorted(found.slots.items())}


def test_slots_are_those_of_the_labels_and_others_take_the_lowest_in_order_of_creation() -> None:
    found = replicas(
        container("b", created=2),
        container("a", created=3),
        container("web.2", slot=2, created=4),
        container("again", slot=2, created=5),
        container("odd", labels={"tidegate.slot": "x"}, created=1),
    )
    assert names(found) == {1: "odd", 2: "web.2", 3: "b", 4: "a", 5: "again"}


def test_the_lowest_free_slots_are_filled_and_the_highest_emptied() -> None:
    found = replicas(container("a"), container("web.3", slot=3), container("web.5", slot=5))
    assert found.missing(6) == [2, 4, 6]
    assert [one["Name"] for one in found.beyond(1)] == ["/web.5", "/web.3"]
    assert (found.missing(3), found.beyond(3)) == ([], [])
    assert (found.missing(2), found.beyond(4)) == ([], [])


def test_what_is_to_go_or_is_of_another_service_is_no_replica() -> None:
    going = container("gone", slot=3)
    going["Name"] = f"/web.leaving.{going['Id'][:12]}"
    other = container("other", labels={"tidegate.service": "api"})
    found = replicas(container("a"), going, other, container("b", status="removing"))
    assert names(found) == {1: "a"}
    assert found.leaving == (going["Id"],)
    with pytest.raises(RefusedError, match=r"no container carries the label tidegate\.service=web"):
        replicas(going, other)


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        ({}, "ready"),
        ({"health": "healthy"}, "ready"),
        ({"health": "starting", "age_s": 3}, "starting"),
        ({"status": "created"}, "starting"),
        ({"health": "unhealthy"}, "unhealthy"),
        ({"status": "exited"}, "unhealthy"),
        ({"status": "dead"}, "unhealthy"),
        ({"status": "paused"}, "unhealthy"),
        ({"status": "restarting", "restarts": 1}, "starting"),
        ({"status": "restarting", "restarts": 2}, "restarting"),
        ({"restarts": 5, "age_s": 8}, "restarting"),
        ({"restarts": 5, "age_s": 31}, "ready"),
        ({"restarts": 1, "age_s": 2}, "ready"),
    ],
    ids=str,
)
def test_states(one: dict[str, Any], expected: str) -> None:
    seen = observation(replicas(container("a", **one)), NOW)
    assert seen == Observation(
        desired=1,
        ready=int(expected == "ready"),
        starting=int(expected == "starting"),
        unhealthy=int(expected in ("unhealthy", "restarting")),
        restarting=int(expected == "restarting"),
    )


def test_a_ready_one_is_copied_before_one_that_is_sick() -> None:
    found = replicas(container("a", health="unhealthy"), container("b", created=1), container("c", created=2))
    assert found.first["Name"] == "/b"


def test_a_copy_has_all_but_what_is_the_others_own() -> None:
    one = container(
        "shop-web-1",
        config={"Hostname": "shop-web-1xx", "StopTimeout": 5, "MacAddress": "02:42:ac:11:00:02"},
        labels={"com.docker.compose.container-number": "1", "team": "a"},
        host={"NanoCpus": 5, "Memory": 9, "PortBindings": {"80/tcp": [{"HostPort": ""}]}, "ContainerIDFile": "/x"},
        networks={
            "lan": {"Aliases": ["shop-web-1", "web", "shop-web-1xx"], "IPAMConfig": {}, "IPAddress": "10.0.0.2"},
            "metrics": {"Aliases": None, "IPAMConfig": None, "DriverOpts": {"a": "b"}},
        },
    )
    body = copy_of(one, "web", 4, "web:1", 7, "web-12")
    assert body["Labels"] == {
        "tidegate.service": "web",
        "tidegate.slot": "4",
        "tidegate.epoch": "7",
        "tidegate.decision": "web-12",
        "com.docker.compose.container-number": "4",
        "team": "a",
    }
    assert body["NetworkingConfig"] == {"EndpointsConfig": {"lan": {"Aliases": ["web"], "DriverOpts": None}}}
    assert list(endpoints(one)) == ["lan", "metrics"]
    assert (body["Image"], body["Env"], body["StopTimeout"]) == ("web:1", ["A=1"], 5)
    assert not body.keys() & {"Hostname", "MacAddress", "Domainname"}
    host = {**one["HostConfig"], "ContainerIDFile": ""}
    assert body["HostConfig"] == host


def test_what_two_cannot_both_have_is_refused_with_the_way_out() -> None:
    port = container("a", host={"PortBindings": {"80/tcp": [{"HostIp": "", "HostPort": "8080"}]}})
    with pytest.raises(RefusedError, match=r"a publishes 80/tcp on port 8080 of the host.*proxy in front"):
        copy_of(port, "web", 2, "web:1", 1, "")
    address = container("a", networks={"lan": {"IPAMConfig": {"IPv4Address": "10.0.0.9"}}})
    with pytest.raises(RefusedError, match="a has a fixed address in the network lan"):
        copy_of(address, "web", 2, "web:1", 1, "")


HOST = {"NanoCpus": 2_000_000_000, "CpuShares": 512, "Memory": 512 * MB, "MemorySwap": 768 * MB}


def test_sizes_are_told_and_changed_and_swap_keeps_its_share() -> None:
    one = container("a", host=HOST)
    assert sizes_of(one) == Sizes(cpu_limit=2, cpu_reserved=0.5, memory_limit=512)
    wanted = Sizes(cpu_limit=1, cpu_reserved=0.25, memory_limit=1024, memory_reserved=128)
    assert resizing(one, wanted) == {
        "NanoCpus": 1_000_000_000,
        "CpuShares": 256,
        "Memory": 1024 * MB,
        "MemorySwap": 1280 * MB,
        "MemoryReservation": 128 * MB,
    }
    assert resizing(one, sizes_of(one)) == {}
    quota = container("a", host={"CpuQuota": 50_000, "CpuPeriod": 100_000})
    assert sizes_of(quota) == Sizes(cpu_limit=0.5)
    assert resizing(quota, Sizes(cpu_limit=0.75)) == {"CpuQuota": 75_000}
    with pytest.raises(RefusedError, match="a: memory_limit cannot be taken away from a running container"):
        resizing(one, Sizes(cpu_limit=2, cpu_reserved=0.5))


ENGINE = {"NCPU": 4, "MemTotal": 4096 * MB}


@pytest.mark.parametrize(
    ("host", "others", "expected"),
    [
        ({"CpuShares": 512}, [{}], 7),
        ({"CpuShares": 512}, [{"CpuShares": 1024}, {"NanoCpus": 10**9}], 5),
        ({"CpuShares": 512, "MemoryReservation": 1000 * MB}, [], 3),
        ({"CpuShares": 512}, [{"CpuShares": 9999}], 0),
        ({"NanoCpus": 10**9, "Memory": 512 * MB}, [], None),
    ],
    ids=[
        "half a core each",
        "promises count, limits do not",
        "memory is scarcer",
        "more promised than there is",
        "none",
    ],
)
def test_room_is_what_nobody_was_promised(host: Any, others: list[Any], expected: int | None) -> None:
    one = container("a", host=host)
    running = [one, *(container(f"o{number}", host=other) for number, other in enumerate(others))]
    assert room(replicas(one), running, ENGINE) == expected
