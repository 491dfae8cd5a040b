"""Leads the searches of all runs while this validator presides: looks at each step, publishes what is to be asked next.

Every generation is appended with the sequence expected of the last, so that neither the console's changes nor another
validator's are ever overwritten: who comes second reads, and decides anew.
"""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

from nats.errors import Error as NatsError
from nats.js.errors import APIError, NotFoundError
from pydantic import ValidationError

from services.validator.board import RunBoard
from services.validator.judging import Judge
from services.validator.stress_lead import begun_s, lead, led
from services.validator.stress_limits import limits_of
from services.validator.stress_measuring import in_flight, sight_of
from services.validator.stress_report import with_breach
from shared.bus import Bus, publish_after
from shared.clock import wall_us
from shared.config import describe
from shared.contracts.run import Phase, RunDesired

TICK_S = 0.5
ANSWER_S = 2.0

logger = logging.getLogger(__name__)


class StressLeader:
    """One per process; acts while ``presiding`` says so."""

    def __init__(self, bus: Bus, judge: Judge, presiding: Callable[[], bool]) -> None:
        self._bus, self._judge, self._presiding = bus, judge, presiding

    async def lead(self) -> None:
        """Look at every search twice a second, for ever."""
        while True:
            await asyncio.sleep(TICK_S)
            if not self._presiding():
                continue
            for board in list(self._judge.boards.values()):
                wanted = self._next(board, wall_us())
                if wanted is not None:
                    await self._publish(board, wanted)

    def _next(self, board: RunBoard, now_us: int) -> RunDesired | None:
        desired, state = board.desired, board.state
        if desired is None or desired.search is None or not led(desired):
            return None
        if state is None or state.phase is not Phase.RUNNING or state.started_at is None:
            return None
        limits = limits_of(self._judge.benchmarks, desired)
        sight = sight_of(board, self._judge.resources, limits, desired.search, begun_s(desired), now_us)
        elapsed_s = now_us / 1e6 - board.began_s
        wanted = lead(desired, elapsed_s, datetime.now(UTC), sight, in_flight(board, now_us))
        if wanted is None or wanted.search is None or wanted.search.answer is None:
            return wanted
        return wanted.model_copy(update={"search": with_breach(wanted.search, board.breaches.values())})

    async def _publish(self, board: RunBoard, wanted: RunDesired) -> None:
        subject = self._bus.subjects.run_desired(wanted.run)
        try:
            kept = await self._bus.js.get_last_msg(self._bus.subjects.stream("RUNS"), subject)
            latest = RunDesired.model_validate_json(kept.data or b"")
            if latest.generation + 1 != wanted.generation:
                board.note_desired(latest)
                return
            await publish_after(self._bus.js, subject, wanted.model_dump_json().encode(), kept.seq or 0, ANSWER_S)
        except NotFoundError:
            logger.warning("run %s is not asked for any more; its search ends", wanted.run)
            return
        except ValidationError as error:
            logger.error("run %s: what is asked of it last is ignored: %s", wanted.run, describe(error))  # noqa: TRY400 - the sender's
            return
        except (NatsError, APIError, TimeoutError) as error:
            # What was not kept is decided again at the next look; what was, is read by then.
            logger.warning("search of run %s waits: %s", wanted.run, error or type(error).__name__)
            return
        board.note_desired(wanted)
        _tell(wanted)


def _tell(desired: RunDesired) -> None:
    search = desired.search
    if search is None:
        return
    last = search.steps[-1] if search.steps else None
    if search.answer is not None:
        logger.info("run %s: search ends after %d steps: %s", desired.run, len(search.steps), search.answer.reason or
                    f"breaks at {search.answer.level:g}")  # fmt: skip
    elif last is not None:
        logger.info("run %s: step %d at %g is %s; now %g", desired.run, last.number, last.level, last.verdict,
                    search.level)  # fmt: skip
