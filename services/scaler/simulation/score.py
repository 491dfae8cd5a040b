"""How well a policy did, by the metrics of the SPEC Research Group and by what a user would feel and pay. Pure.

Supply s is the ready replicas, demand d those that the oracle would have had ready, both by second. θU = mean of
max(d − s, 0) / d and θO = mean of max(s − d, 0) / d; τU, τO: share of the seconds in which there is any of it; υ:
share of the seconds in which supply and demand do not move the same way. All in %.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from services.scaler.simulation.course import Course, Setting
from services.scaler.simulation.replicas import Floats

VIOLATED_SHARE = 0.05
"""A second violates when more than this share of the requests that arrived in it took as long as the objective."""


@dataclass(frozen=True, slots=True)
class Score:
    """``violation_s``: seconds that violate; ``replica_hours``: ordered replicas, those starting included.

    ``reversals``: changes of direction; ``flips``: a move down within the stabilization window after one up;
    ``regrets``: a move up within it after one down.
    """

    violation_s: int
    violation_minutes: float
    late_share: float
    replica_hours: float
    moves: int
    reversals: int
    reversals_per_hour: float
    flips: int
    regrets: int
    under_accuracy: float
    over_accuracy: float
    under_share: float
    over_share: float
    instability: float
    most_replicas: int


def score(course: Course, setting: Setting, needed: Floats, stabilization_s: float) -> Score:
    """``needed``: the demand in replicas, one a second."""
    load, ordered = course.load, np.array([setting.start, *(second.desired for second in course.seconds)])
    seconds = load.arrivals.astype(int)
    late = course.responses >= setting.slo_s
    arrived = np.bincount(seconds, minlength=load.duration_s)
    lates = np.bincount(seconds, late, load.duration_s)
    violated = int((lates > VIOLATED_SHARE * arrived).sum())
    hours = load.duration_s / 3600
    ready = np.array([second.ready for second in course.seconds], dtype=float)
    demanded = np.maximum(needed[: len(ready)], 1.0)
    steps = np.diff(ordered)
    apart = np.sign(np.diff(ready)) != np.sign(np.diff(demanded))
    moved = np.flatnonzero(steps)
    pairs = [(int(steps[a]), int(steps[b]), int(b - a)) for a, b in pairwise(moved)]
    turns = [(before, gap_s) for before, after, gap_s in pairs if (before > 0) is not (after > 0)]
    return Score(
        violation_s=violated,
        violation_minutes=violated / 60,
        late_share=float(late.mean()) if len(late) else 0.0,
        replica_hours=float(ordered[1:].sum()) / 3600,
        moves=len(moved),
        reversals=len(turns),
        reversals_per_hour=len(turns) / hours,
        flips=sum(before > 0 and gap_s < stabilization_s for before, gap_s in turns),
        regrets=sum(before < 0 and gap_s < stabilization_s for before, gap_s in turns),
        under_accuracy=100 * float((np.maximum(demanded - ready, 0) / demanded).mean()),
        over_accuracy=100 * float((np.maximum(ready - demanded, 0) / demanded).mean()),
        under_share=100 * float((ready < demanded).mean()),
        over_share=100 * float((ready > demanded).mean()),
        instability=100 * float(apart.mean()) if len(apart) else 0.0,
        most_replicas=int(ordered.max()),
    )
