"""Control groups of both versions, as files in a folder: limits of the groups above hold, patterns make instances."""

from pathlib import Path

import psutil
import pytest

from services.collector.cgroups import open_cgroups
from services.collector.source_config import CgroupSpec
from shared.errors import BadMessageError, TransientError

CPU_STAT = "usage_usec {usage}\nuser_usec 1\nnr_periods {periods}\nnr_throttled 0\n"


def write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".", 1).replace("__", ".")).write_text(text)


def v2_group(root: Path, name: str, usage: int = 1_000_000, periods: int = 0) -> Path:
    folder = root / name
    write(
        folder,
        cpu__stat=CPU_STAT.format(usage=usage, periods=periods),
        cpu__max="max 100000\n",
        memory__current="10485760\n",
        memory__max="max\n",
        memory__stat="anon 1\ninactive_file 2097152\n",
        io__stat="8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n8:16 rbytes=4096 wbytes=512 rios=1 wios=1\n",
        pids__current="3\n",
        cgroup__procs="",
    )
    return folder


@pytest.fixture
def v2(tmp_path: Path) -> Path:
    write(tmp_path, cgroup__controllers="cpu memory io\n")
    write(tmp_path / "system.slice", cpu__max="150000 100000\n", memory__max="33554432\n")
    v2_group(tmp_path, "system.slice/relaycore.service")
    return tmp_path


def spec(root: Path, path: str = "system.slice/relaycore.service", **fields: object) -> CgroupSpec:
    return CgroupSpec.model_validate(
        {"kind": "cgroup", "service": "relaycore", "path": path, "root": root, "instance": "r", **fields}
    )


async def test_amounts_come_at_once_and_limits_of_groups_above_hold(v2: Path) -> None:
    source = open_cgroups(spec(v2))
    (seen,) = await source.read()
    await source.close()
    assert (seen.service, seen.system, seen.instance) == ("relaycore", "relaycore", "r")
    assert seen.values == pytest.approx({"memory_usage": 8.0, "memory_ratio": 0.25, "threads": 3.0})


async def test_rates_come_with_the_second_reading_and_not_across_a_restart(v2: Path) -> None:
    source = open_cgroups(spec(v2, keep=["cpu_usage", "cpu_cores", "cpu_throttled", "storage_reads"]))
    await source.read()
    v2_group(v2, "system.slice/relaycore.service", usage=1_000_300, periods=4)
    (second,) = await source.read()
    assert second.values["cpu_usage"] == pytest.approx(second.values["cpu_cores"] / 1.5)
    assert second.values["cpu_cores"] > 0
    assert (second.values["cpu_throttled"], second.values["storage_reads"]) == (0.0, 0.0)
    v2_group(v2, "system.slice/relaycore.service", usage=10)
    (third,) = await source.read()
    assert "cpu_usage" not in third.values
    await source.close()


async def test_each_group_that_a_pattern_matches_is_an_instance(v2: Path) -> None:
    v2_group(v2, "system.slice/relaycore-2.service")
    source = open_cgroups(spec(v2, "/system.slice/relaycore*.service"))
    assert [seen.instance for seen in await source.read()] == ["r-relaycore-2.service", "r-relaycore.service"]
    await source.close()


async def test_without_a_limit_the_machine_is_the_limit(tmp_path: Path) -> None:
    write(tmp_path, cgroup__controllers="cpu\n")
    v2_group(tmp_path, "a")
    source = open_cgroups(spec(tmp_path, "a"))
    (seen,) = await source.read()
    await source.close()
    assert seen.values["memory_ratio"] == pytest.approx(8 * 1024 * 1024 / psutil.virtual_memory().total)


async def test_the_use_of_a_file_system_is_told_where_it_is_asked_for(v2: Path, tmp_path: Path) -> None:
    source = open_cgroups(spec(v2, storage=str(tmp_path), keep=["storage_used", "storage_ratio"]))
    (seen,) = await source.read()
    await source.close()
    assert seen.values["storage_used"] > 0
    assert 0 < seen.values["storage_ratio"] < 1


async def test_a_storage_path_that_is_not_there_is_said_once_and_leaves_the_rest(
    v2: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = open_cgroups(spec(v2, storage=str(v2 / "gone")))
    for _ in range(2):
        (seen,) = await source.read()
        assert "memory_usage" in seen.values
        assert "storage_used" not in seen.values
    await source.close()
    assert [record.getMessage() for record in caplog.records] == [f"storage {v2}/gone: No such file or directory"]


async def test_version_one_is_read_from_its_controllers(tmp_path: Path) -> None:
    write(tmp_path / "cpuacct" / "app", cpuacct__usage="2000000000\n", cgroup__procs="")
    write(
        tmp_path / "cpu" / "app", cpu__cfs_quota_us="50000\n", cpu__cfs_period_us="100000\n", cpu__stat="nr_periods 1\n"
    )
    memory = {"memory__usage_in_bytes": "10485760\n", "memory__limit_in_bytes": "20971520\n"}
    write(tmp_path / "memory" / "app", **memory, memory__stat="cache 5\ntotal_inactive_file 0\n")
    write(
        tmp_path / "blkio" / "app",
        blkio__throttle__io_service_bytes_recursive="8:0 Read 4096\n8:0 Write 1\n8:0 Total 4097\nTotal 4097\n",
    )
    source = open_cgroups(spec(tmp_path, "app"))
    (first,) = await source.read()
    assert first.values == {"memory_usage": 10.0, "memory_ratio": 0.5}
    write(tmp_path / "cpuacct" / "app", cpuacct__usage="2000500000\n")
    (second,) = await source.read()
    await source.close()
    assert second.values["cpu_usage"] == pytest.approx(second.values["cpu_cores"] / 0.5)
    assert second.values["storage_read"] == 0.0
    assert "storage_reads" not in second.values


@pytest.mark.parametrize(
    ("path", "reason"),
    [("gone", "no control group matches gone"), ("system.slice/../gone*", "")],
    ids=["no group", "path that leaves the root"],
)
async def test_what_is_not_there_is_told_in_a_line(v2: Path, path: str, reason: str) -> None:
    if not reason:
        with pytest.raises(ValueError, match="must stay below root"):
            spec(v2, path)
        return
    source = open_cgroups(spec(v2, path))
    with pytest.raises(TransientError, match=reason):
        await source.read()
    await source.close()


async def test_a_folder_without_control_groups_and_a_file_that_is_none_are_told_in_a_line(tmp_path: Path) -> None:
    source = open_cgroups(spec(tmp_path, "a"))
    with pytest.raises(TransientError, match="no control groups are mounted there"):
        await source.read()
    write(tmp_path, cgroup__controllers="cpu\n")
    write(v2_group(tmp_path, "a"), memory__current="lots\n")
    with pytest.raises(BadMessageError, match=r"'memory\.current' says 'lots'"):
        await source.read()
    await source.close()
