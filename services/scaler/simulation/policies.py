"""The policies that can be compared, by the names people use."""

from services.scaler.simulation.course import Policy, Setting
from services.scaler.simulation.hpa import Hpa
from services.scaler.simulation.knative import Knative
from services.scaler.simulation.oracle import Oracle
from services.scaler.simulation.own import Own
from services.scaler.simulation.replicas import Load
from services.scaler.simulation.step import Step
from shared.contracts.scaling_rules import ServiceRules
from shared.errors import ConfigError

POLICIES = ("tidegate", "hpa", "knative", "step", "oracle")


def policy_named(name: str, service: str, rules: ServiceRules, load: Load, setting: Setting) -> Policy:
    """``hpa=0.5`` is the HPA with that target. Raises ``ConfigError`` for a name or a target that is none."""
    kind, equals, target = name.partition("=")
    if kind == "hpa":
        return Hpa(_share(name, target)) if equals else Hpa()
    if equals or kind not in POLICIES:
        raise ConfigError(
            f"--policy {name!r}: known are {', '.join(POLICIES)}, and hpa=TARGET with a target above 0 to 1"
        )
    if kind == "knative":
        return Knative(setting.concurrency)
    if kind == "oracle":
        return Oracle(load, setting)
    return Step() if kind == "step" else Own(service, rules)


def _share(name: str, target: str) -> float:
    try:
        share = float(target)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise ConfigError(f"--policy {name!r}: the target must be a utilization above 0 to 1, e.g. hpa=0.5")
    return share
