"""One frame becomes its ``FrameWindows``: cells per (action, second of done), merged by whoever reads them.

Works on whole columns: the events are sorted once by cell, with the slowest response of a cell first, and everything
else are sums over the runs of that order. Publishing is left to ``announcer.py``.
"""

import numpy as np
from numpy.typing import NDArray

from shared.contracts.frame import Frame
from shared.contracts.timing import Check, ErrorKind, EventFlag
from shared.contracts.window import ActionNow, Cell, Exemplar, FrameWindows
from shared.histogram import buckets_of

WORST = 3
_BUCKETS = 4096
"""More than any bucket or error kind: cell and bucket share one integer."""


def windows_of(frame: Frame, environment: str) -> FrameWindows:
    """Everything the stream needs to know of this frame; also of one without events (a heartbeat)."""
    return FrameWindows(
        run=frame.id.run,
        environment=environment,
        worker=frame.id.worker,
        epoch=frame.id.epoch,
        system=frame.id.system,
        seq=frame.id.seq,
        final=frame.final,
        at_fault=frame.at_fault,
        watermark_us=frame.anchor_wall_us + frame.watermark_us,
        emitted_us=frame.anchor_wall_us + frame.emitted_us,
        loop_lag_us=frame.health.loop_lag_us,
        schedule_error_us=frame.health.schedule_error_us,
        cpu_permille=frame.health.cpu_permille,
        backlog_events=frame.health.backlog_events,
        spooled_events=frame.health.spooled_events,
        actions=tuple(
            ActionNow(
                scenario=state.scenario,
                action=state.action,
                kind=state.kind,
                sent=state.sent,
                in_flight=state.in_flight,
                waiting=state.waiting,
                ages=state.ages,
            )
            for state in frame.actions
        ),
        cells=_cells(frame),
    )


def _cells(frame: Frame) -> tuple[Cell, ...]:
    if not len(frame.events):
        return ()
    seconds = frame.done_wall_us // 1_000_000
    responses = frame.events["service_us"].astype(np.int64) + frame.events["dispatch_us"]
    order = np.lexsort((-responses, seconds, frame.events["action"]))
    events, seconds, responses = frame.events[order], seconds[order], responses[order]
    services = events["service_us"].astype(np.int64)
    actions = events["action"]
    fresh = np.ones(len(events), bool)
    fresh[1:] = (actions[1:] != actions[:-1]) | (seconds[1:] != seconds[:-1])
    starts = np.flatnonzero(fresh)
    cell = np.cumsum(fresh) - 1
    error = events["error"]
    failed = ((error != ErrorKind.OK) & (error != ErrorKind.CANCELLED)) | (events["check"] == Check.FAILED)
    wrong = error != ErrorKind.OK

    def total(column: NDArray[np.generic]) -> list[int]:
        sums: list[int] = np.add.reduceat(column.astype(np.int64), starts).tolist()
        return sums

    size = len(starts)
    stops = np.append(starts[1:], len(events)).tolist()
    columns = zip(
        actions[starts].tolist(),
        seconds[starts].tolist(),
        starts.tolist(),
        stops,
        total(failed),
        total(events["flags"] & EventFlag.RAMP_UP > 0),
        _counts(cell[wrong], error[wrong], size),
        _counts(cell, buckets_of(services), size),
        _counts(cell, buckets_of(responses), size),
        total(services),
        total(responses),
        np.maximum.reduceat(services, starts).tolist(),
        responses[starts].tolist(),
        total(events["bytes_in"]),
        total(events["bytes_out"]),
        strict=True,
    )
    return tuple(
        Cell(
            scenario=frame.actions[action].scenario,
            action=frame.actions[action].action,
            kind=frame.actions[action].kind,
            second=second,
            count=stop - start,
            failed=failures,
            ramp_up=ramp_up,
            errors=errors,
            service=service,
            response=response,
            service_sum_us=service_sum,
            response_sum_us=response_sum,
            service_max_us=service_max,
            response_max_us=response_max,
            bytes_in=bytes_in,
            bytes_out=bytes_out,
            worst=_worst(events[start:stop], responses[start:stop]),
        )
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
            response_max,
            bytes_in,
            bytes_out,
        ) in columns
    )


def _counts(cell: NDArray[np.integer], value: NDArray[np.integer], cells: int) -> list[dict[int, int]]:
    """Per cell: how often each value occurs."""
    keys, counts = np.unique(cell.astype(np.int64) * _BUCKETS + value, return_counts=True)
    found: list[dict[int, int]] = [{} for _ in range(cells)]
    for key, count in zip(keys.tolist(), counts.tolist(), strict=True):
        found[key // _BUCKETS][key % _BUCKETS] = count
    return found


def _worst(events: NDArray[np.void], responses: NDArray[np.int64]) -> tuple[Exemplar, ...]:
    """The slowest of a cell, whose events come slowest first; one with a recorded trace among them if there is any."""
    rows = list(range(min(WORST, len(events))))
    recorded = events["flags"] & EventFlag.TRACE_RECORDED > 0
    if not recorded[: len(rows)].any() and recorded.any():
        rows[-1] = int(recorded.argmax())
    return tuple(
        Exemplar(
            trace_id=events["trace_id"][row].tobytes().hex(),
            response_us=int(responses[row]),
            recorded=bool(recorded[row]),
            user=int(events["user"][row]),
        )
        for row in rows
    )
