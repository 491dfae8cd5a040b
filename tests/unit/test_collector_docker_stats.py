"""What the Engine API says of a container becomes a reading; which containers count is told by labels."""

from typing import Any

import pytest

from services.collector.docker_stats import count_cpus, life_of, pick, takes_traffic, usage_of
from services.collector.source_config import ContainerRule
from services.collector.usage import Usage
from shared.errors import BadMessageError

# As an engine of API 1.41 on control groups of version 1 answered.
STATS: dict[str, Any] = {
    "read": "2026-11-26T08:53:40.929785225Z",
    "pids_stats": {"current": 3},
    "blkio_stats": {
        "io_service_bytes_recursive": [
            {"major": 254, "minor": 0, "op": "Read", "value": 4096},
            {"major": 254, "minor": 16, "op": "Read", "value": 1024},
            {"major": 254, "minor": 0, "op": "Write", "value": 8192},
            {"major": 254, "minor": 0, "op": "Total", "value": 12288},
        ],
        "io_serviced_recursive": [{"major": 254, "minor": 0, "op": "Read", "value": 2}],
    },
    "cpu_stats": {
        "cpu_usage": {"total_usage": 57_290_983, "percpu_usage": [38_346_850, 18_944_133]},
        "system_cpu_usage": 1_919_440_000_000,
        "online_cpus": 2,
        "throttling_data": {"periods": 20, "throttled_periods": 5, "throttled_time": 7},
    },
    "memory_stats": {
        "usage": 585_728,
        "stats": {"total_inactive_file": 85_728, "inactive_file": 1},
        "limit": 67_108_864,
    },
    "networks": {
        "eth0": {"rx_bytes": 254, "rx_errors": 1, "rx_dropped": 2, "tx_bytes": 10, "tx_errors": 0, "tx_dropped": 1},
        "eth1": {"rx_bytes": 46, "rx_errors": 0, "rx_dropped": 0, "tx_bytes": 0, "tx_errors": 1, "tx_dropped": 0},
    },
}


def test_statistics_become_a_reading() -> None:
    inspected = {"HostConfig": {"NanoCpus": 500_000_000}}
    assert usage_of(inspected, STATS, 7.0) == Usage(
        at_s=7.0,
        cpu_s=57_290_983 / 1e9,
        cpu_limit_cores=0.5,
        periods=20,
        throttled_periods=5,
        memory_bytes=500_000.0,
        memory_limit_bytes=67_108_864,
        received=300.0,
        sent=10.0,
        errors=2.0,
        drops=3.0,
        read_bytes=5120.0,
        written_bytes=8192.0,
        reads=2.0,
        writes=None,
        threads=3,
    )


def test_version_two_of_control_groups_names_things_otherwise() -> None:
    stats = {
        "blkio_stats": {
            "io_service_bytes_recursive": [{"major": 8, "minor": 0, "op": "read", "value": 512}],
            "io_serviced_recursive": None,
        },
        "memory_stats": {"usage": 1000, "stats": {"inactive_file": 400}, "limit": 2000},
    }
    usage = usage_of({}, stats, 0.0)
    assert (usage.read_bytes, usage.reads, usage.memory_bytes, usage.cpu_s) == (512.0, None, 600.0, None)


@pytest.mark.parametrize(
    ("host", "cores"),
    [
        ({"NanoCpus": 1_500_000_000}, 1.5),
        ({"NanoCpus": 0, "CpuQuota": 50_000, "CpuPeriod": 100_000}, 0.5),
        ({"CpuQuota": 50_000, "CpuPeriod": 0}, 0.5),
        ({"CpuQuota": -1, "CpusetCpus": "0-2,5"}, 4.0),
        ({}, 2.0),
    ],
    ids=["cpus", "quota", "quota of the usual period", "set of CPUs", "no limit"],
)
def test_the_cpu_limit_is_the_containers_own_and_else_what_it_may_run_on(host: dict[str, Any], cores: float) -> None:
    assert usage_of({"HostConfig": host}, STATS, 0.0).cpu_limit_cores == cores


def test_a_container_that_just_stopped_tells_nothing_rather_than_zeros() -> None:
    stopped = {
        "cpu_stats": {"cpu_usage": {"total_usage": 0}, "throttling_data": {}},
        "memory_stats": {},
        "blkio_stats": {"io_service_bytes_recursive": None},
        "pids_stats": {},
    }
    assert usage_of({}, stopped, 1.0) == Usage(at_s=1.0)


@pytest.mark.parametrize("stats", [{"cpu_stats": [1]}, {"networks": 3}, {"memory_stats": {"usage": "much"}}])
def test_other_statistics_are_refused_in_a_line(stats: dict[str, Any]) -> None:
    with pytest.raises(BadMessageError, match="no container statistics"):
        usage_of({}, stats, 0.0)


RULES = (
    ContainerRule(label="com.docker.swarm.service.name=shop_relaycore", service="relaycore", system="relaycore"),
    ContainerRule(label="gpu", service="neuroweaver-backend", system="neuroweaver"),
)


@pytest.mark.parametrize(
    ("labels", "picked"),
    [
        ({"tidegate.service": "relaycore"}, ("relaycore", "relaycore", "web-1")),
        (
            {"tidegate.service": "autmatrix-backend", "tidegate.system": "autmatrix", "tidegate.instance": "a-1"},
            ("autmatrix-backend", "autmatrix", "a-1"),
        ),
        (
            {"tidegate.system": "autmatrix", "com.docker.swarm.service.name": "autmatrix-backend"},
            ("autmatrix-backend", "autmatrix", "web-1"),
        ),
        ({"tidegate.system": "relaycore"}, ("relaycore", "relaycore", "web-1")),
        ({"com.docker.swarm.service.name": "shop_relaycore"}, ("relaycore", "relaycore", "web-1")),
        ({"gpu": "yes"}, ("neuroweaver-backend", "neuroweaver", "web-1")),
        ({"com.docker.swarm.service.name": "shop_other"}, None),
        (None, None),
    ],
    ids=["service", "all three", "swarm's name", "system alone", "rule by value", "rule by key", "another", "none"],
)
def test_labels_tell_whose_instance_a_container_is(
    labels: dict[str, str] | None, picked: tuple[str, str, str] | None
) -> None:
    container = pick({"Id": "abc", "Names": ["/web-1"], "Labels": labels}, RULES)
    assert (container and (container.service, container.system, container.instance)) == picked


@pytest.mark.parametrize(
    ("state", "ready"),
    [
        ({"Running": True}, True),
        ({"Running": True, "Health": {"Status": "healthy"}}, True),
        ({"Running": True, "Health": {"Status": "starting"}}, False),
        ({"Running": True, "Health": {"Status": "unhealthy"}}, False),
        ({"Running": True, "Paused": True}, False),
        ({"Running": False, "Restarting": True}, False),
    ],
    ids=["running", "healthy", "starting", "unhealthy", "paused", "restarting"],
)
def test_an_instance_takes_traffic_when_it_runs_and_is_not_unhealthy(state: dict[str, Any], ready: bool) -> None:
    assert takes_traffic({"State": state}) is ready


def test_each_start_of_a_container_is_a_life_of_its_own() -> None:
    lives = {life_of({"Id": "a", "State": {"StartedAt": at}}) for at in ("08:00", "09:00")}
    assert len(lives) == 2


def test_a_list_of_cpus_is_counted() -> None:
    assert [count_cpus(text) for text in ("0", "0-3", "0,2", "1-2,7")] == [1, 4, 2, 3]
