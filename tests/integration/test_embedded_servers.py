"""NATS and PostgreSQL as children: crashes, misleading leftovers, closed folders, and a port that is taken."""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import nats
import psutil
import psycopg
import pytest

from deploy.embedded import StackError
from deploy.embedded.nats import NatsServer, find_nats_binary
from deploy.embedded.ports import choose_port
from deploy.embedded.postgres import PostgresServer
from shared import bus
from shared.streams import ensure_streams
from shared.subjects import Subjects

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has to change the user")

MakeServer = Callable[[Path], PostgresServer]


@pytest.fixture
def make_server() -> Iterator[MakeServer]:
    made: list[PostgresServer] = []

    def make(folder: Path) -> PostgresServer:
        server = PostgresServer(folder, password="only-for-tests", durable=False)
        made.append(server)
        return server

    yield make
    for server in made:
        server.stop()
        shutil.rmtree(server.data, ignore_errors=True)


def answer(server: PostgresServer, query: str) -> object:
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def test_a_killed_server_starts_again_though_a_stranger_has_its_number_and_a_backend_is_busy(
    tmp_path: Path, make_server: MakeServer
) -> None:
    server = make_server(tmp_path / "postgres")
    server.start()
    with psycopg.connect(server.dsn) as connection:
        connection.execute("create table kept as select 42 as value")
    busy = psycopg.connect(server.dsn, autocommit=True)
    busy.execute("begin")

    server.kill()
    lock_file = tmp_path / "postgres" / "cluster" / "postmaster.pid"
    user = lock_file.stat().st_uid if os.geteuid() == 0 else None
    stranger = subprocess.Popen([str(shutil.which("sleep")), "60"], user=user, cwd="/")
    try:
        lock_file.write_text("\n".join([str(stranger.pid), *lock_file.read_text().splitlines()[1:]]) + "\n")
        server.start()
        assert answer(server, "select value from kept") == 42
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()
        busy.close()


def test_a_second_server_on_the_same_folder_is_refused_and_the_first_lives_on(
    tmp_path: Path, make_server: MakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.embedded.cluster.LEFTOVER_DEADLINE_S", 0.1)
    first = make_server(tmp_path / "postgres")
    first.start()
    with pytest.raises(StackError, match="is in use by another server"):
        make_server(tmp_path / "postgres").start()
    assert answer(first, "select 1") == 1
    first.restart(immediate=True)
    assert answer(first, "select 1") == 1


def test_an_initdb_that_was_killed_half_way_is_made_anew(tmp_path: Path, make_server: MakeServer) -> None:
    unfinished = tmp_path / "postgres" / "cluster.unfinished"
    unfinished.mkdir(parents=True)
    (unfinished / "PG_VERSION").write_text("18\n")
    server = make_server(tmp_path / "postgres")
    server.start()
    assert answer(server, "show server_encoding") == "UTF8"
    assert answer(server, "select upper('ä')") == "Ä"
    assert not unfinished.exists()


def test_a_store_whose_folder_is_gone_is_not_replaced_by_an_empty_one_and_comes_back_with_it(
    tmp_path: Path, make_server: MakeServer
) -> None:
    server = make_server(tmp_path / "postgres")
    server.start()
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute("create table kept as select 42 as value")
    server.stop()
    cluster, elsewhere = server.data / "cluster", tmp_path / "elsewhere"
    cluster.rename(elsewhere)
    with pytest.raises(StackError, match=f"{re.escape(str(cluster))} is gone while the stack is up; put it back"):
        server.start()
    assert not cluster.exists()
    elsewhere.rename(cluster)
    server.start()
    assert answer(server, "select value from kept") == 42


def test_a_wrong_password_and_another_version_are_named(tmp_path: Path, make_server: MakeServer) -> None:
    server = make_server(tmp_path / "postgres")
    server.start()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(server.dsn.replace("only-for-tests", "wrong"))
    server.stop()
    with pytest.raises(StackError, match=r"another password.*--data"):
        PostgresServer(server.data, password="wrong", durable=False).start()
    (server.data / "cluster" / "PG_VERSION").write_text("17\n")
    with pytest.raises(StackError, match=r"made by PostgreSQL 17, installed is 18"):
        server.start()


@as_root
def test_root_serves_from_below_a_closed_folder_as_nobody_and_opens_no_folder(
    tmp_path: Path, make_server: MakeServer
) -> None:
    closed = tmp_path / "closed"
    (closed / "inner").mkdir(parents=True)
    closed.chmod(0o700)
    server = make_server(closed / "inner" / "postgres")
    server.start()

    status = Path(f"/proc/{server.child.pid}/status").read_text()
    capabilities = {line.split()[0]: line.split()[1] for line in status.splitlines() if line.startswith("Cap")}
    assert "Uid:\t65534\t65534\t65534\t65534" in status
    assert int(capabilities["CapPrm:"], 16) == 1 << 2  # CAP_DAC_READ_SEARCH and nothing else
    assert answer(server, "select 1") == 1
    assert closed.stat().st_mode & 0o777 == 0o700
    assert closed.stat().st_uid == 0


START = """
import sys
from pathlib import Path
from deploy.embedded import StackError
from deploy.embedded.postgres import PostgresServer
server = PostgresServer(Path(sys.argv[1]), password="only-for-tests", durable=False)
try:
    server.start()
    server.stop()
except StackError as error:
    sys.exit(str(error))
"""


def start_with_bounded_capabilities(folder: Path, dropped: str) -> "subprocess.CompletedProcess[str]":
    """Start and stop a server below a closed folder, as root that lacks some of its rights."""
    folder.mkdir()
    folder.chmod(0o700)
    setpriv = [str(shutil.which("setpriv")), f"--bounding-set={dropped}", f"--inh-caps={dropped}"]
    command = [*setpriv, sys.executable, "-c", START, str(folder / "postgres")]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)


