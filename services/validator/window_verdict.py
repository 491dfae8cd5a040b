"""One measured window held against its benchmark: as it is, and whether it shows that a breach is over."""

from dataclasses import replace

from services.validator.measuring import Measured, recovery_samples
from services.validator.samples import Latencies
from services.validator.verdict import Judgement, Verdict, invalid, judge, judge_both, judge_hang
from shared.contracts.benchmarks import Benchmark


def judge_windows(
    benchmark: Benchmark, measured: Measured | None, level: float, *, valued: bool
) -> tuple[Judgement, Measured | None]:
    """The verdict at a significance, and the window it is of. ``valued``: with its value, also where nothing broke."""
    if measured is None:
        nothing = Judgement(Verdict.INSUFFICIENT, None, benchmark.target, 0, 0.0, "none", "nothing was measured yet")
        return nothing, None
    if measured.spoiled or measured.sample is None:
        return invalid(benchmark, measured.spoiled or "no whole second yet"), measured
    judgement, which = judge_both(
        benchmark,
        measured.sample,
        [short for short in (measured.recovery, measured.recent) if short is not None],
        short_least=recovery_samples(benchmark),
        significance=level,
        valued=valued,
    )
    if measured.recent is not None and judgement.verdict is not Verdict.CRITICAL:
        judgement = judge_hang(benchmark, measured.recent) or judgement
    return judgement, replace(measured, first_s=measured.begins_s[which])


def judge_recovery(benchmark: Benchmark, measured: Measured | None) -> Judgement:
    """Whether the newest window confirms that the benchmark is kept again."""
    if measured is None or measured.spoiled or measured.recovery is None:
        return invalid(benchmark, "nothing to recover by")
    least = 3 if isinstance(measured.recovery, Latencies) else 2
    return judge(benchmark, measured.recovery, min_samples=least)
