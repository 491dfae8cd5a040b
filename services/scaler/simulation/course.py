"""One load, one policy: second after second it sees what was scraped and says how many replicas it wants. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from services.scaler.simulation.replicas import Floats, Load, Replicas, Second

DRAIN_S = 3_600
"""What waits at the end of the load is still served, by the replicas there are, for at most so long."""


@dataclass(frozen=True, slots=True)
class Setting:
    """The service that is simulated. ``slo_s``: a response that takes as long or longer violates."""

    concurrency: int = 8
    start_up_s: float = 30.0
    least: int = 2
    most: int = 40
    start: int = 2
    slo_s: float = 1.0


class Policy(Protocol):
    """``wanted`` is asked once a second, in order; the answer is held to the limits of the setting."""

    def wanted(self, second: Second) -> int: ...


@dataclass(frozen=True, slots=True)
class Course:
    """What happened. ``responses``: seconds by request, infinite for one never answered; ``seconds``: every scrape."""

    load: Load
    responses: Floats
    seconds: tuple[Second, ...]


def run(load: Load, policy: Policy, setting: Setting) -> Course:
    """The whole load under one policy."""
    replicas = Replicas(load, setting.concurrency, setting.start_up_s, setting.start)
    seconds = tuple(_seconds(load, policy, setting, replicas))
    replicas.advance(load.duration_s, load.duration_s + DRAIN_S)
    return Course(load, replicas.responses, seconds)


def _seconds(load: Load, policy: Policy, setting: Setting, replicas: Replicas) -> Iterator[Second]:
    for at_s in range(1, load.duration_s + 1):
        replicas.advance(at_s - 1, at_s)
        second = replicas.second(at_s)
        yield second
        wanted = min(max(policy.wanted(second), setting.least), setting.most)
        if wanted != replicas.desired:
            replicas.order(at_s, wanted)
