"""Silenced and acknowledged over a real bus: marked in every later event, kept across restarts, ended early."""

from typing import Any

import pytest

from services.console import attention
from services.console.backing import Backing
from services.scaler.open_breaches import OpenBreaches
from shared.contracts.breach import BreachEvent
from shared.errors import ConfigError, TransientError
from tests.contracts.schemas import breach_events, hold
from tests.integration.test_validator_breach import RUN, Bench, Start, bench, start, streams_exist, until

__all__ = ["bench", "start"]
pytestmark = pytest.mark.integration

KNOWN = {"autmatrix": ("api_response_time", "error_rate")}


@pytest.fixture
def backing(nats_url: str, environment: str, postgres_dsn: str) -> Backing:
    return Backing(nats_url, postgres_dsn, environment)


def matchers(system: str = "", metric: str = "", run: str = "") -> dict[str, str]:
    return {"system": system, "metric": metric, "scenario": "", "run": run}


async def silence(backing: Backing, lasts_s: float = 3_600.0, **given: str) -> str:
    return (await attention.begin_silence(backing, matchers(**given), KNOWN, lasts_s, "moving hosts", "ada")).id


async def opened(bench: Bench) -> dict[str, Any]:
    await bench.begin()
    await bench.load(4, 700)
    await until(lambda: "opened" in bench.statuses)
    data: dict[str, Any] = bench.events[0]["data"]
    return data


async def test_a_silence_marks_breaches_until_it_is_ended_and_survives_a_restart(
    bench: Bench, start: Start, backing: Backing
) -> None:
    stop = await start()
    await streams_exist(bench)
    name = await silence(backing, system="autmatrix", metric="api_response_time")
    other = await silence(backing, system="autmatrix", metric="error_rate")
    assert {one.id for one in await attention.list_silences(backing, ended_too=False)} == {name, other}
    await stop()
    await start()
    assert (await opened(bench))["silenced_by"] == [name]

    breaches = OpenBreaches()
    event = BreachEvent.model_validate_json(bench.heard[0].data)
    breaches.tell(bench.heard[0].subject, 1, event.data)
    assert [one.breach for one in breaches.open()] == [event.data.breach], "replicas follow it all the same"

    assert await attention.end_silence(backing, name) == f"silence {name} is over"
    assert "was over already" in await attention.end_silence(backing, name)
    assert [one.id for one in await attention.list_silences(backing, ended_too=False)] == [other]
    assert len(await attention.list_silences(backing, ended_too=True)) == 2
    kept = await bench.client.jetstream().get_last_msg(
        f"tidegate-{bench.environment}-ATTENTION", f"tidegate.{bench.environment}.silence.{name}"
    )
    hold("Silence", [kept.data or b""])
    await bench.load(6, 1_400)
    await until(lambda: bench.events[-1]["data"]["silenced_by"] == [])


async def test_an_acknowledgement_is_told_once_and_stays_with_the_episode(
    bench: Bench, start: Start, backing: Backing
) -> None:
    await start()
    await streams_exist(bench)
    breach = (await opened(bench))["breach"]
    said = await attention.acknowledge(backing, breach, "ada", "rolling back")
    assert said.startswith(f"breach {breach} is acknowledged by ada (revision ")
    kept = await bench.client.jetstream().get_last_msg(
        f"tidegate-{bench.environment}-ATTENTION", f"tidegate.{bench.environment}.acknowledge.{breach}"
    )
    hold("Acknowledge", [kept.data or b""])
    told = [event for event in bench.events if event["type"] == "io.tidegate.breach.acknowledged.v1"]
    assert [event["data"]["status"] for event in told] == ["updated"], "what older subscribers know"
    breach_events().validate(told[0])
    while "resolved" not in bench.statuses:
        assert bench.seq < 400
        await bench.load(1, 50)
    assert bench.events[-1]["data"]["acknowledged"] == told[0]["data"]["acknowledged"]
    assert [event["data"]["revision"] for event in bench.events] == list(range(1, len(bench.events) + 1))
    assert bench.statuses.count("opened") == 1
    with pytest.raises(ConfigError, match=f"breach {breach} is resolved since"):
        await attention.acknowledge(backing, breach, "ada", "")


async def test_what_is_acknowledged_while_no_validator_is_up_is_told_by_the_next(
    bench: Bench, start: Start, backing: Backing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "TOLD_WITHIN_S", 0.2)
    stop = await start()
    await streams_exist(bench)
    breach = (await opened(bench))["breach"]
    await stop()
    assert "a validator that is up will tell it" in await attention.acknowledge(backing, breach, "ada", "")
    await start()
    await until(lambda: bench.events[-1]["data"]["acknowledged"] is not None)


@pytest.mark.parametrize(
    ("given", "lasts_s", "said"),
    [
        ({"system": "autmatrx"}, 60, "unknown system 'autmatrx' (did you mean 'autmatrix'?)"),
        ({"system": "autmatrix", "metric": "error"}, 60, "unknown metric 'error' (did you mean 'error_rate'?)"),
        ({"metric": "api"}, 60, "unknown metric 'api' (did you mean 'api_response_time'?)"),
        ({"run": "gone"}, 60, "no run 'gone'"),
        ({"system": "autmatrix"}, 0, "--for: 0 s is outside"),
        ({"system": "autmatrix"}, 31 * 86_400, "outside 1s to 30d"),
    ],
)
async def test_a_silence_of_what_nobody_knows_is_refused(
    backing: Backing, given: dict[str, str], lasts_s: float, said: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        await silence(backing, lasts_s, **given)
    assert said in str(refused.value)
    assert await attention.list_silences(backing, ended_too=True) == []


async def test_unknown_names_are_refused_with_the_nearest(bench: Bench, start: Start, backing: Backing) -> None:
    await start()
    await streams_exist(bench)
    name = await silence(backing, system="autmatrix")
    with pytest.raises(ConfigError, match=f"no silence {name[:-1]!r}.*did you mean {name!r}"):
        await attention.end_silence(backing, name[:-1])
    breach = (await opened(bench))["breach"]
    with pytest.raises(ConfigError, match=f"did you mean {breach!r}"):
        await attention.acknowledge(backing, breach[:-2], "ada", "")


async def test_a_bus_that_is_away_is_said_in_one_line(
    backing: Backing, monkeypatch: pytest.MonkeyPatch, postgres_dsn: str
) -> None:
    monkeypatch.setattr("services.console.connecting.CONNECT_S", 0.3)
    away = Backing("nats://127.0.0.1:1", postgres_dsn, backing.environment)
    with pytest.raises(TransientError, match="the bus did not answer"):
        await attention.acknowledge(away, "b1", "ada", "")


async def test_garbage_on_the_breach_subjects_does_not_end_a_validator(bench: Bench, start: Start) -> None:
    await start()
    await streams_exist(bench)
    subject = f"tidegate.{bench.environment}.breach.autmatrix.api_response_time.{RUN}"
    js = bench.client.jetstream()
    await js.publish(subject, b"{")
    await js.publish(f"tidegate.{bench.environment}.silence.s1", b'{"id": 5}')
    await js.publish(f"tidegate.{bench.environment}.acknowledge.b1", b"\xff")
    bench.heard.clear()
    assert (await opened(bench))["revision"] == 1