@as_root
def test_the_root_of_an_ordinary_container_serves_from_below_a_closed_folder(tmp_path: Path) -> None:
    done = start_with_bounded_capabilities(tmp_path / "closed", "-dac_read_search")
    assert (done.returncode, done.stderr) == (0, "")


@as_root
def test_a_root_that_may_not_pass_closed_folders_is_told_which_one_and_the_way_out(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    done = start_with_bounded_capabilities(closed, "-dac_read_search,-dac_override")
    assert done.returncode == 1
    found = re.fullmatch(r"postgres: user 'nobody' cannot get through (\S+), .*`--data`.*\n", done.stderr)
    assert found, done.stderr
    assert closed.is_relative_to(found[1])


def test_a_server_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = (
        "import os,signal,sys;from pathlib import Path;from deploy.embedded.nats import NatsServer\n"
        "server=NatsServer(Path(sys.argv[1]));server.start();print(server.child.pid,flush=True)\n"
        "os.kill(os.getpid(),signal.SIGKILL)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "nats"], cwd=ROOT, capture_output=True, check=False, timeout=30
    )
    assert done.returncode == -signal.SIGKILL
    pid, deadline = int(done.stdout), time.monotonic() + 5
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the server lives on"
        time.sleep(0.01)


async def test_messages_survive_the_kill_of_nats_on_the_same_url(tmp_path: Path) -> None:
    server = NatsServer(tmp_path / "nats", user="tidegate", password="only-for-tests")
    server.start()
    try:
        client = await nats.connect(server.url)
        assert client.max_payload == 8 * 1024 * 1024
        await client.jetstream().add_stream(name="kept", subjects=["kept"])
        await client.jetstream().publish("kept", b"42")
        await client.close()
        url = server.url

        server.kill()
        server.start()

        assert server.url == url
        client = await nats.connect(url)
        assert (await client.jetstream().get_last_msg("kept", "kept")).data == b"42"
        await client.close()
        with pytest.raises(StackError, match=f"--nats-port: port {server.port} is in use"):
            NatsServer(tmp_path / "other", server.port)
    finally:
        server.stop()


async def test_each_test_has_its_own_database_and_streams_of_many_environments_fit_on_one_server(
    empty_postgres_dsn: str, nats_url: str, environment: str
) -> None:
    with psycopg.connect(empty_postgres_dsn) as connection:
        tables = connection.execute("select count(*) from pg_tables where schemaname = 'public'").fetchone()
    assert tables == (0,)
    client = await nats.connect(nats_url)
    for suffix in "abcdefgh":
        subjects = Subjects(environment + suffix)
        await ensure_streams(client.jetstream(), subjects)
        assert (await client.jetstream().stream_info(subjects.stream("TIMINGS"))).config.max_bytes == 8 << 30
    await client.close()


async def test_a_broker_without_room_for_the_streams_is_reported_and_asked_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus, "STREAMS_AGAIN_S", 0.1)
    config, port = tmp_path / "nats.conf", choose_port("port")
    config.write_text(f'port: {port}\nhost: 127.0.0.1\njetstream {{ store_dir: "{tmp_path}", max_file_store: 1MB }}\n')
    server = await asyncio.create_subprocess_exec(find_nats_binary(), "-c", config, stderr=subprocess.DEVNULL)
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3), bus.open_bus(f"nats://127.0.0.1:{port}", "small", "test"):
                pass
    finally:
        server.terminate()
        await server.wait()
    assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == [], "the client is closed"
    said = [record.getMessage() for record in caplog.records if "streams of small" in record.getMessage()]
    assert len(said) > 2
    assert "insufficient storage resources available" in said[-1]
