"""The scaler's decisions over simulated services, against the autoscalers people have: a real trace, shapes, and loads
nobody tuned for.

``TIDEGATE_BENCH_SEEDS`` (1): held-out loads of each kind. ``TIDEGATE_BENCH_RETUNED`` (1): 0 leaves out the search for
the HPA's target, which takes most of the time.
"""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np

from bench.bars import Bar
from bench.scaler_traces import CONVERSATION, Case, conversation, held_out, shapes
from services.scaler.simulation.course import Policy, run
from services.scaler.simulation.hpa import Hpa
from services.scaler.simulation.knative import Knative
from services.scaler.simulation.oracle import Oracle
from services.scaler.simulation.own import Own
from services.scaler.simulation.score import Score, score
from services.scaler.simulation.step import Step
from shared.config import load_document
from shared.contracts.scaling_rules import ScalingRules, ServiceRules

SEEDS = int(os.environ.get("TIDEGATE_BENCH_SEEDS", "1"))
RETUNED = os.environ.get("TIDEGATE_BENCH_RETUNED", "1") != "0"
RULES = load_document(ScalingRules, Path(__file__).parent / "scaler_rules.yaml").services["relaycore"]
STABILIZATION_S = RULES.tuning.stabilization.down
TARGETS = tuple(target / 100 for target in range(70, 4, -2))
HOW = "a simulated service, docs/scaling-replay.md; make bench BENCH=scaler"


def measure() -> list[Bar]:
    real = conversation()
    if real is None:
        print(f"  {CONVERSATION} is not there: synthetic loads alone", flush=True)
    named = [*([real] if real else []), *shapes()]
    bars = [bar for case in named for bar in _bars(case, longest_hours=1.1 if case is real else None)]
    return [*bars, *_held_out()]


def _bars(case: Case, longest_hours: float | None) -> list[Bar]:
    scores = {name: _score(case, policy) for name, policy in _policies(case).items()}
    for name, one in scores.items():
        _print(case, name, one)
    own, hpa, oracle = scores["tidegate"], scores["hpa"], scores["oracle"]
    print(f"  {'':<18}to the oracle: {own.violation_s - oracle.violation_s:+d} s, "
          f"{own.replica_hours / oracle.replica_hours:.2f} times its replica-hours", flush=True)  # fmt: skip
    half = hpa.violation_s / 2
    bars = [
        Bar(f"{case.name}: seconds of violation (half of the HPA's)", own.violation_s, half, "s", HOW),
        Bar(f"{case.name}: down within the stabilization window of an up", own.flips, 0, "moves", HOW, "exactly"),
    ]
    if longest_hours is not None:
        limit = longest_hours * hpa.replica_hours
        bars.append(Bar(f"{case.name}: replica-hours (1.1 of the HPA's)", own.replica_hours, limit, "h", HOW))
    if RETUNED:
        retuned = _retuned(case, own)
        bars.append(
            Bar(f"{case.name}: replica-hours (HPA retuned)", own.replica_hours, retuned.replica_hours, "h", HOW)
        )
    return bars


def _held_out() -> list[Bar]:
    shares, flips = [], 0
    for case in held_out(SEEDS):
        own, hpa = _score(case, Own("relaycore", _rules(case))), _score(case, Hpa())
        _print(case, "hpa", hpa)
        _print(case, "tidegate", own)
        shares.append(own.violation_s / max(hpa.violation_s, 1))
        flips += own.flips
    how = f"{len(shares)} bursty loads nobody tuned for; {HOW}"
    return [
        Bar("held-out loads: share of the HPA's seconds of violation", float(np.median(shares)), 0.5, "median", how),
        Bar("held-out loads: down within the stabilization window of an up", flips, 0, "moves", how, "exactly"),
    ]


def _rules(case: Case) -> ServiceRules:
    known = {"concurrency": case.setting.concurrency, "start_up": case.setting.start_up_s}
    return RULES.model_copy(update={"sizing": RULES.sizing and RULES.sizing.model_copy(update=known)})


def _policies(case: Case) -> dict[str, Policy]:
    return {
        "tidegate": Own("relaycore", _rules(case)),
        "hpa": Hpa(),
        "knative": Knative(case.setting.concurrency),
        "step": Step(),
        "oracle": Oracle(case.load, case.setting),
    }


def _score(case: Case, policy: Policy) -> Score:
    needed = Oracle(case.load, replace(case.setting, most=10**9)).needed
    limited = needed.clip(case.setting.least, case.setting.most).astype(float)
    return score(run(case.load, policy, case.setting), case.setting, limited, STABILIZATION_S)


def _retuned(case: Case, own: Score) -> Score:
    """The HPA with the highest target that violates no more than ours; with the lowest where none does."""
    for target in TARGETS:
        found = _score(case, Hpa(target))
        if found.violation_s <= own.violation_s:
            break
    _print(case, f"hpa={target:g}", found)
    return found


def _print(case: Case, name: str, one: Score) -> None:
    print(
        f"  {case.name:<18} {name:<9} violated {one.violation_s:4d} s, {one.replica_hours:5.2f} h, {one.moves:3d} moves"
        f", {one.reversals_per_hour:4.1f} reversals/h, up after down {one.regrets}, θU {one.under_accuracy:.1f} θO "
        f"{one.over_accuracy:.0f} τU {one.under_share:.1f} τO {one.over_share:.0f} υ {one.instability:.1f} %",
        flush=True,
    )
