"""What an answer means, and when to try again: exponential with jitter, longer where the receiver asks for it. Pure."""

import random
from enum import Enum

FIRST_S = 1.0
MOST_S = 60.0
PATIENCE_S = 600.0
"""The longest wait that a receiver may ask for by ``Retry-After``."""
TRY_AGAIN = frozenset({408, 425, 429})


class Answer(Enum):
    TAKEN = "taken"
    AGAIN = "again"
    REFUSED = "refused"


def answer_of(status: int) -> Answer:
    """Any 2xx is taken; what would be refused however often it is sent is not sent again, redirects included."""
    if 200 <= status < 300:
        return Answer.TAKEN
    return Answer.AGAIN if status >= 500 or status in TRY_AGAIN else Answer.REFUSED


def pause_s(attempt: int, chance: random.Random, retry_after: str = "") -> float:
    """Seconds to wait after failed attempt ``attempt`` (1 for the first): half of the step, and up to the other half.

    ``retry_after``: the header as it came; one that is no number of seconds is as none.
    """
    step_s = min(MOST_S, FIRST_S * 2.0 ** min(attempt - 1, 16))
    asked_s = min(PATIENCE_S, float(retry_after)) if retry_after.isascii() and retry_after.isdigit() else 0.0
    return max(step_s * chance.uniform(0.5, 1.0), asked_s)
