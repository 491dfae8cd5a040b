"""The plan: network and storage rules with their evidence, what is missing, and what applying asks of each service."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from services.scaler.resources.network import NetworkUse, advise_network
from services.scaler.resources.observed import count_full_ends
from services.scaler.resources.plan import Plan, make_plan, steps_of
from services.scaler.resources.storage import LARGE_STORE, StorageUse, advise_storage
from services.scaler.resources.usage import ServiceUsage, Summary
from services.scaler.situation import Sizes
from shared.errors import ConfigError
from shared.histogram import bucket_of
from shared.store.figures import CallTimes, Commits, Connecting, MemoryPoint, Served, StoredTable, UsageStep
from tests.unit.resource_cases import NOON, SIZES, rules, spread, use


def calls(network_ms: float = 0.2, server_ms: float = 10.0, count: int = 500, a_trace: float = 1.0) -> CallTimes:
    network_us = int(network_ms * 1000)
    return CallTimes(
        "autmatrix-backend", "relaycore", count, count, 0, int(count * (server_ms * 1000 + network_us)),
        int(count * server_ms * 1000), {bucket_of(network_us): count}, traces=int(count / a_trace),
    )  # fmt: skip


def served(kilobytes: float, count: int = 1_000) -> Served:
    return Served("relaycore", NOON, count, 0, int(kilobytes * 1024 * count), 100 * count)


def usage(**metrics: Summary) -> ServiceUsage:
    return ServiceUsage("relaycore", "relaycore", 3.0, metrics, {}, SIZES)


def mean(value: float, samples: int = 5_000) -> Summary:
    return Summary(value, value, value, value, NOON, value, samples)


@pytest.mark.parametrize(
    ("seen", "ids"),
    [
        ({"connecting": [Connecting("relaycore", 1_000, 400, 5.0, 20.0)]}, ["network.relaycore.connections"]),
        ({"connecting": [Connecting("relaycore", 1_000, 50, 5.0, 20.0)]}, []),
        ({"connecting": [Connecting("relaycore", 99, 99, 5.0, 20.0)]}, []),
        ({"calls": [calls(8.0)]}, ["network.autmatrix-backend.relaycore.placement"]),
        ({"calls": [calls(8.0, server_ms=100.0)]}, []),
        ({"calls": [calls(0.5, server_ms=0.1)]}, []),
        ({"calls": [calls(8.0, count=99)]}, []),
        ({"calls": [replace(calls(8.0), caller="tidegate-generator")]}, []),
        ({"calls": [calls(a_trace=8.0)]}, ["network.autmatrix-backend.relaycore.calls"]),
        ({"served": [served(40)], "span_s": 100.0}, ["network.relaycore.payload"]),
        ({"served": [served(4)], "span_s": 100.0}, []),
        ({"services": [usage(network_drops=mean(2.0), network_errors=mean(0.0))]}, ["network.relaycore.losses"]),
        ({"services": [usage(network_drops=mean(0.01))]}, []),
    ],
)
def test_network(seen: dict[str, Any], ids: list[str]) -> None:
    items = advise_network(NetworkUse(**seen)).items
    assert [item.id for item in items] == ids
    for item in items:
        assert item.evidence
        assert item.impact.latency or item.impact.cost
        assert item.why_not
        assert not item.applicable


def test_connections_tell_what_they_would_save() -> None:
    [item] = advise_network(NetworkUse(connecting=[Connecting("relaycore", 1_000, 400, 5.0, 20.0)])).items
    assert item.evidence == (
        "400 of 1000 requests (40%) opened a connection",
        "opening took 5 of their 20 ms on average",
    )
    assert item.impact.latency_ms == -2.0


def test_what_nobody_tells_of_the_network_is_said() -> None:
    assert [note.partition(":")[0] for note in advise_network(NetworkUse()).notes] == [
        "connections", "placement", "errors and drops",
    ]  # fmt: skip


def disk(growth_a_day: float, used: float = 0.7, steps: int = 48) -> list[UsageStep]:
    begin = NOON - timedelta(hours=steps)
    noise = [0.001, -0.001, 0.0005]
    return [
        UsageStep(
            "relaycore", "relaycore", "relaycore-1", "storage_ratio", begin + timedelta(hours=hour), 60,
            value := used + growth_a_day / 24 * (hour - steps) + noise[hour % 3], value, begin, value,
        )
        for hour in range(steps)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("seen", "ids"),
    [
        (
            {"services": [usage(storage_writes=mean(400), storage_written=mean(400 * 512.0))]},
            ["storage.relaycore.batching"],
        ),
        ({"services": [usage(storage_writes=mean(400), storage_written=mean(400 * 65_536.0))]}, []),
        ({"services": [usage(storage_writes=mean(4), storage_written=mean(4 * 512.0))]}, []),
        ({"steps": disk(0.05)}, ["storage.relaycore.relaycore-1.full"]),
        ({"steps": disk(0.0)}, []),
        (
            {"steps": [*disk(0.05), *(replace(step, service="other", mean=0.1) for step in disk(0.0))]},
            ["storage.relaycore.relaycore-1.full"],
        ),
        ({"steps": disk(-0.05)}, []),
        ({"steps": disk(0.002)}, []),
        ({"steps": disk(0.05, steps=11)}, []),
        (
            {"tables": [StoredTable("request_timing", 3 * LARGE_STORE, 25_000_000, NOON - timedelta(days=3), None)]},
            ["storage.store.request_timing.retention", "storage.store.timescale"],
        ),
        (
            {"tables": [StoredTable("spans", 3 * LARGE_STORE, 1, NOON - timedelta(days=3), 2 * LARGE_STORE)]},
            ["storage.store.spans.retention", "storage.store.compression"],
        ),
        ({"tables": [StoredTable("spans", 1_000_000, 1, NOON)]}, []),
        ({"commits": Commits(1_000, 2_000, 50_000, 100.0)}, ["storage.store.batching"]),
        ({"commits": Commits(1_000, 2_000, 5_000_000, 100.0)}, []),
        ({"commits": Commits(1_000, 2_000, 50_000, 3_600.0)}, []),
        ({"commits": Commits(10, 20, 50, 1.0)}, []),
    ],
)
def test_storage(seen: dict[str, Any], ids: list[str]) -> None:
    items = advise_storage(StorageUse(now=NOON, **seen)).items
    assert [item.id for item in items] == ids
    assert all(item.evidence and item.why_not and not item.applicable for item in items)


def test_the_time_until_a_disk_is_full_is_that_of_its_trend() -> None:
    [item] = advise_storage(StorageUse(steps=disk(0.05))).items
    assert item.figures["hours_to_full"] == pytest.approx(0.3 / 0.05 * 24, rel=0.05)
    assert item.risk == "medium"


def point(minute: int, ratio: float, instance: str = "a", began: bool = False) -> MemoryPoint:
    at = NOON + timedelta(minutes=minute)
    return MemoryPoint("relaycore", "relaycore", instance, at, 1_000 * ratio, ratio, 1.0, began)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([point(0, 0.5), point(1, 0.97), point(2, 0.2, began=True), point(59, 0.3)], 1),
        ([point(0, 0.5), point(1, 0.97), point(2, 0.2), point(59, 0.3)], 1),
        ([point(0, 0.5), point(1, 0.6), point(2, 0.2, began=True), point(59, 0.3)], 0),
        ([point(0, 0.5), point(1, 0.97), point(59, 0.9)], 0),
        ([point(0, 0.97), point(59, 0.5, "b")], 1),
        ([point(59, 0.97)], 0),
        ([], 0),
    ],
    ids=["began anew", "fell", "not full", "went on", "ended", "still there", "nothing"],
)
def test_ends_with_full_memory_are_counted(points: list[MemoryPoint], expected: int) -> None:
    assert count_full_ends(points, NOON + timedelta(minutes=60)) == expected


def plan() -> Plan:
    seen = use(cpu_cores=spread(0.5, p90=0.18), memory_mb=spread(700, most=800))
    network = NetworkUse(connecting=[Connecting("relaycore", 1_000, 400, 5.0, 20.0)])
    return make_plan([seen], {"relaycore": rules()}, network, StorageUse())


def test_a_plan_has_all_parts_ids_that_stay_and_an_impact() -> None:
    one = plan()
    assert [item.id for item in one.items] == ["cpu.relaycore", "memory.relaycore", "network.relaycore.connections"]
    assert one.plan == plan().plan
    assert one.impact()["memory_mb"] == pytest.approx(3 * (928 - 512))
    assert one.impact()["latency_ms"] == pytest.approx(-2.0)
    assert Plan.model_validate_json(one.model_dump_json()) == one


def test_what_nobody_knows_of_is_told() -> None:
    stranger = use(cpu_cores=spread(0.5))
    made = make_plan([stranger], {"autmatrix-backend": rules()}, NetworkUse(), StorageUse())
    assert "relaycore: no rules in config/scaling.yaml, so no sizes are advised" in made.notes
    assert "autmatrix-backend: no resource samples in this time" in made.notes


def test_the_items_of_a_service_are_one_step() -> None:
    [step] = steps_of(plan(), [])
    assert [item.id for item in step.items] == ["cpu.relaycore", "memory.relaycore"]
    assert step.sizes == Sizes(cpu_limit=0.75, memory_limit=928.0, memory_reserved=928.0)
    assert step.from_sizes == SIZES
    [step] = steps_of(plan(), ["memory.relaycore"])
    assert step.sizes == Sizes(memory_limit=928.0, memory_reserved=928.0)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("memory.relycore", "did you mean 'memory.relaycore'"),
        ("network.relaycore.connections", "cannot be applied: keep"),
    ],
)
def test_what_cannot_be_applied_is_an_error_that_says_why(name: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        steps_of(plan(), [name])
