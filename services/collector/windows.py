"""One frame becomes its ``FrameWindows``: cells per (action, second of done), merged by whoever reads them.

Works on whole columns: the events are sorted once by cell, with the slowest response of a cell first; everything else
is counted and added up by cell. Publishing is left to ``announcer.py``.
"""

from itertools import repeat
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from services.collector.measures import Measures
from services.collector.tally import tally, total
from shared.contracts.frame import Frame
from shared.contracts.timing import ErrorKind, EventFlag, Events
from shared.histogram import MAX_BUCKET

WORST = 3
# Plain numbers: the operators of enumerations cost more than those of a column.
_RECORDED, _RAMP_UP = int(EventFlag.TRACE_RECORDED), int(EventFlag.RAMP_UP)
_LONGEST_US = 2**34
"""More than any response: two 32-bit columns of µs."""


def windows_of(frame: Frame, measures: Measures, environment: str) -> bytes:
    """JSON of a ``shared.contracts.window.FrameWindows``: all the stream needs to know of this frame, heartbeats too.

    Written from plain data: making the models costs more than all the counting, and each frame was checked when it
    was decoded and admitted.
    """
    told = {
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
        "actions": tuple(
            {
                "scenario": state.scenario,
                "action": state.action,
                "kind": state.kind,
                "sent": state.sent,
                "in_flight": state.in_flight,
                "waiting": state.waiting,
                "ages": state.ages,
            }
            for state in frame.actions
        ),
        "cells": _cells(frame, measures),
    }
    return orjson.dumps(told, option=orjson.OPT_NON_STR_KEYS)


def _cells(frame: Frame, measures: Measures) -> tuple[dict[str, Any], ...]:
    if not len(frame.events):
        return ()
    events, service_us, response_us = frame.events, measures.service_us, measures.response_us
    seconds = measures.done_us // 1_000_000
    first = int(seconds.min())
    span = int(seconds.max()) - first + 1
    keys, cell = np.unique(events["action"] * span + (seconds - first), return_inverse=True)
    size = len(keys)
    order = np.argsort(cell * _LONGEST_US + (_LONGEST_US - 1 - response_us))
    edges = np.searchsorted(cell[order], np.arange(size + 1)).tolist()
    starts = edges[:-1]
    error = events["error"]
    wrong = error != ErrorKind.OK
    recorded = events["flags"] & _RECORDED != 0
    columns = zip(
        (keys // span).tolist(),
        (keys % span + first).tolist(),
        starts,
        edges[1:],
        total(cell, measures.failed, size),
        total(cell, events["flags"] & _RAMP_UP != 0, size),
        _counts(tally(cell[wrong], error[wrong], size, max(ErrorKind))) if wrong.any() else repeat({}, size),
        _counts(tally(cell, measures.service_bucket, size, MAX_BUCKET)),
        _counts(tally(cell, measures.response_bucket, size, MAX_BUCKET)),
        total(cell, service_us, size),
        total(cell, response_us, size),
        np.maximum.reduceat(service_us[order], starts).tolist(),
        total(cell, events["bytes_in"], size),
        total(cell, events["bytes_out"], size),
        strict=True,
    )
    return tuple(
        {
            "scenario": frame.actions[action].scenario,
            "action": frame.actions[action].action,
            "kind": frame.actions[action].kind,
            "second": second,
            "count": stop - start,
            "failed": failures,
            "ramp_up": ramp_up,
            "errors": errors,
            "service": service,
            "response": response,
            "service_sum_us": service_sum,
            "response_sum_us": response_sum,
            "service_max_us": service_max,
            "response_max_us": int(response_us[order[start]]),
            "bytes_in": bytes_in,
            "bytes_out": bytes_out,
            "worst": _worst(events, response_us, recorded, order[start:stop]),
        }
        for (
            action,
            second,
            start,
            stop,
            failures,
            ramp_up,
            errors,
            service,
            response,
            service_sum,
            response_sum,
            service_max,
            bytes_in,
            bytes_out,
        ) in columns
    )


def _counts(found: list[NDArray[np.int64]]) -> list[dict[int, int]]:
    return [dict(zip(*pairs.tolist(), strict=True)) for pairs in found]


def _worst(
    events: Events, response_us: NDArray[np.int64], recorded: NDArray[np.bool_], slowest_first: NDArray[np.intp]
) -> tuple[dict[str, Any], ...]:
    """The slowest of a cell; one with a recorded trace among them if there is any."""
    rows = slowest_first[:WORST]
    if not recorded[rows].any():
        others = recorded[slowest_first]
        if others.any():
            rows = np.append(rows[:-1], slowest_first[others.argmax()])
    return tuple(
        {"trace_id": trace.hex(), "response_us": response, "recorded": kept, "user": user}
        for trace, response, kept, user in zip(
            events["trace_id"][rows].tolist(),
            response_us[rows].tolist(),
            recorded[rows].tolist(),
            events["user"][rows].tolist(),
            strict=True,
        )
    )
