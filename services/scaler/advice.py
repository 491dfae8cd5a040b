"""What a person might do where replicas cannot help, and the hold for errors that are not of the load. Pure."""

from services.scaler.candidates import is_flat
from services.scaler.decision import Case, Decision
from services.scaler.situation import OpenBreach

ERRORS = "error_rate"
ADVICE = {
    "unobserved": "see whether what runs the replicas answers, and whether the scaler may ask it",
    "crash_looping": "read the log of the replica that ends, and what was updated last",
    "unhealthy": "see why the replicas fail their health check; more of them would fail too",
    "not_load_related": "find what takes the time: a dependency, a lock, one slow call; the breach names traces",
    "spent_elsewhere": "look at the service that spent the time; scaling this one would not shorten it",
    "errors_not_load": "read the errors of the worst traces and what changed last; replicas do not mend them",
    "metrics_missing": "see whether the collector reads this service: `tidegate resources` shows what arrives",
    "at_max": "raise max where the load is meant, or find out who sends it",
    "capacity": "add a node, or free reservations; it is weighed again when there is room",
    "budget": "raise the budget, or lower the max of what holds most; it is weighed again when there is room",
    "ineffective": "look for what replicas share: a database, a lock, a quota, one hot key",
    "rolled_back": "look for what replicas share: a database, a lock, a quota, one hot key",
    "low_confidence": "see which readings are missing, or lower min_confidence",
}
"""By reason code."""


def recommendation(decision: Decision) -> str:
    """Advice on a hold or a rollback; empty where there is nothing a person need do."""
    return ADVICE["ineffective"] if decision.reverses else ADVICE.get(decision.reason_code, "")


def errors_without_load(case: Case) -> Decision | None:
    """The hold that tells of errors that came up while nothing is busy, or None."""
    own = [one for one in case.facts.breaches if one.system == case.rules.system]
    breach = next((one for one in own if one.metric == ERRORS), None)
    if breach is None or not is_flat(case.rules, case.facts):
        return None
    return case.hold("errors_not_load", _words(case, breach))


def _words(case: Case, breach: OpenBreach) -> str:
    cpu = case.facts.readings["cpu_usage"].value or 0.0
    return f"{breach.value:.1%} of requests fail while the CPU is at {cpu:.0%} and nobody waits: replicas do not lack"
