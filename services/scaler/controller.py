"""One service under control: observe, follow what is under way, decide, record, act. Only while the lease is held.

```
            ┌────────────── each tick, or at once when a breach changes ──────────────┐
 take over ─▶ observe ─▶ result / effect of the last change ─▶ decide ─▶ record ─▶ act ┘
     ▲                                                                        │
     └──────── the lease was won, or another wrote to the chain ◀─────────────┘
```
A decision is kept by the broker before it is acted on. One that a dead scaler left without result is found in the chain
and finished by looking at the target. What to decide stands in ``policy``.
"""

import asyncio
import contextlib
import logging
import time

from opentelemetry.trace import Span, Tracer

from services.scaler.audit import AuditStream, ChainMovedError
from services.scaler.chain import Head
from services.scaler.decision import Decision
from services.scaler.effect import finished, judge, latency_limits, measurable
from services.scaler.history import Tracker, change_of, changes_of, outcome
from services.scaler.inputs import Inputs
from services.scaler.policy import decide
from services.scaler.records import Scribe
from services.scaler.settings import ScalerSettings
from services.scaler.situation import Change, Facts, Memory, Observation, undecided
from services.scaler.targets.target import FencedError, RefusedError, Target
from shared import metrics
from shared.contracts.scaling import Action, ScalingRecord
from shared.contracts.scaling_rules import ServiceRules
from shared.errors import TransientError
from shared.lease import Lease
from shared.telemetry import context_of, parent_context, traceparent

