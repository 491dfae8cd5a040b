"""Changing a run that somebody else may have started: from its newest desired state, whole, one generation on."""

from collections.abc import Callable
from datetime import UTC, datetime

import nats.errors
import nats.js.errors
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from services.console.backing import Backing
from services.console.changes import load_of, pause_of, resume_of, stop_of
from services.console.connecting import connected
from shared.bus import WRONG_LAST_SEQUENCE, Bus, publish_after
from shared.contracts.run import RunDesired, RunState
from shared.errors import ConfigError, TransientError
from shared.store.asking import ask_store, find_run

STOPPED_BY_OPERATOR = "stopped by the operator"
ATTEMPTS = 5
Decide = Callable[[RunDesired, float], RunDesired]
"""From the newest desired state and the seconds since the run's start to the next one; the same one changes nothing."""


async def stop_run(backing: Backing, name: str) -> str:
    """One line of what was done. ``ConfigError`` for a run that is not known."""
    async with connected(backing) as bus:
        run = await _find(bus, backing, name)
        state = await _state(bus, run)
        if state is not None and state.phase.final:
            return f"run {run} has already {'been stopped' if state.phase == 'stopped' else state.phase}"
        if not await stop_on_bus(bus, run, STOPPED_BY_OPERATOR):
            return f"run {run} is already being stopped"
        return f"run {run} is being stopped; its report: tidegate report {run}"


async def stop_on_bus(bus: Bus, run: str, reason: str) -> bool:
    """Ask that a run stops, whatever it was changed to meanwhile; False when that is already asked."""
    return await _change(bus, run, lambda desired, _: stop_of(desired, datetime.now(UTC), reason))


async def stop_everything(backing: Backing, reason: str) -> list[str]:
    """Close every gate of every worker, and ask that all runs stop; the lines to print."""
    async with connected(backing) as bus:
        active = await _active(bus)
        for run in active:
            await stop_on_bus(bus, run, reason)
        await bus.client.publish(bus.subjects.kill, reason.encode())
        await bus.client.flush()
    return [f"run {run} is being stopped" for run in active] or ["no run is active; every worker's gates were closed"]


async def pause_run(backing: Backing, name: str) -> str:
    run = await _steer(backing, name, lambda desired, at_s: pause_of(desired, at_s, datetime.now(UTC)))
    return f"run {run} is paused; go on with: tidegate resume {run}"


async def resume_run(backing: Backing, name: str) -> str:
    return f"run {await _steer(backing, name, lambda run, at_s: resume_of(run, at_s, datetime.now(UTC)))} goes on"


async def load_run(backing: Backing, name: str, users: int | None, rate: float | None, scenario: str | None) -> str:
    def decide(desired: RunDesired, at_s: float) -> RunDesired:
        return load_of(desired, at_s, datetime.now(UTC), users, rate, scenario)

    run = await _steer(backing, name, decide)
    changed = [f"{users} users"] * (users is not None) + [f"{rate or 0:g} arrivals/s"] * (rate is not None)
    return f"run {run}: {' and '.join(changed)} from now on"


async def _steer(backing: Backing, name: str, decide: Decide) -> str:
    """Change a run that has not ended; its id."""
    async with connected(backing) as bus:
        run = await _find(bus, backing, name)
        state = await _state(bus, run)
        if state is not None and state.phase.final:
            raise ConfigError(f"run {run} is over ({state.phase}); there is nothing to change")
        await _change(bus, run, decide)
    return run


async def _change(bus: Bus, run: str, decide: Decide) -> bool:
    """Publish the next desired state if nobody else did meanwhile, else decide again from theirs."""
    for _ in range(ATTEMPTS):
        kept = await _last(bus, bus.subjects.run_desired(run))
        if kept is None:
            raise ConfigError(f"run {run} is too old to be changed; it ended long ago")
        desired = RunDesired.model_validate_json(kept.data or b"")
        state = await _state(bus, run)
        began = state.started_at if state is not None else None
        wanted = decide(desired, (datetime.now(UTC) - began).total_seconds() if began is not None else 0.0)
        if wanted is desired:
            return False
        try:
            await publish_after(bus.js, bus.subjects.run_desired(run), wanted.model_dump_json().encode(), kept.seq or 0)
        except nats.js.errors.APIError as error:
            if error.err_code != WRONG_LAST_SEQUENCE:
                raise TransientError(f"the bus did not keep the change: {error}") from error
        except (nats.errors.Error, TimeoutError) as error:
            raise TransientError(f"the bus did not keep the change: {error or type(error).__name__}") from error
        else:
            return True
    raise TransientError(f"run {run} is being changed by others all the time; try again")


async def _find(bus: Bus, backing: Backing, name: str) -> str:
    if name != "last" and await _last(bus, bus.subjects.run_desired(name)) is not None:
        return name
    # Not on the bus (or `last`): the store knows the names, and what to say of an unknown one.
    return await ask_store(backing.store_dsn, find_run, backing.environment, name)


async def _active(bus: Bus) -> list[str]:
    """Runs on the bus that have not ended."""
    subject = bus.subjects.run_desired("*")
    info = await bus.js.stream_info(bus.subjects.stream("RUNS"), subjects_filter=subject)
    runs = sorted(name.split(".")[-2] for name in info.state.subjects or {})
    states = {run: await _state(bus, run) for run in runs}
    return [run for run, state in states.items() if state is None or not state.phase.final]


async def _state(bus: Bus, run: str) -> RunState | None:
    message = await _last(bus, bus.subjects.run_state(run))
    return None if message is None else RunState.model_validate_json(message.data or b"")


async def _last(bus: Bus, subject: str) -> RawStreamMsg | None:
    try:
        return await bus.js.get_last_msg(bus.subjects.stream("RUNS"), subject)
    except NotFoundError:
        return None
