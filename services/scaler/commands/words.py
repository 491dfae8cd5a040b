"""Figures as people read them."""

UNITS = {
    "cores": "cores", "MB": "MB", "bytes/s": "B/s", "operations/s": "op/s", "errors/s": "/s", "packets/s": "/s",
    "requests/s": "/s",
}  # fmt: skip
SHORT = 1024.0


def tell(value: float | None, unit: str = "") -> str:
    """A value with its unit, ratios as percent, bytes in the prefix that suits; a dash for what is not known."""
    if value is None:
        return "–"
    if unit == "ratio":
        return f"{value:.1%}" if abs(value) < 0.1 else f"{value:.0%}"
    prefix = ""
    if unit == "bytes/s":
        for prefix in ("", "k", "M", "G"):  # noqa: B007 - the last one is what is told
            if abs(value) < SHORT:
                break
            value /= SHORT
    told = f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{told} {prefix}{UNITS.get(unit, unit)}".rstrip()
