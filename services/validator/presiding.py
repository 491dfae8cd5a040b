"""The validator that judges: holds the lease, ticks the judge, has its events told, sees runs to their report.

A second one reads along and judges nothing until the lease is free; then it takes up the open episodes from the last
message per subject of BREACHES, and from the store what a broker has lost.
"""

import asyncio
import contextlib
import logging
import time
from datetime import UTC, datetime, timedelta

from nats.errors import Error as NatsError
from nats.js.errors import Error as JetStreamError

from services.validator.attention import Attention
from services.validator.board import RunBoard
from services.validator.breach_stream import BreachStream, StaleWriterError
from services.validator.canary_watch import CanaryWatch
from services.validator.hop_finder import HopFinder
from services.validator.inbox import Inbox
from services.validator.judging import Judge
from services.validator.levels import LOOK_S
from services.validator.lifecycle import take_up
from services.validator.reporter import Reporter
from services.validator.telling import Teller
from services.validator.timescale import Store
from shared import metrics
from shared.clock import wall_us
from shared.contracts.breach import Breach, BreachStatus
from shared.errors import TransientError
from shared.lease import Lease

TICK_S = 0.25
REST_SHARE = 4.0
"""Between two judgements so many times what one takes: reading what comes has most of the process."""
CLOSE_S = 3.0
STORE_S = 2.0
RECENT = timedelta(hours=1)
"""A run that ended longer ago is not reported by a validator that has just started."""
UNKNOWN_S = 600

logger = logging.getLogger(__name__)


