"""The recorded traces among a frame's events, for those who look for a run's traces later."""

from collections.abc import Sequence

import numpy as np

from services.collector.measures import Measures
from shared.contracts.frame import Frame
from shared.contracts.timing import EventFlag
from shared.store.ingest import RequestTrace

_RECORDED = int(EventFlag.TRACE_RECORDED)


def traces_of(frame: Frame, measures: Measures, series_ids: Sequence[int]) -> list[RequestTrace]:
    """One for each event whose trace was recorded. ``series_ids``: of the frame's actions, in their order."""
    rows = np.flatnonzero(frame.events["flags"] & _RECORDED)
    return [
        RequestTrace(done_us, series_ids[action], trace.hex(), response_us)
        for done_us, action, trace, response_us in zip(
            measures.done_us[rows].tolist(),
            frame.events["action"][rows].tolist(),
            frame.events["trace_id"][rows].tolist(),
            measures.response_us[rows].tolist(),
            strict=True,
        )
    ]
