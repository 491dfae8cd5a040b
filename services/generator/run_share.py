"""This worker's share of one run: the stripes it holds, their frames, and the end of both."""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path

from nats.js.kv import KeyValue

from services.generator.alarms import Alarms
from services.generator.backpressure import reason_to_stop
from services.generator.caps import Caps, check_limits
from services.generator.closed_load import ClosedLoad
from services.generator.compiled import compile_run
from services.generator.coordination import Plan
from services.generator.event_stream import MAX_EVENTS, EventStream
from services.generator.http1_transport import Http1Transport
from services.generator.open_load import OpenLoad
from services.generator.publisher import Publisher
from services.generator.shards import quota, to_acquire, to_release
from services.generator.stripe import HALT_GRACE_S, Stripe
from services.generator.trace_budget import TraceBudget
from services.generator.tracing import Recorder, Tracing
from services.generator.transport import Transport
from services.generator.vitals import Vitals
from shared import metrics
from shared.bus import Bus
from shared.clock import Anchor, monotonic_us
from shared.contracts.client import Client
from shared.contracts.run import RunDesired, SystemProgress, WorkerProgress
from shared.errors import ConfigError
from shared.lease import Lease
from shared.service import end_all

FRAME_S = 0.2
HEARTBEAT_S = 1.0
# A little more often than each second: with ticks of a quarter it is each second at the latest.
RENEW_EVERY_US = 700_000
SIGN_INS_AT_ONCE = 10
# How long requests in flight may take to end on a stripe that another worker carries by now.
SEE_OFF_S = 10.0
logger = logging.getLogger(__name__)


