"""Whether an endpoint is to hear of an event, by its filter and by what it was told of the episode before. Pure.

Every event is a whole state of its episode, so an endpoint that joins, or a silence that ends, in the middle of one
begins with whatever comes next; and what is older than what was told is never told again.
"""

from dataclasses import dataclass

from shared.contracts.breach import Breach, BreachStatus
from shared.contracts.webhooks import Endpoint, Filter


@dataclass(frozen=True, slots=True)
class Told:
    """The last event of an episode that an endpoint has taken."""

    revision: int
    level: str
    resolved: bool = False


def wants(endpoint: Endpoint, breach: Breach, told: Told | None) -> bool:
    """True when the event is to be sent.

    A silence keeps back whatever would call somebody. Not the end of what was told: its receiver would wait for ever.
    """
    if told is not None and (told.resolved or breach.revision <= told.revision):
        return False
    if breach.status is BreachStatus.RESOLVED:
        return told is not None
    if breach.silenced_by or not passes(endpoint.when, breach):
        return False
    if told is None or endpoint.updates or breach.status is BreachStatus.ESCALATED:
        return True
    return breach.told == "acknowledged" or (breach.level == "critical" and told.level != "critical")


def passes(when: Filter, breach: Breach) -> bool:
    """Whether every list that is given holds the breach's own."""
    given = (
        (when.levels, breach.level),
        (when.severities, breach.severity),
        (when.systems, breach.system),
        (when.metrics, breach.metric),
        (when.environments, breach.environment),
    )
    return all(not wanted or its in wanted for wanted, its in given)


def told_of(breach: Breach) -> Told:
    """What an endpoint knows once it has taken this event."""
    return Told(breach.revision, breach.level, breach.status is BreachStatus.RESOLVED)
