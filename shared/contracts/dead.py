"""What could not be processed, kept with its reason so that a person can look at it."""

from shared.contracts.base import Instant, Message


class DeadLetter(Message):
    """``body`` is the original message, base64; ``sequence`` its place in ``stream``."""

    service: str
    environment: str
    subject: str
    stream: str = ""
    sequence: int = 0
    reason: str
    at: Instant
    body: str
