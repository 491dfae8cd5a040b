"""Processes of this host, a real control group, and how sources live beside each other: leases, failures, the store."""

import asyncio
import logging
import os
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from services.collector.cgroups import open_cgroups
from services.collector.local_source import LocalSource
from services.collector.outbox import Outbox
from services.collector.processes import open_processes
from services.collector.sampling import Sampler
from services.collector.source import Seen, local_lease_key
from services.collector.source_config import CgroupSpec, ProcessSpec
from services.collector.timescale import Timescale
from shared.contracts.resource import ResourceSample
from shared.errors import BadMessageError, TransientError
from shared.offload import Offload
from tests.integration.collector_rig import Rig, eventually, open_rig

pytestmark = pytest.mark.integration
# Half of its time at work, so that neighbours on the same cores take little away from it; a child does as much.
WORK = """
import time
while True:
    end = time.process_time() + 0.02
    while time.process_time() < end: pass
    time.sleep(0.02)
"""
FORK = f"import os\nif os.fork() == 0:\n os.execv({sys.executable!r}, [{sys.executable!r}, '-c', {WORK!r}])\n"


@contextmanager
def child(code: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A Python process with whatever it starts, ended at the end."""
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], start_new_session=True)
    try:
        yield process
    finally:
        for one in psutil.Process(process.pid).children(recursive=True):
            one.kill()
        process.kill()
        process.wait()


@pytest.fixture
async def rig(nats_url: str, environment: str, postgres_dsn: str) -> AsyncIterator[Rig]:
    async with open_rig(nats_url, environment, postgres_dsn) as opened:
        yield opened


def processes(**fields: object) -> LocalSource:
    entry = {"kind": "process", "service": "relaycore", "instance": "r", "cpu_limit_cores": 2, **fields}
    return open_processes(ProcessSpec.model_validate(entry))


async def first_with(source: LocalSource, metric: str, pause_s: float = 0.3) -> Seen:
    """The first instance as soon as it tells a metric; rounds are ``pause_s`` apart."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        await asyncio.sleep(pause_s)  # first: CPU time is counted in ticks, which say nothing of a few milliseconds
        try:
            found = await source.read()
        except TransientError:
            continue  # a child that has not become what it will be
        for seen in found:
            if metric in seen.values:
                return seen
    pytest.fail(f"no {metric} within 20 s")


async def test_a_family_is_found_by_its_command_line_and_read_as_one() -> None:
    mark = uuid.uuid4().hex
    with child(FORK + WORK, mark) as process:
        whole, alone = processes(command=mark), processes(command=mark, children=False)
        children = psutil.Process(process.pid).children
        await eventually(lambda: asyncio.sleep(0, len(children())), lambda count: count == 1)
        of_both, of_one = await first_with(whole, "cpu_usage", 1.0), await first_with(alone, "cpu_usage", 1.0)
        await whole.close()
        await alone.close()
    assert of_both.instance == f"r-{process.pid}"
    assert of_both.values["cpu_usage"] == pytest.approx(of_both.values["cpu_cores"] / 2)
    assert 0.05 < of_one.values["cpu_cores"] < 1.1
    assert (of_both.values["threads"], of_one.values["threads"]) == (2.0, 1.0)
    assert of_both.values["memory_usage"] > of_one.values["memory_usage"] > 1
    assert of_one.values["open_files"] >= 3
    assert "network_received" not in of_both.values


async def test_cpu_of_children_that_ended_and_were_waited_for_is_not_lost() -> None:
    spawn = (
        "import subprocess, sys\n"
        "while True: subprocess.run([sys.executable, '-S', '-c', 'sum(range(3_000_000))'])  # one after the other"
    )
    mark = uuid.uuid4().hex
    with child(spawn, mark) as process:
        source = processes(command=f"^{sys.executable} -c .*{mark}")
        seen = await first_with(source, "cpu_cores", 1.5)
        await source.close()
        own = psutil.Process(process.pid).cpu_times()
    # Nearly all of it is the children's, none of whom lives long enough to be seen twice.
    assert seen.values["cpu_cores"] > 0.1
    assert own.children_user > 10 * own.user or own.user < 0.2


async def test_a_server_is_found_by_its_port_and_a_new_one_at_it_begins_anew() -> None:
    serve = (
        "import socket, sys\ns = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
        "s.bind(('127.0.0.1', int(sys.argv[1]))); s.listen()\n" + WORK
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    source = processes(port=port, instance=None)
    with pytest.raises(TransientError, match=f"no process listens on port {port}"):
        await source.read()

    async def is_found() -> bool:
        try:
            return bool(await source.read())
        except TransientError:
            return False

    for _ in range(2):
        with child(serve, str(port)):
            await eventually(is_found, bool)
            source.forget()
            (begun,) = await source.read()
            assert "cpu_usage" not in begun.values
            seen = await first_with(source, "cpu_usage")
            assert seen.instance == f"{socket.gethostname()}-{port}"
            assert 0 < seen.values["cpu_usage"] < 0.6
    await source.close()


async def test_a_pid_file_that_is_wrong_or_old_is_told_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "server.pid"
    source = processes(pid_file=str(path))
    with pytest.raises(TransientError, match="No such file"):
        await source.read()
    path.write_text("soon\n")
    with pytest.raises(TransientError, match="holds no process id"):
        await source.read()
    with child(WORK) as process:
        path.write_text(f"{process.pid}\n")
        assert [seen.instance for seen in await source.read()] == ["r"]
    with pytest.raises(TransientError, match="the process it names is gone"):
        await source.read()
    await source.close()


@pytest.fixture
def real_group() -> Iterator[str]:
    """A control group of the running kernel, limited to half a CPU; its path below ``/sys/fs/cgroup``."""
    name, root = f"tidegate-test-{uuid.uuid4().hex[:8]}", Path("/sys/fs/cgroup")
    is_v2 = (root / "cgroup.controllers").is_file()
    bases = [root] if is_v2 else [root / controller for controller in ("cpu", "cpuacct", "memory")]
    with ExitStack() as stack:
        try:
            for base in bases:
                (base / name).mkdir()
                stack.callback((base / name).rmdir)
            if is_v2:
                (root / name / "cpu.max").write_text("50000 100000")
            else:
                (root / "cpu" / name / "cpu.cfs_quota_us").write_text("50000")
        except OSError as error:
            pytest.skip(f"no control group can be made here: {error}")
        yield name


def move(pid: int, group: str) -> None:
    """Put a process into a group, of every controller that has it."""
    root = Path("/sys/fs/cgroup")
    for procs in [*root.glob(f"{group}/cgroup.procs"), *root.glob(f"*/{group}/cgroup.procs")]:
        procs.write_text(str(pid))


async def test_a_real_control_group_is_read_with_its_limit(real_group: str) -> None:
    source = open_cgroups(CgroupSpec(kind="cgroup", service="relaycore", path=real_group, instance="r"))
    with child("while True: pass") as process:
        move(process.pid, real_group)
        seen = await first_with(source, "cpu_usage", 1.0)
        await source.close()
    assert seen.values["cpu_usage"] == pytest.approx(seen.values["cpu_cores"] / 0.5)
    assert 0.2 < seen.values["cpu_usage"] < 1.4
    assert seen.values["memory_usage"] >= 0


class Script:
    """A source that does what it is told to; ``rounds`` counts its readings."""

    def __init__(self, name: str, act: Callable[[], list[Seen]], key: str = "") -> None:
        self.name = name
        self._act = act
        self._key = key or f"sampler.{name}"
        self.rounds = self.forgotten = 0
        self.is_closed = False

    async def lease_key(self) -> str:
        return self._key

    async def read(self) -> list[Seen]:
        self.rounds += 1
        return self._act()

    def forget(self) -> None:
        self.forgotten += 1

    async def close(self) -> None:
        self.is_closed = True


def good() -> list[Seen]:
    return [Seen("relaycore", "relaycore", "r-1", {"cpu_usage": 0.5}, ready=False)]


def bad() -> list[Seen]:
    raise TransientError("it is away")


def odd() -> list[Seen]:
    raise BadMessageError("it says nonsense")


@contextmanager
def running(*tasks: "asyncio.Future[None]") -> Iterator[None]:
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()


def heard(rig: Rig) -> list[ResourceSample]:
    subject = rig.bus.subjects.resource("relaycore")
    return [ResourceSample.model_validate_json(msg.data) for msg in rig.heard if msg.subject == subject]


async def test_sources_that_fail_are_said_once_and_stop_no_other(
    rig: Rig, postgres_dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = Timescale(postgres_dsn, "test")
    outbox = Outbox(rig.bus, store)
    scripts = [Script("good", good), Script("bad", bad), Script("odd", odd)]
    tasks = [asyncio.ensure_future(Sampler(script, rig.bus, outbox, 0.05).run()) for script in scripts]
    tasks.append(asyncio.ensure_future(outbox.write()))
    with caplog.at_level(logging.WARNING), running(*tasks):
        await eventually(lambda: asyncio.sleep(0, min(s.rounds for s in scripts)), lambda rounds: rounds >= 5)
        await eventually(lambda: rig.count("resource_sample"), lambda count: count >= 3)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await store.close()
    assert sorted(record.getMessage() for record in caplog.records) == ["bad: it is away", "odd: it says nonsense"]
    assert all(script.is_closed for script in scripts)
    (sample, *_) = heard(rig)
    assert (sample.instance, sample.ready, sample.values) == ("r-1", False, {"cpu_usage": 0.5})


async def test_of_two_that_would_read_the_same_one_does_and_the_other_takes_over(rig: Rig, postgres_dsn: str) -> None:
    store = Timescale(postgres_dsn, "test")
    outbox = Outbox(rig.bus, store)
    one, other = Script("one", good, "sampler.same"), Script("other", good, "sampler.same")
    first = asyncio.ensure_future(Sampler(one, rig.bus, outbox, 0.05).run())
    await eventually(lambda: asyncio.sleep(0, one.rounds), lambda rounds: rounds >= 2)
    second = asyncio.ensure_future(Sampler(other, rig.bus, outbox, 0.05).run())
    with running(first, second):
        await eventually(lambda: asyncio.sleep(0, one.rounds), lambda rounds: rounds >= 10)
        assert other.rounds == 0
        assert other.forgotten > 0
        first.cancel()
        await eventually(lambda: asyncio.sleep(0, other.rounds), lambda rounds: rounds >= 2)
        second.cancel()
        await asyncio.gather(first, second, return_exceptions=True)
    await store.close()


async def test_samples_are_published_while_the_store_is_away_and_stored_when_it_is_back(
    rig: Rig, postgres_dsn: str
) -> None:
    store, blocker = Timescale(postgres_dsn, "test"), Timescale(postgres_dsn, "blocker")
    outbox = Outbox(rig.bus, store)
    tasks = [asyncio.ensure_future(Sampler(Script("good", good), rig.bus, outbox, 0.05).run())]
    tasks.append(asyncio.ensure_future(outbox.write()))
    with running(*tasks):
        async with blocker.transaction() as connection:
            await connection.execute("LOCK TABLE resource_sample IN ACCESS EXCLUSIVE MODE")
            await eventually(lambda: asyncio.sleep(0, len(heard(rig))), lambda count: count >= 5)
        told = len(heard(rig))
        await eventually(lambda: rig.count("resource_sample"), lambda count: count >= told)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await store.close()
    await blocker.close()


async def test_a_call_that_hangs_is_given_up_and_the_next_one_is_not_held_up_by_it() -> None:
    offload, answer, ended = Offload("slow", 2, 0.1), threading.Event(), list[bool]()
    with pytest.raises(TransientError, match=r"slow: no answer within 0.1 s"):
        await offload.run(lambda: ended.append(answer.wait(60)))
    assert await offload.run(lambda: 7, 20) == 7
    assert ended == [], "the first one still hangs"
    answer.set()
    offload.close()


def test_a_host_has_one_lease_for_each_of_its_sources() -> None:
    assert local_lease_key("process") == local_lease_key("process")
    assert local_lease_key("process") != local_lease_key("cgroup")
    assert str(os.stat("/proc/self/ns/pid").st_ino) in local_lease_key("process")  # noqa: PTH116 - as the kernel says
