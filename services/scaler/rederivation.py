"""A decision made again from its record by the code of today, and what came out otherwise. Pure."""

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from services.scaler.policy import VERSION, decide
from services.scaler.records import replay_inputs
from shared.config import describe
from shared.contracts.scaling import ScalingRecord

COMPARED = (
    *("action", "current", "target", "reason_code", "reason", "confidence", "candidates", "clamps", "breaches"),
    *("cause", "expected", "reverses", "recommendation"),
)


@dataclass(frozen=True, slots=True)
class Rederivation:
    """``differences``: per part, as recorded and as made again. ``problem``: why it cannot be made again.

    ``version``: the policy's that made it; one that is not today's explains a difference.
    """

    decision: str
    version: str
    differences: dict[str, tuple[Any, Any]]
    problem: str = ""

    @property
    def same(self) -> bool:
        return not self.differences and not self.problem

    @property
    def explained(self) -> bool:
        """Whether another version of the policy has decided."""
        return self.version != VERSION


def rederive(record: ScalingRecord) -> Rederivation:
    """Decide again on what a decision's record says it was decided on."""
    version = record.policy_version.partition(":")[0]
    try:
        again = decide(*replay_inputs(record))
    except KeyError as error:
        return Rederivation(record.decision, version, {}, f"its record has no {error.args[0]} to decide on")
    except ValidationError as error:
        return Rederivation(
            record.decision, version, {}, f"what it was decided on is no longer known: {describe(error)}"
        )
    both = {name: (getattr(record, name), getattr(again, name)) for name in COMPARED}
    return Rederivation(record.decision, version, {name: pair for name, pair in both.items() if pair[0] != pair[1]})
