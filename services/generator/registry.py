"""Which runs concern a worker: the newest desired state and phase of each; pure."""

from dataclasses import dataclass

from services.generator.guard import harm_of
from shared.contracts.breach import Breach
from shared.contracts.run import RunDesired, RunState


@dataclass(frozen=True, slots=True)
class KnownRun:
    """A run as last heard of; ``state`` is None until its coordinator spoke."""

    desired: RunDesired | None = None
    state: RunState | None = None

    @property
    def active(self) -> bool:
        """It is asked for and has not ended."""
        return self.desired is not None and not (self.state and self.state.phase.final)


class Registry:
    """Desired states win by generation, states by time; redelivered and older ones change nothing."""

    def __init__(self) -> None:
        self._runs: dict[str, KnownRun] = {}
        self._harm: dict[str, str] = {}

    def hear_desired(self, desired: RunDesired) -> None:
        known = self._runs.get(desired.run, KnownRun())
        if known.desired is None or desired.generation > known.desired.generation:
            self._runs[desired.run] = KnownRun(desired, known.state)

    def hear_state(self, state: RunState) -> None:
        known = self._runs.get(state.run, KnownRun())
        if known.state is None or (state.at >= known.state.at and not known.state.phase.final):
            self._runs[state.run] = KnownRun(known.desired, state)

    def hear_breach(self, breach: Breach) -> None:
        """Remember the last harm that a run may have done."""
        if harm := harm_of(breach):
            self._harm[breach.run] = harm

    def harm(self, run: str) -> str:
        return self._harm.get(run, "")

    def get(self, run: str) -> KnownRun:
        return self._runs.get(run, KnownRun())

    def active(self) -> dict[str, KnownRun]:
        return {run: known for run, known in self._runs.items() if known.active}
