"""How values, breaches and scaling records are put into words: in the live line, the lists and the page. Pure."""

from collections.abc import Iterable

from shared.contracts.attention import Silence
from shared.contracts.breach import Breach, BreachStatus
from shared.contracts.run import ENDLESS_S
from shared.contracts.scaling import REFUSALS, Action, ScalingRecord
from shared.contracts.scaling_orders import ScalingOrder

# What an effect is told by, the most telling first.
EFFECT_FIGURES = ("routing_latency", "workflow_execution_time", "response_time", "queue_length", "cpu_usage")
SHORT_UNITS = {"requests/s": "/s", "requests in flight": " in flight"}


def describe_breach(breach: Breach) -> str:
    """One line: what happened to which episode, and the value against the limit."""
    return f"breach {breach.status:<10} {compare_breach(breach)}"


def compare_breach(breach: Breach) -> str:
    """Where, the value against the limit, and how long it lasted once it is over."""
    where = f"{breach.system} {breach.metric}" + (f" ({breach.action})" if breach.action else "")
    value, limit = format_value(breach.value, breach.unit), format_value(breach.limit, breach.unit)
    if breach.status is BreachStatus.RESOLVED:
        target, lasted = format_value(breach.target, breach.unit), ""
        if breach.resolved_at:
            lasted = f", after {(breach.resolved_at - breach.opened_at).total_seconds():.0f} s"
        worst = "" if breach.worst is None else f"{format_value(breach.worst, breach.unit)} at worst, now "
        return f"{where}: {breach.statistic} {worst}{value}, target {target}{lasted}"
    sign = ">" if breach.better == "lower" else "<"
    return f"{where}: {breach.statistic} {value} {sign} {breach.level} {limit}"


def describe_attention(breach: Breach) -> str:
    """Who has taken a breach on, and that nobody is called for it; empty where there is neither."""
    told = f", silenced by {', '.join(breach.silenced_by)}" if breach.silenced_by else ""
    if breach.acknowledged is not None:
        note = f": {breach.acknowledged.note}" if breach.acknowledged.note else ""
        told += f", acknowledged by {breach.acknowledged.by}{note}"
    return told


def describe_silence(silence: Silence) -> str:
    """One line: what nobody is called for, until when, and why."""
    what = f"{silence.system or '*'}/{silence.metric or '*'}"
    what += f" of run {silence.run}" if silence.run else ""
    what += f" in scenario {silence.scenario}" if silence.scenario else ""
    return f"{silence.id}  {what} until {silence.ends_at:%Y-%m-%d %H:%M:%S} UTC, by {silence.by}: {silence.reason}"


def describe_scaling(record: ScalingRecord) -> str:
    """One line of one record of the audit."""
    kind = "effect" if record.kind == "effectiveness" else record.kind
    return f"scaling {kind:<9} {tell_scaling(record)}"


def tell_scaling(record: ScalingRecord) -> str:
    """What was decided and why, what came of it, whether it helped, or that scaling was given up."""
    if record.kind == "decision":
        dry = " (dry run)" if record.dry_run else ""
        moved = f"{record.current} → {record.target}"
        told_already = record.target == record.current or moved in record.reason
        what = f"refused ({record.reason_code})" if record.reason_code in REFUSALS else record.action or "?"
        action = f"{what}{'' if told_already else ' ' + moved}{dry}"
        return f"{record.service}: {action}: {record.reason}"
    if record.kind == "result":
        if record.ok:
            took = "" if record.took_s is None else f" after {record.took_s:.1f} s"
            return f"{record.service}: {record.ready} replicas ready{took}"
        return f"{record.service}: failed: {record.error}"
    if record.kind == "order":
        asked = f"set to {record.target}" if record.target is not None else record.reason_code
        said = f": {record.reason}" if record.reason else ""
        refused = "" if record.ok else f"; refused: {record.error}"
        return f"{record.service}: {asked}, asked by {record.by}{said}{refused}"
    if record.kind == "resize":
        dry = " (dry run)" if record.dry_run else ""
        state = "resize" if record.to_sizes is not None else "resize waits" if record.ok is None else "not resized"
        return f"{record.service}: {state}{dry}: {record.reason}"
    if record.kind == "escalation":
        what = "resumed" if is_over(record) else "given up"
        advice = f"; {record.recommendation}" if record.recommendation else ""
        return f"{record.service}: {record.cause} {what}: {record.reason}{advice}"
    return f"{record.service}: {record.verdict or 'unknown'}{_changes(record)}"


def describe_answer(order: ScalingOrder, decision: ScalingRecord | None) -> str:
    """One line: that an order was taken, and what it led to."""
    until = f"until {order.ends_at:%Y-%m-%d %H:%M:%S} UTC"
    if order.kind == "resume":
        return f"{order.service}: resumed; the scaler decides again"
    held = f"{order.service}: set to {order.replicas} {until}" if order.replicas else f"{order.service}: paused {until}"
    if decision is None:
        return f"{held}; no decision has followed yet, see tidegate scaling why {order.service}"
    if decision.target == decision.current:
        stays = decision.reason_code in ("ordered", "paused")
        return f"{held}; {f'it has {decision.current}' if stays else f'nothing moves yet: {decision.reason}'}"
    dry = ", a dry run: nothing is moved" if decision.dry_run else ""
    return f"{held}; {decision.current} → {decision.target} replicas ({decision.decision}{dry})"


def told(records: Iterable[ScalingRecord]) -> list[ScalingRecord]:
    """The records worth a line: moves with what followed and moves refused, not that nothing was done."""
    listed = list(records)
    idle = {record.decision for record in listed if moves_nothing(record)}
    return [record for record in listed if record.decision not in idle]


def moves_nothing(record: ScalingRecord) -> bool:
    """Whether a decision changes nothing and need not: a scale-up that may not be is told."""
    return record.action is Action.NO_ACTION and record.reason_code not in REFUSALS


def is_over(record: ScalingRecord) -> bool:
    """Whether an escalation tells of its end."""
    return record.reason_code == "resumed"


def _changes(record: ScalingRecord) -> str:
    both = [name for name in EFFECT_FIGURES if name in record.before and name in record.after]
    parts = [
        f"{name} {record.before[name]:.4g} → {record.after[name]:.4g}"
        + (f", {record.at_end[name]:.4g} at the end" if name in record.at_end else "")
        for name in both[:3]
    ]
    return f" ({', '.join(parts)})" if parts else ""


def format_ms(value_ms: float) -> str:
    """Three figures or so: ``8.4 ms``, ``132 ms``, ``1.53 s``."""
    if value_ms >= 1000:
        return f"{value_ms / 1000:.2f} s"
    return f"{value_ms:.0f} ms" if value_ms >= 100 else f"{value_ms:.1f} ms"


def format_value(value: float, unit: str) -> str:
    """A value with its unit; ratios as percent."""
    if unit == "ms":
        return format_ms(value)
    if unit == "ratio":
        return f"{value:.2%}" if value < 0.1 else f"{value:.0%}"
    figure = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return figure + SHORT_UNITS.get(unit, f" {unit}")


def format_clock(seconds: float) -> str:
    """``m:ss``; ``endless`` for what only ends when it is stopped."""
    if seconds >= ENDLESS_S:
        return "endless"
    whole = round(seconds)
    return f"{whole // 60}:{whole % 60:02d}"
