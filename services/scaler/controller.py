"""One service under control: observe, follow what is under way, decide, record, act. Only while the lease is held.

```
            ┌────────────── each tick, or at once when a breach changes ──────────────┐
 take over ─▶ observe ─▶ result / effect of the last change ─▶ decide ─▶ record ─▶ act ┘
     ▲                                                                        │
     └──────── the lease was won, or another wrote to the chain ◀─────────────┘
```
A decision is kept by the broker before it is acted on. One that a dead scaler left without result is found in the chain
and finished by looking at the target. Whoever takes over shuts its predecessor out first, at the target by its epoch,
in the chain by a record. What to decide stands in ``policy``, what was recorded in ``book``.
"""

import asyncio
import contextlib
import logging
import time
from datetime import UTC, datetime
from functools import partial

from opentelemetry.trace import Span, Tracer

from services.scaler.audit import AuditStream, ChainMovedError
from services.scaler.book import Book
from services.scaler.candidates import last_done_s, weigh
from services.scaler.checkpoints import Checkpoints
from services.scaler.decision import Decision
from services.scaler.effect import effect_of, finished, latency_limits, span_before
from services.scaler.escalation import Turn, active, due
from services.scaler.guard import wanted_of
from services.scaler.headroom import Headroom
from services.scaler.history import change_of
from services.scaler.inputs import Inputs
from services.scaler.orders import refusal
from services.scaler.policy import decide
from services.scaler.recollection import Recollection
from services.scaler.records import Scribe
from services.scaler.resources.applying import Resizer, Turns
from services.scaler.settings import ScalerSettings
from services.scaler.situation import Change, Facts, Memory, Observation, undecided
from services.scaler.targets.target import FencedError, RefusedError, Target
from shared import metrics
from shared.contracts.scaling import Action, ScalingRecord
from shared.contracts.scaling_rules import ServiceRules
from shared.errors import TransientError
from shared.lease import Lease
from shared.telemetry import context_of, parent_context, traceparent

IMPLIED = frozenset({"awaiting_ready", "awaiting_effect", "cooldown"})
"""Holds that follow from the change recorded last and need no record of their own."""

logger = logging.getLogger(__name__)


