"""What a timing event can say: kinds, outcomes, flags and the row that one request becomes.

The row is the in-memory and on-wire order of the frame's columns (``shared/contracts/frame.py``).
"""

from collections.abc import Iterator, Mapping
from enum import IntEnum, IntFlag
from typing import Any, Protocol, overload

import numpy as np
from numpy.typing import NDArray


class Kind(IntEnum):
    """What was timed. A workflow spans requests, polls and think time, a group some of them; neither is one."""

    REQUEST = 0
    WORKFLOW = 1
    GROUP = 2


class ErrorKind(IntEnum):
    """How a request ended. Closed: text of errors never becomes a dimension."""

    OK = 0
    CONNECT = 1
    CONNECT_TIMEOUT = 2
    TIMEOUT = 3
    RESET = 4
    PROTOCOL = 5
    TLS = 6
    DNS = 7
    STATUS = 8
    CHECK = 9
    AUTH = 10
    CANCELLED = 11
    REFUSED = 12
    BLOCKED = 13
    DEADLINE = 14
    STEP = 15


class Check(IntEnum):
    """Result of a step's expectations."""

    NONE = 0
    PASSED = 1
    FAILED = 2


class EventFlag(IntFlag):
    """Bits of the ``flags`` column."""

    TRACE_RECORDED = 1
    RAMP_UP = 2


ROW_FORMAT = "<q10IHH4B16s"
"""``struct`` format of one row, the same bytes as ``ROW_DTYPE``."""

COLUMNS: tuple[tuple[str, str], ...] = (
    ("intended_us", "<i8"),  # from the epoch's anchor; when the schedule wanted it sent
    ("dispatch_us", "<u4"),  # sent − intended
    ("service_us", "<u4"),  # done − sent
    ("ttfb_us", "<u4"),  # first byte of the answer − sent; 0: none came
    ("connect_us", "<u4"),  # 0: the connection was reused
    ("bytes_in", "<u4"),
    ("bytes_out", "<u4"),
    ("user", "<u4"),  # index of the virtual user within the run
    ("ttft_us", "<u4"),  # first token − sent; 0: not a streamed answer
    ("gap_us", "<u4"),  # longest gap between two tokens
    ("tokens", "<u4"),
    ("status", "<u2"),  # HTTP status; 0: no answer
    ("action", "<u2"),  # row of the frame's action table
    ("attempt", "<u1"),  # 0 the first try; the n-th poll of a polling step is n (255: that or more)
    ("error", "<u1"),  # ErrorKind
    ("check", "<u1"),  # Check
    ("flags", "<u1"),  # EventFlag
    ("trace_id", "V16"),
)

ROW_DTYPE = np.dtype([(name, kind) for name, kind in COLUMNS])


class Events(Protocol):
    """Events by column: a structured array of ``ROW_DTYPE``, or ``EventColumns``."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...
    def __getitem__(self, which: Any) -> Any: ...


class EventColumns:
    """Events as they came, a column each; answers as a structured array does, made where rows are asked for."""

    __slots__ = ("_columns", "_size")

    def __init__(self, columns: Mapping[str, NDArray[Any]], size: int) -> None:
        self._columns, self._size = columns, size

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rows())

    @overload
    def __getitem__(self, which: str) -> NDArray[Any]: ...
    @overload
    def __getitem__(self, which: NDArray[Any]) -> NDArray[np.void]: ...
    def __getitem__(self, which: Any) -> NDArray[Any]:
        return self._columns[which] if isinstance(which, str) else self.rows()[which]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[np.void]:
        return self.rows()

    def rows(self) -> NDArray[np.void]:
        """A structured array of ``ROW_DTYPE``."""
        rows = np.empty(self._size, ROW_DTYPE)
        for name, column in self._columns.items():
            rows[name] = column
        return rows
