"""A comparison in words and rows, the same for the terminal, a pull request and JUnit. Pure."""

from collections import Counter

from services.console.comparing.compare import Comparison
from services.console.comparing.measures import Measure, Name
from services.console.comparing.verdict import ActionKey, Judged, Verdict, change_of
from services.console.wording import format_value
from shared.contracts.timing import Kind
from shared.store.comparisons import RanRow

COLUMNS = ("action", "verdict", "#requests", "#centre", "#p95", "#p99", "#errors", "#throughput")
NAMED_TAGS = ("branch", "commit")


def name_action(key: ActionKey) -> str:
    """``relaycore routing/send_ai_request``; what is no request says what it is."""
    kind = "" if key.kind is Kind.REQUEST else f" ({key.kind.name.lower()})"
    return f"{key.system} {key.scenario}/{key.action}{kind}"


def list_cells(action: Judged) -> tuple[str, ...]:
    """As ``COLUMNS``: what was in base, what is in candidate, by how much it changed."""
    by_name = {measure.name: measure for measure in action.compared.measures}
    requests = f"{action.compared.base_requests:,} → {action.compared.candidate_requests:,}"
    cells = (_cell(by_name.get(name), name in action.moved) for name in Name)
    return (name_action(action.compared.key), action.verdict.value, requests, *cells)


def _cell(measure: Measure | None, moved: bool) -> str:
    if measure is None or measure.base is None or measure.candidate is None:
        return "–"
    both = f"{format_value(measure.base, measure.unit)} → {format_value(measure.candidate, measure.unit)}"
    change = change_of(measure)
    return f"{both} {'**' if moved else ''}{change}{'**' if moved else ''}" if change else both


def list_reasons(comparison: Comparison) -> list[tuple[Judged, str]]:
    """A line for each action that has one, what regressed first."""
    order = list(Verdict)
    told = [action for action in comparison.actions if action.reason]
    told.sort(key=lambda action: order.index(action.verdict))
    return [(a, f"{name_action(a.compared.key)}: {a.verdict.value}: {a.reason}") for a in told]


def summarize(comparison: Comparison) -> str:
    """``2 regressed, 3 same``."""
    counts = Counter(action.verdict for action in comparison.actions)
    return ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict if counts[verdict]) or "no actions"


def describe_run(row: RanRow) -> str:
    """A run with the tags that say what was running."""
    tags = ", ".join(f"{tag} {row.tags[tag]}" for tag in NAMED_TAGS if row.tags.get(tag))
    return f"{row.run} ({tags})" if tags else row.run


def describe_rules(comparison: Comparison) -> str:
    """What counts as a difference."""
    rules = comparison.rules
    of = "of comparisons of like runs" if rules.held == "family" else "of what is found"
    return (
        f"Differences count from {_percent(rules.threshold)} on (p99: {_percent(2 * rules.threshold)}, errors: "
        f"{100 * rules.error_threshold:.3g} points); false alarms in at most {_percent(rules.rate)} {of}."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
