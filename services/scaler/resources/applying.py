"""Carries out orders for other sizes: one service at a time, watched, and taken back when worse.

What is decided stands in ``resize`` and ``resize_effect``; this file asks the target, and records in the service's
book. A resize is recorded before it is asked for; whoever takes over asks again, which changes nothing where it was
heard.
"""

import logging
from collections.abc import Iterable
from dataclasses import replace
from typing import NamedTuple

from services.scaler.book import Book
from services.scaler.effect import measurable
from services.scaler.inputs import Inputs
from services.scaler.records import Scribe
from services.scaler.resources.resize import Resize, ResizeCase, decide_resize, finished, to_be_taken_back, unheard
from services.scaler.resources.resize_effect import judge_early, judge_resize, watch
from services.scaler.situation import Change, Facts, Memory, Observation, Sizes, undecided
from services.scaler.targets.target import FencedError, RefusedError, Target
from shared.contracts.scaling_rules import Resizing, ServiceRules
from shared.errors import TransientError

REASON_INTERVAL_S = 2.0
"""Least time between two records that say why an order waits."""

logger = logging.getLogger(__name__)


class Turns:
    """Which service is being resized. None begins before the past of every other is known under the same epoch."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services = tuple(services)
        self._told: dict[str, tuple[int, bool]] = {}

    def tell(self, service: str, epoch: int, *, resizing: bool) -> None:
        self._told[service] = (epoch, resizing)

    def elsewhere(self, service: str, epoch: int) -> str:
        """Why it is not the turn of this service, empty where it is."""
        for other in self._services:
            known_in, resizing = self._told.get(other, (0, False))
            if other != service and known_in != epoch:
                return f"whether {other} is being resized is not known yet"
            if other != service and resizing:
                return f"{other} is being resized"
        return ""


class Decided(NamedTuple):
    """What becomes of an order, and what that was made from."""

    case: ResizeCase
    made: Resize


class Resizer:
    """The sizes of one service."""

    def __init__(
        self,
        service: str,
        rules: ServiceRules,
        inputs: Inputs,
        target: Target,
        scribe: Scribe,
        turns: Turns,
        book: Book,
    ) -> None:
        self._service, self._rules, self._inputs = service, rules, inputs
        self._target, self._scribe, self._turns, self._book = target, scribe, turns, book
        self._settled = ""
        self._said = ("", "")
        self._said_at_s = float("-inf")

    def tell(self, memory: Memory) -> None:
        """Let the others know whether this service is being resized, or is to be taken back."""
        pending, back = undecided(memory.changes), to_be_taken_back(memory)
        resizing = pending is not None and pending.to_sizes is not None
        resizing = resizing or (back is not None and back.decision != self._settled)
        self._turns.tell(self._service, self._book.epoch, resizing=resizing)

    async def decide(self, facts: Facts, memory: Memory) -> Decided | None:
        """What becomes of the next order, or takes the last resize back; None where there is neither."""
        waiting = self._inputs.orders.after(self._service, "sizes", memory.sizes_heard)
        back = to_be_taken_back(memory)
        if not waiting and (back is None or back.decision == self._settled):
            return None
        case = ResizeCase(
            facts,
            memory,
            await self._sizes(),
            elsewhere=self._turns.elsewhere(self._service, self._book.epoch),
            before=self._measured(facts.now_s - self._resizing.window, facts.now_s),
        )
        made = decide_resize(self._rules, case)
        if made is None and back is not None:
            self._settled = back.decision
        if made is None and waiting:
            # What takes back names no order: the one that is next is not over by it.
            case = replace(case, heard=waiting[0])
            made = decide_resize(self._rules, case)
        return None if made is None else Decided(case, made)

    async def carry_out(self, decided: Decided) -> None:
        """Record it and, where sizes are to be given, ask the target for them."""
        case, made = decided.case, decided.made
        if made.sizes is None and not made.over and not self._is_new(case, made):
            return
        if made.sizes is not None:
            # Nothing waits between the decision and this: no other service begins as well.
            self._turns.tell(self._service, self._book.epoch, resizing=True)
        dry_run = self._target.dry_run or self._rules.dry_run or self._resizing.dry_run
        name = self._book.next_name()
        record = self._scribe.resize(made, case, name=name, epoch=self._book.epoch, dry_run=dry_run)
        change = await self._book.add_resize(record)
        self._said, self._said_at_s = _words_of(case, made), case.facts.now_s
        if change is not None:
            await self._ask(change, case.facts.now_s, case.facts.observation)

    async def follow(self, change: Change, seen: Observation | None, facts: Facts) -> None:
        """Bring a resize to its result, then to its verdict."""
        if change.ok is None:
            sizes = await self._sizes()
            error = finished(change, seen, sizes, facts.now_s, self._resizing)
            if error is not None:
                await self._result(change, facts.now_s, seen, error)
            elif unheard(change, seen, sizes):
                await self._ask(change, facts.now_s, seen)
            return
        # What takes back is watched no longer than a move of replicas: they may be waiting for it.
        tuning = self._rules.tuning.effectiveness if change.reverses else watch(self._rules, self._resizing)
        verdict, after = judge_early(change, self._rules, facts, tuning.settle), dict[str, float]()
        span = measurable(change, facts.now_s, tuning)
        if verdict is None and span is not None:
            after = self._measured(*span)
            verdict = judge_resize(change, after, self._rules)
        if verdict is not None:
            record = self._scribe.effectiveness(change, facts.now_s, self._book.epoch, *verdict, after)
            await self._book.add_outcome(change, record)

    def _is_new(self, case: ResizeCase, made: Resize) -> bool:
        """Whether a reason to wait is worth a record: the first of an order is, others once in a while."""
        order, code = _words_of(case, made)
        soon = case.facts.now_s - self._said_at_s < REASON_INTERVAL_S
        return order != self._said[0] or (code != self._said[1] and not soon)

    async def _ask(self, change: Change, now_s: float, seen: Observation | None) -> None:
        try:
            await self._target.set_sizes(self._service, change.to_sizes or Sizes(), self._book.epoch, change.decision)
        except RefusedError as error:
            await self._result(change, now_s, seen, f"refused: {error}")
        except FencedError as error:
            await self._result(change, now_s, seen, f"fenced: {error}")
            raise
        except TransientError as error:
            # Perhaps it was heard: the next look at the target tells, and asks again if not.
            logger.warning("%s: %s", change.decision, error)

    async def _result(self, change: Change, now_s: float, seen: Observation | None, error: str) -> None:
        ready = None if seen is None else seen.ready
        record = self._scribe.result(change, now_s, self._book.epoch, ready=ready, error=error)
        await self._book.add_outcome(change, record)

    async def _sizes(self) -> Sizes | None:
        try:
            sizes = await self._target.sizes(self._service)
        except (RefusedError, TransientError) as error:
            logger.warning("%s: its sizes are not told: %s", self._service, error)
            return None
        return None if sizes == Sizes() else sizes

    def _measured(self, begin_s: float, end_s: float) -> dict[str, float]:
        return self._inputs.measured(self._service, begin_s, end_s)

    @property
    def _resizing(self) -> Resizing:
        """The rules' limits; where they were taken out while a resize was under way it still comes to an end."""
        return self._rules.resizing or NOTHING_ALLOWED


def _words_of(case: ResizeCase, made: Resize) -> tuple[str, str]:
    """What makes two reasons in a row the same."""
    return (case.heard.order.id if case.heard else "", made.code)


NOTHING_ALLOWED = Resizing.model_validate(
    {"enabled": False, "cpu": {"min": 1e-3, "max": 1e-3}, "memory": {"min": 1, "max": 1}}
)
