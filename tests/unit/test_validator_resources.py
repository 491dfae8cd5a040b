"""Samples of one instance and second are taken together, whichever sources they come from."""

from datetime import UTC, datetime

import pytest

from services.validator.resources import ResourceWindows
from shared.contracts.resource import ResourceSample


def sample(instance: str, at_s: float, **values: float) -> ResourceSample:
    return ResourceSample(
        service="relaycore",
        system="relaycore",
        environment="test",
        instance=instance,
        at=datetime.fromtimestamp(at_s, UTC),
        values=values,
    )


def test_what_several_sources_tell_of_an_instance_in_a_second_is_all_kept() -> None:
    windows = ResourceWindows()
    windows.add(sample("r-1", 100.1, queue_length=7.0, cpu_usage=0.2))
    windows.add(sample("r-1", 100.6, gpu_usage=0.5))
    windows.add(sample("r-2", 100.7, cpu_usage=0.4))
    windows.add(sample("r-2", 100.9, cpu_usage=0.6))
    assert windows.values("relaycore", "queue_length", "mean", 100, 100) == (7.0,)
    assert windows.values("relaycore", "gpu_usage", "mean", 100, 100) == (0.5,)
    assert windows.values("relaycore", "cpu_usage", "mean", 100, 100) == pytest.approx((0.4,))
