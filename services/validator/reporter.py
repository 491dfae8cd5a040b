"""From a run's end to its report: waits until the store has what was sent, writes, and revises for what comes late."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar

from services.validator.board import RunBoard
from services.validator.facts import Observed, Span
from services.validator.report import build_report
from services.validator.timescale import AFTERMATH, Store
from shared.contracts.benchmarks import Benchmarks
from shared.contracts.run import RunDesired, RunState
from shared.errors import TransientError
from shared.store.figures import Stored

SETTLE_S = 15.0
LATE_S = 30.0
POLL_S = 0.25
LATE_POLL_S = 1.0

T = TypeVar("T")
logger = logging.getLogger(__name__)


def is_settled(stored: Stored, state: RunState) -> bool:
    """True when every frame the coordinator knows of is committed and nothing counted as sent is missing."""
    for worker in state.workers:
        for progress in worker.systems:
            last_seq, frames = stored.frames.get((worker.worker, worker.epoch, progress.system), (0, 0))
            if progress.last_seq and (last_seq < progress.last_seq or frames < progress.last_seq):
                return False
    return stored.sent - stored.held <= stored.stored


class Reporter:
    """Writes reports. ``settle_s`` and ``late_s`` bound how long it waits before and watches after the first one."""

    def __init__(
        self, store: Store, benchmarks: Benchmarks, *, settle_s: float = SETTLE_S, late_s: float = LATE_S
    ) -> None:
        self._store, self._benchmarks = store, benchmarks
        self._settle_s, self._late_s = settle_s, late_s

    async def report(self, board: RunBoard) -> None:
        """Write the report of a run that is over, again with a higher revision when late rows or results come.

        A run that has one already was reported by an earlier validator.
        """
        desired, state = board.desired, board.state
        if desired is None or state is None or await _retried(lambda: self._store.has_report(desired.run)):
            return
        await self._settle(desired.run, state)
        seen = await _retried(lambda: self._fingerprint(desired, state, ()))
        missing = await self._write(board, desired, state)
        deadline = time.monotonic() + self._late_s
        while time.monotonic() < deadline:
            await asyncio.sleep(min(LATE_POLL_S, self._late_s))
            now = await _retried(partial(self._fingerprint, desired, state, missing))
            if now != seen:
                missing = await self._write(board, desired, state)
                # The traces that came are no longer among those that are missing.
                seen = (*now[:2], 0)

    async def _settle(self, run: str, state: RunState) -> None:
        deadline = time.monotonic() + self._settle_s
        previous: Stored | None = None
        while time.monotonic() < deadline:
            try:
                stored = await self._store.read_stored(run)
            except TransientError as error:
                logger.warning("run %s is not reported yet: %s", run, error)
            else:
                # Twice the same: a state that names no workers cannot tell what is still on its way.
                if is_settled(stored, state) and stored == previous:
                    return
                previous = stored
            await asyncio.sleep(POLL_S)
        logger.warning("run %s is reported although the store does not hold all that was sent", run)

    async def _fingerprint(
        self, desired: RunDesired, state: RunState, missing: Sequence[str]
    ) -> tuple[Stored, int, int]:
        span = Span.of(desired, state)
        records = await self._store.count_scaling(desired.environment, span.started, span.ended + AFTERMATH)
        return await self._store.read_stored(desired.run), records, await self._store.count_roots(missing, span)

    async def _write(self, board: RunBoard, desired: RunDesired, state: RunState) -> Sequence[str]:
        """Write the report as it is now; returns the traces it would tell of if they were in the store."""

        async def write() -> tuple[int, Sequence[str]]:
            facts = await self._store.gather(
                desired, state, Observed.of(board), board.breaches, self._benchmarks.named_spans
            )
            return await self._store.write_report(desired.run, build_report(self._benchmarks, facts)), (
                facts.missing_traces
            )

        revision, missing = await _retried(write)
        logger.info("run %s: report revision %d", desired.run, revision)
        return missing


async def _retried(call: Callable[[], Awaitable[T]], first_s: float = 0.2, most_s: float = 5.0) -> T:
    """Call until the store answers, with a growing, jittered pause."""
    pause_s = first_s
    while True:
        try:
            return await call()
        except TransientError as error:
            logger.warning("%s; again in %.1f s", error, pause_s)
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
        pause_s = min(most_s, pause_s * 2)
