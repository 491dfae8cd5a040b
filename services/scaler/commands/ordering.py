"""Asks the scaler to carry out steps of a plan, and follows what it makes of them."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError
from pydantic import ValidationError

from services.scaler.resources.outcome import OVER, State, outcome_of
from services.scaler.resources.plan import Step
from shared.bus import Bus, open_bus, publish_now
from shared.contracts.scaling import ScalingRecord
from shared.contracts.scaling_orders import ScalingOrder
from shared.errors import TransientError

CONNECT_S = 10.0
ANSWERED_WITHIN_S = 6.0
"""A scaler that is up says something within 2 s, and a standby leads within 5 s of the leader's end."""
TAKEN_BACK_WITHIN_S = 5.0
"""What failed is taken back within this where there is anything to take back."""
SILENT_S = 600.0
"""Longest wait for the next word of what has begun: what the rules usually allow a resize is well below."""
Tell = Callable[[ScalingOrder, State, str], None]


def new_order(environment: str, plan: str, step: Step, by: str, reason: str, lasts: timedelta) -> ScalingOrder:
    """One update of one service."""
    now = datetime.now(UTC)
    return ScalingOrder(
        id=f"a{secrets.token_hex(6)}",
        environment=environment,
        service=step.service,
        kind="apply",
        plan=plan,
        items=tuple(item.id for item in step.items),
        from_sizes=step.from_sizes,
        sizes=step.sizes,
        by=by,
        reason=reason,
        at=now,
        expires_at=now + lasts,
    )


async def carry_out(
    nats_url: str, environment: str, orders: Sequence[ScalingOrder], tell: Tell
) -> dict[str, tuple[State, str] | None]:
    """Have the orders kept and wait until all are over, or nothing more is said; by id what became of each, None where
    no scaler spoke of it.

    ``tell`` hears every change. ``TransientError`` when the bus does not keep them.
    """
    async with connected(nats_url, environment, "optimize") as bus:
        heard: asyncio.Queue[Msg] = asyncio.Queue()
        try:
            for service in {order.service for order in orders}:
                await bus.client.subscribe(bus.subjects.scaling(service), cb=heard.put)
            await bus.client.flush()
            for order in orders:
                headers = {"Content-Type": "application/json", "Nats-Msg-Id": order.id}
                subject = bus.subjects.order(order.service, "sizes")
                await publish_now(bus.js, subject, order.model_dump_json().encode(), headers)
        except (NatsError, JetStreamError, TimeoutError) as error:
            raise TransientError(f"the bus did not keep the orders: {error or type(error).__name__}") from error
        return await _follow(orders, heard, tell)


async def _follow(
    orders: Sequence[ScalingOrder], heard: "asyncio.Queue[Msg]", tell: Tell
) -> dict[str, tuple[State, str] | None]:
    known: dict[str, tuple[State, str] | None] = dict.fromkeys(order.id for order in orders)
    records: dict[str, list[ScalingRecord]] = {order.service: [] for order in orders}
    begun_s = time.monotonic()
    while True:
        failed = [one for one in known.values() if one is not None and one[0] == "failed"]
        going_on = [one for one in known.values() if one is None or one[0] not in OVER]
        if not going_on and not failed:
            return known
        silent = all(one is None for one in known.values())
        wait_s = ANSWERED_WITHIN_S - (time.monotonic() - begun_s) if silent else _patience_s(orders, known)
        if not going_on:
            wait_s = TAKEN_BACK_WITHIN_S
        try:
            async with asyncio.timeout(wait_s):
                message = await heard.get()
        except TimeoutError:
            return known
        try:
            record = ScalingRecord.model_validate_json(message.data)
        except ValidationError:
            continue
        records.setdefault(record.service, []).append(record)
        for order in orders:
            now = outcome_of(order.id, records[order.service])
            if now is not None and now != known[order.id]:
                known[order.id] = now
                tell(order, *now)


def _patience_s(orders: Sequence[ScalingOrder], known: dict[str, tuple[State, str] | None]) -> float:
    """Longest wait for the next word: what has not begun may be silent until its time is over, and that is told."""
    waiting = [order for order in orders if (state := known[order.id]) is None or state[0] == "waits"]
    ends_s = (order.ends_at.timestamp() for order in waiting)
    return max([SILENT_S, *(end_s - time.time() + ANSWERED_WITHIN_S for end_s in ends_s)])


@asynccontextmanager
async def connected(nats_url: str, environment: str, name: str) -> AsyncIterator[Bus]:
    """A bus that answers; ``TransientError`` when it does not within ``CONNECT_S``."""
    async with AsyncExitStack() as opened:
        try:
            async with asyncio.timeout(CONNECT_S):
                bus = await opened.enter_async_context(open_bus(nats_url, environment, name))
        except (NatsError, OSError, TimeoutError) as error:
            raise TransientError(f"the bus did not answer within {CONNECT_S:g} s: {error!r}") from error
        yield bus
