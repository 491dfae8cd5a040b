"""What has become of an order for sizes, by the records that followed it. Pure."""

from collections.abc import Sequence
from typing import Literal

from shared.contracts.scaling import ScalingRecord

State = Literal["waits", "under_way", "carried_out", "dry_run", "not_carried_out", "failed", "taken_back"]
OVER: frozenset[State] = frozenset({"carried_out", "dry_run", "not_carried_out", "failed", "taken_back"})


def outcome_of(order: str, records: Sequence[ScalingRecord]) -> tuple[State, str] | None:
    """State and one sentence; None while no scaler has said anything. ``records``: of the service, oldest first."""
    said = [record for record in records if record.kind == "resize" and record.order == order]
    if not said:
        return None
    last = said[-1]
    if last.ok is None:
        return "waits", f"waits: {last.reason}"
    if not last.ok or last.to_sizes is None:
        return "not_carried_out", f"not carried out: {last.reason}"
    if last.dry_run:
        return "dry_run", "a dry run: nothing was changed"
    back = next((record for record in records if record.kind == "resize" and record.reverses == last.decision), None)
    if back is not None:
        result = _result(records, back)
        if result is None:
            return "under_way", f"is being taken back: {back.reason}"
        if not result.ok:
            return "failed", f"could not be taken back: {result.error}"
        return "taken_back", f"taken back: {back.reason}"
    result = _result(records, last)
    if result is None:
        return "under_way", "replicas are being replaced"
    if not result.ok:
        return "failed", f"failed: {result.error}"
    effect = next((one for one in records if one.kind == "effectiveness" and one.decision == last.decision), None)
    if effect is None:
        return "under_way", "its effect is being measured"
    if effect.verdict == "worse":
        return "under_way", f"was worse and is to be taken back: {effect.reason}"
    return "carried_out", f"carried out, {effect.verdict}: {effect.reason}"


def _result(records: Sequence[ScalingRecord], of: ScalingRecord) -> ScalingRecord | None:
    return next((one for one in records if one.kind == "result" and one.decision == of.decision), None)
