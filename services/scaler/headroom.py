"""How many more replicas of one service there may be: asks its target for room and sizes, keeps its place in the ledger
of the budget. What follows stands in ``guard``."""

import logging

from services.scaler.ledger import Ledger
from services.scaler.situation import Change, Facts, Shares
from services.scaler.targets.target import RefusedError, Target
from shared.contracts.scaling import Action
from shared.contracts.scaling_rules import ServiceRules
from shared.errors import TransientError

SIZES_EVERY_S = 30.0
SIZES_AGAIN_S = 2.0
"""After they were not told: nothing is granted to anybody before they are."""

logger = logging.getLogger(__name__)


class Headroom:
    """One service's view of what it may still take."""

    def __init__(self, service: str, rules: ServiceRules, target: Target, ledger: Ledger) -> None:
        self._service, self._rules, self._target, self._ledger = service, rules, target, ledger
        self._dry_run = target.dry_run or rules.dry_run
        self._sized_s = float("-inf")
        self._wanted = rules.min

    def remember(self, changes: tuple[Change, ...]) -> None:
        """What the chain last asked for counts until the target is seen, and at least the minimum."""
        asked = next((one.target for one in reversed(changes) if not one.dry_run), 0)
        self._hold(max(asked, self._rules.min), 0)

    async def look(self, facts: Facts, pending: Change | None, *, more: bool) -> int | None:
        """Note what there is; how many more fit, asked only where ``more`` would be added. None where nobody knows."""
        seen = facts.observation
        if seen is None:
            return None
        on_the_way = pending is not None and pending.ok is None and pending.action is Action.SCALE_UP
        held = max(seen.desired, pending.target) if on_the_way and pending is not None else seen.desired
        self._hold(held, self._wanted)
        await self._note_sizes(facts.now_s)
        try:
            return await self._target.room(self._service) if more else None
        except (RefusedError, TransientError) as error:
            logger.warning("%s: room is not known: %s", self._service, error)
        return None

    def shares(self) -> Shares | None:
        return self._ledger.shares()

    def note(self, facts: Facts, target: int, wanted: int) -> None:
        """What has just been decided counts from now on."""
        if facts.observation is not None:
            held = facts.observation.desired
            self._hold(*(held, held) if self._dry_run else (max(held, target), wanted))

    def _hold(self, replicas: int, wanted: int) -> None:
        self._wanted = wanted
        self._ledger.note(self._service, replicas, max(replicas, wanted))

    async def _note_sizes(self, now_s: float) -> None:
        if self._ledger.counts_sizes and now_s - self._sized_s >= SIZES_EVERY_S:
            self._sized_s = now_s
            try:
                self._ledger.note_sizes(self._service, await self._target.sizes(self._service))
            except (RefusedError, TransientError) as error:
                logger.warning("%s: sizes are not known: %s", self._service, error)
                self._sized_s = now_s - SIZES_EVERY_S + SIZES_AGAIN_S
