"""The half of the policy that adds replicas: maximum → stabilize → rate → clamp, never while it does not help. Pure."""

from services.scaler.candidates import Ask
from services.scaler.decision import Case, Decision, clamp_steps
from services.scaler.escalation import ineffective_streak, stopped_for
from services.scaler.rollback import rolled_back_lately
from services.scaler.sizing import CAUSE as SIZING
from shared.contracts.scaling import Action, Clamp
from shared.contracts.scaling_rules import Shape

ONLY_LATENCY = 0.7
AFTER_INEFFECTIVE = 0.5


def scale_up(case: Case) -> Decision | None:
    """A scale-up, the reason why one that is asked for is held, or None when nothing asks."""
    asking = [ask for ask in case.asks if ask.candidate.holds]
    if not asking:
        return None
    if case.seen.ready == 0:
        return case.hold("none_ready", "no replica is ready, so nothing can be said of what one carries")
    driving = [ask for ask in asking if ask.drives]
    if not driving:
        code, words = next(ask.barred for ask in asking if ask.barred)
        return case.hold(code, words)
    going_on = [ask for ask in driving if not stopped_for(case.rules, case.memory, ask)]
    if not going_on:
        words = f"{driving[0].cause}: scaling for it did not help; held until it is over or an operator resumes it"
        return case.hold("ineffective", words)
    effective = [ask for ask in going_on if not rolled_back_lately(case, ask.cause)]
    if not effective:
        words = f"{going_on[0].cause}: the scale-up for it was undone, and it is not tried again so soon"
        return case.hold("rolled_back", words)
    return _raise(case, effective)


def _raise(case: Case, effective: list[Ask]) -> Decision:
    lead = max(effective, key=lambda ask: (_bounded(case, ask)[0], ask.candidate.replicas, ask.breach is not None))
    target, clamps = _bounded(case, lead)
    confidence = _confidence(case, effective, lead)
    if target <= case.seen.desired:
        return _not_higher(case, lead, clamps, confidence)
    if cooling := case.cooling():
        return cooling
    if confidence < case.rules.tuning.min_confidence:
        words = f"confidence {confidence:.2f} is below {case.rules.tuning.min_confidence:g}"
        return case.hold("low_confidence", words, clamps, confidence)
    return Decision(
        Action.SCALE_UP,
        case.seen.desired,
        target,
        "breach_open" if lead.breach else "sized" if lead.cause == SIZING else "rule_exceeded",
        f"{_words(lead)}: {case.seen.desired} → {target} replicas",
        confidence,
        clamps=clamps,
        cause=lead.cause,
        limit=lead.limit,
    )


def _words(lead: Ask) -> str:
    if lead.cause == SIZING:
        return f"{lead.candidate.note} keep {lead.candidate.value:.4g} servers busy"
    return f"{lead.cause} is {lead.candidate.value:g}, above {lead.limit:g}"


def _bounded(case: Case, ask: Ask) -> tuple[int, tuple[Clamp, ...]]:
    """Where this ask may go at once. What the load itself needs may go further than a ratio that can be anything."""
    wanted, lowest = ask.candidate.replicas, case.memory.lowest_wanted
    sizing = case.rules.sizing
    rate = sizing.rate if sizing and ask.cause == SIZING else case.rules.tuning.rate
    recent = [
        change.current
        for change in case.memory.changes
        if not change.dry_run and change.ok is not False and change.at_s > case.now_s - rate.per
    ]
    base = min([case.seen.desired, *recent])
    most = max(int(base * (1 + rate.percent / 100)), base + rate.replicas)
    stable = min(wanted, lowest) if lowest else wanted
    limited = min(stable, most)
    return clamp_steps(wanted, (("stabilize_up", stable), ("rate", limited), ("max", min(limited, case.rules.max))))


def _not_higher(case: Case, lead: Ask, clamps: tuple[Clamp, ...], confidence: float) -> Decision:
    seen, wanted = case.seen, lead.candidate.replicas
    if wanted <= seen.desired:
        words = f"{lead.cause} asks for {wanted}; {seen.desired} are wanted already, {seen.ready} of them ready"
        return case.hold("starting", words, clamps, confidence)
    if seen.desired >= case.rules.max:
        words = f"{lead.cause} asks for {wanted} replicas and the maximum of {case.rules.max} is reached"
        return case.hold("at_max", words, clamps, confidence)
    words = f"{lead.cause} asks for {wanted}; {clamps[-1].name if clamps else 'a bound'} holds it at {seen.desired}"
    return case.hold("bounded", words, clamps, confidence)


def _confidence(case: Case, effective: list[Ask], lead: Ask) -> float:
    """1, times the share of instances that reported, times the breach's own confidence, times 0.7 where only latency
    speaks for it (queues and CPU say nothing), times 0.5 where the last scale-up for the same cause did not help."""
    confidence = 1.0 - lead.missing_share
    if lead.breach is not None:
        confidence *= lead.breach.confidence
    if all(ask.shape is Shape.LATENCY for ask in effective):
        confidence *= ONLY_LATENCY
    if ineffective_streak(case.memory, lead):
        confidence *= AFTER_INEFFECTIVE
    return round(confidence, 4)
