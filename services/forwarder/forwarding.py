"""One endpoint's share of BREACHES: read by a durable consumer, sent in the order of each episode, then acknowledged.

Episodes go side by side, the events of one after each other: what one episode's event waits for delays no other. What
was not acknowledged comes again, to this process or to the next; what was told already is then passed over. An event
that is refused, or was tried for ``retry_for``, goes to DEAD and the next one of its episode has its turn.
"""

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Callable

from nats.aio.msg import Msg
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeoutError
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, DeliverPolicy
from nats.js.errors import Error as JetStreamError
from pydantic import ValidationError

from services.forwarder.choosing import told_of, wants
from services.forwarder.http_endpoint import HttpEndpoint
from services.forwarder.retrying import Answer, pause_s
from services.forwarder.told_bucket import ToldBucket
from shared import metrics
from shared.bus import Bus
from shared.contracts.breach import BreachEvent
from shared.dead_letters import bury

ACK_WAIT_S = 30.0
STILL_HERE_S = 10.0
MOST_PENDING = 64
FETCH_S = 2.0
RETRY_S = 1.0
KEPT_CONSUMER_S = 7 * 86_400.0
"""How long the broker keeps the place of an endpoint that nobody forwards to."""

logger = logging.getLogger(__name__)


class Forwarding:
    """``may_act`` is asked before anything is fetched or sent: of several forwarders one acts."""

    def __init__(self, bus: Bus, http: HttpEndpoint, told: ToldBucket, may_act: Callable[[], bool]) -> None:
        self._bus, self._http, self._told, self._may_act = bus, http, told, may_act
        self._name = http.endpoint.name
        self._lanes: dict[str, deque[tuple[Msg, BreachEvent]]] = {}
        self._held: dict[int, Msg] = {}
        self._chance = random.Random()

    async def forward(self) -> None:
        """Until cancelled; a broker that is away, or has lost the consumer, is asked again."""
        async with asyncio.TaskGroup() as sending:
            while True:
                try:
                    await self._read(sending)
                except (NatsError, JetStreamError, TimeoutError) as error:
                    if self._bus.client.is_closed:  # nats-py makes of a cancellation an error of its own then
                        raise
                    logger.warning("%s: reading again: %s", self._name, error or type(error).__name__)
                    await asyncio.sleep(RETRY_S)

    async def keep_held(self) -> None:
        """Until cancelled: tell the broker of all that is held that it is still being worked on."""
        while True:
            await asyncio.sleep(STILL_HERE_S)
            if not self._may_act():
                continue  # Another acts: what is held here is given to it once the broker has waited long enough.
            for message in list(self._held.values()):
                try:
                    await message.in_progress()
                except (NatsError, JetStreamError, TimeoutError) as error:
                    logger.debug("%s: %s", self._name, error)

    async def close(self) -> None:
        """Hand back what is still held, so that the next process need not wait for it."""
        for message in self._held.values():
            try:
                await message.nak()
            except (NatsError, JetStreamError, TimeoutError) as error:
                logger.debug("%s: %s", self._name, error)

    async def _read(self, sending: asyncio.TaskGroup) -> None:
        subscription = await self._subscribe()
        try:
            while True:
                _heed_cancellation()
                if not self._may_act() or len(self._held) >= MOST_PENDING:
                    await asyncio.sleep(0.2)
                    continue
                try:
                    messages = await subscription.fetch(MOST_PENDING - len(self._held), timeout=FETCH_S)
                except NatsTimeoutError:
                    # Quiet, or lost: the broker knows.
                    await subscription.consumer_info()
                    continue
                for message in messages:
                    await self._take(message, sending)
        finally:
            await subscription.unsubscribe()

    async def _subscribe(self) -> JetStreamContext.PullSubscription:
        names = self._bus.subjects
        return await self._bus.js.pull_subscribe(
            names.breach("*", "*", "*"),
            durable=f"webhook-{self._name}",
            stream=names.stream("BREACHES"),
            config=ConsumerConfig(
                # An endpoint that is new hears first of what is open now.
                deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
                ack_wait=ACK_WAIT_S,
                max_deliver=-1,
                max_ack_pending=MOST_PENDING,
                inactive_threshold=KEPT_CONSUMER_S,
            ),
        )

    async def _take(self, message: Msg, sending: asyncio.TaskGroup) -> None:
        sequence = int(message.metadata.sequence.stream)
        try:
            event = BreachEvent.model_validate_json(message.data)
        except ValidationError as error:
            await self._bury(message, f"no BreachEvent: {error.errors()[0]['msg']}")
            await message.ack()
            return
        if sequence in self._held:
            # It was given again while it waits here; the newer one is what the broker wants answered.
            self._held[sequence] = message
            return
        self._held[sequence] = message
        lane = self._lanes.get(event.data.breach)
        if lane is not None:
            lane.append((message, event))
            return
        self._lanes[event.data.breach] = deque([(message, event)])
        sending.create_task(self._follow(event.data.breach), name=f"{self._name}-{event.data.breach}")

    async def _follow(self, breach: str) -> None:
        """Send the events of one episode after each other until none is left."""
        lane = self._lanes[breach]
        try:
            while lane:
                message, event = lane[0]
                await self._settle(message, event)
                lane.popleft()
        finally:
            del self._lanes[breach]

    async def _settle(self, message: Msg, event: BreachEvent) -> None:
        """Send one event if it is to be sent, and acknowledge it; tried again for as long as the broker is away."""
        sequence, sent = int(message.metadata.sequence.stream), False
        while True:
            _heed_cancellation()
            if not self._may_act():
                await asyncio.sleep(0.2)
                continue
            try:
                if not sent and wants(self._http.endpoint, event.data, await self._told.read(event.data.breach)):
                    failure = await self._send(message, event)
                    if failure is None:
                        continue
                    if failure:
                        await self._bury(message, failure)
                    else:
                        sent = True
                if sent:
                    await self._told.write(event.data.breach, told_of(event.data))
                await self._held[sequence].ack()
            except (NatsError, JetStreamError, TimeoutError) as error:
                if self._bus.client.is_closed:
                    raise
                logger.warning("%s: %s waits for the broker: %s", self._name, event.id, error or type(error).__name__)
                await asyncio.sleep(RETRY_S)
            else:
                self._held.pop(sequence)
                return

    async def _send(self, message: Msg, event: BreachEvent) -> str | None:
        """Attempts until the event is taken; why it will not be, else nothing. None: another acts meanwhile."""
        endpoint = self._http.endpoint
        began, attempt = time.monotonic(), 0
        while True:
            _heed_cancellation()
            if not self._may_act():
                return None
            attempt += 1
            outcome = await self._http.post(event.id, message.data, (message.headers or {}).get("traceparent", ""))
            metrics.WEBHOOKS.labels(self._name, outcome.answer.value).inc()
            if outcome.answer is Answer.TAKEN:
                logger.info("%s: %s (%s) was taken", self._name, event.id, event.data.told)
                return ""
            if outcome.answer is Answer.REFUSED:
                return f"endpoint {self._name} {outcome.reason}"
            rest_s = pause_s(attempt, self._chance, outcome.retry_after)
            if time.monotonic() - began + rest_s > endpoint.retry_for:
                return f"endpoint {self._name} {outcome.reason}, {attempt} times in {time.monotonic() - began:.0f} s"
            logger.warning("%s: %s %s; again in %.1f s", self._name, event.id, outcome.reason, rest_s)
            await asyncio.sleep(rest_s)

    async def _bury(self, message: Msg, reason: str) -> None:
        metadata = message.metadata
        await bury(
            self._bus,
            f"forwarder-{self._name}",
            subject=message.subject,
            stream=str(metadata.stream),
            sequence=int(metadata.sequence.stream),
            body=message.data,
            reason=reason,
        )


def _heed_cancellation() -> None:
    """Of Python 3.11, ``wait_for`` forgets a cancellation that comes together with its result; nats-py waits by it."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
