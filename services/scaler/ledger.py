"""Who holds how much of the budget, as the controllers of all services last saw or decided it. Pure.

What a service has decided to add counts from that moment, so that two that decide in the same instant do not both take
what is left. A service that was never seen counts with what its chain last asked for, at least with its minimum.
"""

from services.scaler.situation import Holding, Shares, Sizes
from shared.contracts.scaling_rules import ScalingRules


class Ledger:
    """One entry per service of the rules."""

    def __init__(self, rules: ScalingRules) -> None:
        self._budget = rules.budget
        self._holdings: dict[str, Holding] = {}
        for service, its in rules.services.items():
            size = its.size
            self._holdings[service] = Holding(
                service=service,
                min=its.min,
                replicas=its.min,
                wanted=its.min,
                cpu_cores=size.cpu_cores if size else None,
                memory=size.memory if size else None,
            )

    @property
    def counts_sizes(self) -> bool:
        """Whether the sizes of replicas matter at all."""
        return self._budget is not None and bool(self._budget.bounds.keys() - {"replicas"})

    def note(self, service: str, replicas: int, wanted: int) -> None:
        """What a service holds, or is about to, and what it would have."""
        held = self._holdings[service]
        self._holdings[service] = held.model_copy(update={"replicas": replicas, "wanted": wanted})

    def note_sizes(self, service: str, sizes: Sizes) -> None:
        """What its target tells of one replica: what it may use, else what it is promised; the rules' word where it
        tells nothing."""
        told = {
            "cpu_cores": sizes.cpu_limit or sizes.cpu_reserved,
            "memory": sizes.memory_limit or sizes.memory_reserved,
        }
        known = {name: value for name, value in told.items() if value}
        self._holdings[service] = self._holdings[service].model_copy(update=known)

    def shares(self) -> Shares | None:
        """All entries beside the bounds; None without a budget."""
        if self._budget is None:
            return None
        return Shares(bounds=self._budget.bounds, holdings=tuple(self._holdings.values()))
