"""Which silences an episode falls under, and which acknowledgements are still to be told of it. Pure.

A silence keeps people from being called; it changes nothing of what is judged, recorded or scaled.
"""

from collections.abc import Iterable
from datetime import datetime

from shared.contracts.attention import Acknowledge, Silence
from shared.contracts.breach import Breach

MOST_KEPT = 10_000


class Attention:
    """The last word on every silence and every episode that was acknowledged."""

    def __init__(self) -> None:
        self._silences: dict[str, Silence] = {}
        self._acknowledged: dict[str, Acknowledge] = {}

    def note_silence(self, silence: Silence) -> None:
        self._silences.pop(silence.id, None)
        self._silences[silence.id] = silence
        _forget_oldest(self._silences)

    def note_acknowledge(self, said: Acknowledge) -> None:
        """Take the later of two words on one episode; one that comes again changes nothing."""
        known = self._acknowledged.get(said.breach)
        if known is None or said.at > known.at:
            self._acknowledged.pop(said.breach, None)
            self._acknowledged[said.breach] = said
            _forget_oldest(self._acknowledged)

    def silenced_by(self, breach: Breach, now: datetime) -> tuple[str, ...]:
        """Ids of the silences in force that match; those that are over are forgotten."""
        for over in [one.id for one in self._silences.values() if one.ends_at <= now]:
            del self._silences[over]
        return tuple(sorted(one.id for one in self._silences.values() if covers(one, breach)))

    def untold(self, breaches: Iterable[Breach]) -> list[Acknowledge]:
        """What was said of these episodes later than what their last event tells."""
        found = []
        for breach in breaches:
            said = self._acknowledged.get(breach.breach)
            if said is not None and (breach.acknowledged is None or said.at > breach.acknowledged.at):
                found.append(said)
        return found


def covers(silence: Silence, breach: Breach) -> bool:
    """Whether every matcher that is given equals the breach's own."""
    matchers = (
        (silence.system, breach.system),
        (silence.metric, breach.metric),
        (silence.scenario, breach.scenario),
        (silence.run, breach.run),
    )
    return silence.environment == breach.environment and all(wanted in ("", its) for wanted, its in matchers)


def _forget_oldest(kept: dict[str, Silence] | dict[str, Acknowledge]) -> None:
    while len(kept) > MOST_KEPT:
        kept.pop(next(iter(kept)))
