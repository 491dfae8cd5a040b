"""What is told waits in order for a broker that takes it; what an episode begins with comes from stream and store."""

from collections.abc import Mapping

import pytest
from opentelemetry.sdk.trace import TracerProvider

from services.validator.attention import Attention
from services.validator.breach_tracing import BreachTracing
from services.validator.lifecycle import take_up
from services.validator.telling import MOST_WAITING, Teller
from shared.contracts.breach import Breach, BreachEvent
from shared.errors import TransientError
from tests.unit.breaches import ESCALATED, OPENED, RESOLVED, UPDATED, breach
from tests.unit.test_validator_attention import silence
from tests.unit.validator_frames import RUN


class Stream:
    """Takes events, or none of them while it is away."""

    def __init__(self) -> None:
        self.away = False
        self.kept: list[BreachEvent] = []

    async def publish(self, event: BreachEvent, context: Mapping[str, str]) -> None:
        if self.away:
            raise TransientError("away")
        self.kept.append(event)


@pytest.fixture
def stream() -> Stream:
    return Stream()


@pytest.fixture
def attention() -> Attention:
    return Attention()


@pytest.fixture
def teller(stream: Stream, attention: Attention) -> Teller:
    return Teller(stream, BreachTracing(TracerProvider()), attention)  # type: ignore[arg-type]


async def test_what_is_not_taken_waits_and_goes_out_in_order(teller: Teller, stream: Stream) -> None:
    stream.away = True
    for one in (breach(1, OPENED), breach(2, ESCALATED), breach(3, RESOLVED)):
        teller.post(one)
    with pytest.raises(TransientError):
        await teller.deliver(lambda: True)
    assert teller.waits(RUN)
    assert not teller.waits("another")
    stream.away = False
    await teller.deliver(lambda: True)
    assert [event.data.revision for event in stream.kept] == [1, 2, 3]
    assert not teller.waits(RUN)


async def test_nothing_is_told_by_one_who_may_not(teller: Teller, stream: Stream) -> None:
    teller.post(breach())
    await teller.deliver(lambda: False)
    assert stream.kept == []
    teller.drop()
    await teller.deliver(lambda: True)
    assert stream.kept == []


async def test_the_silences_of_the_moment_are_told(teller: Teller, stream: Stream, attention: Attention) -> None:
    attention.note_silence(silence(hours=24 * 365 * 100))
    teller.post(breach(1))
    attention.note_silence(silence(hours=0))
    teller.post(breach(2, UPDATED, silenced_by=("s1",)))
    await teller.deliver(lambda: True)
    assert [event.data.silenced_by for event in stream.kept] == [("s1",), ()]


def test_more_than_is_worth_keeping_is_known(teller: Teller) -> None:
    for number in range(MOST_WAITING):
        teller.post(breach(number + 1, UPDATED))
    assert not teller.overfull
    teller.post(breach(MOST_WAITING + 1, UPDATED))
    assert teller.overfull


@pytest.mark.parametrize(
    ("on_stream", "in_store", "expected"),
    [
        pytest.param([breach(3, UPDATED)], [breach(2, UPDATED)], [("b1", 3)], id="the store is behind the stream"),
        pytest.param([breach(4, RESOLVED)], [breach(3, UPDATED)], [("b1", 4)], id="it is over, as the stream knows"),
        pytest.param(
            [breach(1, breach="b2")], [breach(9, UPDATED)], [("b2", 1)], id="a later episode was told on its subject"
        ),
        pytest.param([], [breach(2, UPDATED), breach(5, RESOLVED, series="x")], [("b1", 2)], id="the stream was lost"),
        pytest.param([], [], [], id="nothing is known"),
    ],
)
def test_an_episode_is_taken_up_from_the_stream_and_else_from_the_store(
    on_stream: list[Breach], in_store: list[Breach], expected: list[tuple[str, int]]
) -> None:
    taken = take_up(on_stream, in_store)
    assert [(one.breach, one.revision) for one in taken] == expected
