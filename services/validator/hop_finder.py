"""Looks for the hop that spent the time of a breach: beside the judging, which never waits for it.

The spans of its exemplars come to the store a second or two after the requests. Each look is bounded in time and
so is how many go on at once; what is found is taken by whoever tells, and what is not found is left open.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from services.validator.hops import Breakdown, SlowestHop, break_down, break_down_request, find_slowest
from services.validator.timescale import Store
from shared.contracts.benchmarks import Source
from shared.contracts.breach import Breach, BreachStatus
from shared.errors import TransientError
from shared.store.figures import TraceSpan

LOOK_AFTER_S = (1.0, 1.0, 1.5, 2.5)
"""Pauses before each look: exporters send once a second, and a call is whole when all its systems have."""
MOST_AT_ONCE = 4
AROUND = timedelta(seconds=30)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Found:
    run: str
    breach: str
    slowest: SlowestHop


class HopFinder:
    """One per process. Only what is timed by the request is looked for: a resource says itself whose it is."""

    def __init__(self, store: Store, pauses_s: tuple[float, ...] = LOOK_AFTER_S) -> None:
        self._store, self._pauses_s = store, pauses_s
        self._looking: dict[str, asyncio.Task[None]] = {}
        self._looked: dict[str, frozenset[str]] = {}
        self._found: list[Found] = []

    @property
    def looking(self) -> int:
        """How many looks go on."""
        return len(self._looking)

    def look(self, breach: Breach, source: Source | None) -> None:
        """Begin to look, unless the same exemplars were looked at already or too much is being looked at."""
        if breach.status is BreachStatus.RESOLVED:
            self._forget(breach.breach)
            return
        traces = {one.trace_id: one.response_us for one in breach.exemplars if one.recorded}
        if source not in (Source.RESPONSE_TIME, Source.WORKFLOW_TIME) or not traces:
            return
        busy = breach.breach in self._looking or len(self._looking) >= MOST_AT_ONCE
        if busy or self._looked.get(breach.breach) == traces.keys():
            return
        self._looked[breach.breach] = frozenset(traces)
        whole = source is Source.WORKFLOW_TIME
        task = asyncio.create_task(self._find(breach, traces, whole), name=f"hops-{breach.breach}")
        self._looking[breach.breach] = task
        task.add_done_callback(partial(self._ended, breach.breach))

    def take(self) -> list[Found]:
        """What was found since the last time."""
        found, self._found = self._found, []
        return found

    async def close(self) -> None:
        """Give up every look and forget what was found."""
        tasks = list(self._looking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._looked.clear()
        self._found.clear()

    def _forget(self, breach: str) -> None:
        self._looked.pop(breach, None)
        if task := self._looking.get(breach):
            task.cancel()

    def _ended(self, breach: str, task: asyncio.Task[None]) -> None:
        self._looking.pop(breach, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("breach %s: its hops were not found", breach, exc_info=error)

    async def _find(self, breach: Breach, traces: dict[str, int], whole: bool) -> None:
        longest = timedelta(microseconds=max(traces.values()))
        since, until = breach.window.start - longest - AROUND, breach.window.end + AROUND
        calls: list[Breakdown] = []
        for pause_s in self._pauses_s:
            await asyncio.sleep(pause_s)
            try:
                spans = await self._store.read_traces(list(traces), since, until)
            except TransientError as error:
                logger.debug("breach %s: %s", breach.breach, error)
                continue
            # Beside the loop: a trace of very many spans takes longer than a judgement may be late.
            calls = await asyncio.to_thread(_break_down_all, spans, traces, whole)
            if len(calls) == len(traces) and not any(call.unanswered or (whole and call.lost) for call in calls):
                break
        slowest = find_slowest(calls)
        if slowest is None:
            # Asked again by the next event of the episode.
            self._looked.pop(breach.breach, None)
        else:
            self._found.append(Found(breach.run, breach.breach, slowest))


def _break_down_all(
    spans: Mapping[str, Sequence[TraceSpan]], traces: Mapping[str, int], whole: bool
) -> list[Breakdown]:
    found = [
        break_down(spans[trace_id]) if whole else break_down_request(spans[trace_id], response_us)
        for trace_id, response_us in traces.items()
        if trace_id in spans
    ]
    return [call for call in found if call is not None]
