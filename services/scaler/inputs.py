"""What the scaler hears - breaches, samples, windows, orders - kept in pure containers, and the facts made of it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from faststream import AckPolicy
from faststream.nats import JStream, NatsMessage
from nats.js.api import AckPolicy as ConsumerAck
from nats.js.api import ConsumerConfig, DeliverPolicy
from pydantic import BaseModel, ValidationError

from services.scaler.candidates import driver_of
from services.scaler.demand import REMEMBERED_S
from services.scaler.effect import ERROR_RATE
from services.scaler.generator import GENERATOR, Workers
from services.scaler.offered import Offered
from services.scaler.open_breaches import OpenBreaches
from services.scaler.orders import Orders
from services.scaler.readings import KEPT_S, SampleWindow
from services.scaler.response_times import ResponseTimes
from services.scaler.situation import LATEST_S, Facts, Observation, Reading
from services.scaler.sizing import CAUSE as SIZING
from services.scaler.sizing import busy_servers
from shared.bus import Bus
from shared.config import describe
from shared.contracts.breach import BreachEvent, BreachStatus
from shared.contracts.resource import ResourceSample
from shared.contracts.run import RunState
from shared.contracts.scaling_orders import ScalingOrder
from shared.contracts.scaling_rules import RULE_METRICS, ScalingRules, ServiceRules, Shape
from shared.contracts.timing import Kind
from shared.contracts.window import FrameWindows
from shared.dead_letters import bury
from shared.reading import raw_body

SERVICE = "scaler"
KEPT_CONSUMER_S = 600.0
"""How long the broker keeps the place of a scaler it cannot reach."""

M = TypeVar("M", bound=BaseModel)


class Inputs:
    """Everything heard so far. ``wake`` is called when a breach opened or changed, so that nobody waits for a tick."""

    def __init__(self, rules: ScalingRules, wake: Callable[[], None]) -> None:
        self._rules = rules
        self._wake = wake
        self.breaches = OpenBreaches()
        self.samples = SampleWindow()
        self.offered = Offered()
        self.times = ResponseTimes()
        self.workers = Workers()
        self.orders = Orders()

    def listen(self, bus: Bus) -> None:
        """Register the subscriptions; they run once the broker is started.

        Each scaler hears everything for itself, a standby too, so that it can take over with what it knows.
        """
        names = bus.subjects
        sized = {service for service, rules in self._rules.services.items() if rules.sizing}

        async def hear_breach(body: bytes, message: NatsMessage) -> None:
            event = await _parse(bus, BreachEvent, body, message)
            if event is not None:
                self.take_breach(message, event)

        async def hear_sample(body: bytes, message: NatsMessage) -> None:
            sample = await _parse(bus, ResourceSample, body, message)
            if sample is not None:
                self.samples.add(sample)
                if sample.service in sized:
                    self.offered.add(sample)

        async def hear_windows(body: bytes, message: NatsMessage) -> None:
            frame = await _parse(bus, FrameWindows, body, message)
            if frame is not None:
                self.take_windows(frame)

        async def hear_run(body: bytes, message: NatsMessage) -> None:
            state = await _parse(bus, RunState, body, message)
            if state is not None:
                self.workers.hear(state)

        async def hear_order(body: bytes, message: NatsMessage) -> None:
            order = await _parse(bus, ScalingOrder, body, message)
            if order is None:
                return
            subject = "sizes" if order.kind == "apply" else "replicas"
            if message.raw_message.subject != names.order(order.service, subject):
                await _bury(bus, body, message, f"{order.kind} of {order.service} stands on a subject of others")
            else:
                self.take_order(message, subject, order)

        for stream, subject, policy, hear in (
            ("BREACHES", names.breach("*", "*", "*"), DeliverPolicy.LAST_PER_SUBJECT, hear_breach),
            ("ORDERS", names.order("*", "*"), DeliverPolicy.ALL, hear_order),
        ):
            kept = ConsumerConfig(
                deliver_policy=policy,
                ack_policy=ConsumerAck.EXPLICIT,
                max_ack_pending=10_000,
                inactive_threshold=KEPT_CONSUMER_S,
            )
            bus.broker.subscriber(
                subject,
                stream=JStream(names.stream(stream), declare=False),
                config=kept,
                ack_policy=AckPolicy.NACK_ON_ERROR,
                decoder=raw_body,
            )(hear)
        for stream, subject, back_s, hear in (
            ("RESOURCES", names.resource("*"), REMEMBERED_S if sized else KEPT_S, hear_sample),
            ("WINDOWS", names.window("*", "*"), KEPT_S, hear_windows),
            ("RUNS", names.run_state("*"), KEPT_S, hear_run),
        ):
            streamed = ConsumerConfig(
                deliver_policy=DeliverPolicy.BY_START_TIME,
                opt_start_time=datetime.now(UTC) - timedelta(seconds=back_s),
                ack_policy=ConsumerAck.NONE,
                inactive_threshold=KEPT_CONSUMER_S,
            )
            bus.broker.subscriber(
                subject,
                stream=JStream(names.stream(stream), declare=False),
                config=streamed,
                ack_policy=AckPolicy.MANUAL,
                decoder=raw_body,
            )(hear)

    def take_breach(self, message: NatsMessage, event: BreachEvent) -> None:
        """Note an event; a redelivered one changes nothing."""
        raw = message.raw_message
        context = (message.headers or {}).get("traceparent", "")
        changed = self.breaches.tell(raw.subject, int(raw.metadata.sequence.stream), event.data, context)
        if changed and event.data.status is not BreachStatus.RESOLVED:
            self._wake()

    def take_order(self, message: NatsMessage, subject: str, order: ScalingOrder) -> None:
        """Note an order and have it looked at; a redelivered one changes nothing."""
        if self.orders.add(subject, int(message.raw_message.metadata.sequence.stream), order):
            self._wake()

    def take_windows(self, frame: FrameWindows) -> None:
        """Note what a frame tells of the systems, and of the generator that sent it."""
        self.times.add(frame)
        for service, rules in self._rules.services.items():
            if rules.system == GENERATOR:
                self.samples.add(self.workers.sample(frame, service))

    def forget(self, now_s: float) -> None:
        """Drop instances that are long gone."""
        self.samples.prune(now_s)

    def facts(self, service: str, now_s: float, observation: Observation | None, unobserved: str) -> Facts:
        """What is so of one service now."""
        rules = self._rules.services[service]
        breaches = tuple(
            breach
            for breach in self.breaches.open()
            if breach.system == rules.system or driver_of(rules, breach) is not None
        )
        readings = {} if observation is None else self._readings(service, rules, now_s, observation.ready)
        return Facts(
            service=service,
            now_s=now_s,
            observation=observation,
            unobserved=unobserved,
            readings=readings,
            demand=self.offered.demand(service, now_s, rules.sizing, observation.ready)
            if rules.sizing and observation
            else None,
            breaches=breaches,
        )

    def measured(self, service: str, begin_s: float, end_s: float) -> dict[str, float]:
        """Measurements of a span for the check of effectiveness, by metric name and ``p95_ms.<system>``."""
        rules = self._rules.services[service]
        values = self.samples.measured(service, begin_s, end_s) | self.times.measured(begin_s, end_s)
        if rules.sizing and (busy := busy_servers(values)) is not None:
            values[SIZING] = busy
        api = next((one.system for one in rules.breaches if one.metric == "api_response_time"), None)
        for name, system in (("response_time", rules.system), ("api_response_time", api or rules.system)):
            if (p95_ms := values.get(f"p95_ms.{system}")) is not None:
                values[name] = p95_ms
        failed = self.times.error_rate(rules.system, begin_s, end_s)
        if failed is not None:
            values[ERROR_RATE] = failed
        for driver in rules.breaches:
            if driver.metric == "workflow_execution_time":
                p95_ms = self.times.p95_ms(driver.system or rules.system, begin_s, end_s, Kind.WORKFLOW)
                if p95_ms is not None:
                    values[driver.metric] = p95_ms
        return values

    def _readings(self, service: str, rules: ServiceRules, now_s: float, ready: int) -> dict[str, Reading]:
        named = {rule.metric for rule in rules.up} | {driver.metric for driver in rules.breaches}
        named |= {condition.metric for condition in rules.down.all_of} if rules.down else set()
        wanted = [name for name in RULE_METRICS if name in named | {"request_rate", "queue_length", "cpu_usage"}]
        readings = {
            name: self.samples.reading(
                service,
                name,
                now_s,
                window_s=rules.tuning.window,
                freshness_s=rules.tuning.freshness,
                ready=ready,
            )
            for name in wanted
            if RULE_METRICS[name].per_replica
        }
        if "response_time" in wanted:
            readings["response_time"] = Reading(
                value=self.times.p95_ms(rules.system, now_s - rules.tuning.window, now_s),
                latest=self.times.p95_ms(rules.system, now_s - LATEST_S, now_s),
                reported=1,
                span_s=self.times.span_s(rules.system, now_s - rules.tuning.window, now_s),
            )
        if rules.system == GENERATOR and not self.workers.busy(now_s):
            return dict.fromkeys(readings, Reading(idle=True))
        quiet = self.samples.no_traffic(readings["request_rate"])
        return {
            name: Reading(idle=True)
            if quiet and reading.value is None and RULE_METRICS[name].shape is Shape.LATENCY
            else reading
            for name, reading in readings.items()
        }


async def _parse(bus: Bus, kind: type[M], body: bytes, message: NatsMessage) -> M | None:
    """The contract, or None after the message went to DEAD."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        await _bury(bus, body, message, f"no {kind.__name__}: {describe(error)}")
        return None


async def _bury(bus: Bus, body: bytes, message: NatsMessage, reason: str) -> None:
    raw = message.raw_message
    await bury(
        bus,
        SERVICE,
        subject=raw.subject,
        stream=str(raw.metadata.stream),
        sequence=int(raw.metadata.sequence.stream),
        body=body,
        reason=reason,
    )
