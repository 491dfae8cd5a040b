"""What is still to be told of breaches: marked, dated and numbered in order, until the broker has kept each of it.

An event that is not confirmed is published again before any newer one. Where too much waits, or another has told
meanwhile, all of it is dropped by the presider: it was not told, so it is judged anew from what was.
"""

import logging
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime

from services.validator.attention import Attention
from services.validator.breach_stream import BreachStream
from services.validator.breach_tracing import BreachTracing
from shared.contracts.breach import Breach, BreachEvent

MOST_WAITING = 1_000

logger = logging.getLogger(__name__)


class Teller:
    """Events of one presider, in the order in which they were judged."""

    def __init__(self, stream: BreachStream, tracing: BreachTracing, attention: Attention) -> None:
        self._stream, self._tracing, self._attention = stream, tracing, attention
        self._waiting: deque[tuple[BreachEvent, dict[str, str]]] = deque()

    @property
    def overfull(self) -> bool:
        """More waits than is worth keeping: the broker has refused for long."""
        return len(self._waiting) > MOST_WAITING

    def waits(self, run: str) -> bool:
        """Whether something of this run is still to be told."""
        return any(event.data.run == run for event, _ in self._waiting)

    def post(self, breach: Breach) -> None:
        now = datetime.now(UTC)
        breach = breach.model_copy(update={"silenced_by": self._attention.silenced_by(breach, now)})
        self._waiting.append((BreachEvent.of(breach, now), self._tracing.context_of(breach)))
        logger.info(
            "breach %s %s%s: %s %s %s %.4g %s (limit %g, %d samples, run %s)",
            breach.breach,
            breach.told,
            ", silenced" if breach.silenced_by else "",
            breach.system,
            breach.metric,
            breach.statistic,
            breach.value,
            breach.unit,
            breach.limit,
            breach.samples,
            breach.run,
        )

    async def deliver(self, may_tell: Callable[[], bool]) -> None:
        """Publish what waits, each once the one before is kept, while ``may_tell``. Raises what ``publish`` raises."""
        while self._waiting and may_tell():
            await self._stream.publish(*self._waiting[0])
            self._waiting.popleft()

    def drop(self) -> None:
        """Forget what was not told."""
        self._waiting.clear()
