"""What one instance of a service used and how full it was at one moment."""

from shared.contracts.base import Instant, Message


class ResourceSample(Message):
    """``values`` maps a metric name of ``config/resources.yaml`` to its value in the unit that file states.

    A metric that could not be read is absent, never zero. ``ready`` tells whether the instance takes traffic.
    """

    service: str
    system: str
    environment: str
    instance: str
    at: Instant
    ready: bool = True
    values: dict[str, float]
