"""Frames on disk while the broker is away: an append-only file of (length, subject, message id, events, frame).

One file per run and epoch of a worker. What is in it was cut but not acknowledged; a restarted worker publishes what
it finds. A record cut short by a crash ends the file.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_HEAD = struct.Struct("<IHHI")


@dataclass(frozen=True, slots=True)
class Parcel:
    """One encoded frame on its way to the broker. ``events`` counts its rows, ``seq`` its place in its stream."""

    subject: str
    message_id: str
    events: int
    seq: int
    system: str
    body: bytes


class Spool:
    """First in, first out on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at = 0
        self.events = 0

    @property
    def empty(self) -> bool:
        return self.events == 0

    def append(self, parcel: Parcel) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        subject, name = parcel.subject.encode(), f"{parcel.message_id}\n{parcel.seq}\n{parcel.system}".encode()
        with self._path.open("ab") as file:
            file.write(_HEAD.pack(len(parcel.body), len(subject), len(name), parcel.events))
            file.write(subject + name + parcel.body)
        self.events += parcel.events or 1

    def peek(self) -> Parcel | None:
        """The oldest parcel that was not dropped yet."""
        return next((parcel for parcel, _ in read_parcels(self._path, self._read_at)), None)

    def drop(self) -> None:
        """Forget the oldest; the file goes when nothing is left in it."""
        for parcel, end in read_parcels(self._path, self._read_at):
            self._read_at = end
            self.events -= parcel.events or 1
            break
        if self.empty:
            self._path.unlink(missing_ok=True)
            self._read_at = 0


def read_parcels(path: Path, start: int = 0) -> Iterator[tuple[Parcel, int]]:
    """Whole parcels from a position on, each with the position after it."""
    if not path.exists():
        return
    with path.open("rb") as file:
        file.seek(start)
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            body_size, subject_size, name_size, events = _HEAD.unpack(head)
            rest = file.read(subject_size + name_size + body_size)
            if len(rest) < subject_size + name_size + body_size:
                return
            message_id, seq, system = rest[subject_size : subject_size + name_size].decode().split("\n")
            body = rest[subject_size + name_size :]
            yield Parcel(rest[:subject_size].decode(), message_id, events, int(seq), system, body), file.tell()
