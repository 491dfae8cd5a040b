"""The supervisor's pure decisions and its settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from examples.platform.supervisor.balance import LeastOutstanding
from examples.platform.supervisor.desired import (
    Desired,
    OutOfLimitsError,
    StaleEpochError,
    Standing,
    plan_replicas,
    restart_delay_s,
)
from examples.platform.supervisor.settings import ConfigError, load_services, load_settings

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
    desired = Desired(2, 1, 10).after(3, epoch=7, decision="d-1")
    with pytest.raises(StaleEpochError) as refusal:
        desired.after(4, epoch=6, decision="d-2")
    assert refusal.value.epoch == 7
    assert desired.after(4, epoch=7, decision="d-3").replicas == 4


@pytest.mark.parametrize("replicas", [0, 11, -1])
def test_a_number_outside_the_hard_limits_is_refused(replicas: int) -> None:
    with pytest.raises(OutOfLimitsError, match="outside 1 to 10"):
        Desired(2, 1, 10).after(replicas, epoch=0, decision=None)


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
