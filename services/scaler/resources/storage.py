"""What could be made better of storage: larger writes, file systems that fill, and Tidegate's own store. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from scipy import stats

from services.scaler.resources.item import Advice, Impact, Item, Risk
from services.scaler.resources.usage import ServiceUsage
from shared.store.figures import Commits, StoredTable, UsageStep

ENOUGH = 100
SMALL_WRITE, MANY_WRITES = 8_192.0, 50.0
"""Bytes of a write below which, and writes/s of a replica from which on, they are worth bundling."""
FULL_WITHIN_H, SOON_H, AT_ONCE_H = 30 * 24.0, 7 * 24.0, 24.0
LEAST_STEPS = 12
LARGE_STORE = 1024**3
LARGE_SHARE = 0.3
SMALL_COMMIT, MANY_COMMITS = 1_000.0, 5.0
"""Rows of a commit below which, and commits/s from which on, larger ones are worth it."""
COMPRESSION = 15 / 128
"""Measured of request timings on TimescaleDB: bytes a row after and before."""
KEPT_BY = {
    "request_timing": "TIDEGATE_KEEP_TIMINGS_DAYS",
    "request_trace": "TIDEGATE_KEEP_SPANS_DAYS",
    "spans": "TIDEGATE_KEEP_SPANS_DAYS",
    "resource_sample": "TIDEGATE_KEEP_RESOURCES_DAYS",
}
SETTING = "a setting of the collector, read when it starts"


@dataclass(frozen=True, slots=True)
class StorageUse:
    """``steps``: of ``storage_ratio``. ``tables`` and ``commits``: of Tidegate's own store."""

    services: Sequence[ServiceUsage] = ()
    steps: Sequence[UsageStep] = ()
    tables: Sequence[StoredTable] = ()
    commits: Commits | None = None
    now: datetime | None = None


def advise_storage(use: StorageUse) -> Advice:
    """Every item, by kind and name, and what there was too little of."""
    found = Advice()
    for one in use.services:
        found += _writes(one)
    for service, instance in sorted({(step.service, step.instance) for step in use.steps}):
        found += _filling(
            service, instance, [one for one in use.steps if (one.service, one.instance) == (service, instance)]
        )
    if not any(name.startswith("storage_") for one in use.services for name in one.replica):
        found += Advice(notes=("storage of services: no source of samples tells of it (docs/resources.md)",))
    return found + _own_tables(use) + _own_commits(use.commits)


def _writes(one: ServiceUsage) -> Advice:
    operations, written = one.replica.get("storage_writes"), one.replica.get("storage_written")
    if operations is None or written is None or operations.samples < ENOUGH or operations.mean < MANY_WRITES:
        return Advice()
    size = written.mean / operations.mean
    if size >= SMALL_WRITE:
        return Advice()
    fewer = operations.mean * size / SMALL_WRITE
    item = Item(
        id=f"storage.{one.service}.batching",
        part="storage",
        subject=one.service,
        title=f"{one.service}: write in larger pieces",
        evidence=(
            f"{operations.mean:.4g} writes/s of {size / 1024:.3g} kB per replica, p95 {operations.p95:.4g} writes/s",
            f"{operations.samples} samples",
        ),
        figures={"writes_per_s": operations.mean, "bytes_per_write": size, "samples": float(operations.samples)},
        impact=Impact(
            latency="none to requests that do not wait for the disk",
            cost=f"{operations.mean - fewer:.4g} writes/s fewer per replica in pieces of {SMALL_WRITE / 1024:g} kB",
            headroom="operations/s of the disk, of which there are far fewer than bytes/s",
        ),
        risk="medium",
        risk_reason="what waits to be written together is lost when the process ends; a write-ahead log keeps it",
        why_not="how it writes is in the service: buffers, batches, fewer syncs",
    )
    return Advice(items=(item,))


def _filling(service: str, instance: str, steps: Sequence[UsageStep]) -> Advice:
    """The robust trend (Theil-Sen) of how full one file system is, to the hour at which it is full."""
    if len(steps) < LEAST_STEPS:
        return Advice(notes=(f"{service}: {len(steps)} readings of {instance}'s disk, {LEAST_STEPS} are needed",))
    ordered = sorted(steps, key=lambda step: step.at)
    hours = np.array([(step.at - ordered[0].at).total_seconds() / 3600 for step in ordered])
    ratios = np.array([step.mean for step in ordered])
    slope, _, low, _ = stats.theilslopes(ratios, hours, alpha=0.95)
    if low <= 0:
        return Advice()
    left_h = (1 - ordered[-1].most) / float(slope)
    if left_h > FULL_WITHIN_H:
        return Advice()
    risk: Risk = "high" if left_h < AT_ONCE_H else "medium" if left_h < SOON_H else "low"
    item = Item(
        id=f"storage.{service}.{instance}.full",
        part="storage",
        subject=service,
        title=f"{service}: the disk of {instance} is full in {left_h / 24:.2g} days",
        evidence=(
            f"{ordered[-1].most:.1%} used, growing by {100 * float(slope) * 24:.3g} points a day (Theil-Sen, at least "
            f"{100 * float(low) * 24:.3g} at 95 %)",
            f"{sum(step.samples for step in ordered)} samples over {hours[-1]:.3g} h",
        ),
        figures={"used": ordered[-1].most, "growth_per_day": float(slope) * 24, "hours_to_full": left_h},
        impact=Impact(
            headroom=f"{(1 - ordered[-1].most):.1%} are left; deleting, compressing or a larger disk add to it"
        ),
        risk=risk,
        risk_reason="a full disk ends what writes to it",
        why_not="what may be deleted is for the service's owner to say",
    )
    return Advice(items=(item,))


