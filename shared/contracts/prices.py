"""What computing costs, as people write it under ``prices:`` in ``config/scaling.yaml``."""

from pydantic import Field

from shared.contracts.base import Document


class Prices(Document):
    """Of a core and of a GB (1,024 MB) for an hour, held or used; ``currency`` is only shown."""

    core_hour: float = Field(ge=0)
    gb_hour: float = Field(ge=0)
    currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$")

    def cost(self, core_s: float, memory_mb_s: float) -> float:
        return core_s / 3600 * self.core_hour + memory_mb_s / 1024 / 3600 * self.gb_hour