class Controller:
    """Owns what is known of one service. ``wake`` makes it look at once."""

    def __init__(
        self,
        service: str,
        rules: ServiceRules,
        settings: ScalerSettings,
        inputs: Inputs,
        audit: AuditStream,
        checkpoints: Checkpoints,
        target: Target,
        headroom: Headroom,
        lease: Lease,
        tracer: Tracer,
        resizing: Turns,
    ) -> None:
        self._service, self._rules, self._settings = service, rules, settings
        self._inputs, self._target = inputs, target
        self._recalled = Recollection(service, rules, inputs, checkpoints)
        self._dry_run = target.dry_run or rules.dry_run
        self._headroom, self._lease, self._tracer = headroom, lease, tracer
        self._scribe = Scribe(service, settings.environment, rules)
        self._book = Book(service, settings.scaler_repeat_s, audit, lease)
        self._wake = asyncio.Event()
        self._step: asyncio.Task[None] | None = None
        self._stamped = 0
        self._resizer = Resizer(service, rules, inputs, target, self._scribe, resizing, self._book)
        self._held_at_s = float("-inf")

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled. A step that has begun is left to end; ``drain`` waits for it."""
        while True:
            under_way = undecided(self._book.changes)
            pause_s = self._settings.scaler_tick_s
            if under_way is not None and under_way.ok is None:
                pause_s = min(pause_s, self._settings.scaler_poll_s)
            # Not wait_for: in Python 3.11 it loses a cancellation that comes together with the wake.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._wake.wait()
            self._wake.clear()
            if self._lease.held:
                self._step = asyncio.ensure_future(self._guarded_step())
                await asyncio.shield(self._step)
            else:
                # Only whoever leads says so.
                metrics.ESCALATED.labels(self._service).set(0)

    async def drain(self, deadline_s: float) -> None:
        """Let a step that is under way end, for at most so long."""
        if self._step is not None and not self._step.done():
            await asyncio.wait([self._step], timeout=deadline_s)
            self._step.cancel()

    async def _guarded_step(self) -> None:
        try:
            if self._book.epoch != self._lease.epoch:
                await self._take_over()
            await self._look()
        except FencedError as error:
            logger.warning("%s: fenced: %s", self._service, error)
            self._book.epoch = 0
            await self._lease.release()
        except ChainMovedError as error:
            logger.warning("%s", error)
            self._book.epoch = 0
        except TransientError as error:
            # What was published is unknown: read it again before anything is decided.
            logger.warning("%s: %s", self._service, error)
            self._book.epoch = 0

    async def _take_over(self) -> None:
        """Know what the chain and the last checkpoint tell before deciding anything."""
        epoch = self._lease.epoch
        past = await self._book.read(await self._recalled.decided())
        self._book.take_up(past, epoch)
        self._recalled.take_up(past)
        self._headroom.remember(self._book.changes)

    async def _look(self) -> None:
        metrics.ESCALATED.labels(self._service).set(len(active(self._book.escalations)))
        seen, unobserved = await self._observe()
        if seen is not None and not self._dry_run and self._stamped != self._book.epoch:
            await self._stamp(seen)
            seen, unobserved = await self._observe()
        now_s = time.time()
        await self._take_orders(now_s)
        change = undecided(self._book.changes)
        if change is not None:
            await self._follow(change, seen, unobserved, now_s)
        self._recalled.catch_up(seen, now_s, self._book.changes)
        facts = self._inputs.facts(self._service, now_s, seen, unobserved)
        memory = self._recalled.memory(facts, self._book.changes, self._book.escalations)
        asks = weigh(self._rules, facts, last_done_s(self._book.changes))
        for turn in due(self._rules, facts, memory, asks):
            await self._turn(turn, facts)
        memory = memory.model_copy(
            update={"escalations": self._book.escalations, "sizes_heard": self._book.sizes_heard}
        )
        more = decide(self._rules, facts, memory).action is Action.SCALE_UP
        room = await self._headroom.look(facts, undecided(self._book.changes), more=more)
        # From the shares to the note nothing waits: two services that decide at once must not both take what is left.
        facts = facts.model_copy(update={"room": room, "shares": self._headroom.shares()})
        decision = decide(self._rules, facts, memory)
        self._headroom.note(facts, decision.target, wanted_of(decision))
        await self._act(decision, facts, memory)
        if self._lease.held:
            await self._recalled.keep(self._book.decided, self._book.head)

    async def _act(self, decision: Decision, facts: Facts, memory: Memory) -> None:
        """Move replicas or change their sizes, never both; a resize that did harm is taken back first."""
        self._resizer.tell(memory)
        resize = await self._resizer.decide(facts, memory)
        back = resize is not None and resize.made.reverses
        if decision.action is not Action.NO_ACTION and not back:
            await self._carry_out(decision, facts, memory)
            return
        if resize is not None:
            await self._resizer.carry_out(resize)
        worth_telling = decision.reason_code not in IMPLIED or self._answers(memory)
        if worth_telling and (resize is None or resize.made.sizes is None):
            await self._say_nothing_moves(decision, facts, memory)

    async def _take_orders(self, now_s: float) -> None:
        """Record what operators have asked since, each once, and whether it is done."""
        for heard in self._recalled.new_orders():
            if not self._lease.held:
                return
            refused = refusal(self._rules, heard.order, datetime.fromtimestamp(now_s, tz=UTC))
            record = self._scribe.order(heard, now_s, self._book.epoch, refused)
            await self._book.add_order(record)
            self._recalled.take(heard, refused, now_s)
            logger.info("%s: %s by %s: %s", self._service, heard.order.kind, heard.order.by, refused or "taken")

    async def _say_nothing_moves(self, decision: Decision, facts: Facts, memory: Memory) -> None:
        if self._too_soon(facts, memory):
            return
        if await self._record_decision(decision, facts, memory, {}) is not None:
            self._held_at_s = facts.now_s

    def _too_soon(self, facts: Facts, memory: Memory) -> bool:
        """Reasons that alternate with each look are recorded at most once per interval, unless an operator waits."""
        soon = facts.now_s - self._held_at_s < self._settings.scaler_reason_interval_s
        return soon and not self._answers(memory)

    def _answers(self, memory: Memory) -> bool:
        return self._book.answers(memory.order.id if memory.order else "")

    async def _turn(self, turn: Turn, facts: Facts) -> None:
        """Record that a loop ends or begins again, before anything is decided on it."""
        record = self._scribe.escalation(turn, facts.now_s, self._book.epoch)
        await self._book.add_escalation(record, logging.INFO if turn.over else logging.ERROR)

    async def _observe(self) -> tuple[Observation | None, str]:
        try:
            seen = await self._target.observe(self._service)
        except (RefusedError, TransientError) as error:
            return None, str(error)
        for state, count in (("desired", seen.desired), ("ready", seen.ready), ("unhealthy", seen.unhealthy)):
            metrics.REPLICAS.labels(self._service, state).set(count)
        return seen, ""

    async def _stamp(self, seen: Observation) -> None:
        """Ask for what is there, under the new epoch: from then on the target refuses whoever led before.

        Not during an update, in which nothing moves: to a Swarm it would be another one, and end the first.
        """
        if seen.updating:
            return
        last = self._book.changes[-1].decision if self._book.changes else ""
        try:
            await self._target.set_replicas(self._service, seen.desired, self._book.epoch, last)
        except RefusedError as error:
            logger.warning("%s: the epoch was not stamped: %s", self._service, error)
        self._stamped = self._book.epoch

    async def _follow(self, change: Change, seen: Observation | None, unobserved: str, now_s: float) -> None:
        if change.to_sizes is not None:
            await self._resizer.follow(change, seen, self._inputs.facts(self._service, now_s, seen, unobserved))
            return
        tuning = self._rules.tuning.effectiveness
        if change.ok is None:
            outcome_now = finished(change, seen, now_s, tuning)
            if outcome_now is not None:
                await self._record_result(change, now_s, seen, outcome_now[1])
            return
        measured = partial(self._inputs.measured, self._service)
        effect = effect_of(change, measured, now_s, tuning, latency_limits(self._rules))
        if effect is not None:
            record = self._scribe.effectiveness(
                change, now_s, self._book.epoch, effect.verdict, effect.reason, effect.after, effect.at_end
            )
            await self._book.add_outcome(change, record)

    async def _carry_out(self, decision: Decision, facts: Facts, memory: Memory) -> None:
        if self._dry_run and self._too_soon(facts, memory):
            return
        before = self._inputs.measured(self._service, *span_before(facts.now_s, self._rules.tuning.effectiveness))
        overtaken = undecided(self._book.changes)
        if overtaken is not None:
            words = f"another change followed before its {'result' if overtaken.ok is None else 'effect'} was known"
            if overtaken.ok is None:
                await self._record_result(overtaken, facts.now_s, facts.observation, words)
            else:
                unknown = self._scribe.effectiveness(overtaken, facts.now_s, self._book.epoch, "unknown", words, {})
                await self._book.add_outcome(overtaken, unknown)
        with self._span(decision) as span:
            kept = await self._record_decision(decision, facts, memory, before, span)
            change = None if kept is None else change_of(kept)
            if change is None:
                return
            if change.dry_run:
                self._held_at_s = facts.now_s
            if change.dry_run or not self._lease.held:
                return
            try:
                await self._target.set_replicas(self._service, change.target, self._book.epoch, change.decision)
            except RefusedError as error:
                await self._record_result(change, time.time(), facts.observation, f"refused: {error}")
            except FencedError as error:
                await self._record_result(change, time.time(), facts.observation, f"fenced: {error}")
                raise
            except TransientError as error:
                # Perhaps it was heard: the next look at the target tells.
                logger.warning("%s: %s", change.decision, error)

    async def _record_decision(
        self, decision: Decision, facts: Facts, memory: Memory, before: dict[str, float], span: Span | None = None
    ) -> ScalingRecord | None:
        """None where it says again what was said last: then there is nothing to act on."""
        name = self._book.next_name()
        record = self._scribe.decision(
            decision, facts, memory, before, name=name, epoch=self._book.epoch, dry_run=self._dry_run
        )
        headers: dict[str, str] = {}
        if span is not None:
            span.set_attribute("tidegate.decision", name)
            context = span.get_span_context()
            if context.is_valid:
                headers["traceparent"] = traceparent(
                    context.trace_id, context.span_id, sampled=context.trace_flags.sampled
                )
        return await self._book.add_decision(record, facts.now_s, headers)

    async def _record_result(self, change: Change, now_s: float, seen: Observation | None, error: str) -> None:
        ready = None if seen is None else seen.ready
        await self._book.add_outcome(
            change, self._scribe.result(change, now_s, self._book.epoch, ready=ready, error=error)
        )

    def _span(self, decision: Decision) -> contextlib.AbstractContextManager[Span]:
        """Continues the trace of the breach that drives the decision, where it has one."""
        header = next(filter(None, map(self._inputs.breaches.traceparent, decision.breaches)), "")
        return self._tracer.start_as_current_span(
            "scaler.decide",
            context=parent_context(context_of({"traceparent": header})),
            attributes={
                "tidegate.service": self._service,
                "tidegate.action": str(decision.action),
                "tidegate.replicas": decision.target,
                "tidegate.reason": decision.reason_code,
            },
        )
