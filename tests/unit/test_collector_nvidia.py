"""GPUs by a library that stands for NVIDIA's: values, no driver, a GPU that does not tell, a driver that fails."""

import logging
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from services.collector.nvidia import Nvidia
from services.collector.source_config import NvidiaSpec
from shared.errors import TransientError

GIB = 1024**3


class FakeNvml:
    """GPUs by index with their busy percentage; ``failure`` is raised by whatever is called next."""

    def __init__(self, *busy: int | None, failure: Exception | None = None) -> None:
        self.busy = busy
        self.failure = failure
        self.inits = self.shutdowns = 0

    def nvmlInit(self) -> None:  # noqa: N802 - NVIDIA's names, here and below
        self.inits += 1
        if self.failure is not None:
            raise self.failure

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.shutdowns += 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        if self.failure is not None:
            raise self.failure
        return len(self.busy)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:  # noqa: N802
        return index

    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any:  # noqa: N802
        busy = self.busy[handle]
        if busy is None:
            raise pynvml.NVMLError_NotSupported
        return SimpleNamespace(gpu=busy, memory=0)

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any:  # noqa: N802
        return SimpleNamespace(used=GIB, total=4 * GIB)


def source(nvml: FakeNvml, **fields: object) -> Nvidia:
    entry = {"kind": "nvidia", "service": "neuroweaver-backend", "system": "neuroweaver", "instance": "n-1", **fields}
    return Nvidia(NvidiaSpec.model_validate(entry), nvml)


async def test_an_instance_is_as_busy_as_the_mean_of_its_gpus() -> None:
    nvml = FakeNvml(100, 20, 30)
    all_of_them, two = source(nvml), source(nvml, gpus=[0, 2], keep=["gpu_usage", "gpu_memory"])
    (seen,) = await all_of_them.read()
    assert (seen.service, seen.system, seen.instance) == ("neuroweaver-backend", "neuroweaver", "n-1")
    assert seen.values == {"gpu_usage": 0.5, "gpu_memory": 3072.0, "gpu_memory_ratio": 0.25}
    assert (await two.read())[0].values == {"gpu_usage": 0.65, "gpu_memory": 2048.0}
    await all_of_them.close()
    await two.close()
    assert (nvml.inits, nvml.shutdowns) == (2, 2)


async def test_a_gpu_that_does_not_tell_how_busy_it_is_leaves_that_out() -> None:
    reader = source(FakeNvml(50, None))
    assert (await reader.read())[0].values.keys() == {"gpu_memory", "gpu_memory_ratio"}
    await reader.close()


@pytest.mark.parametrize("failure", [pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded])
async def test_no_driver_is_said_once_and_no_failure(
    failure: type[Exception], caplog: pytest.LogCaptureFixture
) -> None:
    nvml = FakeNvml(failure=failure())
    reader = source(nvml)
    with caplog.at_level(logging.INFO):
        assert [await reader.read() for _ in range(3)] == [[], [], []]
    await reader.close()
    assert (nvml.inits, nvml.shutdowns) == (1, 0)
    assert [record.getMessage() for record in caplog.records if "no NVIDIA driver here" in record.getMessage()] != []
    assert len(caplog.records) == 1


async def test_a_driver_that_fails_is_opened_anew_once_it_works() -> None:
    nvml = FakeNvml(40)
    reader = source(nvml)
    await reader.read()
    nvml.failure = pynvml.NVMLError_GpuIsLost()
    for _ in range(2):
        with pytest.raises(TransientError, match="NVIDIA"):
            await reader.read()
    nvml.failure = None
    assert (await reader.read())[0].values["gpu_usage"] == 0.4
    await reader.close()


async def test_this_machine_is_asked_by_the_real_library_without_harm() -> None:
    reader = Nvidia(NvidiaSpec(kind="nvidia", service="neuroweaver-backend"))
    for seen in await reader.read():
        assert seen.values["gpu_memory"] >= 0
    await reader.close()
