"""Loads to replay: a real trace, the four shapes of the bars, and bursty ones nobody tuned for."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from services.scaler.simulation.course import Setting
from services.scaler.simulation.replicas import Floats, Load
from services.scaler.simulation.traces import fixed, lognormal, multiplied, of_rates, read_trace

CONVERSATION = Path(os.environ.get("TIDEGATE_TRACES", "../shared/data")) / "azure-llm-2023-conversation.csv"
MULTIPLIED = 20
HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class Case:
    """A load on a service."""

    name: str
    load: Load
    setting: Setting


def conversation() -> Case | None:
    """The real trace, every arrival counted 20 times; None where it is not there."""
    if not CONVERSATION.is_file():
        return None
    return Case("conversation", multiplied(read_trace(CONVERSATION), MULTIPLIED, fixed(0.5)), Setting())


def shapes() -> list[Case]:
    """Independent arrivals at rates of these shapes."""
    second = np.arange(HOUR_S // 2, dtype=float)
    step = np.select([second < 60, second < 300, second < 1200], [20.0, 60.0, 240.0], 60.0)
    ramp = np.interp(second, [0, 300, 600, 1200, 1500], [20, 20, 400, 400, 20])
    fading = 20 + 380 * np.exp(-(second - 610) / 200)
    flash = np.select([second < 600, second < 610], [20.0, 20 + 38 * (second - 600)], fading)
    rates = {"step": step, "ramp": ramp, "sine with bursts": _sine(), "flash crowd": flash}
    return [
        Case(name, of_rates(one, fixed(0.5), np.random.default_rng(number)), Setting())
        for number, (name, one) in enumerate(rates.items(), start=1)
    ]


def held_out(seeds: int) -> list[Case]:
    """Bursty loads over other services: two-state Markov, heavy-tailed bursts, batches, a rate that wanders."""
    makers = {"two states": _two_states, "pareto bursts": _pareto, "batches": _batches, "wandering": _wandering}
    services = ((0.1, 1, 10.0), (0.5, 8, 30.0), (2.0, 32, 60.0), (1.0, 4, 20.0))
    cases = []
    for seed in range(seeds):
        for number, (name, maker) in enumerate(makers.items()):
            service_s, concurrency, start_up_s = services[(seed + number) % len(services)]
            rng = np.random.default_rng([seed, number, 77])
            # Ten replicas' worth of work on average, whatever the service.
            rates = maker(rng) * 7.0 * concurrency / service_s
            setting = Setting(concurrency, start_up_s, slo_s=3 * service_s)
            label = f"{name} {seed}, S {service_s:g} s, c {concurrency}, start-up {start_up_s:g} s"
            cases.append(Case(label, of_rates(rates, lognormal(service_s, 0.5), rng), setting))
    return cases


def _sine() -> Floats:
    """A day in an hour, with 25 bursts of 5 to 30 s and 1.5 to 2.5 times the rate."""
    rng = np.random.default_rng(3)
    rates = 20 + 120 * (1 - np.cos(2 * np.pi * np.arange(HOUR_S) / HOUR_S))
    for begin in np.sort(rng.choice(HOUR_S - 100, 25, replace=False)):
        rates[begin : begin + rng.integers(5, 30)] *= rng.uniform(1.5, 2.5)
    return rates


def _two_states(rng: np.random.Generator) -> Floats:
    """Markov-modulated: 0.6 for 120 s on average, 1.9 for 60 s."""
    rates, high = np.empty(HOUR_S), False
    for second in range(HOUR_S):
        if rng.random() < (1 / 60 if high else 1 / 120):
            high = not high
        rates[second] = 1.9 if high else 0.6
    return rates


def _pareto(rng: np.random.Generator) -> Floats:
    """0.6, and bursts whose length (shape 1.5, 4 s at least) and height (shape 2) are heavy-tailed."""
    rates, second = np.full(HOUR_S, 0.6), 0
    while second < HOUR_S:
        second += int(rng.exponential(60))
        length = int(min(4 * (1 + rng.pareto(1.5)), 180))
        rates[second : second + length] += min(0.5 * (1 + rng.pareto(2.0)), 2.5)
        second += length
    return rates


def _batches(rng: np.random.Generator) -> Floats:
    """A tenth of the seconds brings five times as much as the others, independently."""
    return np.where(rng.random(HOUR_S) < 0.1, 3.5, 0.7)


def _wandering(rng: np.random.Generator) -> Floats:
    """The logarithm of the rate goes back to its mean with a half-life of three minutes."""
    keep, state, logs = 0.5 ** (1 / 180), 0.0, np.empty(HOUR_S)
    for second in range(HOUR_S):
        state = keep * state + rng.normal(0, 0.5 * np.sqrt(1 - keep**2))
        logs[second] = state
    return np.exp(logs - 0.125)
