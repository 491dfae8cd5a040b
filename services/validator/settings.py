"""The validator's settings: those that all services have."""

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """Nothing of its own."""
