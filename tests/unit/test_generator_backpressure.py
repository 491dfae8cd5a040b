"""When the broker took nothing, and when a run must not go on so."""

from pathlib import Path
from typing import Any

import pytest

from services.generator.backpressure import REMEMBERED, Backpressure, reason_to_stop
from services.generator.publisher import Publisher
from shared.contracts.base import utc_of_us
from shared.contracts.run import HeldBack, Limits
from shared.subjects import Subjects
from tests.unit.test_generator_publisher import Broker, drained, frame


def test_a_time_of_backpressure_lasts_from_the_first_refusal_until_a_frame_is_taken() -> None:
    found = Backpressure()
    found.taken(1_000_000)
    assert not found.times
    found.refused(2_000_000, 100, 0)
    found.refused(3_000_000, 900, 400)
    (lasting,) = found.times
    assert lasting == HeldBack(since=utc_of_us(2_000_000), waiting=900, spooled=400)
    found.taken(4_000_000)
    found.taken(5_000_000)
    found.refused(8_000_000, 50, 0)
    found.taken(9_000_000)
    found.refused(15_000_000, 1, 0)
    assert [(time.since, time.until) for time in found.times] == [
        (utc_of_us(2_000_000), utc_of_us(9_000_000)),
        (utc_of_us(15_000_000), None),
    ]
    for number in range(100):
        found.taken(20_000_000 + number * 10_000_000)
        found.refused(26_000_000 + number * 10_000_000, 1, 0)
    assert len(found.times) == REMEMBERED


@pytest.mark.parametrize(
    ("spool", "spooled", "unspooled", "reason"),
    [
        (True, 0, 0, ""),
        (True, 5_000, 100, ""),
        (False, 0, 0, ""),
        (False, 5_000, 0, "5,000 events are on disk"),
        (True, 5_000, 101, "memory is full"),
    ],
)
def test_a_run_goes_on_while_its_events_have_somewhere_to_go(
    spool: bool, spooled: int, unspooled: int, reason: str
) -> None:
    found = reason_to_stop(Limits(spool=spool), spooled, unspooled, 100)
    assert reason in found
    assert bool(found) == bool(reason)


async def test_a_publisher_tells_when_it_was_held_back_and_how_much_waited(tmp_path: Path) -> None:
    broker: Any = Broker()
    publisher = Publisher(broker, Subjects("local"), tmp_path / "w1.spool", 3_000)
    async with drained(publisher, broker):
        for seq in range(1, 6):
            publisher.put(frame(seq))
    (time,) = publisher.backpressure.times
    assert time.until is not None
    assert time.until > time.since
    assert time.waiting == 50
    assert 0 < time.spooled < 50
