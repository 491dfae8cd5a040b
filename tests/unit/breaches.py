"""Breach events as the validator tells them, made from a few words."""

from datetime import timedelta
from typing import Any

from shared.contracts.breach import Acknowledgement, Breach, BreachEvent, BreachStatus, BreachWindow
from tests.unit.validator_frames import RUN, START

OPENED, ESCALATED = BreachStatus.OPENED, BreachStatus.ESCALATED
UPDATED, RESOLVED = BreachStatus.UPDATED, BreachStatus.RESOLVED


def breach(revision: int = 1, status: BreachStatus = OPENED, **fields: Any) -> Breach:
    made: dict[str, Any] = {
        "breach": "b1",
        "environment": "test",
        "run": RUN,
        "system": "relaycore",
        "service": "relaycore",
        "metric": "routing_latency",
        "series": RUN,
        "level": "target",
        "statistic": "mean",
        "value": 88.0,
        "limit": 50.0,
        "target": 50.0,
        "critical": 100.0,
        "unit": "ms",
        "better": "lower",
        "confidence": 0.9999,
        "samples": 40,
        "window": BreachWindow(start=START, end=START + timedelta(seconds=6), seconds=6.0),
        "opened_at": START,
        "resolved_at": START + timedelta(seconds=60) if status is RESOLVED else None,
    }
    return Breach(revision=revision, status=status, **{**made, **fields})


def event(revision: int = 1, status: BreachStatus = OPENED, **fields: Any) -> BreachEvent:
    return BreachEvent.of(breach(revision, status, **fields), START + timedelta(seconds=revision))


def acknowledged(revision: int) -> Acknowledgement:
    return Acknowledgement(by="ada", at=START, note="on it", revision=revision)
