"""Adapter of this host's processes, through psutil: found by pid file, command line or port, with descendants."""

import contextlib
import logging
import re
import socket
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import psutil

from services.collector.complaints import Complaints
from services.collector.host import network_of, storage_of
from services.collector.local_source import Found, LocalSource
from services.collector.source_config import ProcessSpec
from services.collector.usage import MB, Usage, total
from shared.errors import TransientError

FIND_EVERY_S = 5.0
"""How often it is looked for new ones while those known live."""

logger = logging.getLogger(__name__)


def open_processes(spec: ProcessSpec) -> LocalSource:
    """Each process found is an instance."""
    return LocalSource(spec, Processes(spec).find)


class Processes:
    """The processes that an entry names, each with its descendants."""

    def __init__(self, spec: ProcessSpec) -> None:
        self._spec = spec
        self._complaints = Complaints(logger)
        self._roots: list[psutil.Process] = []
        self._found_at = float("-inf")

    def find(self) -> list[Found]:
        """A reading of each that lives. ``TransientError`` when none does."""
        now = time.monotonic()
        if now - self._found_at >= FIND_EVERY_S or not all(map(is_alive, self._roots)):
            self._roots, self._found_at = find_roots(self._spec), now
        members = descendants(self._roots) if self._spec.children else {root.pid: [root] for root in self._roots}
        storage = storage_of(self._spec.storage, self._complaints)
        found = []
        for root in self._roots:
            try:
                usage = replace(self._usage(members[root.pid]), **network_of(root.pid), **storage)
                found.append(Found(self._instance(root), f"{root.pid} {root.create_time()}", usage))
            except psutil.Error:
                self._found_at = float("-inf")  # gone: the next round looks for what came in its place
        return found

    def _instance(self, root: psutil.Process) -> str:
        name = self._spec.instance or socket.gethostname()
        if self._spec.command is not None:
            return f"{name}-{root.pid}"
        return f"{name}-{self._spec.port}" if self._spec.port and not self._spec.instance else name

    def _usage(self, members: Iterable[psutil.Process]) -> Usage:
        # Parents first: a member that ends meanwhile is then missing, and not counted twice.
        readings = [read_process(one, with_buried=self._spec.children) for one in members]
        memory_mb = self._spec.memory_limit_mb
        return replace(
            total(readings, time.monotonic()),
            cpu_limit_cores=self._spec.cpu_limit_cores or float(psutil.cpu_count() or 1),
            memory_limit_bytes=memory_mb * MB if memory_mb else float(psutil.virtual_memory().total),
        )


def is_alive(process: psutil.Process) -> bool:
    """Still the same process, and not one that has ended and is only waited for."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def read_process(process: psutil.Process, *, with_buried: bool) -> Usage:
    """What one process has used; ``with_buried``: with the CPU time of the children it has waited for.

    So the sum over a family stays whole when a member ends: its parent takes its counters over. (Those of IO the kernel
    adds to the parent's by itself.) A process that ended tells nothing, so that the sum says nothing for this once.
    """
    try:
        with process.oneshot():
            times = process.cpu_times()
            memory, threads = process.memory_info(), process.num_threads()
    except psutil.Error:
        return Usage(at_s=0.0)
    io = files = None
    # Refused for another user's process, and not known to every system.
    with contextlib.suppress(psutil.Error, OSError, AttributeError):
        io, files = process.io_counters(), process.num_fds()
    buried_s = times.children_user + times.children_system if with_buried else 0.0
    return Usage(
        at_s=0.0,
        cpu_s=times.user + times.system + buried_s,
        memory_bytes=memory.rss,
        threads=threads,
        open_files=files,
        read_bytes=None if io is None else io.read_bytes,
        written_bytes=None if io is None else io.write_bytes,
        reads=None if io is None else io.read_count,
        writes=None if io is None else io.write_count,
    )


def find_roots(spec: ProcessSpec) -> list[psutil.Process]:
    """The processes a source names, without their descendants. ``TransientError`` when there is none."""
    if spec.pid_file is not None:
        return [_by_pid_file(spec.pid_file)]
    pids = _by_command(spec.command) if spec.command is not None else _by_port(spec.port or 0)
    roots = []
    for pid in sorted(pids):
        try:
            process = psutil.Process(pid)
            # Workers of a server that match as it does belong to it.
            if process.ppid() not in pids and is_alive(process):
                roots.append(process)
        except psutil.Error:
            continue
    if not roots:
        what = f"command line matches {spec.command!r}" if spec.command is not None else f"listens on port {spec.port}"
        raise TransientError(f"no process {what}")
    return roots


def descendants(roots: Iterable[psutil.Process]) -> dict[int, list[psutil.Process]]:
    """Each root with all its descendants, by the root's pid, in one pass over the processes of the host."""
    children: dict[int, list[psutil.Process]] = {}
    for process in psutil.process_iter(["ppid"]):
        children.setdefault(process.info["ppid"], []).append(process)
    families = {}
    for root in roots:
        family = [root]
        for member in family:
            family += children.get(member.pid, [])
        families[root.pid] = family
    return families


def _by_pid_file(path: Path) -> psutil.Process:
    try:
        process = psutil.Process(int(path.read_text().split()[0]))
    except (OSError, ValueError, IndexError) as error:
        reason = error.strerror if isinstance(error, OSError) else "holds no process id"
        raise TransientError(f"{path}: {reason}") from error
    except psutil.Error as error:
        raise TransientError(f"{path}: the process it names is gone") from error
    if not is_alive(process):
        raise TransientError(f"{path}: the process it names is gone")
    return process


def _by_command(pattern: str) -> set[int]:
    wanted = re.compile(pattern, re.DOTALL)
    return {
        process.pid
        for process in psutil.process_iter(["cmdline"])
        if wanted.search(" ".join(process.info["cmdline"] or ()))
    }


def _by_port(port: int) -> set[int]:
    try:
        listening = [
            one
            for one in psutil.net_connections(kind="tcp")
            if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port
        ]
    except psutil.AccessDenied as error:
        raise TransientError("this user may not see who listens on which port") from error
    pids = {one.pid for one in listening if one.pid is not None}
    if listening and not pids:
        raise TransientError(
            f"port {port} belongs to another user's process; run the collector as that user or as root"
        )
    return pids
