"""What a batch of frames adds to each ten seconds of each series: the parts that are committed with its rows."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from services.collector.measures import Measures
from services.collector.tally import Tally, compact, most, tally, total
from shared.contracts.base import utc_of_us
from shared.contracts.frame import Frame
from shared.contracts.timing import ErrorKind, EventFlag
from shared.histogram import MAX_BUCKET, buckets_of
from shared.store.ingest import TimingPart
from shared.store.packed import pack

GRAIN_US = 10_000_000
_RAMP_UP = int(EventFlag.RAMP_UP)

Counted = tuple[Frame, Measures, Sequence[int]]
"""A frame, its measures, and the store's ids of its actions in the order of its action table."""


def parts_of(frames: Sequence[Counted]) -> list[TimingPart]:
    """Parts by series, ten seconds, ramp-up and cancellation; each event of these frames is in exactly one."""
    frames = [counted for counted in frames if len(counted[0].events)]
    if not frames:
        return []

    def column(name: str) -> NDArray[np.int64]:
        return np.concatenate([frame.events[name] for frame, _, _ in frames]).astype(np.int64)

    numbers = {number: index for index, number in enumerate(dict.fromkeys(n for _, _, ids in frames for n in ids))}
    listed = list(numbers)
    series = np.concatenate(
        [np.array([numbers[number] for number in ids])[frame.events["action"]] for frame, _, ids in frames]
    )
    windows = np.concatenate([measures.done_us for _, measures, _ in frames]) // GRAIN_US
    service_us = np.concatenate([measures.service_us for _, measures, _ in frames])
    response_us = np.concatenate([measures.response_us for _, measures, _ in frames])
    error = column("error")
    states = (column("flags") & _RAMP_UP != 0) * 2 + (error == ErrorKind.CANCELLED)
    first = int(windows.min())
    span = int(windows.max()) - first + 1
    keys, group = compact((series * span + (windows - first)) * 4 + states, len(listed) * span * 4)
    size = len(keys)
    wrong = error != ErrorKind.OK
    errors = tally(group[wrong], error[wrong], size, max(ErrorKind))
    service = tally(group, np.concatenate([measures.service_bucket for _, measures, _ in frames]), size, MAX_BUCKET)
    response = tally(group, np.concatenate([measures.response_bucket for _, measures, _ in frames]), size, MAX_BUCKET)
    tokens, ttft_us = column("tokens"), column("ttft_us")
    streamed = tokens > 0
    ttft, gap = (
        tally(group[streamed], buckets_of(values[streamed]), size, MAX_BUCKET) for values in (ttft_us, column("gap_us"))
    )
    columns = zip(
        [listed[index] for index in (keys // 4 // span).tolist()],
        (keys // 4 % span + first).tolist(),
        (keys % 4).tolist(),
        np.bincount(group, minlength=size).tolist(),
        total(group, np.concatenate([measures.failed for _, measures, _ in frames]), size),
        total(group, service_us, size),
        total(group, response_us, size),
        most(group, service_us, size),
        most(group, response_us, size),
        total(group, column("bytes_in"), size),
        total(group, column("bytes_out"), size),
        total(group, streamed, size),
        total(group, tokens, size),
        total(group, np.where(streamed, np.maximum(service_us - ttft_us, 0), 0), size),
        *(_packed(histogram) for histogram in (errors, service, response, ttft, gap)),
        strict=True,
    )
    return [
        TimingPart(series_id, utc_of_us(window * GRAIN_US), state >= 2, state % 2 == 1, *figures)
        for series_id, window, state, *figures in columns
    ]


def _packed(found: Tally) -> list[list[int]]:
    packed = pack(found.values, found.counts)
    return [packed[start:stop] for start, stop in pairwise(found.edges)]
