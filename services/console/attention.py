"""What an operator says about breaches: silences begun, listed and ended early, episodes acknowledged.

All of it is kept on the bus (ATTENTION), where any validator hears it.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TypeVar

import nats.errors
import nats.js.errors
from pydantic import ValidationError

from services.console.backing import Backing
from services.console.connecting import connected
from shared.bus import Bus, publish_after, publish_now
from shared.contracts.attention import Acknowledge, Silence
from shared.contracts.breach import Breach, BreachEvent, BreachStatus
from shared.errors import ConfigError, TransientError, closest
from shared.reading import read_last
from shared.store.asking import ask_store, find_run

LONGEST = timedelta(days=30)
"""ATTENTION keeps what is said a day longer."""
TOLD_WITHIN_S = 5.0
_POLL_S = 0.1

T = TypeVar("T")


async def begin_silence(
    backing: Backing,
    matchers: Mapping[str, str],
    known: Mapping[str, tuple[str, ...]],
    lasts_s: float,
    reason: str,
    by: str,
) -> Silence:
    """Keep a new silence. ``known``: metrics of each configured system; those told of on the bus are known too.

    ``ConfigError`` for a system, a metric or a run that nobody has heard of: it would silence nothing.
    """
    if not 0 < lasts_s <= LONGEST.total_seconds():
        raise ConfigError(f"--for: {lasts_s:g} s is outside 1s to {LONGEST.days}d; begin another one then")
    now = datetime.now(UTC)
    if matchers["run"]:
        run = await ask_store(backing.store_dsn, find_run, backing.environment, matchers["run"])
        matchers = {**matchers, "run": run}
    silence = Silence(
        id=f"s{secrets.token_hex(4)}",
        environment=backing.environment,
        reason=reason,
        by=by,
        created_at=now,
        ends_at=now + timedelta(seconds=lasts_s),
        **matchers,
    )
    async with connected(backing) as bus:
        await _answered(_check_matchers(bus, silence, known))
        await _answered(publish_after(bus.js, bus.subjects.silence(silence.id), _body(silence), 0))
    return silence


async def list_silences(backing: Backing, *, ended_too: bool) -> list[Silence]:
    """Silences in force, the one that ends next first; those of the last month that are over too, if asked."""
    async with connected(backing) as bus:
        found = [silence for silence, _ in await _answered(_read_silences(bus))]
    now = datetime.now(UTC)
    return sorted((one for one in found if ended_too or one.ends_at > now), key=lambda one: (one.ends_at, one.id))


async def end_silence(backing: Backing, name: str) -> str:
    """End a silence now; one line of what was done. ``ConfigError`` for one that is not known."""
    async with connected(backing) as bus:
        known = {silence.id: (silence, sequence) for silence, sequence in await _answered(_read_silences(bus))}
        if name not in known:
            raise ConfigError(f"no silence {name!r}{closest(name, list(known))}; see tidegate breaches silences")
        silence, sequence = known[name]
        now = datetime.now(UTC)
        if silence.ends_at <= now:
            return f"silence {name} was over already, at {silence.ends_at:%Y-%m-%d %H:%M:%S} UTC"
        ended = silence.model_copy(update={"ends_at": now})
        await _answered(publish_after(bus.js, bus.subjects.silence(name), _body(ended), sequence))
    return f"silence {name} is over"


async def acknowledge(backing: Backing, name: str, by: str, note: str) -> str:
    """Say who takes an open episode on; one line, also of whether the validator has told it yet."""
    async with connected(backing) as bus:
        breach = _open_one(name, await _answered(_read_breaches(bus)))
        said = Acknowledge(breach=name, environment=backing.environment, by=by, at=datetime.now(UTC), note=note)
        await _answered(
            publish_now(bus.js, bus.subjects.acknowledge(name), _body(said), {"Content-Type": "application/json"})
        )
        told = await _answered(_wait_until_told(bus, breach, said))
    if told is None:
        return f"breach {name}: the acknowledgement is kept; a validator that is up will tell it"
    return f"breach {name} is acknowledged by {by} (revision {told.revision})"


def _open_one(name: str, breaches: list[Breach]) -> Breach:
    known = {breach.breach: breach for breach in breaches}
    breach = known.get(name)
    if breach is None:
        names = [one.breach for one in breaches if one.status is not BreachStatus.RESOLVED]
        raise ConfigError(f"no breach {name!r}{closest(name, names)}; see tidegate breaches --open")
    if breach.status is BreachStatus.RESOLVED:
        raise ConfigError(
            f"breach {name} is resolved since {breach.resolved_at:%Y-%m-%d %H:%M:%S} UTC: nothing to take on"
        )
    return breach


async def _check_matchers(bus: Bus, silence: Silence, known: Mapping[str, tuple[str, ...]]) -> None:
    metrics = {system: set(its) for system, its in known.items()}
    for breach in await _read_breaches(bus):
        metrics.setdefault(breach.system, set()).add(breach.metric)
    if silence.system and silence.system not in metrics:
        raise _unknown("system", silence.system, sorted(metrics))
    its = sorted(metrics[silence.system] if silence.system else set().union(*metrics.values()))
    if silence.metric and silence.metric not in its:
        raise _unknown("metric", silence.metric, its)


def _unknown(what: str, name: str, known: list[str]) -> ConfigError:
    return ConfigError(f"unknown {what} {name!r}{closest(name, known)}; known: {', '.join(known)}")


async def _wait_until_told(bus: Bus, breach: Breach, said: Acknowledge) -> Breach | None:
    subject = bus.subjects.breach(breach.system, breach.metric, breach.series)
    for _ in range(round(TOLD_WITHIN_S / _POLL_S)):
        last = await bus.js.get_last_msg(bus.subjects.stream("BREACHES"), subject)
        told = BreachEvent.model_validate_json(last.data or b"").data
        if told.breach == said.breach and told.acknowledged is not None and told.acknowledged.at >= said.at:
            return told
        await asyncio.sleep(_POLL_S)
    return None


async def _read_breaches(bus: Bus) -> list[Breach]:
    """The last word on every subject; what is no breach is passed over."""
    found = []
    for message in await read_last(bus.js, bus.subjects.stream("BREACHES"), bus.subjects.breach("*", "*", "*")):
        try:
            found.append(BreachEvent.model_validate_json(message.data).data)
        except ValidationError:
            continue
    return found


async def _read_silences(bus: Bus) -> list[tuple[Silence, int]]:
    """The last word on every silence, with its sequence."""
    found = []
    for message in await read_last(bus.js, bus.subjects.stream("ATTENTION"), bus.subjects.silence("*")):
        try:
            found.append((Silence.model_validate_json(message.data), int(message.metadata.sequence.stream)))
        except ValidationError:
            continue
    return found


async def _answered(asked: Awaitable[T]) -> T:
    """What the bus answers; ``TransientError`` when it does not."""
    try:
        return await asked
    except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
        raise TransientError(f"the bus did not keep or tell it: {error or type(error).__name__}") from error


def _body(said: Silence | Acknowledge) -> bytes:
    return said.model_dump_json().encode()
