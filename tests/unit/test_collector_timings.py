"""Pulls from TIMINGS: what is told of a broker that does not answer."""

from types import SimpleNamespace
from typing import Any

import pytest
from nats.errors import TimeoutError as NatsTimeoutError

from services.collector.timings import Timings
from shared.subjects import Subjects


class MuteJetStream:
    """A broker that is connected and has nobody who would answer for its streams."""

    async def add_consumer(self, *_: Any) -> None:
        raise NatsTimeoutError


async def test_a_broker_that_makes_no_consumer_is_a_problem_and_no_quiet_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.collector.timings.RETRY_S", 0.0)
    bus: Any = SimpleNamespace(js=MuteJetStream(), connected=True, subjects=Subjects("test"))
    timings = Timings(bus, ack_wait_s=30, max_ack_pending=10)
    assert await timings.fetch(1, 0.01) == []
    assert timings.problem == "TIMINGS: nats: timeout"
