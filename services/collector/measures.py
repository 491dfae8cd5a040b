"""What several readers of a frame's events need of them, computed once: its end, durations and buckets."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.contracts.frame import Frame
from shared.contracts.timing import Check, ErrorKind
from shared.histogram import buckets_of

_FAILED = int(Check.FAILED)
_IS_FAILURE = np.array([number not in (ErrorKind.OK, ErrorKind.CANCELLED) for number in range(256)])


@dataclass(frozen=True, slots=True, eq=False)
class Measures:
    """Columns as long as the frame has events. Times in µs, ``done_us`` since the Unix epoch.

    ``failed``: an error other than a cancelled request, or an expectation not met.
    """

    done_us: NDArray[np.int64]
    service_us: NDArray[np.int64]
    response_us: NDArray[np.int64]
    service_bucket: NDArray[np.int16]
    response_bucket: NDArray[np.int16]
    failed: NDArray[np.bool_]

    @classmethod
    def of(cls, frame: Frame) -> "Measures":
        events = frame.events
        service_us = events["service_us"].astype(np.int64)
        response_us = service_us + events["dispatch_us"]
        return cls(
            done_us=events["intended_us"] + response_us + frame.anchor_wall_us,
            service_us=service_us,
            response_us=response_us,
            service_bucket=buckets_of(service_us),
            response_bucket=buckets_of(response_us),
            failed=_IS_FAILURE[events["error"]] | (events["check"] == _FAILED),
        )
