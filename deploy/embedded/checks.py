"""What ``tidegate doctor`` looks at: this machine first, then the stack on the folder if one is up.

Every check ends in a finding, never in an exception, and changes nothing but a folder it removes again.
"""

import asyncio
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nats
import psycopg
from nats.js.errors import NotFoundError

from deploy.embedded.cluster import find_postgres_binaries, read_postgres_version
from deploy.embedded.control import read_stack
from deploy.embedded.errors import StackError
from deploy.embedded.folder import prepare_folder
from deploy.embedded.lock import read_holder
from deploy.embedded.nats import find_nats_binary
from deploy.embedded.postgres import PostgresServer
from deploy.embedded.service import read_health
from deploy.embedded.state import StackInfo
from shared.store.migrations import read_migrations, read_schema
from shared.streams import STREAMS
from shared.subjects import Subjects

OLDEST_PYTHON = (3, 11)
WANTED_FREE_BYTES = 2 * 1024**3
START_STACK = "start it with `tidegate up`"


@dataclass(frozen=True)
class Check:
    """``way_out`` is empty when there is nothing to do."""

    name: str
    ok: bool
    detail: str
    way_out: str = ""


def run_checks(data: Path) -> Iterator[Check]:
    """Yield findings as they are made; the slowest takes about a second."""
    yield _check_python()
    yield _check_binary("nats-server", _read_nats_version)
    yield _check_binary("postgres binaries", lambda: read_postgres_version(find_postgres_binaries()))
    folder = _check_folder(data)
    yield folder
    if folder.ok:
        yield _check_disk(data)
        yield _check_postgres_starts(data)
    info = read_stack(data)
    yield _check_stack(data, info)
    if info is not None:
        yield from _check_services(info)
        yield _check_streams(info)
        yield _check_schema(info)


def _check_python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    ok = sys.version_info[:2] >= OLDEST_PYTHON and sys.platform == "linux"
    wanted = "use Linux and Python {}.{} or newer".format(*OLDEST_PYTHON)
    return Check("python", ok, f"{version} on {sys.platform}", "" if ok else wanted)


def _check_binary(name: str, read_version: Callable[[], str]) -> Check:
    try:
        return Check(name, True, read_version())
    except StackError as error:
        return Check(name, False, str(error), "run `make setup`")


def _read_nats_version() -> str:
    binary = find_nats_binary()
    try:
        done = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError) as error:
        raise StackError(f"{binary} does not run: {error}") from error
    return done.stdout.strip().removeprefix("nats-server: v")


def _check_folder(data: Path) -> Check:
    try:
        return Check("data folder", True, f"{prepare_folder(data)} is writable")
    except StackError as error:
        return Check("data folder", False, str(error), "choose another folder with --data")


def _check_disk(data: Path) -> Check:
    free = shutil.disk_usage(data).free
    ok = free >= WANTED_FREE_BYTES
    way_out = "" if ok else f"free {WANTED_FREE_BYTES >> 30} GiB or choose another disk with --data"
    return Check("free disk", ok, f"{free / 1024**3:.1f} GiB", way_out)


def _check_postgres_starts(data: Path) -> Check:
    """Really, with the user and below the folder it would run in."""
    name = "postgres starts"
    try:
        with tempfile.TemporaryDirectory(prefix="doctor-", dir=data) as folder:
            server = PostgresServer(Path(folder) / "postgres", password="only-for-a-moment", durable=False)  # noqa: S106
            try:
                server.start()
            finally:
                server.stop()
    except (StackError, OSError, psycopg.Error) as error:
        return Check(name, False, " ".join(str(error).split()), "see the line itself, or choose another --data folder")
    return Check(name, True, "a trial server answered a query")


def _check_stack(data: Path, info: StackInfo | None) -> Check:
    if info is not None:
        return Check("stack", True, f"up, keeper process {info.keeper_pid}, environment {info.environment}")
    if read_holder(data) is not None:
        return Check("stack", False, "starting or stopping", "wait a moment and look again")
    return Check("stack", True, f"not up; {START_STACK}")


def _check_services(info: StackInfo) -> Iterator[Check]:
    for name, service in info.services.items():
        if service.url is None:
            continue
        status, text = read_health(service.url)
        again = f", started again {service.restarts} times" if service.restarts else ""
        detail = (f"healthy{again}" if status == 200 else f"status {status}: {text.strip()}{again}")[:300]
        yield Check(name, status == 200, detail, "" if status == 200 else f"see {service.log}")


def _check_streams(info: StackInfo) -> Check:
    subjects = Subjects(info.environment)
    wanted = [subjects.stream(spec.name) for spec in STREAMS]
    log = info.services["nats"].log
    try:
        missing = asyncio.run(_list_missing_streams(info.nats_url, wanted))
    except (OSError, nats.errors.Error) as error:
        return Check("streams", False, f"cannot be read: {error}", f"see {log}")
    if missing:
        return Check("streams", False, f"missing: {', '.join(missing)}", "the services create them; see their logs")
    return Check("streams", True, f"all {len(wanted)} exist")


async def _list_missing_streams(url: str, wanted: list[str]) -> list[str]:
    client = await nats.connect(url, connect_timeout=2, allow_reconnect=False)
    try:
        missing = []
        for name in wanted:
            try:
                await client.jetstream().stream_info(name)
            except NotFoundError:
                missing.append(name)
        return missing
    finally:
        await client.close()


def _check_schema(info: StackInfo) -> Check:
    newest = len(read_migrations())
    log = info.services["postgres"].log
    try:
        with psycopg.connect(info.store_dsn, connect_timeout=3) as connection:
            schema = read_schema(connection)
    except psycopg.Error as error:
        return Check("schema", False, f"cannot be read: {' '.join(str(error).split())}", f"see {log}")
    ok = schema is not None and schema.version == newest
    way_out = "" if ok else "the collector brings the schema up to date; see its log"
    found = f"version {schema.version} of {newest} on {schema.side}" if schema else f"version 0 of {newest}"
    return Check("schema", ok, found, way_out)