class RunShare:
    """Carries stripes of a run from its plan to its drained end. Implements ``user.Share`` for its users.

    ``epoch`` is that of the worker's presence lease: a worker that lost its presence starts a new one, so that its
    frames of before and after can never be taken for each other. ``put_down`` is called when stripes became free for
    others, ``leaving`` is set when this worker is to take none any more.
    """

    def __init__(
        self, bus: Bus, worker: str, epoch: int, desired: RunDesired, plan: Plan, leases: KeyValue, vitals: Vitals,
        recorder: Recorder, spool_dir: Path, memory_limit_bytes: int, put_down: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self.run = desired.run
        self.seed = desired.seed
        self.epoch = epoch
        self._desired = desired
        self.refused = ""
        self.leaving = False
        self._faults: frozenset[str] = frozenset()
        self._draining: asyncio.Task[None] | None = None
        self._worker, self._plan, self._leases, self._vitals = worker, plan, leases, vitals
        self._anchor = Anchor.now()
        self.start_us = self._anchor.to_monotonic_us(plan.start_us)
        self._streams: dict[str, EventStream] = {}
        self._counted: dict[str, int] = {}
        self._renewed_us = 0
        self._stripes: dict[int, Stripe] = {}
        self._seen_off: set[Stripe] = set()
        self._handing: set[asyncio.Task[None]] = set()
        self._put_down = put_down
        self._loads: list[ClosedLoad | OpenLoad] = []
        self._trace_budget = TraceBudget(0.0, monotonic_us())
        self._transports: dict[str, Transport] = {}
        self.tracing = Tracing(recorder, desired.run, self._trace_budget)
        self.sign_ins = asyncio.Semaphore(SIGN_INS_AT_ONCE)
        self.alarms = Alarms()
        spool = spool_dir / f"{worker}-{desired.run}-{epoch}.spool"
        self._publisher = Publisher(bus.js, bus.subjects, spool, memory_limit_bytes)
        self._memory_limit_bytes = memory_limit_bytes
        self._tasks = [asyncio.ensure_future(self._publisher.run()), asyncio.ensure_future(self._cut_frames())]

    def compile(self, secrets: Mapping[str, str], caps: Caps) -> None:
        """Make the run ready to send; what is wrong with it refuses the run with one line."""
        self._caps = caps
        try:
            check_limits(self.desired, caps)
            for compiled in compile_run(self.desired, secrets, self.stream, caps.flow_modules):
                kind = ClosedLoad if compiled.load.rate is None else OpenLoad
                transport = partial(self._transport, compiled.scenario.client)
                self._loads.append(kind(compiled, self, transport, self.desired.pauses))
        except (ConfigError, ValueError) as error:
            self.refuse(str(error))

    def _transport(self, client: Client) -> Transport:
        """What sends a scenario's requests: one for all its users, or one for each where they keep cookies."""
        key = f"{client.model_dump_json()}{len(self._transports) if client.cookies else ''}"
        if key not in self._transports:
            if client.transport == "http1":
                self._transports[key] = Http1Transport(connections=client.connections, verify_tls=client.verify_tls)
            else:
                # Loaded where a scenario asks for it: it costs each worker 20 MB.
                from services.generator.aiohttp_transport import AiohttpTransport

                allowed = self._caps.allowed_hosts.intersection(self._desired.allowed_hosts)
                self._transports[key] = AiohttpTransport(client, allowed)
        return self._transports[key]

    @property
    def desired(self) -> RunDesired:
        return self._desired

    def want(self, desired: RunDesired) -> None:
        """Take over a newer desired state: other numbers, pauses, or an end."""
        if desired.generation <= self._desired.generation:
            return
        try:
            check_limits(desired, self._caps)
        except ConfigError as error:
            logger.error("run %s: %s; its loads are left as they are", self.run, error)  # noqa: TRY400
            desired = desired.model_copy(update={"loads": self._desired.loads})
        self._desired = desired
        if desired.status == "stopped":
            self.close_gates()
            return
        for load, wanted in zip(self._loads, desired.loads, strict=False):
            load.reshape(wanted, desired.pauses)

    def elapsed_s(self) -> float:
        return (monotonic_us() - self.start_us) / 1e6

    def stream(self, system: str) -> EventStream:
        if system not in self._streams:
            self._streams[system] = EventStream(self.run, self._worker, self.epoch, system, self._anchor)
        return self._streams[system]

    def refuse(self, reason: str) -> None:
        """The run cannot go on because of what was asked; said once, and nothing more is sent."""
        if not self.refused:
            self.refused = reason
            logger.error("run %s refused: %s", self.run, reason)
            self.close_gates()

    def fault_of_code(self, step: str) -> bool:
        """Code of the user's raised something of its own; True the first time, when it is worth a traceback."""
        known, self._faults = step in self._faults, self._faults | {step}
        return not known

    def close_gates(self) -> None:
        """Let no request begin any more; what is in flight may end."""
        for stripe in self._ending_or_held():
            stripe.close_gate()

    def _ending_or_held(self) -> set[Stripe]:
        return self._seen_off.union(self._stripes.values())

    @property
    def stripes(self) -> tuple[int, ...]:
        return tuple(sorted(self._stripes))

    @property
    def over(self) -> bool:
        """Its time has passed, it was stopped, or it was refused."""
        return self.desired.status == "stopped" or bool(self.refused) or self.elapsed_s() >= self.desired.duration_s

    @property
    def drained(self) -> bool:
        """Nothing is sent any more and the broker has kept every frame."""
        return self._draining is not None and self._draining.done() and self._publisher.idle

    def progress(self, clock_skew_ms: float | None) -> WorkerProgress:
        systems = tuple(
            SystemProgress(
                system=name,
                sent=stream.sent,
                acknowledged=self._publisher.acknowledged[name],
                in_flight=stream.in_flight,
                last_seq=self._publisher.last_seq[name],
            )
            for name, stream in self._streams.items()
        )
        return WorkerProgress(
            worker=self._worker,
            run=self.run,
            epoch=self.epoch,
            users=sum(load.users(stripe) for stripe in self._stripes.values() for load in self._loads),
            shards=self.stripes,
            systems=systems,
            drained=self.drained,
            last_ack_us=self._publisher.last_ack_us,
            clock_skew_ms=clock_skew_ms,
            loop_lag_ms=self._vitals.loop_lag_us / 1000,
            backlog_events=self._publisher.backlog_events,
            spooled_events=self._publisher.spooled_events,
            held_back=self._publisher.backpressure.times,
            refused=self.refused,
            leaving=self.leaving,
        )

    async def balance(self, live: set[str], claims: Mapping[str, tuple[int, ...]]) -> None:
        """Renew what is held, give back what others should carry, take what is free."""
        now_us = monotonic_us()
        if now_us - self._renewed_us >= RENEW_EVERY_US:
            self._renewed_us = now_us
            await asyncio.gather(*(stripe.lease.renew(self._claim(n)) for n, stripe in self._stripes.items()))
        lost = [stripe for stripe in self._stripes.values() if stripe.lease.lost]
        if lost:
            logger.warning("%d stripes of run %s lost to other workers", len(lost), self.run)
            await asyncio.gather(*(stripe.halt(0.0) for stripe in lost))
            self._forget(lost, lost=True)
        if self.over or self._draining is not None or self.leaving or not self._loads:
            return
        allowed = quota(self._worker, live, self._plan.shards)
        going = [n for n in to_release(self._stripes, allowed) if not self._stripes[n].halted]
        if going:
            handing = asyncio.ensure_future(self.hand_over(going))
            self._handing.add(handing)
            handing.add_done_callback(self._handing.discard)
        for number in to_acquire(self._worker, self._stripes, claims, self._plan.shards, allowed):
            lease = Lease(self._leases, f"shard.{self.run}.{number}")
            if await lease.acquire(self._claim(number)):
                if self.over:
                    await lease.release()
                    break
                limits = self.desired.limits.within(self._caps.max_rate, self._caps.max_requests)
                stripe = Stripe(number, self._plan.shards, lease, self, limits)
                self._stripes[number] = stripe
                for load in self._loads:
                    load.add(stripe)
        self._trace_budget.per_second = self.desired.traces_per_s * len(self._stripes) / self._plan.shards
        metrics.SHARDS_HELD.set(len(self._stripes))

    async def hand_over(self, numbers: Collection[int]) -> None:
        """Give stripes back; returns when others may have them. Requests in flight on them may still end.

        Arrivals go on elsewhere at once. A user who repeats its scenario is never in two places: its requests get a
        moment to end before, and are cancelled after it.
        """
        stripes = [self._stripes[number] for number in numbers]
        for stripe in stripes:
            stripe.close_gate()
        if any(isinstance(load, ClosedLoad) for load in self._loads):
            await asyncio.gather(*(stripe.finish(HALT_GRACE_S) for stripe in stripes))
        self._seen_off.update(stripes)
        await asyncio.gather(*(stripe.give_back() for stripe in stripes))
        self._forget(stripes, lost=False)
        self._put_down()
        seeing_off = asyncio.ensure_future(self._see_off(stripes))
        self._handing.add(seeing_off)
        seeing_off.add_done_callback(self._handing.discard)

    async def _see_off(self, stripes: list[Stripe]) -> None:
        await asyncio.gather(*(stripe.finish(SEE_OFF_S) for stripe in stripes))
        self._seen_off.difference_update(stripes)

    def _forget(self, stripes: list[Stripe], *, lost: bool) -> None:
        for stripe in stripes:
            self._stripes.pop(stripe.number, None)
            for load in self._loads:
                load.remove(stripe, lost=lost)

    def _claim(self, number: int) -> bytes:
        return f"{self._worker}/{self.epoch}/{number}".encode()

    async def _cut_frames(self) -> None:
        pause_s = FRAME_S
        while True:
            await asyncio.sleep(pause_s)
            now_us = monotonic_us()
            most = max((stream.pending for stream in self._streams.values()), default=0)
            # A frame as soon as it is full: many cut at once would hold up what is due meanwhile.
            pause_s = min(FRAME_S, max(pause_s * MAX_EVENTS / max(most, 1), FRAME_S / 10))
            self._mind_backpressure()
            for stream in list(self._streams.values()):
                if stream.pending or now_us - stream.last_cut_us >= HEARTBEAT_S * 1e6:
                    self._cut(stream, now_us)

    def _mind_backpressure(self) -> None:
        waiting = self._publisher
        limits, most = self.desired.limits, self._memory_limit_bytes
        if reason := reason_to_stop(limits, waiting.spooled_events, waiting.unspooled_bytes, most):
            self.refuse(reason)

    def _cut(self, stream: EventStream, now_us: int, *, final: bool = False) -> None:
        health = self._vitals.health(self._publisher.backlog_events, self._publisher.spooled_events)
        for frame in stream.cut(now_us, health, at_fault=self._vitals.at_fault, final=final):
            self._publisher.put(frame)
        metrics.REQUESTS_SENT.labels(stream.system).inc(stream.sent - self._counted.get(stream.system, 0))
        self._counted[stream.system] = stream.sent

    def begin_drain(self, *, at_once: bool, graceful_s: float) -> "asyncio.Task[None]":
        """Begin to end every stripe and to cut the last frames; once, however often it is called.

        ``at_once``: iterations are not finished, requests in flight have a moment.
        """
        if self._draining is None:
            self._draining = asyncio.ensure_future(self._drain(at_once, graceful_s))
        elif at_once:
            self.close_gates()
        return self._draining

    async def drain(self, *, at_once: bool, graceful_s: float, publish_s: float) -> None:
        """``begin_drain``, then give the broker ``publish_s`` to keep every frame; ``drained`` tells whether it did."""
        draining = self.begin_drain(at_once=at_once, graceful_s=graceful_s)
        if at_once:
            await asyncio.gather(*(stripe.halt() for stripe in self._ending_or_held()))
        await asyncio.shield(draining)
        await self._publisher.drain(publish_s)

    async def _drain(self, at_once: bool, graceful_s: float) -> None:
        for load in self._loads:
            load.end()
        ending = self._ending_or_held()
        await asyncio.gather(*(stripe.halt() if at_once else stripe.finish(graceful_s) for stripe in ending))
        while self._handing:
            await asyncio.wait(self._handing)
        stripes = list(self._stripes.values())
        self._stripes.clear()
        metrics.SHARDS_HELD.set(0)
        now_us = monotonic_us()
        for load in self._loads:
            load.refuse_line(now_us)
        for stream in self._streams.values():
            self._cut(stream, now_us, final=True)
        self._tasks[1].cancel()
        await asyncio.gather(*(stripe.give_back() for stripe in stripes))

    async def close(self) -> None:
        """Stop everything; what was not acknowledged stays on disk."""
        await end_all(self._tasks)
        self._publisher.keep()
        self.alarms.close()
        await asyncio.gather(*(transport.close() for transport in self._transports.values()))
