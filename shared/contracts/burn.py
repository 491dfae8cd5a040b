"""Burn rates: how fast an error budget is spent, over which pairs of windows that is looked at, and what is refused.

A budget is what an objective leaves: of 99.5 % half a per cent of the requests may be bad. A burn rate of 1 spends it
exactly over the objective's own time; 14.4 spends that of 30 days in 50 hours.
"""

from typing import Literal

from pydantic import Field, model_validator

from shared.contracts.base import Document, Name
from shared.contracts.units import Duration
from shared.errors import WrongFieldError

BURN_RATE = "_burn_rate"
"""Ends the metric of a breach that is about a benchmark's error budget."""
LONGEST_S = 400 * 86_400.0
"""Hours of requests are kept so long where nothing else is set."""
CRITICAL_FROM = 6.0
"""Burn rates from here on are told as critical where nothing else is said."""


class BurnRate(Document):
    """Broken when the budget burns ``factor`` times too fast over the ``long`` and over the ``short`` window.

    The long one says that it is worth a word, the short one that it still goes on. ``severity``: that of its level in
    the benchmark where it is not given.
    """

    long: Duration
    short: Duration
    factor: float = Field(gt=0)
    level: Literal["target", "critical"] = "target"
    severity: Name | None = None

    @model_validator(mode="before")
    @classmethod
    def _level_default(cls, data: object) -> object:
        if isinstance(data, dict) and "level" not in data and isinstance(factor := data.get("factor"), int | float):
            return {**data, "level": "critical" if factor >= CRITICAL_FROM else "target"}
        return data

    @model_validator(mode="after")
    def _short_within_long(self) -> "BurnRate":
        if self.short < 1:
            raise WrongFieldError(f"short of {self.short:g} s is below the 1 s of a cell", "short")
        if self.short >= self.long:
            raise WrongFieldError(f"short of {self.short:g} s must be below long {self.long:g} s", "short")
        if self.long > LONGEST_S:
            raise WrongFieldError(f"long of {self.long:g} s is more than the store keeps; use at most 400d", "long")
        return self


STANDARD = tuple(
    BurnRate.model_validate({"long": long, "short": short, "factor": factor, **more})
    for long, short, factor, more in (
        ("1m", "5s", 14.4, {"severity": "info"}),
        ("1h", "5m", 14.4, {}),
        ("6h", "30m", 6, {}),
        ("1d", "2h", 3, {}),
        ("3d", "6h", 1, {}),
    )
)
"""Multiwindow, multi-burn-rate alerts as in the SRE workbook, chapter 5, and a short pair for those who scale by it."""


def refuse_never_firing(objective: float, burn_rates: tuple[BurnRate, ...], metric: str) -> None:
    """Raise for a factor that would need more than every request to be bad: one of 1 / (1 - objective) and above."""
    budget = 1 - objective
    for place, pair in enumerate(burn_rates):
        if pair.factor * budget >= 1 - 1e-9:
            raise WrongFieldError(
                f"{metric}: factor {pair.factor:g} can never fire: objective {100 * objective:g} % leaves a budget "
                f"of {100 * budget:g} %, and with every request bad it burns {1 / budget:g} times too fast; "
                f"write burn_rates with factors below {1 / budget:g}",
                *(("burn_rates", place, "factor") if burn_rates != STANDARD else ("objective",)),
            )
