"""Frames and runs as the validator hears them, made from a few numbers."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.contracts.run import Load, Phase, RunDesired, RunState
from shared.contracts.scenario import Scenario
from shared.contracts.timing import Kind
from shared.contracts.window import ActionNow, Cell, Exemplar, FrameWindows
from shared.histogram import Histogram

START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
START_S = int(START.timestamp())
RUN = "run-of-tests"


def at_us(seconds: float) -> int:
    """Wall time (µs) so many seconds after the start of the run."""
    return round((START_S + seconds) * 1_000_000)


def cell(
    second: int,
    times_ms: Iterable[float],
    *,
    failed: int = 0,
    action: str = "create",
    kind: Kind = Kind.REQUEST,
    recorded: bool = True,
    trace: int = 1,
) -> Cell:
    times_us = [round(ms * 1e3) for ms in times_ms]
    counts = Histogram.of(times_us).counts
    return Cell(
        scenario="story",
        action=action,
        kind=kind,
        second=START_S + second,
        count=len(times_us),
        failed=failed,
        errors={8: failed} if failed else {},
        response=counts,
        service=counts,
        response_sum_us=sum(times_us),
        service_sum_us=sum(times_us),
        response_max_us=max(times_us, default=0),
        worst=((Exemplar(trace_id=f"{trace:032x}", response_us=max(times_us), recorded=recorded),) if times_us else ()),
    )


def frame(
    seq: int,
    watermark_s: float,
    cells: Iterable[Cell] = (),
    *,
    worker: str = "w1",
    system: str = "autmatrix",
    environment: str = "test",
    run: str = RUN,
    stuck_ms: Iterable[float] = (),
    sent: int = 0,
    waiting: int = 0,
    **fields: Any,
) -> FrameWindows:
    ages = Histogram.of(ms * 1e3 for ms in stuck_ms)
    now = ActionNow(
        scenario="story",
        action="create",
        kind=Kind.REQUEST,
        sent=sent,
        in_flight=ages.total,
        waiting=waiting,
        ages=ages.counts,
    )
    return FrameWindows(
        run=run,
        environment=environment,
        worker=worker,
        epoch=1,
        system=system,
        seq=seq,
        watermark_us=at_us(watermark_s),
        emitted_us=at_us(watermark_s),
        actions=(now,),
        cells=tuple(cells),
        **fields,
    )


def scenario(systems: Mapping[str, str] | None = None, **fields: Any) -> Scenario:
    steps = [
        {"action": action, "system": system, "path": "/"}
        for system, action in (systems or {"autmatrix": "create"}).items()
    ]
    return Scenario.model_validate({"name": "story", "system": steps[0]["system"], "steps": steps, **fields})


def desired(
    *, environment: str = "test", run: str = RUN, ramp_up_s: float = 0.0, started: datetime = START, **fields: Any
) -> RunDesired:
    load = Load(scenario=scenario(**fields), users=10, duration_s=60.0, ramp_up_s=ramp_up_s)
    return RunDesired(
        run=run,
        environment=environment,
        generation=1,
        status="running",
        loads=(load,),
        targets={"autmatrix": "http://127.0.0.1:8000"},
        allowed_hosts=("127.0.0.1",),
        requested_at=started,
    )


def state(
    seconds: float,
    phase: Phase = Phase.RUNNING,
    *,
    environment: str = "test",
    run: str = RUN,
    started: datetime = START,
    **fields: Any,
) -> RunState:
    at = started + timedelta(seconds=seconds)
    return RunState(
        run=run,
        environment=environment,
        phase=phase,
        generation=1,
        at=at,
        coordinator="w1",
        started_at=started,
        ended_at=at if phase.final else None,
        **fields,
    )
