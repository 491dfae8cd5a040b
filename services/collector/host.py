"""What this host tells of a process beside what it uses itself: its network, and the file system of a path."""

from dataclasses import asdict
from pathlib import Path

import psutil

from services.collector.complaints import Complaints
from services.collector.net_dev import read_net_dev


def network_of(pid: int | None) -> dict[str, float]:
    """Fields of a ``Usage``: counters of a process's network, where it has one of its own as a container has.

    Nothing for a process in this process's network namespace: what others send there is not told apart.
    """
    if pid is None:
        return {}
    proc = Path("/proc")
    try:
        if (proc / str(pid) / "ns/net").stat().st_ino == (proc / "self/ns/net").stat().st_ino:
            return {}
        network = read_net_dev((proc / str(pid) / "net/dev").read_text())
    except OSError:
        return {}
    return {} if network is None else asdict(network)


def storage_of(path: Path | None, complaints: Complaints) -> dict[str, float]:
    """Fields of a ``Usage``: the use of the file system that holds a path; nothing where it is not there."""
    if path is None:
        return {}
    try:
        disk = psutil.disk_usage(str(path))
    except OSError as error:
        complaints.miss(f"storage {path}", error.strerror or error)
        return {}
    complaints.hit(f"storage {path}")
    return {"storage_bytes": float(disk.used), "storage_limit_bytes": float(disk.used + disk.free)}
