"""Frames on disk while the broker is away: an append-only file of (length, subject, message id, events, frame).

One file per run and epoch of a worker, locked by it. What is in it was cut but not acknowledged; when its owner has let
go of it, any worker on this disk publishes what it finds. A record cut short by a crash ends the file.
"""

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import FileIO
from itertools import islice
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
    """First in, first out on disk. A lock on the file says that its owner lives; it goes with the process."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: FileIO | None = None
        self._read_at = 0
        self._left = 0
        self.events = 0

    @property
    def empty(self) -> bool:
        return self._left == 0

    def append(self, parcel: Parcel) -> None:
        """Write one parcel whole, or nothing and ``OSError``."""
        subject, name = parcel.subject.encode(), f"{parcel.message_id}\n{parcel.seq}\n{parcel.system}".encode()
        head = _HEAD.pack(len(parcel.body), len(subject), len(name), parcel.events)
        if self._file is None:
            self._file = self._open()
        end = self._file.seek(0, os.SEEK_END)
        whole, written = head + subject + name + parcel.body, 0
        try:
            written = self._file.write(whole)
        finally:
            if written != len(whole):
                self._file.truncate(end)
        if written != len(whole):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._left += 1
        self.events += parcel.events

    def _open(self) -> FileIO:
        """The file gets its name when it is locked, so that nobody takes it for a dead worker's."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        unnamed = self._path.with_suffix(".new")
        file = FileIO(unnamed, "w")
        fcntl.flock(file, fcntl.LOCK_EX)
        unnamed.rename(self._path)
        return file

    def peek(self, most: int) -> list[Parcel]:
        """The oldest parcels that were not dropped yet, in order."""
        if not self._left:
            return []
        return [parcel for parcel, _ in islice(read_parcels(self._path, self._read_at), most)]

    def drop(self) -> None:
        """Forget the oldest; the file goes when nothing is left in it."""
        for parcel, end in read_parcels(self._path, self._read_at):
            self._read_at = end
            self._left -= 1
            self.events -= parcel.events
            break
        if self.empty:
            self._path.unlink(missing_ok=True)
            self.close()
            self._read_at = 0

    def sync(self) -> None:
        """Have the disk keep what was written, come a loss of power; ``OSError`` where it cannot. Not for the loop."""
        file = self._file
        if file is None or file.closed:
            return
        descriptors = (os.dup(file.fileno()), os.open(self._path.parent, os.O_RDONLY))
        try:
            for descriptor in descriptors:
                os.fsync(descriptor)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def close(self) -> None:
        """Let go of the file; what is in it may be published by whoever takes the lock next."""
        if self._file is not None:
            self._file.close()
            self._file = None


@contextmanager
def claim(path: Path) -> Iterator[bool]:
    """Hold a spool file while its parcels are published; False when its owner lives, or it is gone or not ours."""
    try:
        file = path.open("rb")
    except OSError:
        yield False
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        # Its owner may have emptied and removed it between our two steps.
        yield os.fstat(file.fileno()).st_nlink > 0


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
