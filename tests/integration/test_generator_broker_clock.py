"""A worker's clock against that of a real broker."""

import pytest

from services.generator import broker_clock
from services.generator.broker_clock import BrokerClock
from shared.bus import open_bus
from shared.clock import wall_us

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("ahead_us", [0, 7_000_000])
async def test_a_clock_that_is_ahead_of_the_brokers_is_found(
    nats_url: str, environment: str, monkeypatch: pytest.MonkeyPatch, ahead_us: int
) -> None:
    monkeypatch.setattr(broker_clock, "wall_us", lambda: wall_us() + ahead_us)
    async with open_bus(nats_url, environment, "test") as bus:
        clock = BrokerClock(bus, await bus.bucket("leases"), "w1")
        assert clock.skew_ms is None
        for _ in range(3):
            await clock.read()
    skew = clock.skew
    assert skew is not None
    assert abs(skew.ahead_us - ahead_us) <= skew.bound_us + 1_000
    assert skew.harmful is bool(ahead_us)
