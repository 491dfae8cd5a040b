"""A canary run in a real store: its hours as the collector would have rolled them up, from a simulated world."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from shared.contracts.run import Load, Phase, RunDesired
from shared.contracts.scenario import Scenario
from shared.contracts.timing import Kind
from shared.store.figures import SpanTotals
from tests.unit.canary_world import FIRST

Connection = psycopg.AsyncConnection[Any]
HOUR = timedelta(hours=1)

_HOUR = """
INSERT INTO timing_part (committed_at, series_id, at, ramp_up, cancelled, n, failed, service_sum_us, response_sum_us,
                         service_max_us, response_max_us, bytes_in, bytes_out, errors, service, response)
VALUES (%(at)s, %(series)s, %(at)s, false, false, %(count)s, %(failed)s, %(sum_us)s, %(sum_us)s, %(max_us)s, %(max_us)s,
        0, 0, '{}', '{}', %(response)s)
"""


def canary_desired(run: str, environment: str, started: datetime, actions: Iterable[str], rate: float) -> RunDesired:
    """An endless canary whose scenario makes these actions."""
    steps = [{"action": action, "system": "shop", "path": "/"} for action in actions]
    scenario = Scenario.model_validate({"name": "visit", "system": "shop", "steps": steps})
    load = Load(scenario=scenario, users=5, rate=rate, duration_s=10 * 365 * 86_400.0, profile="canary")
    return RunDesired(
        run=run,
        environment=environment,
        generation=1,
        status="running",
        loads=(load,),
        targets={"shop": "http://127.0.0.1:8000"},
        allowed_hosts=("127.0.0.1",),
        requested_at=started,
    )


class CanaryStore:
    """Writes one run; ``shift`` moves the world's days to other ones."""

    def __init__(self, connection: Connection, desired: RunDesired, shift: timedelta = timedelta(0)) -> None:
        self.connection, self.desired, self.shift = connection, desired, shift
        self._series: dict[tuple[str, str, str, Kind], int] = {}

    async def begin(self, started: datetime, ended: datetime | None = None) -> None:
        await self.connection.execute(
            "INSERT INTO run (run, environment, phase, generation, requested_at, started_at, ended_at, desired) "
            "VALUES (%s, %s, %s, 1, %s, %s, %s, %s)",
            (
                self.desired.run,
                self.desired.environment,
                Phase.FINISHED if ended else Phase.RUNNING,
                started,
                started,
                ended,
                Jsonb(self.desired.model_dump(mode="json")),
            ),
        )
        await self.connection.execute(
            "INSERT INTO producer (run, worker, epoch, system, last_emitted) VALUES (%s, 'w1', 1, 'shop', %s)",
            (self.desired.run, started),
        )

    async def reach(self, until: datetime) -> None:
        """Frames up to a moment are committed."""
        await self.connection.execute("UPDATE producer SET last_emitted = %s", (until,))

    async def add(self, rows: Iterable[SpanTotals]) -> None:
        """Hours of the world."""
        async with self.connection.pipeline(), self.connection.cursor() as cursor:
            for row in rows:
                await cursor.execute(
                    _HOUR,
                    {
                        "at": row.start + self.shift,
                        "series": await self._series_of(row),
                        "count": row.count,
                        "failed": row.failed,
                        "sum_us": row.sum_us,
                        "max_us": row.max_us,
                        "response": [(bucket << 40) + count for bucket, count in sorted(row.response.items())],
                    },
                )

    async def _series_of(self, row: SpanTotals) -> int:
        key = (row.system, row.scenario, row.action, row.kind)
        if key not in self._series:
            found = await self.connection.execute(
                "INSERT INTO series (run, system, scenario, action, kind) VALUES (%s, %s, %s, %s, %s) "
                "RETURNING series_id",
                (self.desired.run, *key[:3], int(row.kind)),
            )
            made = await found.fetchone()
            assert made is not None
            self._series[key] = int(made[0])
        return self._series[key]


def now_at(day: int, hour: float, minutes: float = 3.0) -> datetime:
    """A moment of the world: some minutes after the beginning of an hour of a day."""
    return FIRST.astimezone(UTC) + timedelta(days=day, hours=hour, minutes=minutes)
