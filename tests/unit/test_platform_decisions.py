"""The supervisor's pure decisions and its settings."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from examples.platform.replica.spec import Sizes
from examples.platform.supervisor.balance import LeastOutstanding
from examples.platform.supervisor.desired import (
    Desired,
    OutOfLimitsError,
    Plan,
    StaleEpochError,
    Standing,
    plan_replicas,
    restart_delay_s,
    room_for,
)
from examples.platform.supervisor.settings import ConfigError, load_services, load_settings

SIZES = Sizes(cpu_limit_cores=2.0, memory_limit_mib=4096, cpu_reserved_cores=0.5, memory_reserved_mib=1024)
SHIPPED = Path(__file__).parents[2] / "examples/platform/platform.yaml"


@dataclass(eq=False)
class Backend:
    name: str
    outstanding: int = 0


def test_the_backend_with_the_least_outstanding_is_chosen() -> None:
    assert LeastOutstanding().choose([Backend("a", 3), Backend("b", 1), Backend("c", 2)]).name == "b"  # type: ignore[union-attr]


def test_ties_are_broken_in_turn() -> None:
    balance, backends = LeastOutstanding(), [Backend("a"), Backend("b"), Backend("c", 1)]
    chosen = [balance.choose(backends) for _ in range(4)]
    assert [one.name for one in chosen if one] == ["a", "b", "a", "b"]


def test_with_no_backend_none_is_chosen() -> None:
    assert LeastOutstanding().choose([]) is None


def test_an_older_epoch_is_refused_and_told_the_highest() -> None:
    desired = Desired(2, SIZES, 1, 10).after(3, epoch=7, decision="d-1")
    with pytest.raises(StaleEpochError) as refusal:
        desired.after(4, epoch=6, decision="d-2")
    assert refusal.value.epoch == 7
    assert desired.after(4, epoch=7, decision="d-3").replicas == 4


@pytest.mark.parametrize("replicas", [0, 11, -1])
def test_a_number_outside_the_hard_limits_is_refused(replicas: int) -> None:
    with pytest.raises(OutOfLimitsError, match="outside 1 to 10"):
        Desired(2, SIZES, 1, 10).after(replicas, epoch=0, decision=None)


@pytest.mark.parametrize(
    ("desired", "standings", "start", "drain"),
    [
        pytest.param(3, [("a", "ready", 0)], 2, (), id="missing ones are started"),
        pytest.param(1, [("a", "ready", 0), ("b", "draining", 0)], 0, (), id="a draining one does not count"),
        pytest.param(2, [("a", "ready", 0), ("b", "draining", 0)], 1, (), id="nor is it called back"),
        pytest.param(1, [("a", "ready", 0), ("b", "ready", 0)], 0, ("b",), id="the youngest goes first"),
        pytest.param(1, [("a", "ready", 0), ("b", "ready", 5)], 0, ("a",), id="unless another has less to do"),
        pytest.param(1, [("a", "ready", 0), ("b", "starting", 0)], 0, ("b",), id="a starting one before a ready"),
        pytest.param(1, [("a", "unhealthy", 9), ("b", "starting", 0)], 0, ("a",), id="an unhealthy one before all"),
        pytest.param(0, [("a", "ready", 1), ("b", "ready", 0)], 0, ("b", "a"), id="all when none is wanted"),
    ],
)
def test_the_plan_brings_the_replicas_to_the_wanted_number(
    desired: int, standings: list[tuple[str, str, int]], start: int, drain: tuple[str, ...]
) -> None:
    plan = plan_replicas(desired, [Standing(*standing) for standing in standings])
    assert (plan.start, plan.drain) == (start, drain)


def test_other_sizes_come_one_replica_at_a_time_and_never_fewer_are_ready_than_wanted() -> None:
    standings = [Standing(f"old-{number}", "ready", 0, True) for number in range(3)]
    drained: list[str] = []
    for number in range(20):
        plan = plan_replicas(3, standings)
        assert plan.start + len(plan.drain) <= 1
        drained += plan.drain
        standings = [one for one in standings if one.id not in plan.drain]
        standings = [replace(one, state="ready") for one in standings]
        standings += [Standing(f"new-{number}", "starting", 0)] * plan.start
        assert sum(one.state == "ready" for one in standings) >= 3
        assert len(standings) <= 4
    assert drained == ["old-2", "old-1", "old-0"]
    assert plan_replicas(3, standings) == Plan(0, ())
    assert len(standings) == 3


@pytest.mark.parametrize(
    ("desired", "standings", "start", "drain"),
    [
        pytest.param(2, [("a", "ready", True), ("b", "ready", True), ("c", "starting", False)], 0, (), id="waits"),
        pytest.param(2, [("a", "ready", True), ("b", "ready", True), ("c", "unhealthy", False)], 0, (), id="is stuck"),
        pytest.param(2, [("a", "ready", True), ("c", "starting", False)], 0, (), id="one died meanwhile"),
        pytest.param(4, [("a", "ready", True), ("c", "starting", False)], 2, (), id="more are wanted meanwhile"),
        pytest.param(
            1, [("a", "ready", True), ("b", "ready", True), ("c", "ready", False)], 0, ("b",), id="fewer meanwhile"
        ),
        pytest.param(2, [("a", "ready", False), ("b", "ready", False), ("c", "starting", True)], 0, ("c",), id="back"),
    ],
)
def test_a_rolling_update_goes_on_only_when_what_it_brought_is_ready(
    desired: int, standings: list[tuple[str, str, bool]], start: int, drain: tuple[str, ...]
) -> None:
    given = [Standing(id_, state, 0, outdated) for id_, state, outdated in standings]
    assert plan_replicas(desired, given) == Plan(start, drain)


def test_sizes_are_refused_from_an_older_epoch_and_where_more_is_reserved_than_allowed() -> None:
    desired = Desired(2, SIZES, 1, 10).resized(replace(SIZES, cpu_limit_cores=1.0), epoch=7, decision="d-1")
    assert desired.sizes.cpu_limit_cores == 1.0
    assert desired.replicas == 2
    with pytest.raises(StaleEpochError):
        desired.resized(SIZES, epoch=6, decision="d-0")
    with pytest.raises(StaleEpochError):
        desired.after(3, epoch=6, decision="d-0")
    with pytest.raises(OutOfLimitsError, match=r"memory_reserved_mib: 8192 is above the limit of 4096"):
        desired.resized(replace(SIZES, memory_reserved_mib=8192), epoch=7, decision="d-2")


@pytest.mark.parametrize(
    ("cpu_cores", "memory_mib", "room"),
    [(math.inf, math.inf, 8), (2.0, math.inf, 4), (math.inf, 2500, 2), (0.4, math.inf, 0), (-1.0, math.inf, 0)],
)
def test_room_is_the_least_of_the_limit_and_what_is_left(cpu_cores: float, memory_mib: float, room: int) -> None:
    assert room_for(Desired(2, SIZES, 1, 10), cpu_cores, memory_mib) == room
    if math.isinf(cpu_cores):
        unreserved = replace(SIZES, cpu_reserved_cores=0.0, memory_reserved_mib=0.0)
        assert room_for(Desired(2, unreserved, 1, 10), 0.0, memory_mib) == 8


def test_the_first_death_is_answered_at_once_and_repeated_ones_ever_later() -> None:
    delays = [restart_delay_s(deaths) for deaths in range(9)]
    assert delays[:4] == [0.0, 0.0, 0.2, 0.4]
    assert delays == sorted(delays)
    assert restart_delay_s(10_000) == 5.0


def test_the_shipped_sizes_load_and_a_flag_overrides_them() -> None:
    services = load_services(SHIPPED, {"relaycore": 3})
    assert {name: config.replicas for name, config in services.items()} == {
        "autmatrix-backend": 2,
        "relaycore": 3,
        "neuroweaver-backend": 1,
    }


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("api_servers: 32", "api_server: 32", "autmatrix-backend.api_server: unknown field"),
        ("servers: 64", "servers: many", "autmatrix-backend.servers: 'many': input should be a valid integer"),
        ("replicas: 2", "replicas: 12", "autmatrix-backend.replicas: 12 is outside 1 to 10"),
        ("system: relaycore", "system: autmatrix", "must have exactly one service"),
        ("    execution:", "    executing:", "autmatrix-backend.service_time: has api, executing"),
        ("mean_ms: 4,", "mean_ms: -4,", "autmatrix-backend.service_time.api.mean_ms: -4: input should be greater"),
        ("relaycore:", "relaycore: {", "is not YAML"),
    ],
)
def test_a_bad_platform_file_is_named_in_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "platform.yaml"
    path.write_text(SHIPPED.read_text().replace(old, new, 1))
    with pytest.raises(ConfigError) as refusal:
        load_services(path, {})
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("flag", [{"relaycore": 21}, {"relay": 1}])
def test_a_bad_replicas_flag_is_named_in_one_line(flag: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="--replicas relay"):
        load_services(SHIPPED, flag)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("TIDEGATE_PLATFORM_PORT", "http", "TIDEGATE_PLATFORM_PORT: 'http': input should be a valid integer"),
        ("TIDEGATE_PLATFORM_SECRET", "short", "TIDEGATE_PLATFORM_SECRET: string should have at least 32"),
        ("TIDEGATE_PLATFORM_TOKEN_TTL_S", "0", "TIDEGATE_PLATFORM_TOKEN_TTL_S: '0': input should be greater than 0"),
        ("TIDEGATE_OTLP_ENDPOINT", "collector", "TIDEGATE_OTLP_ENDPOINT: 'collector': string should match"),
    ],
)
def test_a_bad_setting_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as refusal:
        load_settings()
    assert str(refusal.value).startswith(message)
    assert "\n" not in str(refusal.value)
