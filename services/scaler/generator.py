"""The generator as a service to scale: what its workers' frames tell of them, and whether a run needs them. Pure.

Without a run no worker sends frames, and there is nothing they could be short of: all readings are idle then. A run is
taken to go on until it says that it has ended, or nothing for a minute.
"""

from shared.contracts.base import utc_of_us
from shared.contracts.resource import ResourceSample
from shared.contracts.run import RunState
from shared.contracts.window import FrameWindows

GENERATOR = "generator"
"""The system that a service of workers names in the rules."""

AT_FAULT = "generator_at_fault"
SILENT_RUN_S = 60.0


class Workers:
    """Runs that go on, and the last frame of each worker."""

    def __init__(self) -> None:
        self._runs: dict[str, float] = {}
        self._last: dict[str, tuple[int, bool]] = {}

    def hear(self, state: RunState) -> None:
        """Where a run stands."""
        if state.phase.final:
            self._runs.pop(state.run, None)
        else:
            self._runs[state.run] = max(self._runs.get(state.run, 0.0), state.at.timestamp())

    def busy(self, now_s: float) -> bool:
        """Whether a run goes on."""
        self._runs = {run: at_s for run, at_s in self._runs.items() if now_s - at_s <= SILENT_RUN_S}
        return bool(self._runs)

    def sample(self, frame: FrameWindows, service: str) -> ResourceSample:
        """A frame as a sample of its worker: the mean of ``generator_at_fault`` is the share of moments at fault.

        A worker cuts the frames of all systems at once; it was at fault when any of them says so.
        """
        emitted_us, at_fault = self._last.get(frame.worker, (0, False))
        at_fault = frame.at_fault or (at_fault and emitted_us == frame.emitted_us)
        self._last[frame.worker] = frame.emitted_us, at_fault
        return ResourceSample(
            service=service,
            system=GENERATOR,
            environment=frame.environment,
            instance=frame.worker,
            at=utc_of_us(frame.emitted_us),
            values={AT_FAULT: float(at_fault), "cpu_usage": frame.cpu_permille / 1000},
        )
