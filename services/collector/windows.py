"""Frames become their ``FrameWindows``: cells per (action, second of done), merged by whoever reads them.

Works on whole columns over a batch of frames: cells are numbered by frame, action and second, and everything is
counted and added up by cell. Publishing is left to ``announcer.py``.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from services.collector.measures import Measures
from services.collector.tally import Integers, Tally, compact, most, tally, total
from shared.contracts.frame import Frame
from shared.contracts.timing import ErrorKind, EventFlag
from shared.histogram import MAX_BUCKET

WORST = 3
# Plain numbers: the operators of enumerations cost more than those of a column.
_RECORDED, _RAMP_UP = int(EventFlag.TRACE_RECORDED), int(EventFlag.RAMP_UP)
_NAMES = np.array([str(number) for number in range(MAX_BUCKET + 1)], object)

Measured = tuple[Frame, Measures]
Json = dict[str, Any]


def windows_of(batch: Sequence[Measured], environment: str) -> list[bytes]:
    """JSON of a ``shared.contracts.window.FrameWindows`` for each frame: all that the stream needs to know of it.

    Written from plain data: making the models costs more than all the counting, and each frame was checked when it
    was decoded and admitted.
    """
    cells: list[list[Json]] = [[] for _ in batch]
    full = [number for number, (frame, _) in enumerate(batch) if len(frame.events)]
    for number, cell in _cells([batch[number] for number in full]):
        cells[full[number]].append(cell)
    return [
        orjson.dumps(_head(frame, environment) | {"cells": mine}) for (frame, _), mine in zip(batch, cells, strict=True)
    ]


def _head(frame: Frame, environment: str) -> Json:
    return {
        "run": frame.id.run,
        "environment": environment,
        "worker": frame.id.worker,
        "epoch": frame.id.epoch,
        "system": frame.id.system,
        "seq": frame.id.seq,
        "final": frame.final,
        "at_fault": frame.at_fault,
        "watermark_us": frame.anchor_wall_us + frame.watermark_us,
        "emitted_us": frame.anchor_wall_us + frame.emitted_us,
        "loop_lag_us": frame.health.loop_lag_us,
        "schedule_error_us": frame.health.schedule_error_us,
        "cpu_permille": frame.health.cpu_permille,
        "backlog_events": frame.health.backlog_events,
        "spooled_events": frame.health.spooled_events,
        "actions": [
            {
                "scenario": state.scenario,
                "action": state.action,
                "kind": state.kind,
                "sent": state.sent,
                "in_flight": state.in_flight,
                "waiting": state.waiting,
                "ages": {str(bucket): count for bucket, count in state.ages.items()},
            }
            for state in frame.actions
        ],
    }


def _cells(batch: Sequence[Measured]) -> Iterator[tuple[int, Json]]:
    """Each cell with the number of its frame, by frame, action and second. Every frame here has events."""
    if not batch:
        return
    counts = [len(frame.events) for frame, _ in batch]

    def column(name: str) -> NDArray[Any]:
        return np.concatenate([frame.events[name] for frame, _ in batch])

    def measured(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(measures, name) for _, measures in batch])

    seconds = measured("done_us") // 1_000_000
    first = int(seconds.min())
    span = int(seconds.max()) - first + 1
    actions = max(len(frame.actions) for frame, _ in batch)
    key = (np.repeat(np.arange(len(batch)) * actions, counts) + column("action")) * span + (seconds - first)
    keys, cell = compact(key, len(batch) * actions * span)
    size = len(keys)
    service_us, response_us, response_bucket = (
        measured(name) for name in ("service_us", "response_us", "response_bucket")
    )
    flags, error = column("flags"), column("error")
    wrong = error != ErrorKind.OK
    response = tally(cell, response_bucket, size, MAX_BUCKET)
    worst = _worst(batch, cell, response_us, response_bucket, flags & _RECORDED != 0, response)
    columns = zip(
        (keys // span // actions).tolist(),
        (keys // span % actions).tolist(),
        (keys % span + first).tolist(),
        np.bincount(cell, minlength=size).tolist(),
        total(cell, measured("failed"), size),
        total(cell, flags & _RAMP_UP != 0, size),
        _counts(tally(cell[wrong], error[wrong], size, MAX_BUCKET)),
        _counts(tally(cell, measured("service_bucket"), size, MAX_BUCKET)),
        _counts(response),
        total(cell, service_us, size),
        total(cell, response_us, size),
        most(cell, service_us, size),
        most(cell, response_us, size),
        total(cell, column("bytes_in"), size),
        total(cell, column("bytes_out"), size),
        worst,
        strict=True,
    )
    for number, action, second, count, failed, ramp_up, errors, service, responses, *figures in columns:
        state = batch[number][0].actions[action]
        service_sum, response_sum, service_max, response_max, bytes_in, bytes_out, exemplars = figures
        yield (
            number,
            {
                "scenario": state.scenario,
                "action": state.action,
                "kind": state.kind,
                "second": second,
                "count": count,
                "failed": failed,
                "ramp_up": ramp_up,
                "errors": errors,
                "service": service,
                "response": responses,
                "service_sum_us": service_sum,
                "response_sum_us": response_sum,
                "service_max_us": service_max,
                "response_max_us": response_max,
                "bytes_in": bytes_in,
                "bytes_out": bytes_out,
                "worst": exemplars,
            },
        )


def _counts(found: Tally) -> list[dict[str, int]]:
    """The histogram of each cell."""
    names, counts = _NAMES[found.values].tolist(), found.counts.tolist()
    return [dict(zip(names[start:stop], counts[start:stop], strict=True)) for start, stop in pairwise(found.edges)]


def _worst(
    batch: Sequence[Measured],
    cell: Integers,
    response_us: NDArray[np.int64],
    response_bucket: NDArray[np.int16],
    recorded: NDArray[np.bool_],
    response: Tally,
) -> list[list[Json]]:
    """The slowest of each cell, slowest first; one with a recorded trace among them if there is any.

    Only events from the bucket of the last of them up are sorted, and those with a recorded trace.
    """
    chosen = np.flatnonzero((response_bucket >= _floors(response)[cell]) | recorded)
    chosen = chosen[np.lexsort((-response_us[chosen], cell[chosen]))]
    edges = np.searchsorted(cell[chosen], np.arange(len(response.edges))).tolist()
    traces = np.concatenate([frame.events["trace_id"] for frame, _ in batch])
    users = np.concatenate([frame.events["user"] for frame, _ in batch])
    found = []
    for start, stop in pairwise(edges):
        rows = chosen[start : min(start + WORST, stop)]
        if not recorded[rows].any():
            others = chosen[start:stop][recorded[chosen[start:stop]]]
            rows = np.append(rows[:-1], others[:1]) if len(others) else rows
        found.append(
            [
                {"trace_id": trace.hex(), "response_us": response, "recorded": kept, "user": user}
                for trace, response, kept, user in zip(
                    traces[rows].tolist(),
                    response_us[rows].tolist(),
                    recorded[rows].tolist(),
                    users[rows].tolist(),
                    strict=True,
                )
            ]
        )
    return found


def _floors(response: Tally) -> NDArray[np.int64]:
    """Per cell the bucket from which on it has its slowest ``WORST``; its lowest where it has no more."""
    values, counts = response.values.tolist(), response.counts.tolist()
    floors = []
    for start, stop in pairwise(response.edges):
        at, seen = stop - 1, counts[stop - 1]
        while seen < WORST and at > start:
            at -= 1
            seen += counts[at]
        floors.append(values[at])
    return np.array(floors)
