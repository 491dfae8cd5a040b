"""Short ways to write a situation of the scaler, for tables of cases."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from services.scaler.situation import Change, Facts, Memory, Observation, OpenBreach, Reading
from shared.config import load_document
from shared.contracts.breach import Breach, BreachStatus, BreachWindow
from shared.contracts.resource import ResourceSample
from shared.contracts.scaling import Action
from shared.contracts.scaling_rules import ScalingRules, ServiceRules
from shared.settings import PROJECT_ROOT

NOW_S = 1_800_000_000.0
SHIPPED = load_document(ScalingRules, Path(PROJECT_ROOT) / "config" / "scaling.yaml")
RELAYCORE = SHIPPED.services["relaycore"]
AUTMATRIX = SHIPPED.services["autmatrix-backend"]
NEUROWEAVER = SHIPPED.services["neuroweaver-backend"]


def relaycore(**values: Any) -> ServiceRules:
    """The shipped rules of RelayCore with other values."""
    return ServiceRules.model_validate({**RELAYCORE.model_dump(), **values})


def reading(
    value: float | None, missing: int = 0, reported: int = 2, latest: float | None = None, span_s: float = 9.0
) -> Reading:
    return Reading(
        value=value, latest=value if latest is None else latest, reported=reported, missing=missing, span_s=span_s
    )


def facts(
    seen: Observation | None,
    readings: dict[str, float | Reading] | None = None,
    breaches: tuple[OpenBreach, ...] = (),
    now_s: float = NOW_S,
    service: str = "relaycore",
) -> Facts:
    made = {
        name: one if isinstance(one, Reading) else reading(one, reported=seen.ready if seen else 0)
        for name, one in (readings or {}).items()
    }
    return Facts(service=service, now_s=now_s, observation=seen, readings=made, breaches=breaches)


def running(desired: int, ready: int | None = None, **more: Any) -> Observation:
    return Observation(desired=desired, ready=desired if ready is None else ready, **more)


def open_breach(metric: str = "routing_latency", value: float = 200.0, limit: float = 50.0, **more: Any) -> OpenBreach:
    fields = {
        "breach": "b1", "run": "run-1", "system": "relaycore", "service": "relaycore", "metric": metric,
        "level": "target", "value": value, "limit": limit, "confidence": 1.0, "judged_s": NOW_S,
    }  # fmt: skip
    return OpenBreach.model_validate({**fields, **more})


def change(ago_s: float = 60.0, **more: Any) -> Change:
    """A scale-up for routing latency, finished and found helpful unless said otherwise."""
    fields = {
        "decision": f"relaycore-{int(ago_s)}", "at_s": NOW_S - ago_s, "action": Action.SCALE_UP, "current": 2,
        "target": 4, "cause": "routing_latency", "limit": 50.0, "breaches": ("b1",), "ok": True,
        "done_s": NOW_S - ago_s + 1, "verdict": "helped",
    }  # fmt: skip
    return Change.model_validate({**fields, **more})


def idle_for(seconds: float, highest_wanted: int = 0, **more: Any) -> Memory:
    since_s = NOW_S - seconds
    return Memory(idle_since_s=since_s, watched_since_s=since_s, highest_wanted=highest_wanted, **more)


def breach_event(status: BreachStatus, revision: int = 1, breach: str = "b1", **more: Any) -> Breach:
    """The contract as the validator publishes it."""
    now = datetime.fromtimestamp(NOW_S, tz=UTC)
    fields = {
        "breach": breach, "revision": revision, "status": status, "environment": "local", "run": "run-1",
        "system": "relaycore", "service": "relaycore", "metric": "routing_latency", "series": "all",
        "level": "target", "statistic": "p95", "value": 200.0, "limit": 50.0, "target": 50.0, "critical": 100.0,
        "unit": "ms", "better": "lower", "confidence": 1.0, "samples": 100,
        "window": BreachWindow(start=now, end=now, seconds=5.0), "opened_at": now,
    }  # fmt: skip
    return Breach.model_validate({**fields, **more})


def sample(
    instance: str, at_s: float, ready: bool = True, service: str = "relaycore", **values: float
) -> ResourceSample:
    return ResourceSample(
        service=service,
        system="relaycore",
        environment="local",
        instance=instance,
        at=datetime.fromtimestamp(at_s, tz=UTC),
        ready=ready,
        values=values,
    )