BEFORE_S = 5.0
"""Longest span before a decision that counts as "before": a load that has just come would be averaged away."""

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
        target: Target,
        lease: Lease,
        tracer: Tracer,
    ) -> None:
        self._service, self._rules, self._settings = service, rules, settings
        self._inputs, self._audit, self._target = inputs, audit, target
        self._lease, self._tracer = lease, tracer
        self._scribe = Scribe(service, settings.environment, rules)
        self._wake = asyncio.Event()
        self._step: asyncio.Task[None] | None = None
        self._epoch = 0
        self._stamped = 0
        self._head = Head()
        self._changes: tuple[Change, ...] = ()
        self._tracker = Tracker()
        self._said: tuple[object, ...] = ()
        self._said_at_s = float("-inf")
        self._held_at_s = float("-inf")

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled. A step that has begun is left to end; ``drain`` waits for it."""
        while True:
            under_way = undecided(self._changes)
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

    async def drain(self, deadline_s: float) -> None:
        """Let a step that is under way end, for at most so long."""
        if self._step is not None and not self._step.done():
            await asyncio.wait([self._step], timeout=deadline_s)
            self._step.cancel()

    async def _guarded_step(self) -> None:
        try:
            if self._epoch != self._lease.epoch:
                await self._take_over()
            await self._look()
        except FencedError as error:
            logger.warning("%s: fenced: %s", self._service, error)
            self._epoch = 0
            await self._lease.release()
        except ChainMovedError as error:
            logger.warning("%s", error)
            self._epoch = 0
        except TransientError as error:
            # What was published is unknown: read it again before anything is decided.
            logger.warning("%s: %s", self._service, error)
            self._epoch = 0

    async def _take_over(self) -> None:
        """Know what the chain tells before deciding anything."""
        epoch = self._lease.epoch
        past = await self._audit.read(self._service)
        for fault in past.faults:
            logger.error("%s: audit chain: %s", self._service, fault)
        self._head, self._changes, self._epoch = past.head, changes_of(past.records), epoch
        last = next((record for record in reversed(past.records) if record.kind == "decision"), None)
        self._said = () if last is None else _words_of(last)
        self._said_at_s = float("-inf") if last is None else last.at.timestamp()

    async def _look(self) -> None:
        seen, unobserved = await self._observe()
        now_s = time.time()
        change = undecided(self._changes)
        if change is not None:
            await self._follow(change, seen, now_s)
        if seen is not None and not self._target.dry_run and self._stamped != self._epoch:
            await self._stamp(seen)
        facts = self._inputs.facts(self._service, now_s, seen, unobserved)
        memory = self._tracker.look(self._rules, facts, self._changes)
        decision = decide(self._rules, facts, memory)
        if decision.action is not Action.NO_ACTION:
            await self._carry_out(decision, facts, memory)
        elif decision.reason_code not in IMPLIED:
            await self._say_nothing_moves(decision, facts, memory)

    async def _say_nothing_moves(self, decision: Decision, facts: Facts, memory: Memory) -> None:
        """Reasons that alternate with each look are recorded at most once per interval."""
        if facts.now_s - self._held_at_s < self._settings.scaler_reason_interval_s:
            return
        if await self._record_decision(decision, facts, memory, {}) is not None:
            self._held_at_s = facts.now_s

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
        last = self._changes[-1].decision if self._changes else ""
        try:
            await self._target.set_replicas(self._service, seen.desired, self._epoch, last)
        except RefusedError as error:
            logger.warning("%s: the epoch was not stamped: %s", self._service, error)
        self._stamped = self._epoch

    async def _follow(self, change: Change, seen: Observation | None, now_s: float) -> None:
        tuning = self._rules.tuning.effectiveness
        if change.ok is None:
            outcome_now = finished(change, seen, now_s, tuning)
            if outcome_now is not None:
                await self._record_result(change, now_s, seen, outcome_now[1])
            return
        span = measurable(change, now_s, tuning)
        if span is not None:
            after = self._inputs.measured(self._service, *span)
            verdict, reason = judge(change, after, tuning, latency_limits(self._rules))
            record = self._scribe.effectiveness(change, now_s, self._epoch, verdict, reason, after)
            await self._append_outcome(change, record)

    async def _carry_out(self, decision: Decision, facts: Facts, memory: Memory) -> None:
        begin_s = facts.now_s - min(BEFORE_S, self._rules.tuning.effectiveness.window)
        before = self._inputs.measured(self._service, begin_s, facts.now_s)
        overtaken = undecided(self._changes)
        if overtaken is not None:
            words = "another change followed before its effect could be measured"
            unknown = self._scribe.effectiveness(overtaken, facts.now_s, self._epoch, "unknown", words, {})
            await self._append_outcome(overtaken, unknown)
        with self._span(decision) as span:
            record = await self._record_decision(decision, facts, memory, before, span)
            change = None if record is None else change_of(record)
            if change is None:
                return
            self._changes = (*self._changes, change)
            if change.dry_run or not self._lease.held:
                return
            try:
                await self._target.set_replicas(self._service, change.target, self._epoch, change.decision)
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
        """Record it unless it says again what was said last; None when there is nothing to act on."""
        name = f"{self._service}-{self._head.sequence + 1}"
        record = self._scribe.decision(
            decision, facts, memory, before, name=name, epoch=self._epoch, dry_run=self._target.dry_run
        )
        repeated = _words_of(record) == self._said and facts.now_s - self._said_at_s < self._settings.scaler_repeat_s
        if repeated or not self._lease.held:
            return None
        headers: dict[str, str] = {}
        if span is not None:
            span.set_attribute("tidegate.decision", name)
            context = span.get_span_context()
            if context.is_valid:
                headers["traceparent"] = traceparent(
                    context.trace_id, context.span_id, sampled=context.trace_flags.sampled
                )
        kept, self._head = await self._audit.append(self._head, record, headers)
        self._said, self._said_at_s = _words_of(kept), facts.now_s
        metrics.DECISIONS.labels(self._service, str(decision.action)).inc()
        logger.info("%s: %s: %s (%s)", name, decision.action, decision.reason, decision.reason_code)
        return kept

    async def _record_result(self, change: Change, now_s: float, seen: Observation | None, error: str) -> None:
        ready = None if seen is None else seen.ready
        record = self._scribe.result(change, now_s, self._epoch, ready=ready, error=error)
        await self._append_outcome(change, record)

    async def _append_outcome(self, change: Change, record: ScalingRecord) -> None:
        if not self._lease.held:
            return
        kept, self._head = await self._audit.append(self._head, record, {})
        updated = outcome(change, kept)
        self._changes = tuple(updated if one.decision == change.decision else one for one in self._changes)
        logger.info("%s: %s", change.decision, kept.error or kept.verdict or f"{kept.ready} ready in {kept.took_s} s")

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


def _words_of(record: ScalingRecord) -> tuple[object, ...]:
    """What makes two records in a row say the same. A move that is really made always says something new."""
    if record.action is Action.NO_ACTION:
        return (record.action, record.reason_code)
    return (record.action, record.reason_code, record.target) if record.dry_run else (record.decision,)
