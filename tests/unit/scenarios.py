"""A scenario for tests that need one, and states of runs and workers around it."""

from datetime import UTC, datetime
from typing import Any

from shared.config import parse
from shared.contracts.run import Load, RunDesired
from shared.contracts.scenario import Scenario

MINIMAL: dict[str, Any] = {
    "name": "things",
    "system": "shop",
    "steps": [{"action": "look", "system": "shop", "path": "/things"}],
}


def scenario(**changes: Any) -> Scenario:
    return parse(Scenario, MINIMAL | changes, "test")


def desired(**changes: Any) -> RunDesired:
    """A run of ten users for 60 s; fields of the run may be changed by name."""
    fields: dict[str, Any] = {
        "run": "run-1",
        "environment": "local",
        "generation": 1,
        "status": "running",
        "loads": (Load(scenario=scenario(), users=10, duration_s=60.0),),
        "targets": {"shop": "http://127.0.0.1:9"},
        "allowed_hosts": ("127.0.0.1",),
        "requested_at": datetime.fromtimestamp(1_000, UTC),
    }
    return RunDesired(**(fields | changes))
