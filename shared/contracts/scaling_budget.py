"""What all services together may use, as people write it under ``budget:`` in ``config/scaling.yaml``, and how much
one replica counts for."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from shared.contracts.base import Document
from shared.contracts.units import parse_quantity


def _megabytes(value: object) -> float:
    return parse_quantity(value, "MB", "memory")


Cores = Annotated[float, Field(gt=0, le=1_000_000)]
Megabytes = Annotated[float, BeforeValidator(_megabytes), Field(gt=0)]
"""MB of 1,048,576 bytes, written ``2048``, ``"2 GB"``."""


class ReplicaSize(Document):
    """What one replica counts for in the budget, where its target does not tell."""

    cpu_cores: Cores | None = None
    memory: Megabytes | None = None


class Budget(Document):
    """What the replicas of all services together may be and use; at least one bound."""

    replicas: int | None = Field(default=None, ge=1)
    cpu_cores: Cores | None = None
    memory: Megabytes | None = None

    @model_validator(mode="after")
    def _bounds_something(self) -> "Budget":
        if not self.bounds:
            raise ValueError("bounds nothing; give replicas, cpu_cores or memory, or leave budget out")
        return self

    @property
    def bounds(self) -> dict[str, float]:
        """The bound of each quantity that has one."""
        given = {"replicas": self.replicas, "cpu_cores": self.cpu_cores, "memory": self.memory}
        return {name: float(bound) for name, bound in given.items() if bound is not None}

    def refusal(self, minimums: Mapping[str, tuple[int, ReplicaSize | None]]) -> str:
        """Why the least replicas of all services do not fit, or nothing. ``minimums``: count and size by service."""
        for name, bound in self.bounds.items():
            sizes = {
                service: 1.0 if name == "replicas" else getattr(size, name, None)
                for service, (_, size) in minimums.items()
            }
            least = sum(minimums[service][0] * (size or 0.0) for service, size in sizes.items())
            if least > bound:
                return f"budget.{name} {bound:g} is below the {least:g} that the minimums of all services take"
        return ""
