"""What an operator asks of the scaler: kept on the bus (ORDERS), and answered by the record that it was taken."""

import asyncio
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from pydantic import ValidationError

from services.console.backing import Backing
from services.console.connecting import connected
from shared.bus import Bus, publish_now
from shared.contracts.scaling import ScalingRecord
from shared.contracts.scaling_orders import LONGEST, ScalingOrder
from shared.errors import ConfigError, TransientError, closest
from shared.reading import read_last

TAKEN_WITHIN_S = 5.0
"""A scaler that is up takes an order within 2 s, and a standby leads within 5 s of the leader's end."""
DECIDED_WITHIN_S = 3.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a scaler said to an order: ``taken`` None when none answered; the decision it led to, where one came."""

    order: ScalingOrder
    taken: ScalingRecord | None = None
    decision: ScalingRecord | None = None


def new_order(
    environment: str, service: str, kind: str, by: str, reason: str, *, replicas: int | None, lasts_s: float | None
) -> ScalingOrder:
    """An order that begins now. ``ConfigError`` for a name that no service can have, or a time that none can last."""
    now = datetime.now(UTC)
    if lasts_s is not None and not 0 < lasts_s <= LONGEST.total_seconds():
        raise ConfigError(f"--for: {lasts_s:g} s is outside 1s to {LONGEST.days}d; give another order then")
    try:
        return ScalingOrder.model_validate(
            {
                "id": f"o{secrets.token_hex(6)}",
                "environment": environment,
                "service": service,
                "kind": kind,
                "replicas": replicas,
                "expires_at": None if lasts_s is None else now + timedelta(seconds=lasts_s),
                "by": by,
                "reason": reason,
                "at": now,
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{'.'.join(map(str, first['loc'])) or 'order'}: {first['msg']}") from error


async def give(backing: Backing, order: ScalingOrder, known: Iterable[str]) -> Answer:
    """Have an order kept, and wait for what the scaler says to it.

    ``known``: configured services; those with a record on the bus are known too. ``ConfigError`` for any other, and for
    an order that the scaler refuses.
    """
    async with connected(backing) as bus:
        heard: asyncio.Queue[Msg] = asyncio.Queue()
        try:
            await _check_service(bus, order.service, known)
            await bus.client.subscribe(bus.subjects.scaling(order.service), cb=heard.put)
            await bus.client.flush()
            headers = {"Content-Type": "application/json", "Nats-Msg-Id": order.id}
            subject = bus.subjects.order(order.service, "replicas")
            await publish_now(bus.js, subject, order.model_dump_json().encode(), headers)
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError) as error:
            raise TransientError(f"the bus did not keep the order: {error or type(error).__name__}") from error
        taken = await _next(heard, order.id, "order", TAKEN_WITHIN_S)
        if taken is None:
            return Answer(order)
        if not taken.ok:
            raise ConfigError(f"refused: {taken.error}")
        waits = order.kind != "resume"
        return Answer(order, taken, await _next(heard, order.id, "decision", DECIDED_WITHIN_S) if waits else None)


async def _check_service(bus: Bus, service: str, known: Iterable[str]) -> None:
    names = set(known)
    if service in names:
        return
    told = await read_last(bus.js, bus.subjects.stream("SCALING"), bus.subjects.scaling("*"))
    names |= {message.subject.rpartition(".")[2] for message in told}
    if service not in names:
        raise ConfigError(f"unknown service {service!r}{closest(service, names)}; known: {', '.join(sorted(names))}")


async def _next(heard: "asyncio.Queue[Msg]", order: str, kind: str, within_s: float) -> ScalingRecord | None:
    """The next record of a kind that names the order; None when it does not come in time."""
    try:
        async with asyncio.timeout(within_s):
            while True:
                try:
                    record = ScalingRecord.model_validate_json((await heard.get()).data)
                except ValidationError:
                    continue
                if record.kind == kind and record.order == order:
                    return record
    except TimeoutError:
        return None
