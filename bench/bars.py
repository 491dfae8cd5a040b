"""A bar: one measured value against one limit. A bench is a function that returns its bars."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Bar:
    """``sense`` tells on which side of the limit the value must be; ``how`` is what was run to measure it."""

    bar: str
    value: float
    limit: float
    unit: str
    how: str
    sense: Literal["at most", "at least", "exactly"] = "at most"

    @property
    def holds(self) -> bool:
        if self.sense == "exactly":
            return bool(self.value == self.limit)
        return bool(self.value <= self.limit if self.sense == "at most" else self.value >= self.limit)


def publish(name: str, bars: list[Bar]) -> bool:
    """Print the table, write ``bench/results/NAME.json``; True when every bar holds."""
    for bar in bars:
        mark = "holds" if bar.holds else "FAILS"
        print(f"{mark}  {bar.bar:<72} {bar.value:>10.4g} {bar.sense} {bar.limit:g} {bar.unit}")
    RESULTS.mkdir(exist_ok=True)
    body = [{**asdict(bar), "value": float(bar.value), "limit": float(bar.limit), "holds": bar.holds} for bar in bars]
    (RESULTS / f"{name}.json").write_text(json.dumps(body, indent=2) + "\n", encoding="utf-8")
    return all(bar.holds for bar in bars)
