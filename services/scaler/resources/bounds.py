"""How far sizes may go: within the limits of the rules, and at most one step from what is there. Pure."""

from services.scaler.situation import Sizes
from shared.contracts.scaling_rules import Resizing

NAMES = ("cpu_reserved", "cpu_limit", "memory_reserved", "memory_limit")
UNITS = {"cpu": "cores", "memory": "MB"}
ROUNDING = 1e-6


def bounded(wanted: Sizes, now: Sizes, resizing: Resizing) -> tuple[Sizes, tuple[str, ...]]:
    """The sizes nearest to ``wanted`` that the rules allow from ``now``, and one sentence for each bound that was met.

    Nothing is promised beyond the limit. What is outside the limits already is brought to them by steps too.
    """
    values: dict[str, float] = {}
    words: list[str] = []
    for name in NAMES:
        asked, there = getattr(wanted, name), getattr(now, name)
        if asked is None:
            continue
        part = name.partition("_")[0]
        unit, limits = UNITS[part], getattr(resizing, part)
        value = min(max(asked, limits.min), limits.max)
        if abs(value - asked) > ROUNDING:
            words.append(f"{name}: {asked:g} {unit} is outside {limits.min:g} to {limits.max:g}, so {value:g}")
        if there:
            stepped = min(max(value, there * (1 - resizing.step)), there * (1 + resizing.step))
            if abs(stepped - value) > ROUNDING:
                words.append(f"{name}: one step of {resizing.step:.0%} from {there:g} leads to {stepped:g} {unit}")
            value = stepped
        values[name] = value
    for part in UNITS:
        limit = values.get(f"{part}_limit", getattr(now, f"{part}_limit"))
        promised = values.get(f"{part}_reserved")
        if limit is not None and promised is not None and promised > limit:
            values[f"{part}_reserved"] = limit
    return Sizes(**values), tuple(words)


def refusal(wanted: Sizes, now: Sizes, resizing: Resizing) -> str:
    """Why these sizes may not be given from ``now``; empty when they may."""
    allowed, words = bounded(wanted, now, resizing)
    if any(differs(getattr(allowed, name), getattr(wanted, name)) for name in NAMES):
        return "; ".join(words) or "more would be promised than the limit allows"
    merged = over(now, wanted)
    for part, unit in UNITS.items():
        limit, promised = getattr(merged, f"{part}_limit"), getattr(merged, f"{part}_reserved")
        if limit is not None and promised is not None and promised > limit + ROUNDING:
            return f"{part}_reserved: {promised:g} {unit} would be promised, {part}_limit is {limit:g}"
    return ""


def over(now: Sizes, wanted: Sizes) -> Sizes:
    """What a replica has once ``wanted`` is given: what it leaves open stays."""
    return now.model_copy(update={name: value for name in NAMES if (value := getattr(wanted, name)) is not None})


def same(there: Sizes, wanted: Sizes) -> bool:
    """Whether a replica has all that ``wanted`` names; engines round, so a thousandth does not count."""
    return not any(
        getattr(wanted, name) is not None and differs(getattr(there, name), getattr(wanted, name)) for name in NAMES
    )


def differs(one: float | None, other: float | None) -> bool:
    """Whether two sizes are not the same, roundings of an engine aside."""
    if one is None or other is None:
        return one is not other
    return abs(one - other) > 1e-3 * max(abs(one), abs(other), 1.0)


def told(sizes: Sizes) -> str:
    """Sizes in words."""
    parts = [
        f"{name.replace('_', ' ')} {value:g} {UNITS[name.partition('_')[0]]}"
        for name in NAMES
        if (value := getattr(sizes, name)) is not None
    ]
    return ", ".join(parts) or "no sizes"
