"""The chain of one service as its controller keeps it, and what is known from it.

Nothing is written unless the lease is held; a caller that is told None acts on nothing. Which records say something new
is decided here, so that a decision that is made again at each look is written once.
"""

import logging

from services.scaler.audit import AuditStream, Past
from services.scaler.chain import Head
from services.scaler.history import (
    KEPT_CHANGES,
    change_of,
    changes_of,
    escalations_of,
    outcome,
    sizes_heard_of,
    with_escalation,
)
from services.scaler.situation import Change, Escalation
from shared import metrics
from shared.contracts.scaling import REFUSALS, Action, ScalingRecord
from shared.lease import Lease

logger = logging.getLogger(__name__)


class Book:
    """``take_up`` once the lease is won; then records are added in the order in which they are to stand.

    ``repeat_s``: after so long a decision is written again though it says what the last one said. ``epoch``: under
    which the chain was read, 0 while it is to be read again. ``decided``: position of the last decision in the stream.
    ``sizes_heard``: that of the last order for sizes that came to its end.
    """

    def __init__(self, service: str, repeat_s: float, audit: AuditStream, lease: Lease) -> None:
        self._service, self._repeat_s, self._audit, self._lease = service, repeat_s, audit, lease
        self.epoch = 0
        self.decided = 0
        self.head = Head()
        self.changes: tuple[Change, ...] = ()
        self.escalations: tuple[Escalation, ...] = ()
        self.sizes_heard = 0
        self._said: tuple[object, ...] = ()
        self._said_at_s = float("-inf")

    @property
    def writable(self) -> bool:
        return self._lease.held

    async def read(self, decided: int) -> Past:
        """The chain, from the decision at position ``decided`` on. Raises ``TransientError``."""
        return await self._audit.read(self._service, decided)

    def take_up(self, past: Past, epoch: int) -> None:
        """Go on from there under a new epoch."""
        for fault in past.faults:
            logger.error("%s: audit chain: %s", self._service, fault)
        self.head, self.decided, self.epoch = past.head, past.decided, epoch
        self.changes, self.escalations = changes_of(past.records), escalations_of(past.records)
        self.sizes_heard = sizes_heard_of(past.records)
        last = next((record for record in reversed(past.records) if record.kind == "decision"), None)
        # The first word of a new epoch is always said: from then on the chain takes nothing of the one before.
        known = last is not None and past.records[-1].lease_epoch == epoch
        self._said = _words_of(last) if last is not None and known else ()
        self._said_at_s = last.at.timestamp() if last is not None and known else float("-inf")

    def next_name(self) -> str:
        """What the next record of a change is called."""
        return f"{self._service}-{self.head.sequence + 1}"

    def answers(self, order: str) -> bool:
        """Whether what is said next is the first word, or the first under another order than the last word's."""
        return not self._said or order != self._said[-1]

    async def add_decision(self, record: ScalingRecord, now_s: float, headers: dict[str, str]) -> ScalingRecord | None:
        """Keep it unless it says again what was said last; None where it was not kept."""
        repeated = _words_of(record) == self._said and now_s - self._said_at_s < self._repeat_s
        if repeated or not self.writable:
            return None
        kept = await self._append(record, headers)
        self._said, self._said_at_s, self.decided = _words_of(kept), now_s, self.head.position
        metrics.DECISIONS.labels(self._service, str(kept.action)).inc()
        if kept.reason_code in REFUSALS:
            metrics.SCALE_UPS_REFUSED.labels(self._service, kept.reason_code).inc()
        logger.info("%s: %s: %s (%s)", kept.decision, kept.action, kept.reason, kept.reason_code)
        self._note(kept)
        return kept

    async def add_resize(self, record: ScalingRecord) -> Change | None:
        """Keep what becomes of an order for sizes; the change it announces, where that may be acted on."""
        if not self.writable:
            return None
        kept = await self._append(record)
        self.sizes_heard = max(self.sizes_heard, sizes_heard_of((kept,)))
        logger.info("%s: %s (%s)", kept.decision, kept.reason, kept.reason_code)
        change = self._note(kept)
        return change if change is not None and self.writable and not change.dry_run else None

    async def add_outcome(self, change: Change, record: ScalingRecord) -> None:
        """Keep a result or a verdict."""
        if not self.writable:
            return
        kept = await self._append(record)
        updated = outcome(change, kept)
        self.changes = tuple(updated if one.decision == change.decision else one for one in self.changes)
        logger.info("%s: %s", change.decision, kept.error or kept.verdict or f"{kept.ready} ready in {kept.took_s} s")

    async def add_escalation(self, record: ScalingRecord, level: int) -> None:
        """Keep that a loop ends or begins again; said to people at ``level``."""
        if not self.writable:
            return
        kept = await self._append(record)
        self.escalations = with_escalation(self.escalations, kept)
        logger.log(level, "%s: %s: %s", self._service, kept.reason_code, kept.reason)

    async def add_order(self, record: ScalingRecord) -> None:
        """Keep what an operator asked for."""
        await self._append(record)

    async def _append(self, record: ScalingRecord, headers: dict[str, str] | None = None) -> ScalingRecord:
        kept, self.head = await self._audit.append(self.head, record, headers or {})
        return kept

    def _note(self, kept: ScalingRecord) -> Change | None:
        change = change_of(kept)
        if change is not None:
            self.changes = (*self.changes, change)[-KEPT_CHANGES:]
        return change


def _words_of(record: ScalingRecord) -> tuple[object, ...]:
    """What makes two records in a row say the same; last the order in force. A move that is made always says something
    new."""
    if record.action is Action.NO_ACTION:
        return (record.action, record.reason_code, record.order)
    if record.dry_run:
        return (record.action, record.reason_code, record.target, record.order)
    return (record.decision, record.order)
