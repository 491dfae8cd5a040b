"""Words, units and times of the Engine API that its targets share, and the labels they leave. Pure."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

SERVICE, SLOT, EPOCH, DECISION = "tidegate.service", "tidegate.slot", "tidegate.epoch", "tidegate.decision"
FENCE = "tidegate.fence"
MB = 1_048_576
NANO = 1e9

LOOP_S = 120.0
"""A replica that ended twice within this keeps ending."""
STEADY_S = 30.0
"""Unless it has run for so long since."""


def seconds(timestamp: object) -> float:
    """Seconds since the Unix epoch; 0 for what is no timestamp."""
    try:
        return datetime.fromisoformat(str(timestamp)).timestamp()
    except ValueError:
        return 0.0


def amount(told: Mapping[str, Any], name: str, unit: float) -> float | None:
    """An amount in units; None where the engine leaves it out or says 0 or less, which is without."""
    value = told.get(name) or 0
    return value / unit if value > 0 else None
