"""The fault in force on one replica: slow, errors or hang. They strike every API call but the login."""

from __future__ import annotations

import asyncio
import random

from .spec import Fault


class FaultGate:
    """Applies the current fault. A hang holds callers until another fault, or none, is set."""

    def __init__(self, seed: int) -> None:
        self.fault = Fault()
        self._rng = random.Random(f"{seed}/faults")
        self._open = asyncio.Event()
        self._open.set()

    def set(self, fault: Fault) -> None:
        """Put `fault` in force in place of the last one."""
        self.fault = fault
        if fault.kind == "hang":
            self._open.clear()
        else:
            self._open.set()

    @property
    def factor(self) -> float:
        """What every service time is multiplied by."""
        return self.fault.factor if self.fault.kind == "slow" else 1.0

    async def wait_while_hanging(self) -> None:
        await self._open.wait()

    def strikes(self) -> bool:
        """Whether this call is to be answered 500."""
        return self.fault.kind == "errors" and self._rng.random() < self.fault.rate
