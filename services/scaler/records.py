"""The audit records of one service, made from what its controller knows. Pure; linking and sealing is ``chain``."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from services.scaler.advice import ADVICE
from services.scaler.decision import Decision
from services.scaler.escalation import Turn
from services.scaler.orders import HeardOrder
from services.scaler.policy import policy_version
from services.scaler.resources.resize import Resize, ResizeCase
from services.scaler.situation import Change, Facts, Memory, Sizes, Verdict
from shared.contracts.scaling import Action, ScalingRecord
from shared.contracts.scaling_orders import ScalingOrder
from shared.contracts.scaling_rules import ServiceRules


@dataclass(frozen=True, slots=True)
class Scribe:
    """Fills in what all records of a service share. Times are seconds since the Unix epoch."""

    service: str
    environment: str
    rules: ServiceRules

    def decision(
        self,
        decision: Decision,
        facts: Facts,
        memory: Memory,
        before: dict[str, float],
        *,
        name: str,
        epoch: int,
        dry_run: bool,
    ) -> ScalingRecord:
        """A decision with everything it was made from: ``replay_inputs`` gives it back from the record alone."""
        inputs = {
            "rules": self.rules.model_dump(mode="json"),
            "facts": facts.model_dump(mode="json"),
            "memory": memory.model_dump(mode="json"),
            "cause": decision.cause,
            "limit": decision.limit,
            "before": before,
        }
        return self._record(
            "decision",
            name,
            facts.now_s,
            epoch,
            action=decision.action,
            current=decision.current,
            target=decision.target,
            reason_code=decision.reason_code,
            reason=decision.reason,
            confidence=decision.confidence,
            inputs=inputs,
            candidates=decision.candidates,
            clamps=decision.clamps,
            policy_version=policy_version(self.rules),
            breaches=decision.breaches,
            runs=decision.runs,
            cause=decision.cause,
            expected=dict(decision.expected),
            reverses=decision.reverses,
            recommendation=decision.recommendation,
            dry_run=dry_run and decision.action is not Action.NO_ACTION,
            order=memory.order.id if memory.order else "",
            by=memory.order.by if memory.order else "",
        )

    def order(self, heard: HeardOrder, now_s: float, epoch: int, refusal: str) -> ScalingRecord:
        """What an operator asked, and why it is not done, where it is not. It names itself as its decision."""
        asked = heard.order
        return self._record(
            "order",
            asked.id,
            now_s,
            epoch,
            order=asked.id,
            by=asked.by,
            reason_code=asked.kind,
            reason=asked.reason,
            target=asked.replicas,
            ok=not refusal,
            error=refusal,
            inputs={"order": asked.model_dump(mode="json"), "position": heard.position},
        )

    def result(self, change: Change, now_s: float, epoch: int, *, ready: int | None, error: str = "") -> ScalingRecord:
        """What became of a change: it is ok without an error. ``took_s`` counts from the decision."""
        return self._record(
            "result",
            change.decision,
            now_s,
            epoch,
            ok=not error,
            ready=ready,
            took_s=round(max(0.0, now_s - change.at_s), 3),
            error=error,
            breaches=change.breaches,
            runs=change.runs,
        )

    def effectiveness(
        self,
        change: Change,
        now_s: float,
        epoch: int,
        verdict: Verdict,
        reason: str,
        after: dict[str, float],
        at_end: dict[str, float] | None = None,
    ) -> ScalingRecord:
        """Whether a change helped, by the measurements on both sides of it. ``at_end``: over the end of the second,
        where that counted too."""
        return self._record(
            "effectiveness",
            change.decision,
            now_s,
            epoch,
            verdict=verdict,
            reason=reason,
            before=change.before,
            after=after,
            at_end=at_end or {},
            breaches=change.breaches,
            runs=change.runs,
        )

    def escalation(self, turn: Turn, now_s: float, epoch: int) -> ScalingRecord:
        """That nothing more is tried for a cause, or that this is over."""
        return self._record(
            "escalation",
            turn.escalation.decision,
            now_s,
            epoch,
            cause=turn.escalation.cause,
            reason_code="resumed" if turn.over else "ineffective",
            reason=turn.reason,
            recommendation="" if turn.over else ADVICE["ineffective"],
            breaches=turn.escalation.breaches,
            runs=turn.runs,
        )

    def resize(self, made: Resize, case: ResizeCase, *, name: str, epoch: int, dry_run: bool) -> ScalingRecord:
        """What becomes of an order for sizes, with everything that was made from; ``resize_inputs`` gives it back."""
        facts, seen, order = case.facts, case.facts.observation, case.heard.order if case.heard else None
        inputs = {
            "rules": self.rules.model_dump(mode="json"),
            "facts": facts.model_dump(mode="json"),
            "memory": case.memory.model_dump(mode="json"),
            "sizes": None if case.sizes is None else case.sizes.model_dump(mode="json"),
            "elsewhere": case.elsewhere,
            "order": None if order is None else order.model_dump(mode="json"),
            "position": case.heard.position if case.heard else 0,
            "before": case.before,
            "cause": "sizes",
        }
        return self._record(
            "resize",
            name,
            facts.now_s,
            epoch,
            current=0 if seen is None else seen.desired,
            target=0 if seen is None else seen.desired,
            reason_code=made.code,
            reason=made.reason,
            inputs=inputs,
            policy_version=policy_version(self.rules),
            ok=made.sizes is not None if made.over else None,
            from_sizes=case.sizes,
            to_sizes=made.sizes,
            order=order.id if order else "",
            by=order.by if order else "",
            reverses=made.reverses,
            breaches=tuple(one.breach for one in facts.breaches),
            dry_run=dry_run and made.sizes is not None,
        )

    def _record(
        self,
        kind: Literal["decision", "result", "effectiveness", "escalation", "order", "resize"],
        decision: str,
        now_s: float,
        epoch: int,
        **parts: Any,
    ) -> ScalingRecord:
        return ScalingRecord(
            kind=kind,
            decision=decision,
            service=self.service,
            system=self.rules.system,
            environment=self.environment,
            at=datetime.fromtimestamp(now_s, tz=UTC),
            sequence=1,
            previous_hash="",
            lease_epoch=epoch,
            **parts,
        )


def replay_inputs(record: ScalingRecord) -> tuple[ServiceRules, Facts, Memory]:
    """What a recorded decision was made from."""
    return (
        ServiceRules.model_validate(record.inputs["rules"]),
        Facts.model_validate(record.inputs["facts"]),
        Memory.model_validate(record.inputs["memory"]),
    )


def resize_inputs(record: ScalingRecord) -> ResizeCase:
    """What a recorded resize was made from, without its rules, which ``replay_inputs`` gives."""
    inputs = record.inputs
    heard = inputs["order"] and HeardOrder(inputs["position"], ScalingOrder.model_validate(inputs["order"]))
    return ResizeCase(
        Facts.model_validate(inputs["facts"]),
        Memory.model_validate(inputs["memory"]),
        Sizes.model_validate(inputs["sizes"]) if inputs["sizes"] else None,
        heard or None,
        inputs["elsewhere"],
        inputs["before"],
    )
