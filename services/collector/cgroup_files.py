"""The files of a control group, version 2 or 1, become a reading. Pure: texts in, by file name.

Source of the fields: the kernel's Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from services.collector.usage import Usage
from shared.errors import BadMessageError

# What is read of a group, and of version 1 from the folder of which controller.
FILES_V2 = ("cpu.stat", "memory.current", "memory.stat", "io.stat", "pids.current")
FILES_V1 = {
    "cpuacct.usage": "cpuacct",
    "cpu.stat": "cpu",
    "memory.usage_in_bytes": "memory",
    "memory.stat": "memory",
    "blkio.throttle.io_service_bytes_recursive": "blkio",
    "blkio.throttle.io_serviced_recursive": "blkio",
    "pids.current": "pids",
}
# A limit holds for everything below, so these are read of the groups above too.
LIMITS_V2 = ("cpu.max", "memory.max")
LIMITS_V1 = {"cpu.cfs_quota_us": "cpu", "cpu.cfs_period_us": "cpu", "memory.limit_in_bytes": "memory"}

Texts = Mapping[str, str]


def usage_of_v2(group: Texts, above: Sequence[Texts], at_s: float) -> dict[str, Any]:
    """Fields of a ``Usage``. ``above``: limits of the group and of each above it. What is not there is left out."""
    cpu, memory = _numbers(group.get("cpu.stat", "")), _numbers(group.get("memory.stat", ""))
    devices = None if "io.stat" not in group else _devices(group["io.stat"])
    return {
        "at_s": at_s,
        "cpu_s": _scaled(cpu.get("usage_usec"), 1e-6),
        "periods": cpu.get("nr_periods"),
        "throttled_periods": cpu.get("nr_throttled"),
        "memory_bytes": _less(_number(group, "memory.current"), memory.get("inactive_file")),
        "read_bytes": _total(devices, "rbytes"),
        "written_bytes": _total(devices, "wbytes"),
        "reads": _total(devices, "rios"),
        "writes": _total(devices, "wios"),
        "threads": _number(group, "pids.current"),
        "cpu_limit_cores": _least(_cores_v2(texts.get("cpu.max", "max")) for texts in above),
        "memory_limit_bytes": _least(
            None if texts.get("memory.max", "max").strip() == "max" else _number(texts, "memory.max") for texts in above
        ),
    }


def usage_of_v1(group: Texts, above: Sequence[Texts], at_s: float) -> dict[str, Any]:
    """As ``usage_of_v2``, for the files of version 1."""
    cpu, memory = _numbers(group.get("cpu.stat", "")), _numbers(group.get("memory.stat", ""))
    moved, done = (group.get(name) for name in list(FILES_V1)[4:6])
    return {
        "at_s": at_s,
        "cpu_s": _scaled(_number(group, "cpuacct.usage"), 1e-9),
        "periods": cpu.get("nr_periods"),
        "throttled_periods": cpu.get("nr_throttled"),
        "memory_bytes": _less(_number(group, "memory.usage_in_bytes"), memory.get("total_inactive_file")),
        "read_bytes": _operation(moved, "Read"),
        "written_bytes": _operation(moved, "Write"),
        "reads": _operation(done, "Read"),
        "writes": _operation(done, "Write"),
        "threads": _number(group, "pids.current"),
        "cpu_limit_cores": _least(_cores_v1(texts) for texts in above),
        # No limit is written as the largest multiple of a page, which the machine's memory undercuts.
        "memory_limit_bytes": _least(_number(texts, "memory.limit_in_bytes") for texts in above),
    }


def within_machine(fields: Mapping[str, Any], cores: float, memory_bytes: float) -> Usage:
    """The reading, with the machine as the limit where there is none below it."""
    return Usage(
        **{
            **fields,
            "cpu_limit_cores": _least([fields["cpu_limit_cores"], cores]),
            "memory_limit_bytes": _least([fields["memory_limit_bytes"], memory_bytes]),
        }
    )


def _numbers(text: str) -> dict[str, float]:
    """Lines of a name and a number."""
    told = {}
    for line in text.splitlines():
        name, _, number = line.partition(" ")
        told[name] = _as_number(number, line)
    return told


def _number(texts: Texts, name: str) -> float | None:
    return None if name not in texts else _as_number(texts[name], name)


def _as_number(text: str, where: str) -> float:
    try:
        return float(int(text))
    except ValueError as error:
        raise BadMessageError(f"no control group file: {where!r} says {text.strip()[:40]!r}") from error


def _devices(text: str) -> list[dict[str, float]]:
    """``8:0 rbytes=1 wbytes=2 …``, one line a device; a device that did nothing has no line."""
    return [
        {
            key: _as_number(number, line)
            for key, equals, number in (pair.partition("=") for pair in line.split()[1:])
            if equals
        }
        for line in text.splitlines()
    ]


def _total(devices: list[dict[str, float]] | None, name: str) -> float | None:
    return None if devices is None else sum(device.get(name, 0.0) for device in devices)


def _operation(text: str | None, operation: str) -> float | None:
    """``8:0 Read 4096``, one line a device and operation."""
    if text is None:
        return None
    rows = [line.split() for line in text.splitlines()]
    return sum(_as_number(row[2], " ".join(row)) for row in rows if len(row) == 3 and row[1] == operation)


def _cores_v2(text: str) -> float | None:
    """``cpu.max``: quota and period in µs, ``max`` for no quota."""
    quota, _, period = text.strip().partition(" ")
    return None if quota == "max" else _as_number(quota, "cpu.max") / _as_number(period or "100000", "cpu.max")


def _cores_v1(texts: Texts) -> float | None:
    quota, period = _number(texts, "cpu.cfs_quota_us"), _number(texts, "cpu.cfs_period_us")
    return quota / period if quota is not None and period and quota > 0 else None


def _scaled(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale


def _less(used: float | None, idle: float | None) -> float | None:
    """Memory without the page cache that the kernel can take back at any time."""
    return None if used is None else max(0.0, used - (idle or 0.0))


def _least(limits: Iterable[float | None]) -> float | None:
    return min((limit for limit in limits if limit is not None), default=None)
