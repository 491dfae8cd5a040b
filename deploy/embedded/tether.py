"""Runs one command that dies with its parent; a script of its own so that it costs 15 ms and needs no fork hook.

Usage: ``python -I -S tether.py PARENT_PID SIGNAL_NUMBER COMMAND…``. The kernel sends SIGNAL_NUMBER to the command
when the *thread* that started it ends, however it ends. The setting survives exec but not a change of user, so a
command that drops privileges must set it again (``setpriv --pdeathsig``).
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    parent_pid, death_signal, command = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0) != 0:
        sys.exit(f"cannot tie {command[0]} to its parent: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent_pid:  # the parent died before the tie was made
        sys.exit(0)
    try:
        os.execv(command[0], command)  # noqa: S606 - replacing this process is the point
    except OSError as error:
        sys.exit(f"cannot start {command[0]}: {error.strerror}")
