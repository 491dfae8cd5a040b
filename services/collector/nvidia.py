"""Adapter of NVIDIA's GPUs, through its management library. Where no driver is it says so once, and reads none."""

import logging
import socket
import time
from collections.abc import Iterable
from typing import Any, Protocol

import pynvml

from services.collector.source import Seen, local_lease_key
from services.collector.source_config import NvidiaSpec
from services.collector.usage import Usage, kept, values_of_usage
from shared.errors import TransientError
from shared.offload import Offload

logger = logging.getLogger(__name__)

_ABSENT = (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded)


class Nvml(Protocol):
    """What is used of the library."""

    def nvmlInit(self) -> None: ...  # noqa: N802 - NVIDIA's names, here and below

    def nvmlShutdown(self) -> None: ...  # noqa: N802

    def nvmlDeviceGetCount(self) -> int: ...  # noqa: N802

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any: ...  # noqa: N802

    def nvmlDeviceGetUtilizationRates(self, handle: Any) -> Any: ...  # noqa: N802

    def nvmlDeviceGetMemoryInfo(self, handle: Any) -> Any: ...  # noqa: N802


class Nvidia:
    """A ``Source``: one instance that holds all GPUs of the entry."""

    def __init__(self, spec: NvidiaSpec, nvml: Nvml = pynvml) -> None:
        self.name = spec.title
        self._spec = spec
        self._nvml = nvml
        self._offload = Offload(self.name, 1, spec.timeout_s)
        self._is_open = False
        self._is_absent = False

    async def lease_key(self) -> str:
        return local_lease_key(self.name)

    async def read(self) -> list[Seen]:
        if self._is_absent:
            return []
        try:
            usage = await self._offload.run(self._read)
        except _ABSENT as error:
            self._is_absent = True
            logger.info("%s: no NVIDIA driver here (%s), so no GPU is read", self.name, error)
            return []
        except pynvml.NVMLError as error:
            # After a reset or a change of the driver the library has to be opened anew.
            self._is_open = False
            raise TransientError(f"NVIDIA: {error}") from error
        values = kept(values_of_usage(None, usage), self._spec.keep)
        instance = self._spec.instance or socket.gethostname()
        return [Seen(self._spec.service, self._spec.of_system, instance, values)]

    def forget(self) -> None:
        """Nothing here is compared with a past."""

    async def close(self) -> None:
        if self._is_open:
            self._is_open = False
            try:
                await self._offload.run(self._nvml.nvmlShutdown)
            except (pynvml.NVMLError, TransientError) as error:
                logger.debug("%s: %s", self.name, error)
        self._offload.close()

    def _read(self) -> Usage:
        if not self._is_open:
            self._nvml.nvmlInit()
            self._is_open = True
        indices: Iterable[int] = self._spec.gpus or range(self._nvml.nvmlDeviceGetCount())
        handles = [self._nvml.nvmlDeviceGetHandleByIndex(index) for index in indices]
        if not handles:
            raise TransientError("the driver knows no GPU")
        busy = [self._busy(handle) for handle in handles]
        memory = [self._nvml.nvmlDeviceGetMemoryInfo(handle) for handle in handles]
        return Usage(
            at_s=time.monotonic(),
            gpu=None if None in busy else sum(share for share in busy if share is not None) / len(busy),
            gpu_memory_bytes=sum(one.used for one in memory),
            gpu_memory_limit_bytes=sum(one.total for one in memory),
        )

    def _busy(self, handle: Any) -> float | None:
        """Share of the last sampling period in which a kernel ran; None where the GPU does not tell, as in MIG mode."""
        try:
            return float(self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu) / 100
        except pynvml.NVMLError_NotSupported:
            return None
