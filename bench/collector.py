"""How fast a collector stores, against a bare COPY of the same rows into the same table, and its memory with a backlog.

Rounds in turn: a bare binary COPY of rows built beforehand, at several batch sizes of which the best counts; then the
collector takes the same events from JetStream. Both into an emptied table of the same durable server, on both cores.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path

from bench.bars import Bar
from bench.frames import Load
from bench.harness import ROUNDS, cpu_s, memory_mb, wait_until
from bench.store_rig import SUBJECTS, StoreRig, store_rig
from bench.timescale import named, timescale
from services.collector.copy_rows import HEADER, TRAILER, build_rows
from services.collector.measures import Measures
from shared.contracts.frame import encode
from shared.store.ingest import TIMING_COLUMNS

EVENTS = int(os.environ.get("TIDEGATE_BENCH_EVENTS", "3_000_000"))
BACKLOG = int(os.environ.get("TIDEGATE_BENCH_BACKLOG", "20_000_000"))
BATCHES = (10, 32, 64, 100)
"""Frames of 1,000 rows in a bare COPY."""
HOW = f"{EVENTS:,} events of frames of 1,000, medians of {ROUNDS} rounds in turn; make bench BENCH=collector"
_COPY = f"COPY request_timing ({', '.join(name for name, _ in TIMING_COLUMNS)}) FROM STDIN (FORMAT BINARY)"


def measure() -> list[Bar]:
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as folder:
        Path(folder).chmod(0o755)
        with store_rig(Path(folder)) as rig:
            rig.fresh_database("bench")
            bars = _speed(rig, "")
            bars += _backlog(rig)
            if named():
                with timescale(Path(folder)) as dsn:
                    rig.dsn = dsn or rig.dsn
                    bars += _speed(rig, " on TimescaleDB")
            return bars


def _speed(rig: StoreRig, where: str) -> list[Bar]:
    frames = list(Load().frames(EVENTS))
    rows = [build_rows(frame, Measures.of(frame), 1, [1, 2, 3, 4]) for frame in frames]
    bodies = [(SUBJECTS.timing(frame.id.run, frame.id.system), encode(frame)) for frame in frames]
    ratios, ours, bare, cpu = [], [], [], []
    for number in range(ROUNDS):
        ceilings = {size: _bare(rig, rows, size) for size in BATCHES}
        rig.empty()
        rig.publish(bodies)
        rate, used = _collect(rig)
        best = max(ceilings.values())
        print(
            f"  round {number + 1}  bare {' '.join(f'{size}k:{value:,.0f}' for size, value in ceilings.items())}  "
            f"collector {rate:,.0f} rows/s ({rate / best:.0%}), {used:.2f} CPU s a million",
            flush=True,
        )
        ratios.append(rate / best)
        ours.append(rate)
        bare.append(best)
        cpu.append(used)
    return [
        Bar(
            f"rows/s of the collector{where}, of a bare binary COPY's",
            statistics.median(ratios),
            0.8,
            "",
            HOW,
            "at least",
        ),
        Bar(f"events/s of one collector process{where}", statistics.median(ours), 300_000, "events/s", HOW, "at least"),
        Bar(f"the bare COPY{where} at its best batch size", statistics.median(bare), 0, "rows/s", HOW, "at least"),
        Bar(f"CPU of the collector{where} for a million events", statistics.median(cpu), 10, "s", HOW),
    ]


def _bare(rig: StoreRig, rows: list[bytes], size: int) -> float:
    rig.empty()
    with rig.connect() as connection:
        began = time.monotonic()
        for start in range(0, len(rows), size):
            with connection.transaction(), connection.cursor().copy(_COPY.encode()) as copy:
                copy.write(b"".join((HEADER, *rows[start : start + size], TRAILER)))
        return EVENTS / (time.monotonic() - began)


def _collect(rig: StoreRig) -> tuple[float, float]:
    """Rows/s from the first commit seen to the last, and CPU seconds of the process for a million events."""
    with rig.collector() as child:
        wait_until(lambda: rig.stored() > 0, "the first batch is stored")
        first, began, used = rig.stored(), time.monotonic(), cpu_s(child.pid)
        rig.wait_stored(EVENTS)
        count = EVENTS - first
        return count / (time.monotonic() - began), (cpu_s(child.pid) - used) / count * 1e6


def _backlog(rig: StoreRig) -> list[Bar]:
    """Memory while a backlog is taken in, sampled all along."""
    rig.empty()
    load = Load()
    load.began_us -= int(BACKLOG / load.rate * 1e6)
    rig.publish((SUBJECTS.timing(frame.id.run, frame.id.system), encode(frame)) for frame in load.frames(BACKLOG))
    with rig.collector() as child:
        samples: list[float] = []
        deadline = time.monotonic() + 900
        while rig.stored() < BACKLOG:
            samples.append(memory_mb(child.pid))
            time.sleep(0.25)
            if time.monotonic() > deadline or child.poll() is not None:
                raise SystemExit(f"only {rig.stored():,} of {BACKLOG:,} events were stored; see {rig.folder}")
    how = f"{BACKLOG:,} events in JetStream before the collector starts; make bench BENCH=collector"
    missing = BACKLOG - rig.query("SELECT count(*) FROM request_timing")[0][0]
    return [
        Bar("most resident memory of the collector with a backlog", max(samples), 300, "MB", how),
        Bar("events of the backlog that are not stored once", missing, 0, "", how, "exactly"),
    ]
