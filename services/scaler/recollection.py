"""What one service's controller knows of the past beyond its changes: how long things have been so, and what operators
want. Taken up from chain and checkpoint by whoever leads next, looked through anew where nobody led for a while."""

import time
from dataclasses import replace

from services.scaler.audit import Past
from services.scaler.chain import Head
from services.scaler.checkpoints import Checkpoint, Checkpoints
from services.scaler.history import Tracker
from services.scaler.inputs import Inputs
from services.scaler.orders import HeardOrder, Standing, standing_of
from services.scaler.readings import KEPT_S
from services.scaler.situation import Change, Escalation, Facts, Memory, Observation
from shared.contracts.scaling_rules import ServiceRules

CHECKPOINT_S = 2.0
"""How often what is remembered is kept."""

CATCH_UP_S = 2.0
"""A gap longer than this is looked through by the samples that came meanwhile, in steps of it."""


class Recollection:
    """``take_up`` when the lease was won; then ``memory`` at each look and ``keep`` after it."""

    def __init__(self, service: str, rules: ServiceRules, inputs: Inputs, checkpoints: Checkpoints) -> None:
        self._service, self._rules, self._inputs = service, rules, inputs
        self._checkpoints = checkpoints
        self._tracker = Tracker()
        self._standing = Standing()
        self._kept_s = float("-inf")

    async def decided(self) -> int:
        """Position in SCALING of the last decision, 0 if not known. Takes up the checkpoint, where it is younger than
        what this process knows itself. Raises ``TransientError``."""
        checkpoint = await self._checkpoints.read()
        if checkpoint is None:
            return 0
        if (self._tracker.looked_s or 0.0) < (checkpoint.remembered.looked_s or 0.0):
            self._tracker = Tracker(checkpoint.remembered)
        return checkpoint.decided

    def take_up(self, past: Past) -> None:
        """Know which order is in force."""
        self._standing = standing_of(past.records)

    def new_orders(self) -> list[HeardOrder]:
        """Those heard since the last one taken, the oldest first."""
        return self._inputs.orders.after(self._service, "replicas", self._standing.heard)

    def take(self, heard: HeardOrder, refused: str, now_s: float) -> None:
        """An order that stands in the chain from now on."""
        self._standing = self._standing.refuse(heard) if refused else self._standing.take(heard, now_s)

    def catch_up(self, seen: Observation | None, now_s: float, changes: tuple[Change, ...]) -> None:
        """Look through the samples of a time in which nobody led, as far back as they are kept."""
        looked_s = self._tracker.looked_s
        reach_s = KEPT_S - self._rules.tuning.window
        if looked_s is None or seen is None or not CATCH_UP_S < now_s - looked_s < reach_s:
            return
        while (looked_s := looked_s + CATCH_UP_S) < now_s:
            self._tracker.look(self._rules, self._inputs.facts(self._service, looked_s, seen, ""), changes)

    def memory(self, facts: Facts, changes: tuple[Change, ...], escalations: tuple[Escalation, ...]) -> Memory:
        """Take note of this moment; what to decide with."""
        if self._standing.order is not None and self._standing.order.until_s <= facts.now_s:
            self._standing = replace(self._standing, order=None)
        told = {
            "order": self._standing.order,
            "orders_heard": self._standing.heard,
            "resumed_s": self._standing.resumed_s,
            "escalations": escalations,
        }
        return self._tracker.look(self._rules, facts, changes).model_copy(update=told)

    async def keep(self, decided: int, head: Head) -> None:
        """Write the checkpoint every few seconds; only while the lease is held. ``head``: the end of the chain."""
        now_s = time.monotonic()
        if now_s - self._kept_s >= CHECKPOINT_S:
            self._kept_s = now_s
            remembered = self._tracker.remember()
            await self._checkpoints.write(
                Checkpoint(decided=decided, sequence=head.sequence, hash=head.hash, remembered=remembered)
            )
