"""Situations in which nothing may move, whatever the metrics say. Pure."""

from services.scaler.decision import Case, Decision


def gate(case: Case) -> Decision | None:
    """The first gate that is closed. A replica that keeps ending and being started again is a fault of what it runs:
    more of them would end as well, and fewer would be no cure."""
    seen = case.seen
    if seen.desired == 0:
        return case.hold("stopped", "the service is at 0 replicas; someone stopped it, so it is left alone")
    if seen.updating:
        return case.hold("updating", "the service is being updated")
    if seen.restarting:
        words = f"{seen.restarting} of {seen.desired} replicas keep ending and being started again"
        return case.hold("crash_looping", words)
    if seen.unhealthy / seen.desired >= case.rules.tuning.max_unhealthy:
        return case.hold("unhealthy", f"{seen.unhealthy} of {seen.desired} replicas are unhealthy")
    return None
