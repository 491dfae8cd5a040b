"""The generator worker: presence, the runs it hears of, its share of each, and coordination where it has the lease."""

import asyncio
import gc
import logging
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from faststream import AckPolicy
from faststream.nats import JStream
from faststream.nats.annotations import NatsMessage
from faststream.nats.subscriber.usecases.basic import LogicSubscriber
from nats.errors import Error as NatsError
from nats.js.api import ConsumerConfig, DeliverPolicy
from nats.js.errors import APIError
from nats.js.kv import KeyValue
from pydantic import TypeAdapter, ValidationError

from services.generator.broker_clock import BrokerClock
from services.generator.coordinator import Coordinator, Plans
from services.generator.leftovers import publish_leftovers
from services.generator.membership import Membership
from services.generator.registry import Registry
from services.generator.run_share import RunShare
from services.generator.settings import SECRET_PREFIX, GeneratorSettings
from services.generator.tracing import Recorder
from services.generator.vitals import Vitals
from shared.bus import Bus, open_bus
from shared.clock import Anchor, wall_us
from shared.config import describe
from shared.contracts.breach import BreachEvent
from shared.contracts.run import RunDesired, RunState, WorkerProgress
from shared.errors import ConfigError
from shared.http import HttpDoor
from shared.lease import RENEW_S, Lease
from shared.reading import lost_consumer, raw_body
from shared.secrets import read_secrets
from shared.service import pause, run_until
from shared.telemetry import batch_processor

WORDS = TypeAdapter(list[WorkerProgress])
TICK_S = 0.25
EARS_S = 5.0
# How long frames may wait for the broker before they are left on disk: when a run ends, and when the process does.
PUBLISH_S, CLOSE_S = 20.0, 2.0
# How long the last requests of a worker that is stopped may take to be answered.
LEAVE_S = 3.0
logger = logging.getLogger(__name__)


async def serve(settings: GeneratorSettings, stop: asyncio.Event) -> None:
    """Run one worker until ``stop``; its share of running runs is handed over to the others."""
    secrets = read_secrets(SECRET_PREFIX)
    # Requests leave no cycles behind; looking for them at the usual rate makes the loop late.
    # The thread that exports spans may hold up what is due no longer than this.
    sys.setswitchinterval(0.0005)
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    async with AsyncExitStack() as stack:
        ready: list[str] = ["starting"]
        await stack.enter_async_context(HttpDoor(settings.http_host, settings.http_port, lambda: ready))
        bus = await stack.enter_async_context(open_bus(settings.nats_url, settings.environment, settings.worker_id))
        spans = batch_processor(settings.otlp_endpoint) if settings.otlp_endpoint else None
        if spans is not None:
            stack.callback(spans.shutdown)
        worker = Worker(settings, bus, await bus.bucket("leases"), Recorder(spans), secrets)
        await worker.open(Plans(await bus.bucket("shards")))
        stack.push_async_callback(worker.close)
        ready.clear()
        await run_until(
            stop,
            [
                worker.vitals.watch(),
                worker.clock.watch(),
                worker.run(stop),
                worker.mind_ears(),
                publish_leftovers(bus.js, worker.spool_dir),
            ],
        )