def _own_tables(use: StorageUse) -> Advice:
    total = sum(table.bytes for table in use.tables)
    if total < LARGE_STORE:
        return Advice(
            notes=(f"Tidegate's own store: {total / 1024**2:.4g} MB in large tables, too little to advise on",)
        )
    items = [
        _retention(table, total, (use.now - table.since).total_seconds() / 86_400)
        for table in use.tables
        if table.bytes >= LARGE_SHARE * total and table.since is not None and use.now is not None
    ]
    if any(table.compressible is None for table in use.tables):
        items.append(_timescale(total))
    waiting = sum(table.compressible or 0 for table in use.tables)
    if waiting >= LARGE_SHARE * total:
        items.append(_compression(waiting, total))
    return Advice(items=tuple(items))


def _retention(table: StoredTable, total: int, days: float) -> Item:
    a_day = table.bytes / max(days, 1.0)
    setting = KEPT_BY.get(table.table, "")
    return Item(
        id=f"storage.store.{table.table}.retention",
        part="storage",
        subject="Tidegate's store",
        title=f"keep {table.table} for less time",
        evidence=(
            f"{table.bytes / 1024**3:.3g} GB, {table.bytes / total:.0%} of the large tables, about {table.rows} rows",
            f"{days:.3g} days of it, {a_day / 1024**3:.3g} GB a day",
        ),
        figures={"bytes": float(table.bytes), "bytes_per_day": a_day, "days": days},
        impact=Impact(cost=f"{a_day / 1024**3:.3g} GB less for each day less; roll-ups and reports stay"),
        risk="medium",
        risk_reason="single requests, spans or samples of those days cannot be looked at any more",
        why_not=f"{setting} is {SETTING}",
    )


def _timescale(total: int) -> Item:
    return Item(
        id="storage.store.timescale",
        part="storage",
        subject="Tidegate's store",
        title="move the store to TimescaleDB, which compresses it",
        evidence=(f"{total / 1024**3:.3g} GB in plain PostgreSQL, which compresses no rows",),
        figures={"bytes": float(total)},
        impact=Impact(
            cost=f"about {total * (1 - COMPRESSION) / 1024**3:.3g} GB less: 128 bytes of a request become 15 (measured)"
        ),
        risk="medium",
        risk_reason="data has to be moved over, or a new store begun",
        why_not="which database server runs is up to the deployment (TIDEGATE_STORE_DSN)",
    )


def _compression(waiting: int, total: int) -> Item:
    return Item(
        id="storage.store.compression",
        part="storage",
        subject="Tidegate's store",
        title="compress what is old enough",
        evidence=(f"{waiting / 1024**3:.3g} of {total / 1024**3:.3g} GB are past the age of compression and are not",),
        figures={"bytes": float(waiting)},
        impact=Impact(
            cost=f"about {waiting * (1 - COMPRESSION) / 1024**3:.3g} GB less: 128 bytes become 15 (measured)"
        ),
        risk_reason="late rows for compressed parts are taken more slowly",
        why_not=f"TimescaleDB's jobs do it; see that they run, TIDEGATE_COMPRESS_AFTER_HOURS is {SETTING}",
    )


def _own_commits(commits: Commits | None) -> Advice:
    if commits is None or commits.commits < ENOUGH or commits.span_s <= 0:
        return Advice(notes=("write batching of the store: too few commits in this time",))
    rows, a_second = commits.events / commits.commits, commits.commits / commits.span_s
    if rows >= SMALL_COMMIT or a_second < MANY_COMMITS:
        return Advice()
    item = Item(
        id="storage.store.batching",
        part="storage",
        subject="Tidegate's store",
        title="commit more requests at a time",
        evidence=(
            f"{rows:.4g} rows and {commits.frames / commits.commits:.3g} frames a commit, {a_second:.3g} commits/s",
            f"{commits.commits} commits",
        ),
        figures={"rows_per_commit": rows, "commits_per_s": a_second, "samples": float(commits.commits)},
        impact=Impact(
            latency="windows are told later by as much as batches are older; verdicts wait for windows",
            cost=f"{a_second - a_second * rows / SMALL_COMMIT:.3g} commits/s fewer in pieces of {SMALL_COMMIT:g} rows",
        ),
        risk_reason="what is not committed yet waits on the bus and is not lost",
        why_not=f"TIDEGATE_BATCH_AGE_S (0.1 s by default) is {SETTING}",
    )
    return Advice(items=(item,))
