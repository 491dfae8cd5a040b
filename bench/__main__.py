"""``python -m bench [NAME…]``: run benches by name, all of them without one; exit code 1 when a bar fails."""

import sys

from bench import (
    breach,
    canary,
    collector,
    compare,
    elastic,
    exactly_once,
    freshness,
    generator,
    latency,
    leaks,
    memory,
    newcomer,
    report,
    scaler,
    scaler_real,
    schedule,
    soak,
    store,
    stress,
    tracing,
    validator,
    worker_loss,
)
from bench.bars import publish

BENCHES = {
    "breach": breach.measure,
    "canary": canary.measure,
    "collector": collector.measure,
    "compare": compare.measure,
    "elastic": elastic.measure,
    "exactly-once": exactly_once.measure,
    "freshness": freshness.measure,
    "generator": generator.measure,
    "latency": latency.measure,
    "leaks": leaks.measure,
    "memory": memory.measure,
    "newcomer": newcomer.measure,
    "report": report.measure,
    "scaler": lambda: [*scaler.measure(), *scaler_real.measure()],
    "schedule": schedule.measure,
    "soak": soak.measure,
    "store": store.measure,
    "stress": stress.measure,
    "tracing": tracing.measure,
    "validator": validator.measure,
    "worker-loss": worker_loss.measure,
}

ALONE = {"scaling": scaler_real.measure}
"""Parts of others that may be run by themselves."""


def main(names: list[str]) -> int:
    known = BENCHES | ALONE
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"error: unknown bench {unknown[0]!r}; known: {', '.join(known)}", file=sys.stderr)
        return 2
    hold = [publish(name, known[name]()) for name in names or BENCHES]
    return 0 if all(hold) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
