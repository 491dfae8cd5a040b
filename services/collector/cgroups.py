"""Adapter of the kernel's control groups by path: version 2, or version 1 where its controllers are mounted."""

import logging
import os
import socket
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import psutil

from services.collector.cgroup_files import (
    FILES_V1,
    FILES_V2,
    LIMITS_V1,
    LIMITS_V2,
    usage_of_v1,
    usage_of_v2,
    within_machine,
)
from services.collector.complaints import Complaints
from services.collector.host import network_of, storage_of
from services.collector.local_source import Found, LocalSource
from services.collector.source_config import CgroupSpec
from services.collector.usage import Usage
from shared.errors import TransientError

logger = logging.getLogger(__name__)


def open_cgroups(spec: CgroupSpec) -> LocalSource:
    """Each group that the path matches is an instance."""
    return LocalSource(spec, Cgroups(spec).find)


class Cgroups:
    """The groups that a path matches."""

    def __init__(self, spec: CgroupSpec) -> None:
        self._spec = spec
        self._complaints = Complaints(logger)

    def find(self) -> list[Found]:
        """A reading of each group that is there. ``TransientError`` when none is."""
        tree = find_tree(self._spec.root)
        groups = tree.match(self._spec.path)
        if not groups:
            raise TransientError(f"no control group matches {self._spec.path} below {tree.base}")
        prefix = self._spec.instance or socket.gethostname()
        several = any(sign in self._spec.path for sign in "*?[")
        found = []
        for group in groups:
            usage = tree.read(group)
            if usage is None:
                continue  # it went away between the look and the reading
            usage = replace(usage, **storage_of(self._spec.storage, self._complaints))
            instance = f"{prefix}-{group.name}" if several or not self._spec.instance else prefix
            found.append(Found(instance, tree.life(group), usage))
        return found


class Tree:
    """A mounted hierarchy of version 2."""

    def __init__(self, base: Path) -> None:
        self.base = base

    def match(self, path: str) -> list[Path]:
        """Groups, relative to ``base``."""
        return sorted(found.relative_to(self.base) for found in self.base.glob(path.strip("/")) if found.is_dir())

    def life(self, group: Path) -> str:
        """Another one when the group was removed and made again."""
        try:
            return str((self.base / group).stat().st_ino)
        except OSError:
            return ""

    def read(self, group: Path) -> Usage | None:
        """None when the group is gone."""
        at_s = time.monotonic()
        texts = _texts({name: self.base / group / name for name in FILES_V2})
        above = [_texts({name: self.base / one / name for name in LIMITS_V2}) for one in (group, *group.parents)]
        if not texts:
            return None
        usage = within_machine(usage_of_v2(texts, above, at_s), _cores(), _memory())
        return replace(usage, **network_of(_first_pid(self.base / group)))


class TreeV1(Tree):
    """Version 1: a folder for each controller; groups are looked for below ``cpuacct``."""

    def __init__(self, root: Path) -> None:
        super().__init__(root / "cpuacct")
        self._root = root

    def read(self, group: Path) -> Usage | None:
        at_s = time.monotonic()
        texts = _texts({name: self._root / folder / group / name for name, folder in FILES_V1.items()})
        above = [
            _texts({name: self._root / folder / one / name for name, folder in LIMITS_V1.items()})
            for one in (group, *group.parents)
        ]
        if not texts:
            return None
        usage = within_machine(usage_of_v1(texts, above, at_s), _cores(), _memory())
        return replace(usage, **network_of(_first_pid(self.base / group)))


def find_tree(root: Path) -> Tree:
    """The hierarchy below ``root``. ``TransientError`` when there is none."""
    if (root / "cgroup.controllers").is_file():
        return Tree(root)
    if (root / "cpuacct").is_dir():
        return TreeV1(root)
    raise TransientError(f"{root}: no control groups are mounted there")


def _texts(paths: dict[str, Path]) -> dict[str, str]:
    """Those of the files that are there. A group without a controller lacks its files."""
    texts = {}
    for name, path in paths.items():
        try:
            texts[name] = path.read_text()
        except OSError:
            continue
    return texts


def _first_pid(group: Path) -> int | None:
    """Any process of the group or of those below it."""
    for path in _with_children(group):
        try:
            pids = (path / "cgroup.procs").read_text().split()
        except OSError:
            continue
        if pids:
            return int(pids[0])
    return None


def _with_children(group: Path) -> Iterable[Path]:
    for folder, _, _ in os.walk(group):
        yield Path(folder)


def _cores() -> float:
    return float(psutil.cpu_count() or 1)


def _memory() -> float:
    return float(psutil.virtual_memory().total)
