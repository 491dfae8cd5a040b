"""What every source of resource samples is: discovers instances and reads them. One adapter file for each kind."""

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Seen:
    """One instance at one moment. ``values`` as in ``ResourceSample``."""

    service: str
    system: str
    instance: str
    values: dict[str, float]
    ready: bool = True


class Source(Protocol):
    """Read by one process at a time, which holds the source's lease."""

    name: str

    async def lease_key(self) -> str:
        """The lease of what is read here: two collectors that would read the same thing have the same key.

        Raises ``TransientError`` when that cannot be told yet.
        """
        ...

    async def read(self) -> list[Seen]:
        """Discover and read everything, without blocking the loop.

        Raises ``TransientError`` or ``BadMessageError`` when nothing can be read; an instance that fails alone is left
        out.
        """
        ...

    def forget(self) -> None:
        """Another process reads now: what was read before is not a past to compare with any more."""
        ...

    async def close(self) -> None: ...


def local_lease_key(name: str) -> str:
    """The lease of a source of this host: by the running kernel and, since containers share it, the pid namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")
        view = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return f"sampler.{name}.{socket.gethostname().replace('.', '-')}-{os.getuid()}"
    return f"sampler.{name}.{boot}-{view}"
