"""What was asked of a system, and what it did: for benchmarks that count only while enough is asked. Pure.

Both are counted from requests, never from what the run was to send: a scenario skips steps, a load follows its course
and is changed, a generator falls behind.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.validator.samples import Completions
from shared.contracts.run import Load


@dataclass(frozen=True, slots=True)
class Asked:
    """Requests of one scenario and action within a time: those that ended in it, and those that were ``due`` in it.

    What nobody was free to send (the line was full, the run over) was due, and never ended at the system.
    """

    scenario: str
    ended: int
    due: int


def completions(lines: Iterable[Asked], loads: Sequence[Load], seconds: float) -> Completions:
    """What ended and what was offered over the lines. A closed load asks for no more than is answered: a user who waits
    sends nothing."""
    arriving = {load.scenario.name for load in loads if load.rate is not None}
    ended = offered = 0
    for line in lines:
        ended += line.ended
        offered += max(line.ended, line.due) if line.scenario in arriving else line.ended
    return Completions(ended, seconds, offered / seconds if seconds > 0 else 0.0)
