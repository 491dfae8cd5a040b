"""The documents a stack is started with, read before it starts: a mistake in one is one line, not a dead service."""

from pathlib import Path

from shared.config import load_document
from shared.contracts.benchmarks import Benchmarks
from shared.contracts.scaling_rules import ScalingRules
from shared.contracts.webhooks import Webhooks


def check_documents(config_dir: Path) -> None:
    """``ConfigError`` naming file and field when the benchmarks, the scaling rules or the webhooks cannot be used."""
    load_document(Benchmarks, config_dir / "benchmarks.yaml")
    load_document(ScalingRules, config_dir / "scaling.yaml")
    if (config_dir / "webhooks.yaml").exists():
        load_document(Webhooks, config_dir / "webhooks.yaml")
