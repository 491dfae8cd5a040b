"""What the scaler asks of whatever runs the replicas, and how it may fail. Adapters implement it, one file each."""

from typing import Protocol

from services.scaler.situation import Observation
from shared.errors import TidegateError


class FencedError(TidegateError):
    """The target has heard a later epoch: another scaler has taken over, so this one must not act."""


class RefusedError(TidegateError):
    """The target will not do it however often it is asked; the text says why."""


class Target(Protocol):
    """``dry_run``: it can only be observed; ``set_replicas`` is never called."""

    dry_run: bool

    async def observe(self, service: str) -> Observation:
        """How many replicas there are. Raises ``RefusedError`` or ``TransientError``."""
        ...

    async def set_replicas(self, service: str, replicas: int, epoch: int, decision: str) -> None:
        """Want that many from now on; returns before they are ready, and asking again changes nothing.

        Raises ``FencedError`` for an epoch older than one heard before, ``RefusedError``, and ``TransientError`` when
        it is not known whether it was heard.
        """
        ...
