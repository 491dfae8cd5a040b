"""RelayCore's decision which model answers a request. Pure: the same request gets the same decision."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Strategy = Literal["cost", "latency", "balanced"]
STRATEGIES: tuple[Strategy, ...] = ("cost", "latency", "balanced")


@dataclass(frozen=True)
class Model:
    """A model on offer: price in US dollars per thousand tokens, expected latency in milliseconds."""

    name: str
    provider: str
    cost_per_1k: float
    latency_ms: float


MODELS = (
    Model("nimbus-large", "nimbus", 0.0300, 95.0),
    Model("nimbus-small", "nimbus", 0.0020, 60.0),
    Model("quartz-base", "quartz", 0.0009, 80.0),
    Model("quartz-swift", "quartz", 0.0060, 45.0),
    Model("automotive-7b", "neuroweaver", 0.0040, 120.0),
    Model("automotive-70b", "neuroweaver", 0.0120, 180.0),
)


@dataclass(frozen=True)
class Candidate:
    """A model as it was weighed for one request: estimated cost in US dollars, expected latency."""

    model: str
    cost: float
    latency_ms: float


@dataclass(frozen=True)
class RoutingDecision:
    """The chosen model and everything it was chosen from. It is always the best candidate of its strategy."""

    model: str
    provider: str
    strategy: Strategy
    candidates: tuple[Candidate, ...]
    reason: str
    estimated_cost: float

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "candidates": [asdict(candidate) for candidate in self.candidates]}


def estimate_tokens(text: str) -> int:
    """About four characters to a token, at least one."""
    return max(1, len(text) // 4)


def decide_route(
    tokens: int, strategy: Strategy, preference: str | None = None, is_specialized: bool = False
) -> RoutingDecision:
    """Choose among the models on offer for a request of `tokens` tokens in all.

    A preference on offer leaves one candidate; `is_specialized` leaves NeuroWeaver's. `balanced` takes the least
    sum of cost and latency, each as a share of the dearest and the slowest candidate.
    """
    offered = [model for model in MODELS if model.provider == "neuroweaver"] if is_specialized else list(MODELS)
    preferred = [model for model in offered if model.name == preference]
    considered = preferred or offered
    weighed = {m: Candidate(m.name, round(m.cost_per_1k * tokens / 1000, 9), m.latency_ms) for m in considered}
    dearest = max(candidate.cost for candidate in weighed.values())
    slowest = max(candidate.latency_ms for candidate in weighed.values())

    def badness(model: Model) -> float:
        candidate = weighed[model]
        if strategy == "cost":
            return candidate.cost
        if strategy == "latency":
            return candidate.latency_ms
        return candidate.cost / dearest + candidate.latency_ms / slowest

    best = min(considered, key=badness)
    reason = "preferred by the caller" if preferred else f"best {strategy} of {len(considered)} candidates"
    if preference is not None and not preferred:
        reason += f"; {preference!r} is not on offer"
    return RoutingDecision(best.name, best.provider, strategy, tuple(weighed.values()), reason, weighed[best].cost)