class Worker:
    """One generator process: a presence lease, and a ``RunShare`` for each active run."""

    def __init__(
        self, settings: GeneratorSettings, bus: Bus, leases: KeyValue, recorder: Recorder, secrets: Mapping[str, str]
    ) -> None:
        self.vitals, self.clock = Vitals(), BrokerClock(bus, leases, settings.worker_id)
        self._anchor = Anchor.now()
        self._settings, self._bus, self._leases, self._recorder = settings, bus, leases, recorder
        self._secrets = secrets
        self._registry = Registry()
        self._members = Membership()
        self._presence = Lease(leases, f"worker.{settings.worker_id}")
        self._shares: dict[str, RunShare] = {}
        self._ending: dict[str, asyncio.Task[None]] = {}
        self._killed: dict[str, str] = {}
        self._wake = asyncio.Event()
        self._renew_at = self._coordinate_at = 0.0
        self._ears: list[LogicSubscriber[Any]] = []
        self.spool_dir = settings.spool_dir / settings.environment

    async def open(self, plans: Plans) -> None:
        """Take the presence lease and listen; ``ConfigError`` when another process has this worker's name."""
        self._plans = plans
        self._coordinator = Coordinator(
            self._bus, self._settings.worker_id, plans, self._leases, self._registry, self._members
        )
        self._listen()
        await self._bus.broker.start()
        for _ in range(12):
            if await self._presence.acquire(self._words()):
                return
            await asyncio.sleep(0.5)
        raise ConfigError(
            f"TIDEGATE_WORKER_ID={self._settings.worker_id!r}: another live worker has this name; choose another"
        )

    def _listen(self) -> None:
        subjects, broker = self._bus.subjects, self._bus.broker
        runs = JStream(subjects.stream("RUNS"), declare=False)
        breaches = JStream(subjects.stream("BREACHES"), declare=False)

        async def hear_desired(message: NatsMessage) -> None:
            self._hear(RunDesired, message.body, message.raw_message.subject)

        async def hear_state(message: NatsMessage) -> None:
            self._hear(RunState, message.body, message.raw_message.subject)

        async def hear_worker(message: NatsMessage) -> None:
            worker = message.raw_message.subject.rsplit(".", 1)[-1]
            if "KV-Operation" in (message.headers or {}):
                self._members.leave(worker)
            elif message.body and self._members.hear(worker, WORDS.validate_json(message.body), wall_us()):
                # Stripes are free: whoever may have them takes them now, not at its next turn.
                self._wake.set()

        async def hear_breach(message: NatsMessage) -> None:
            try:
                self._registry.hear_breach(BreachEvent.model_validate_json(message.body).data)
            except ValidationError as error:
                logger.error("ignored %s: %s", message.raw_message.subject, describe(error))  # noqa: TRY400

        for handler, stream, subject in (
            (hear_desired, runs, subjects.run_desired("*")),
            (hear_state, runs, subjects.run_state("*")),
            (hear_breach, breaches, subjects.breach("*", "*", "*")),
        ):
            # A configuration of its own for each: the client writes the subscriber's subjects into it.
            config = ConsumerConfig(deliver_policy=DeliverPolicy.LAST_PER_SUBJECT, inactive_threshold=60.0)
            ear = broker.subscriber(
                subject, stream=stream, config=config, decoder=raw_body, ack_policy=AckPolicy.NACK_ON_ERROR
            )
            ear(handler)
            self._ears.append(ear)

        async def hear_kill(message: NatsMessage) -> None:
            reason = bytes(message.body).decode("utf-8", "replace") or "no reason given"
            logger.warning("kill switch: %s", reason)
            # Runs of which this worker has no share yet are meant too.
            self._killed = dict.fromkeys(self._registry.active(), f"stopped by the kill switch: {reason}")
            for run, share in self._shares.items():
                self._refuse_killed(run, share)

        broker.subscriber(subjects.kill, decoder=raw_body, no_reply=True)(hear_kill)
        presence = f"$KV.{subjects.bucket('leases')}.worker.*"
        # Renewals carry the reply subject of their publisher; an answer of ours there would pass for the broker's.
        broker.subscriber(presence, decoder=raw_body, no_reply=True)(hear_worker)

    async def mind_ears(self) -> None:
        """Make a consumer anew that the server gave up (it does while a client is away for long), until cancelled."""
        while True:
            await asyncio.sleep(EARS_S)
            for ear in self._ears:
                try:
                    if ear.subscription is None or await lost_consumer(ear):
                        logger.warning("a consumer of runs is gone, making another")
                        await ear.stop()
                        await ear.start()
                except (NatsError, APIError, TimeoutError) as error:
                    logger.debug("cannot tell whether runs are heard: %s", error)

    def _refuse_killed(self, run: str, share: RunShare) -> None:
        if run in self._killed and share.desired.status != "stopped":
            share.refuse(self._killed[run])

    def _hear(self, kind: type[RunDesired] | type[RunState], body: bytes, subject: str) -> None:
        try:
            heard = kind.model_validate_json(body)
        except ValidationError as error:
            logger.error("ignored %s: %s", subject, describe(error))  # noqa: TRY400
            return
        if isinstance(heard, RunDesired):
            self._registry.hear_desired(heard)
            self._act_now()
        else:
            if self._registry.get(heard.run).state is None:
                self._act_now()
            self._registry.hear_state(heard)

    def _act_now(self) -> None:
        """Say what is so and move runs on at once, instead of at the next second."""
        self._renew_at = self._coordinate_at = 0.0
        self._wake.set()

    def _speak_now(self) -> None:
        self._renew_at = 0.0
        self._wake.set()

    def _words(self) -> bytes:
        skew_ms = self.clock.skew_ms
        return WORDS.dump_json([share.progress(skew_ms) for share in self._shares.values()])

    async def run(self, stop: asyncio.Event) -> None:
        """Presence, coordination and shares, each quarter second or when a run's desired state changes."""
        loop = asyncio.get_running_loop()
        while not stop.is_set():
            now = loop.time()
            self._wake.clear()
            if now >= self._renew_at:
                self._renew_at = now + RENEW_S - 0.05
                await self._renew_presence()
            if now >= self._coordinate_at:
                self._coordinate_at = now + RENEW_S - 0.05
                await self._coordinator.tick()
            await self._tend_shares()
            await self._nap(stop, TICK_S)

    async def _nap(self, stop: asyncio.Event, seconds: float) -> None:
        waits = [asyncio.ensure_future(self._wake.wait()), asyncio.ensure_future(pause(stop, seconds))]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)

    async def _renew_presence(self) -> None:
        now = Anchor.now()
        if self._anchor.stepped(now):
            logger.warning("the wall clock stepped by %+.3f s; starting a new epoch", self._anchor.step_us(now) / 1e6)
            self._anchor = now
            self.clock.forget()
            await self._presence.release()
        words = self._words()
        past = [run for run, share in self._shares.items() if share.drained and share.epoch != self._presence.epoch]
        if await self._presence.renew(words):
            # The first words of a new epoch are the last of the old one: what was drained is not lost.
            await asyncio.gather(*(self._end(run, PUBLISH_S) for run in past))
        elif self._presence.lost:
            logger.warning("presence is to be taken anew, in a new epoch")
            for share in self._shares.values():
                share.begin_drain(at_once=True, graceful_s=0.0)
            await self._presence.acquire(words)

    async def _tend_shares(self) -> None:
        active = self._registry.active()
        for run, share in list(self._shares.items()):
            known = self._registry.get(run)
            if known.desired is not None:
                share.want(known.desired)
            if run not in active and run not in self._ending:
                self._ending[run] = asyncio.ensure_future(self._end(run, PUBLISH_S))
        if not self._presence.held:
            return
        now_us = wall_us()
        live = self._members.live(now_us) | {self._settings.worker_id}
        for run, known in active.items():
            # Until its coordinator has spoken nothing tells a new run from one that ended long ago.
            if known.desired is None or known.state is None or run in self._ending:
                continue
            try:
                await self._tend(run, known.desired, live, self._members.claims(run, now_us))
            except (NatsError, APIError, TimeoutError) as error:
                logger.warning("share of run %s left as it is: %s", run, error or type(error).__name__)

    async def _tend(self, run: str, desired: RunDesired, live: set[str], claims: Mapping[str, tuple[int, ...]]) -> None:
        share = self._shares.get(run)
        if share is None:
            plan = await self._plans.read(run)
            if plan is None:
                return
            share = RunShare(
                self._bus,
                self._settings.worker_id,
                self._presence.epoch,
                desired,
                plan,
                self._leases,
                self.vitals,
                self._recorder,
                self.spool_dir,
                self._settings.memory_limit_mb * 1024 * 1024,
                self._speak_now,
            )
            self._shares[run] = share
            share.compile(self._secrets, self._settings)
            self._refuse_killed(run, share)
        if share.over:
            at_once = desired.status == "stopped" or bool(share.refused)
            share.begin_drain(at_once=at_once, graceful_s=self._settings.graceful_stop_s)
        await share.balance(live, claims)

    async def _end(self, run: str, publish_s: float) -> None:
        share = self._shares.get(run)
        if share is None:
            return
        await share.drain(at_once=True, graceful_s=0.0, publish_s=publish_s)
        await share.close()
        self._shares.pop(run, None)
        self._ending.pop(run, None)

    async def close(self) -> None:
        """Hand everything over: drain the shares, then give back coordination and presence."""
        for task in self._ending.values():
            task.cancel()
        await asyncio.gather(*self._ending.values(), return_exceptions=True)
        for share in self._shares.values():
            share.leaving = True
        await asyncio.gather(*(share.hand_over(share.stripes) for share in self._shares.values()))
        # The others hear of it now, and need not wait until everything is answered and published.
        await self._presence.renew(self._words())
        graceful_s = min(self._settings.graceful_stop_s, LEAVE_S)
        await asyncio.gather(
            *(share.drain(at_once=False, graceful_s=graceful_s, publish_s=CLOSE_S) for share in self._shares.values())
        )
        # The last word tells the coordinator that nothing was lost with this worker.
        await self._presence.renew(self._words())
        await asyncio.gather(*(self._end(run, 0.0) for run in list(self._shares)))
        await asyncio.gather(self._coordinator.close(), self._presence.release())
