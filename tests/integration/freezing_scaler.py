"""A scaler process that stops itself (SIGSTOP) when it is about to tell its target of its first decision to move: after
the decision is recorded and its lease was looked at, before a byte is sent."""

import os
import signal

from services.scaler.app import serve
from services.scaler.settings import ScalerSettings
from services.scaler.targets.local import LocalTarget
from shared.service import run_service

tell = LocalTarget.set_replicas


async def stop_and_tell(self: LocalTarget, service: str, replicas: int, epoch: int, decision: str) -> None:
    if decision:
        LocalTarget.set_replicas = tell  # type: ignore[method-assign]
        os.kill(os.getpid(), signal.SIGSTOP)
    await tell(self, service, replicas, epoch, decision)


if __name__ == "__main__":
    LocalTarget.set_replicas = stop_and_tell  # type: ignore[method-assign]
    run_service("scaler", ScalerSettings, serve)
