"""The user PostgreSQL runs as when the stack is started by root, which PostgreSQL refuses to serve.

It becomes ``nobody``. Where folders above the data or the binaries are closed to that user (a clone under ``/root`` or
a ``mktemp -d`` folder), no folder is opened to the world: the process alone keeps one capability that lets it pass.
"""

import os
import pwd
import shutil
import signal
import stat
from dataclasses import dataclass
from pathlib import Path

from deploy.embedded.errors import StackError

USER = "nobody"
# Least first: pass through and read any folder; if the container does not give that, the ordinary right of its root.
CAPABILITIES = ("dac_read_search", "dac_override")
CAPABILITY_NUMBERS = {"dac_override": 1, "dac_read_search": 2, "setpcap": 8}


@dataclass(frozen=True)
class Unprivileged:
    """Who PostgreSQL runs as, and what is put before each of its commands to get there."""

    uid: int
    gid: int
    prefix: tuple[str, ...]


def plan_unprivileged(folders: list[Path], executable: Path, death_signal: signal.Signals) -> Unprivileged | None:
    """None unless this process is root. ``folders`` and ``executable`` must be reachable for the other user.

    Raises ``StackError`` naming the closed folder when this container lets no one but root pass through it.
    """
    if os.geteuid() != 0:
        return None
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise StackError(
            "postgres: setpriv is missing; install util-linux, or start the stack as another user than root"
        )
    user = pwd.getpwnam(USER)
    identity = [setpriv, f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    prefix = [*identity, "--pdeathsig", death_signal.name.removeprefix("SIG")]
    closed = find_closed(folders, executable)
    if closed is not None:
        capability = _choose_capability(closed, executable)
        # Without no_setuid_fixup, access(2) ignores the capability and PostgreSQL calls its own binary invalid.
        prefix += [f"--inh-caps=+{capability}", f"--ambient-caps=+{capability}", "--securebits=+no_setuid_fixup"]
    return Unprivileged(user.pw_uid, user.pw_gid, (*prefix, "--"))


def find_closed(folders: list[Path], executable: Path) -> Path | None:
    """The topmost path that users other than its owner cannot pass, read or run; None when all is open."""
    for folder in [*folders, executable.parent]:
        for step in reversed([folder, *folder.parents]):
            if step.exists() and not step.stat().st_mode & stat.S_IXOTH:
                return step
    needed = stat.S_IROTH | stat.S_IXOTH
    return None if executable.stat().st_mode & needed == needed else executable


def _choose_capability(closed: Path, executable: Path) -> str:
    runnable = bool(executable.stat().st_mode & stat.S_IXOTH)
    held = _read_permitted_capabilities()
    for capability in CAPABILITIES:
        if capability == "dac_read_search" and not runnable:
            continue  # it opens folders and files for reading, never for running
        if capability in held and "setpcap" in held:
            return capability
    raise StackError(
        f"postgres: user {USER!r} cannot get through {closed}, and this container grants no capability to pass; "
        f"put the data (`--data`) and the checkout below folders with mode 0755, or start as another user than root"
    )


def _read_permitted_capabilities() -> set[str]:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapPrm:"):
            mask = int(line.split()[1], 16)
            return {name for name, number in CAPABILITY_NUMBERS.items() if mask >> number & 1}
    return set()
