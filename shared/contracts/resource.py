"""What one instance of a service used and how full it was at one moment."""

from shared.contracts.base import Instant, Message

RESOURCE_UNITS = {
    "cpu_usage": "ratio",
    "cpu_cores": "cores",
    "cpu_throttled": "ratio",
    "memory_usage": "MB",
    "memory_ratio": "ratio",
    "network_received": "bytes/s",
    "network_sent": "bytes/s",
    "network_errors": "errors/s",
    "network_drops": "packets/s",
    "storage_read": "bytes/s",
    "storage_written": "bytes/s",
    "storage_reads": "operations/s",
    "storage_writes": "operations/s",
    "storage_used": "MB",
    "storage_ratio": "ratio",
    "open_files": "files",
    "threads": "threads",
    "gpu_usage": "ratio",
    "gpu_memory": "MB",
    "gpu_memory_ratio": "ratio",
}
"""What containers, cgroups, processes and GPUs tell, and in which unit; ``docs/resources.md`` explains each.

1 MB is 1,048,576 bytes. The platform's own metrics come on top, by the mapping of ``config/resources.yaml``.
"""


class ResourceSample(Message):
    """``values`` maps a metric name of ``RESOURCE_UNITS`` or of ``config/resources.yaml`` to its value in that unit.

    A metric that could not be read is absent, never zero. ``ready`` tells whether the instance takes traffic. One
    instance may be seen by several sources: their samples have the same service and instance, and other metrics.
    """

    service: str
    system: str
    environment: str
    instance: str
    at: Instant
    ready: bool = True
    values: dict[str, float]
