"""Where a run stands, from what its workers last said: the coordinator's decision, pure.

starting ──start time──▶ running ──end or stop asked──▶ stopping ──all drained──▶ finished | stopped
    └──────────────── a worker refuses, or nobody carries the run ──────────────▶ failed
"""

import math
from dataclasses import dataclass

from services.generator.guard import count_day
from services.generator.membership import GONE_US, Member
from shared.contracts.base import utc_of_us
from shared.contracts.run import GoneWorkers, LostWorker, Phase, RunDesired, RunState, WorkerProgress
from shared.lease import SAFE_S

# How long a stopping run waits for workers that do not say they have drained.
DRAIN_DEADLINE_S = 30.0
# Of the workers that are gone for good so many of the newest are named, the others counted.
MOST_GONE = 50


@dataclass(frozen=True, slots=True)
class Plan:
    """The cut of a run, fixed once: when it starts (µs, wall) and in how many stripes."""

    start_us: int
    shards: int


def next_state(
    desired: RunDesired,
    plan: Plan,
    previous: RunState | None,
    members: list[Member],
    coordinator: str,
    now_us: int,
) -> RunState:
    """State of the run now. ``members``: the last word of every worker and epoch that spoke of it, oldest first.

    Those gone for long are only counted (``gone``): the members of the state no longer hold them.
    """
    members, lost, gone = _let_go(previous, members, _lost(previous, members, now_us), now_us)
    phase, reason = _phase(desired, plan, previous, members, now_us)
    started_at = utc_of_us(plan.start_us) if phase is not Phase.STARTING else None
    ended_us = min(now_us, plan.start_us + int(desired.duration_s * 1e6))
    return RunState(
        run=desired.run,
        environment=desired.environment,
        phase=phase,
        generation=desired.generation,
        at=utc_of_us(now_us),
        coordinator=coordinator,
        started_at=started_at,
        ended_at=utc_of_us(ended_us) if phase.final else None,
        workers=tuple(_word(member, members, now_us) for member in members),
        lost=lost,
        gone=gone,
        day=count_day(previous, members, now_us, gone.sent),
        reason=reason,
    )


def _phase(
    desired: RunDesired, plan: Plan, previous: RunState | None, members: list[Member], now_us: int
) -> tuple[Phase, str]:
    refusal = next((m.progress.refused for m in members if m.progress.refused), "")
    if refusal:
        return Phase.FAILED, refusal
    if now_us < plan.start_us and desired.status == "running":
        return Phase.STARTING, ""
    end_us = plan.start_us + int(desired.duration_s * 1e6)
    stopped = desired.status == "stopped"
    if not stopped and now_us < end_us:
        return Phase.RUNNING, ""
    reason = (desired.reason or "stopped on request") if stopped else ""
    final = Phase.STOPPED if stopped else Phase.FINISHED
    carrying = [m for m in members if m.current(now_us) and _is_latest(m, members)]
    if all(m.progress.drained for m in carrying):
        return final, reason
    began_us = end_us
    if previous is not None and previous.phase is Phase.STOPPING and stopped:
        began_us = min(end_us, int(desired.requested_at.timestamp() * 1e6))
    if now_us - began_us > DRAIN_DEADLINE_S * 1e6:
        waiting = ", ".join(sorted(m.progress.worker for m in carrying if not m.progress.drained))
        return final, reason or f"not drained within {DRAIN_DEADLINE_S:g} s: {waiting}"
    return Phase.STOPPING, reason


def _word(member: Member, members: list[Member], now_us: int) -> WorkerProgress:
    """A worker's last word; one that is gone carries no users and stripes any more."""
    if member.current(now_us) and _is_latest(member, members):
        return member.progress
    return member.progress.model_copy(update={"users": 0, "shards": ()})


def _is_latest(member: Member, members: list[Member]) -> bool:
    return all(
        other.progress.epoch <= member.progress.epoch
        for other in members
        if other.progress.worker == member.progress.worker
    )


def _let_go(
    previous: RunState | None, members: list[Member], lost: tuple[LostWorker, ...], now_us: int
) -> tuple[list[Member], tuple[LostWorker, ...], GoneWorkers]:
    """The members and the lost that are still named, and the sums of all that are not, those of before included."""
    gone = previous.gone if previous else GoneWorkers()
    ended = [m for m in members if now_us - m.seen_us > GONE_US]
    past = ended[: max(0, len(ended) - MOST_GONE)]
    keys = {(m.progress.worker, m.progress.epoch) for m in past}
    counted = [one for one in lost if (one.worker, one.epoch) in keys]
    gone = GoneWorkers(
        epochs=gone.epochs + len(past),
        sent=gone.sent + sum(m.sent for m in past),
        acknowledged=gone.acknowledged + sum(s.acknowledged for m in past for s in m.progress.systems),
        lost=gone.lost + len(counted),
        held_requests=gone.held_requests + sum(one.held_requests for one in counted),
    )
    named = [m for m in members if (m.progress.worker, m.progress.epoch) not in keys]
    return named, tuple(one for one in lost if one not in counted), gone


def _lost(previous: RunState | None, members: list[Member], now_us: int) -> tuple[LostWorker, ...]:
    """Workers (by epoch) that went without having drained; one once declared stays declared."""
    known = {(lost.worker, lost.epoch): lost for lost in (previous.lost if previous else ())}
    for member in members:
        progress = member.progress
        gone = not member.current(now_us) or not _is_latest(member, members)
        key = (progress.worker, progress.epoch)
        if key in known or progress.drained or not gone or not progress.systems:
            continue
        # It may have sent until SAFE_S after its last renewal; what the broker acknowledged is not lost.
        held_s = max(0.0, (member.seen_us + SAFE_S * 1e6 - progress.last_ack_us) / 1e6)
        in_flight = sum(system.in_flight for system in progress.systems)
        known[key] = LostWorker(
            worker=progress.worker,
            epoch=progress.epoch,
            last_ack_at=utc_of_us(progress.last_ack_us),
            declared_at=utc_of_us(now_us),
            acknowledged=sum(system.acknowledged for system in progress.systems),
            in_flight=in_flight,
            held_ms=round(held_s * 1000, 1),
            held_requests=in_flight + math.ceil(member.sent_per_s * held_s),
        )
    return tuple(known[key] for key in sorted(known))
