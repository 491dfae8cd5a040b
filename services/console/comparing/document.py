"""A comparison as plain JSON: for programs, and the one thing that other renderings need not repeat. Pure."""

from typing import Any

from services.console.comparing.compare import Comparison
from services.console.comparing.measures import Measure
from services.console.comparing.verdict import Judged, Rules
from shared.store.comparisons import RanRow

Json = dict[str, Any]


def to_document(comparison: Comparison) -> Json:
    """Fields are added, never renamed."""
    rules = comparison.rules
    return {
        "base": _run(comparison.base),
        "candidate": _run(comparison.candidate),
        "baseline": comparison.baseline,
        "verdict": comparison.verdict.value,
        "exit_code": comparison.exit_code,
        "rules": {
            "threshold": rules.threshold,
            "error_threshold": rules.error_threshold,
            "false_alarms": rules.rate,
            "held": rules.held,
            "strict": comparison.strict,
        },
        "warnings": comparison.warnings,
        "actions": [_action(action, rules) for action in comparison.actions],
    }


def _run(row: RanRow) -> Json:
    return {
        "run": row.run,
        "phase": row.phase,
        "requested_at": row.requested_at.isoformat(),
        "verdict": row.verdict,
        "tags": row.tags,
    }


def _action(action: Judged, rules: Rules) -> Json:
    key = action.compared.key
    return {
        "system": key.system,
        "scenario": key.scenario,
        "action": key.action,
        "kind": key.kind.name.lower(),
        "verdict": action.verdict.value,
        "tested": action.tested,
        "reason": action.reason,
        "requests": {"base": action.compared.base_requests, "candidate": action.compared.candidate_requests},
        "measures": [_measure(measure, action, rules) for measure in action.compared.measures],
    }


def _measure(measure: Measure, action: Judged, rules: Rules) -> Json:
    return {
        "measure": measure.name.value,
        "unit": measure.unit,
        "base": measure.base,
        "candidate": measure.candidate,
        "change": measure.change,
        "change_low": measure.low,
        "change_high": measure.high,
        "threshold": rules.threshold_of(measure.name),
        "p": measure.p,
        "p_adjusted": action.adjusted.get(measure.name),
        "moved": measure.name in action.moved,
        "note": measure.note,
    }
