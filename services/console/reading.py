"""What the console reads from the store by the names that people give: runs, and all that belongs to one."""

from datetime import timedelta

from services.console.report_rows import Dossier
from shared.errors import ConfigError
from shared.store.asking import Connection, find_run
from shared.store.breaches import list_breaches
from shared.store.listings import find_last_reported, read_latest_report
from shared.store.runs import FINAL, read_run
from shared.store.scaling import list_scaling
from shared.store.summaries import SummaryRow, list_summaries

SETTLING = timedelta(seconds=60)


async def read_dossier(connection: Connection, environment: str, run: str) -> Dossier | None:
    """A run's report with its breaches and all that was scaled while it went on, oldest first; None without report."""
    report = await read_latest_report(connection, run)
    about = await read_run(connection, run)
    if report is None or about is None:
        return None
    breaches = await list_breaches(connection, environment, run=run, limit=1000)
    until = None if about.ended_at is None else about.ended_at + SETTLING
    scaling = await list_scaling(connection, environment, since=about.requested_at, until=until, limit=1000)
    opened = sorted((row.event["data"] for row in breaches), key=lambda breach: str(breach["opened_at"]))
    return Dossier(report, tuple(opened), tuple(row.record for row in reversed(scaling)))


async def find_going_on(connection: Connection, environment: str, name: str) -> list[SummaryRow]:
    """The days of a run that still goes on, the newest first; empty for one that is over, or has none (yet)."""
    if name == "last" and await find_last_reported(connection, environment):
        return []
    about = await read_run(connection, await find_run(connection, environment, name))
    if about is None or about.phase in FINAL:
        return []
    return await list_summaries(connection, environment, run=about.run)


async def find_dossier(connection: Connection, environment: str, name: str) -> Dossier:
    """The dossier of a run, or of the newest that has a report; ``ConfigError`` where there is none."""
    run = await find_last_reported(connection, environment) if name == "last" else None
    run = run or await find_run(connection, environment, name)
    dossier = await read_dossier(connection, environment, run)
    if dossier is None:
        raise ConfigError(
            f"run {run} has no report yet; it is written when the run has ended, and of canary runs every day"
        )
    return dossier
