"""Rules about a run as a whole: whether the generator was at its limit, where throughput stopped growing, what grows.

Each is a pure function of the run's facts and gives advice or none; ``recommendation.py`` has those about a benchmark.
"""

from collections.abc import Iterator
from itertools import pairwise
from statistics import median

from services.validator.evidence import Advice
from services.validator.facts import Facts
from services.validator.growth import find_growth, rising_p
from shared.contracts.benchmarks import Benchmarks
from shared.contracts.timing import Kind

NEAR_CPU, NEAR_LAG_MS = 0.85, 50.0
BLOCKS = 8
BEYOND_KNEE, GAIN, FALL = 1.25, 1.1, 0.8
"""With so many times the users of the knee, at most so many times its rate, and at most this share a user."""
LEAK_SHARE, LIMIT_WITHIN_H = 0.05, 24.0
LEAST_LEAK_S = 120.0


def generator_at_fault(facts: Facts) -> Advice | None:
    faulty = sorted(system for system in facts.observed.health if facts.at_fault(system))
    if not faulty:
        return None
    worst = facts.observed.health[faulty[0]]
    text = (
        f"Add generator workers or give them more CPU, then measure again: for {worst.seconds_at_fault} of "
        f"{worst.seconds} s the generator itself was late (loop {worst.loop_lag_us / 1e3:.0f} ms, schedule "
        f"{worst.schedule_error_us / 1e3:.0f} ms, CPU {worst.cpu_permille / 1e3:.0%} of a core)"
    )
    return Advice(
        "generator_at_fault",
        text,
        {
            "systems": ", ".join(faulty),
            "seconds_at_fault": worst.seconds_at_fault,
            "of_seconds": worst.seconds,
            "loop_lag_ms": worst.loop_lag_us / 1e3,
            "schedule_error_ms": worst.schedule_error_us / 1e3,
            "cpu": worst.cpu_permille / 1e3,
        },
    )


def generator_near_limit(facts: Facts) -> Advice | None:
    """Not at fault yet, but more load would be: what is measured still holds."""
    course = facts.observed.generator
    if not course or any(facts.at_fault(system) for system in facts.observed.health):
        return None
    cpu = median(point.cpu for point in course)
    lag_ms = sorted(point.loop_lag_ms for point in course)[int(0.95 * (len(course) - 1))]
    if cpu < NEAR_CPU and lag_ms < NEAR_LAG_MS:
        return None
    text = (
        f"The generator is near its limit (CPU {cpu:.0%} of a core in the median second, loop late by {lag_ms:.0f} ms "
        f"in one of twenty): add workers before asking for more load; the figures of this run hold"
    )
    return Advice("generator_near_limit", text, {"cpu_p50": round(cpu, 3), "loop_lag_p95_ms": round(lag_ms, 1)})


def throughput_plateau(facts: Facts) -> Advice | None:
    """The knee: beyond some number of users the rate stays while each user gets less."""
    users = {seen.second // facts.step_s * facts.step_s: seen.users for seen in facts.observed.users if seen.users > 0}
    rates: dict[int, float] = {}
    for step in facts.timeline:
        if step.kind == Kind.REQUEST and step.second in users:
            rates[step.second] = rates.get(step.second, 0.0) + step.count / facts.step_s
    # Steps with about the same number of users together; the last step is seldom whole.
    ordered = sorted((users[second], rates[second]) for second in sorted(rates)[1:-1])
    if len(ordered) < 2 * BLOCKS:
        return None
    edges = [round(number * len(ordered) / BLOCKS) for number in range(BLOCKS + 1)]
    blocks = [ordered[start:end] for start, end in pairwise(edges)]
    levels = [(median(one[0] for one in block), median(one[1] for one in block)) for block in blocks]
    most_users, rate_at_most = levels[-1]
    best = max(rate for _, rate in levels)
    knee_users, knee_rate = next(level for level in levels if level[1] * GAIN >= best)
    if most_users < BEYOND_KNEE * knee_users or rate_at_most > GAIN * knee_rate:
        return None
    each_knee, each_most = knee_rate / knee_users, rate_at_most / most_users
    if each_most > FALL * each_knee:
        return None
    text = (
        f"Throughput stays at about {rate_at_most:.4g} requests/s from {knee_users:.0f} users on ({knee_rate:.4g} "
        f"there), while a user's share falls from {each_knee:.3g} to {each_most:.3g} requests/s with {most_users:.0f}: "
        f"capacity is reached near {knee_users:.0f} users; more of them only wait longer"
    )
    return Advice(
        "throughput_plateau",
        text,
        {
            "knee_users": knee_users,
            "knee_requests_per_s": round(knee_rate, 2),
            "users": most_users,
            "requests_per_s": round(rate_at_most, 2),
            "per_user_at_knee": round(each_knee, 4),
            "per_user": round(each_most, 4),
        },
    )


def memory_growing(benchmarks: Benchmarks, facts: Facts) -> Iterator[tuple[str, Advice]]:
    """By system, memory that grows whatever the load does and would reach its critical limit within a day."""
    for system, owner in benchmarks.systems.items():
        limit = next((one.critical for one in owner.benchmarks if one.resource == "memory_usage"), None)
        readings = [
            (float(row["second"]), float(row["max"]))
            for row in facts.resources
            if row["system"] == system
            and row["metric"] == "memory_usage"
            and row["second"] >= facts.span.judged_from.timestamp()
        ]
        growth = find_growth(readings)
        if growth is None or limit is None or readings[-1][0] - readings[0][0] < LEAST_LEAK_S or _load_grows(facts):
            continue
        hours = max(0.0, limit - growth.last) / growth.per_hour
        if growth.last - growth.first < LEAK_SHARE * growth.first or hours > LIMIT_WITHIN_H:
            continue
        text = (
            f"{owner.name}'s memory grew from {growth.first:.0f} to {growth.last:.0f} MB under even load, "
            f"{growth.per_hour:.0f} MB an hour: {limit:g} MB would be reached in {hours:.1f} h. Look for a leak in "
            f"{owner.service}; a higher limit only delays it"
        )
        figures = {
            "first_mb": round(growth.first, 1),
            "last_mb": round(growth.last, 1),
            "mb_per_hour": round(growth.per_hour, 1),
            "p": growth.p,
            "hours_to_limit": round(hours, 2),
        }
        yield system, Advice("memory_growing", text, figures)


def _load_grows(facts: Facts) -> bool:
    """Whether more and more requests ended, in twelve parts of the time after ramp-up."""
    counts: dict[int, int] = {}
    since, seconds = facts.span.judged_from.timestamp(), facts.span.judged_s
    for step in facts.timeline:
        part = int(12 * (step.second - since) / seconds) if seconds else 0
        if step.kind == Kind.REQUEST and 0 <= part < 12:
            counts[part] = counts.get(part, 0) + step.count
    return rising_p([counts.get(part, 0) for part in range(12)]) < 0.01
