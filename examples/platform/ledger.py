"""The count of requests per run and action, in a memory-mapped file per replica.

The supervisor sums the files itself, so a count survives its replica, be it drained or killed with SIGKILL.
Record: 8 bytes little-endian count, then the name `run NUL action` padded with NUL to 256 bytes in all.
"""

from __future__ import annotations

import mmap
import struct
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

_RECORD_BYTES = 256
_NAME_BYTES = _RECORD_BYTES - 8
_FIRST_RECORDS = 64
_COUNT = struct.Struct("<Q")


class Ledger:
    """The counts of one replica, written through to `path`."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("x+b")
        self._file.truncate(_FIRST_RECORDS * _RECORD_BYTES)
        self._map = mmap.mmap(self._file.fileno(), 0)
        self._offsets: dict[tuple[str, str], int] = {}

    def count(self, run: str, action: str) -> None:
        """Count one request of `action` in `run`. Names past 247 bytes together are cut."""
        offset = self._offsets.get((run, action))
        if offset is None:
            offset = self._add(run, action)
        _COUNT.pack_into(self._map, offset, _COUNT.unpack_from(self._map, offset)[0] + 1)

    def counts(self, run: str | None = None) -> dict[str, dict[str, int]]:
        """Counts by run and action; only `run`'s when it is given."""
        return _parse(bytes(self._map), run)

    def close(self) -> None:
        self._map.close()
        self._file.close()

    def _add(self, run: str, action: str) -> int:
        offset = len(self._offsets) * _RECORD_BYTES
        if offset >= len(self._map):
            self._map.resize(2 * len(self._map))
        name = f"{run}\0{action}".encode()[:_NAME_BYTES]
        self._map[offset + 8 : offset + 8 + len(name)] = name
        self._offsets[run, action] = offset
        return offset


def sum_ledgers(paths: Iterable[Path], run: str) -> dict[str, int]:
    """Counts per action of `run`, summed over the ledgers at `paths`."""
    total: Counter[str] = Counter()
    for path in paths:
        total.update(_parse(path.read_bytes(), run).get(run, {}))
    return dict(sorted(total.items()))


def _parse(content: bytes, only_run: str | None) -> dict[str, dict[str, int]]:
    counts: dict[str, dict[str, int]] = {}
    for offset in range(0, len(content), _RECORD_BYTES):
        name = content[offset + 8 : offset + _RECORD_BYTES].rstrip(b"\0")
        if not name:
            break
        run, _, action = name.decode(errors="replace").partition("\0")
        if only_run in (None, run):
            counts.setdefault(run, {})[action] = _COUNT.unpack_from(content, offset)[0]
    return counts
