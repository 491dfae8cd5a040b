"""The documents a stack is started with, read before it starts: a mistake in one is one line, not a dead service."""

from shared.config import load_document
from shared.contracts.benchmarks_file import load_benchmarks
from shared.contracts.scaling_rules import ScalingRules
from shared.contracts.webhooks import Webhooks, find_unknown
from shared.errors import ConfigError
from shared.settings import ServiceSettings


def check_documents(settings: ServiceSettings, environment: str) -> None:
    """``ConfigError`` naming file and field when the benchmarks, the scaling rules or the webhooks cannot be used."""
    effective = load_benchmarks(settings.benchmarks_path, environment)
    config_dir = settings.config_dir
    load_document(ScalingRules, config_dir / "scaling.yaml")
    webhooks = config_dir / "webhooks.yaml"
    if webhooks.exists():
        document = load_document(Webhooks, webhooks)
        for unknown in find_unknown(document, effective.systems, effective.benchmarks.metrics):
            raise ConfigError(f"{webhooks}: {unknown}")