class Presider:
    """One per process; ``presiding`` while it holds the lease and has taken up what was open."""

    def __init__(
        self,
        judge: Judge,
        inbox: Inbox,
        lease: Lease,
        stream: BreachStream,
        teller: Teller,
        attention: Attention,
        store: Store,
        reporter: Reporter,
        hops: HopFinder,
        canaries: CanaryWatch,
    ) -> None:
        self._judge, self._inbox, self._lease = judge, inbox, lease
        self._stream, self._teller, self._attention, self._store = stream, teller, attention, store
        self._reporter, self._hops, self._canaries = reporter, hops, canaries
        self._epoch = 0
        self._took_s = 0.0
        self._reports: dict[str, asyncio.Task[None]] = {}
        self._counted: dict[str, int] = {}

    @property
    def presiding(self) -> bool:
        return self._lease.held and self._epoch == self._lease.epoch

    async def preside(self) -> None:
        """Judge for ever: soon after something was heard, and every ``TICK_S`` where nothing is."""
        while True:
            self._inbox.look()
            if self._lease.held and self._inbox.joined:
                await self._turn()
            else:
                self._stand_by()
            await self._pause()

    async def close(self) -> None:
        """Tell what is still to be told, end the watch over reports, give the lease back.

        A report that is not yet written is written by the next validator.
        """
        with contextlib.suppress(StaleWriterError, TransientError, TimeoutError):
            async with asyncio.timeout(CLOSE_S):
                await self._teller.deliver(lambda: self._lease.held)
        await self._hops.close()
        for task in self._reports.values():
            task.cancel()
        await asyncio.gather(*self._reports.values(), return_exceptions=True)
        await self._lease.release()

    async def _pause(self) -> None:
        rest_s = min(TICK_S, max(LOOK_S, REST_SHARE * self._took_s))
        await asyncio.sleep(rest_s)
        # Not wait_for: in Python 3.11 it forgets a cancellation that comes together with its result.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TICK_S - rest_s):
                await self._inbox.news.wait()
        self._inbox.news.clear()

    async def _turn(self) -> None:
        try:
            if self._epoch != self._lease.epoch:
                await self._take_up()
            began = time.monotonic()
            events = self._judge.tick(wall_us())
            self._took_s = time.monotonic() - began
            for breach in events:
                self._post(breach)
            for found in self._hops.take():
                told = self._judge.note_hop(found.run, found.breach, found.slowest)
                if told is not None:
                    self._post(told)
            for said in self._attention.untold(self._judge.open_breaches()):
                told = self._judge.acknowledge(said)
                if told is not None:
                    self._post(told)
            for window in self._canaries.take():
                for breach in self._judge.take_drift(window):
                    self._post(breach)
            self._end_runs()
            await self._teller.deliver(lambda: self._lease.held)
        except StaleWriterError as error:
            logger.warning("%s; reading the open breaches again", error)
            self._epoch = 0
        except (TransientError, NatsError, JetStreamError, TimeoutError) as error:
            logger.warning("judging goes on, telling waits: %s", error or type(error).__name__)
            if self._teller.overfull:
                logger.warning("too much waits to be told; it is dropped and judged anew")
                self._epoch = 0
        self._measure()

    async def _take_up(self) -> None:
        """Open episodes are what the stream last said of them; what was meant to be said is judged anew."""
        epoch = self._lease.epoch
        breaches = take_up(await self._stream.read_last(), await self._left_open())
        self._teller.drop()
        await self._hops.close()
        self._canaries.forget()
        self._judge.forget_episodes()
        for breach in breaches:
            if breach.status is not BreachStatus.RESOLVED or breach.run in self._judge.boards:
                self._judge.restore(breach, wall_us())
        self._epoch = epoch

    async def _left_open(self) -> list[Breach]:
        """What the store knows as open; nothing when it cannot tell now: the stream is what counts."""
        try:
            async with asyncio.timeout(STORE_S):
                return await self._store.read_open_breaches(self._judge.environment)
        except (TransientError, TimeoutError) as error:
            logger.warning("what was open is known from the stream alone: %s", error or type(error).__name__)
            return []

    def _stand_by(self) -> None:
        self._epoch = 0
        now_us = wall_us()
        for board in list(self._judge.boards.values()):
            for windows in board.windows.values():
                windows.advance(now_us)
            if board.over and _ended_before(board, timedelta(seconds=90)):
                self._judge.forget(board.run)

    def _end_runs(self) -> None:
        """Resolve and report runs that are over, drop those nobody has told of for long."""
        for run, board in list(self._judge.boards.items()):
            if board.over:
                self._end_run(board)
            elif board.state is None and board.stale(wall_us(), UNKNOWN_S):
                for breach in self._judge.end_run(board):
                    self._post(breach)
                self._judge.forget(run)
        for run, task in list(self._reports.items()):
            # What is not told yet may have to be judged anew, for which the run must not be forgotten.
            if task.done() and not self._teller.waits(run):
                del self._reports[run]
                self._inbox.finish(run)
                if not task.cancelled() and (error := task.exception()) is not None:
                    # One run that cannot be reported must not take the judging of all others with it.
                    logger.error("run %s cannot be reported", run, exc_info=error)

    def _end_run(self, board: RunBoard) -> None:
        for breach in self._judge.end_run(board):
            self._post(breach)
        if board.run in self._reports:
            return
        if _ended_before(board, RECENT) or board.desired is None:
            # Without its desired state (expired, or still to come) there is nothing to report against.
            if _ended_before(board, RECENT) and not self._teller.waits(board.run):
                self._inbox.finish(board.run)
            return
        self._reports[board.run] = asyncio.create_task(self._reporter.report(board), name=f"report-{board.run}")

    def _post(self, breach: Breach) -> None:
        self._hops.look(breach, self._judge.source_of(breach))
        self._teller.post(breach)

    def _measure(self) -> None:
        metrics.BREACHES_OPEN.set(sum(len(board.episodes) for board in self._judge.boards.values()))
        for verdict, count in self._judge.verdicts.items():
            metrics.VERDICTS.labels(verdict.value).inc(count - self._counted.get(verdict.value, 0))
            self._counted[verdict.value] = count


def _ended_before(board: RunBoard, age: timedelta) -> bool:
    return board.state is not None and datetime.now(UTC) - (board.state.ended_at or board.state.at) > age
