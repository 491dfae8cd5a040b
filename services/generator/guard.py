"""What ends a run by itself: a cap or a day's budget that is spent, and harm that a canary may have done; pure."""

from services.generator.membership import Member
from shared.contracts.base import utc_of_us
from shared.contracts.breach import Breach, BreachStatus
from shared.contracts.run import DayCount, RunDesired, RunState


def count_day(previous: RunState | None, members: list[Member], now_us: int, gone: int = 0) -> DayCount:
    """What the run had sent when the present day (UTC) began, kept from state to state.

    ``gone``: requests of workers that are not among the members any more.
    """
    today = utc_of_us(now_us).date()
    if previous is None:
        return DayCount(day=today, sent_before=0)
    if previous.day is not None and previous.day.day == today:
        return previous.day
    return DayCount(day=today, sent_before=_sent(members) + gone)


def harm_of(breach: Breach) -> str:
    """One line when a breach is a harm that its run may have done, else nothing."""
    if breach.level != "critical" or breach.status is BreachStatus.RESOLVED:
        return ""
    return f"critical breach of {breach.system} {breach.metric}: {breach.value:g} {breach.unit}, limit {breach.limit:g}"


def reason_to_stop(desired: RunDesired, members: list[Member], day: DayCount, harm: str, gone: int = 0) -> str:
    """Why the run must stop now; nothing when it may go on.

    Harm ends canary load only: it goes on by itself where nobody watches, and in production.
    """
    cap, sent = desired.limits.requests, _sent(members) + gone
    if cap is not None and sent > cap:
        # Each stripe keeps its part by itself; one that was taken over began its part again.
        return f"its cap of {cap:,} requests in all is passed, since a worker's part was taken over"
    budget = desired.limits.requests_per_day
    if budget is not None and sent - day.sent_before >= budget:
        return f"its budget of {budget:,} requests a day is spent"
    if harm and any(load.profile == "canary" for load in desired.loads):
        return f"stopped by itself, since it may have caused harm: {harm}"
    return ""


def _sent(members: list[Member]) -> int:
    return sum(system.sent for member in members for system in member.progress.systems)
