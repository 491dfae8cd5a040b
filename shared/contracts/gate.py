"""A target of a scenario's own, and what could never be judged of one."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from shared.contracts.base import Document, Name
from shared.contracts.judgeable import MOST, why_untellable
from shared.errors import WrongFieldError, among

_RATES = {"error_rate": "ratio", "throughput": "requests/s"}
"""Metrics that are rates, and their units."""


class Gate(Document):
    """A target of this scenario's own, judged on the whole run: e.g. mean workflow time below 45 s."""

    metric: Literal["workflow_execution_time", "response_time", "error_rate", "throughput"]
    statistic: Literal["mean", "p50", "p90", "p95", "p99", "rate"] = "p95"
    limit: Annotated[float, Field(allow_inf_nan=False)]
    unit: Literal["ms", "ratio", "requests/s"]
    action: Name | None = None

    @model_validator(mode="before")
    @classmethod
    def _rate_of_rates(cls, data: object) -> object:
        if isinstance(data, dict) and data.get("metric") in list(_RATES) and "statistic" not in data:
            return {**data, "statistic": "rate"}
        return data

    @model_validator(mode="after")
    def _unit_fits(self) -> "Gate":
        fits = _RATES.get(self.metric, "ms")
        if self.unit != fits:
            raise WrongFieldError(f"unit {self.unit!r} does not measure {self.metric}; use {fits!r}", "unit")
        return self

    @property
    def confirmable(self) -> bool:
        """Whether samples can show it kept: an error rate of 0 or 1, or no time at all, they never can."""
        return 0 < self.limit < (1 if self.metric == "error_rate" else math.inf)


def refuse_gates(gates: Sequence[Gate], actions: Sequence[str], *, workflow: bool) -> None:
    """Raise ``WrongFieldError`` for a target that a scenario of these actions could not be judged by, or has twice."""
    seen = set[tuple[str, str, str | None]]()
    for place, gate in enumerate(gates):
        key = (gate.metric, gate.statistic, gate.action)
        if key in seen:
            named = " ".join(part for part in (gate.statistic, gate.metric, gate.action) if part)
            raise WrongFieldError(f"a target for {named} stands there already; keep one of them", "targets", place)
        seen.add(key)
        for name, why in (
            ("statistic", _why_not_taken(gate)),
            ("metric", "" if workflow else _why_no_workflow(gate)),
            ("action", _why_not_of_action(gate, actions)),
            ("limit", _why_no_limit(gate)),
        ):
            if why:
                raise WrongFieldError(why, "targets", place, name)


def _why_not_taken(gate: Gate) -> str:
    if (gate.metric in _RATES) is (gate.statistic == "rate"):
        return ""
    right = "rate, or leave it out" if gate.metric in _RATES else "mean, p50, p90, p95 or p99"
    return f"statistic {gate.statistic!r} cannot be taken of {gate.metric}; use {right}"


def _why_no_workflow(gate: Gate) -> str:
    if gate.metric != "workflow_execution_time":
        return ""
    return f"{gate.metric} is not measured with workflow: false; use response_time, or leave workflow out"


def _why_not_of_action(gate: Gate, actions: Sequence[str]) -> str:
    if gate.action is None:
        return ""
    if gate.metric == "workflow_execution_time":
        return f"{gate.metric} is that of all actions; leave action {gate.action!r} out, or use response_time"
    if gate.action in actions:
        return ""
    return f"no step has action {gate.action!r}{among(gate.action, actions)}"


def _why_no_limit(gate: Gate) -> str:
    said = f"limit {gate.limit:g} {gate.unit}"
    if gate.metric == "error_rate":
        return "" if gate.confirmable else f"{said} must lie between 0 and 1, ends excluded; write e.g. 0.01 for 1 %"
    if not 0 < gate.limit <= MOST:
        return f"{said} must lie above 0 and not above {MOST:g}"
    why = why_untellable(gate.limit) if gate.unit == "ms" else ""
    return why and f"{said} {why}"
