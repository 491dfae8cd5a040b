"""Stopping a run that somebody else may have started: from its newest desired state, whole, one generation on."""

from datetime import UTC, datetime

from nats.js.errors import NotFoundError

from services.console.backing import Backing
from services.console.connecting import connected
from services.console.plan import stop_of
from services.console.reading import ask_store, find_run
from services.console.session import STOPPED_BY_OPERATOR, publish_desired
from shared.bus import Bus
from shared.contracts.run import RunDesired, RunState
from shared.errors import ConfigError


async def stop_run(backing: Backing, name: str) -> str:
    """One line of what was done. ``ConfigError`` for a run that is not known."""
    async with connected(backing) as bus:
        subjects, run = bus.subjects, name
        body = None if name == "last" else await _last(bus, subjects.run_desired(name))
        if body is None:
            # Not on the bus (or `last`): the store knows the names, and what to say of an unknown one.
            run = await ask_store(backing.store_dsn, find_run, backing.environment, name)
            body = await _last(bus, subjects.run_desired(run))
        if body is None:
            raise ConfigError(f"run {run} is too old to be stopped; it ended long ago")
        desired = RunDesired.model_validate_json(body)
        state = await _last(bus, subjects.run_state(run))
        if state is not None and (phase := RunState.model_validate_json(state).phase).final:
            return f"run {run} has already {'been stopped' if phase == 'stopped' else phase}"
        stopped = stop_of(desired, datetime.now(UTC), STOPPED_BY_OPERATOR)
        if stopped is desired:
            return f"run {run} is already being stopped"
        await publish_desired(bus, stopped)
        return f"run {run} is being stopped; its report: tidegate report {run}"


async def _last(bus: Bus, subject: str) -> bytes | None:
    try:
        message = await bus.js.get_last_msg(bus.subjects.stream("RUNS"), subject)
    except NotFoundError:
        return None
    return bytes(message.data) if message.data is not None else None
