"""What people say about breaches: that they are not to be called for some, and that they have taken one on.

Kept on the stream ATTENTION, the last word per subject, so that it survives restarts and any validator hears it.
"""

from typing import Annotated

from pydantic import AfterValidator, StringConstraints

from shared.contracts.base import Instant, Message
from shared.subjects import token


def _is_token(value: str) -> str:
    if token(value) != value:
        raise ValueError(f"{value!r} is no id; use letters, digits, - and _")
    return value


EpisodeId = Annotated[str, StringConstraints(min_length=1, max_length=64), AfterValidator(_is_token)]
SilenceId = EpisodeId


class Silence(Message):
    """Breaches that match are told with its id until ``ends_at``. An empty matcher matches everything.

    A later word of the same id replaces it: one that is ended early says so by ``ends_at``.
    """

    id: SilenceId
    environment: str
    system: str = ""
    metric: str = ""
    scenario: str = ""
    run: str = ""
    reason: str
    by: str
    created_at: Instant
    ends_at: Instant


class Acknowledge(Message):
    """Somebody takes an episode on; the validator tells it as an event of the episode."""

    breach: EpisodeId
    environment: str
    by: str
    at: Instant
    note: str = ""
