"""One run from its request to its report, over the bus: publish, follow, stop when asked, wait for the verdict.

What is shown is left to a ``View``; what the messages mean, to ``progress.py``.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from pydantic import BaseModel, ValidationError

from services.console.progress import Notice, Progress, Snapshot
from services.console.steering import STOPPED_BY_OPERATOR, stop_on_bus
from shared.bus import Bus, publish_now
from shared.contracts.breach import BreachEvent
from shared.contracts.run import Phase, RunDesired, RunState
from shared.contracts.scaling import ScalingRecord
from shared.contracts.window import FrameWindows
from shared.errors import TransientError
from shared.store.asking import ask_store
from shared.store.listings import read_latest_report

TICK_S = 0.25
SILENCE_S = 30.0
REPORT_S = 25.0
REPORT_OF_FAILED_S = 5.0


class View(Protocol):
    """Where a run is shown."""

    def show(self, snapshot: Snapshot) -> None: ...

    def notice(self, notice: Notice) -> None: ...


class Stopper:
    """What Ctrl-C means: the first asks the run to stop, the second leaves it."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.left = asyncio.Event()

    def ask(self) -> None:
        (self.left if self.asked.is_set() else self.asked).set()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended for the one who watched it. ``report`` is None where none came in time."""

    run: str
    phase: Phase | None
    reason: str
    report: dict[str, Any] | None
    was_left: bool = False

    @property
    def exit_code(self) -> int:
        """The report's own, 4 for a run that failed, was left or has no report."""
        if self.phase is Phase.FAILED or self.report is None:
            return 4
        return int(self.report.get("exit_code", 4))


class Session:
    """Carries one run; ``SILENCE_S`` without a word from its coordinator ends it as failed."""

    def __init__(self, bus: Bus, store_dsn: str, desired: RunDesired, view: View, stopper: Stopper) -> None:
        self._bus = bus
        self._store_dsn = store_dsn
        self._desired = desired
        self._view = view
        self._stopper = stopper
        self._progress = Progress(desired.run, desired.duration_s)
        self._heard_at = time.monotonic()

    async def carry(self) -> Outcome:
        """Ask for the run and follow it to its end. ``TransientError`` when it cannot be asked for."""
        subscriptions = await self._subscribe()
        try:
            await publish_desired(self._bus, self._desired)
            reason = await self._follow()
        finally:
            for subscription in subscriptions:
                await subscription.unsubscribe()
        state = self._progress.state
        phase = state.phase if state else None
        if self._stopper.left.is_set():
            return Outcome(self._desired.run, phase, "left before its end", None, was_left=True)
        if reason or phase is Phase.FAILED:
            report = await self._wait_for_report(REPORT_OF_FAILED_S)
            return Outcome(self._desired.run, Phase.FAILED, reason or (state.reason if state else ""), report)
        report = await self._wait_for_report(REPORT_S)
        return Outcome(self._desired.run, phase, state.reason if state else "", report)

    async def _follow(self) -> str:
        """Return when the run is over: with nothing, or with why it cannot go on."""
        stopping = False
        while True:
            now = datetime.now(UTC)
            self._tell(self._progress.look(now))
            self._view.show(self._progress.snapshot(now))
            state = self._progress.state
            if self._stopper.left.is_set() or (state and state.phase.final):
                return ""
            if self._stopper.asked.is_set() and not stopping:
                stopping = True
                self._view.notice(Notice("stopping; Ctrl-C again leaves without the report", "yellow"))
                await stop_on_bus(self._bus, self._desired.run, STOPPED_BY_OPERATOR)
            if time.monotonic() - self._heard_at > SILENCE_S:
                await stop_on_bus(self._bus, self._desired.run, "nobody carries it")
                who = "no generator worker took the run" if state is None else "the run's coordinator fell silent"
                return f"{who} within {SILENCE_S:g} s; see the generators' logs"
            await asyncio.sleep(TICK_S)

    async def _wait_for_report(self, patience_s: float) -> dict[str, Any] | None:
        deadline = time.monotonic() + patience_s
        while not self._stopper.left.is_set():
            try:
                report = await ask_store(self._store_dsn, read_latest_report, self._desired.run)
            except TransientError as error:
                report = None
                if time.monotonic() >= deadline:
                    self._view.notice(Notice(str(error), "red"))
            if report is not None or time.monotonic() >= deadline:
                return report
            await asyncio.sleep(TICK_S)
        return None

    async def _subscribe(self) -> list[Any]:
        """Core subscriptions: only what comes from now on, and nothing to clean up on the server."""
        subjects, run, client = self._bus.subjects, self._desired.run, self._bus.client
        progress = self._progress

        async def on_desired(desired: RunDesired) -> None:
            for notice in progress.on_desired(desired):
                self._tell(notice)

        async def on_state(state: RunState) -> None:
            self._heard_at = time.monotonic()
            progress.on_state(state)

        async def on_windows(windows: FrameWindows) -> None:
            progress.on_window(windows)

        async def on_breach(event: BreachEvent) -> None:
            self._tell(progress.on_breach(event.data))

        async def on_scaling(record: ScalingRecord) -> None:
            self._tell(progress.on_scaling(record))

        wanted: list[tuple[str, Callable[[Msg], Awaitable[None]]]] = [
            (subjects.run_desired(run), _decoded(RunDesired, on_desired)),
            (subjects.run_state(run), _decoded(RunState, on_state)),
            (subjects.window(run, "*"), _decoded(FrameWindows, on_windows)),
            (subjects.breach("*", "*", "*"), _decoded(BreachEvent, on_breach)),
            (subjects.scaling("*"), _decoded(ScalingRecord, on_scaling)),
        ]
        subscriptions = [await client.subscribe(subject, cb=handler) for subject, handler in wanted]
        await client.flush()
        return subscriptions

    def _tell(self, notice: Notice | None) -> None:
        if notice is not None:
            self._view.notice(notice)


async def publish_desired(bus: Bus, desired: RunDesired) -> None:
    """Put the desired state on RUNS; returns when the broker has kept it. ``TransientError`` when it does not."""
    subject, body = bus.subjects.run_desired(desired.run), desired.model_dump_json().encode()
    try:
        await publish_now(bus.js, subject, body, {"Content-Type": "application/json"})
    except (nats.errors.Error, nats.js.errors.APIError, TimeoutError) as error:
        raise TransientError(
            f"the bus did not keep the run's desired state: {error or type(error).__name__}"
        ) from error


def _decoded(kind: type[BaseModel], handle: Callable[[Any], Awaitable[None]]) -> Callable[[Msg], Awaitable[None]]:
    """A handler of messages that are this contract; others are left to the services, which keep them in DEAD."""

    async def on_message(message: Msg) -> None:
        try:
            decoded = kind.model_validate_json(message.data)
        except ValidationError:
            return
        await handle(decoded)

    return on_message
