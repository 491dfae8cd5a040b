"""The documents a stack is started with, read before it starts: a mistake in one is one line, not a dead service."""

from pathlib import Path

from shared.config import load_document
from shared.contracts.benchmarks_file import load_benchmarks
from shared.contracts.scaling_rules import ScalingRules


def check_documents(config_dir: Path, environment: str) -> None:
    """``ConfigError`` naming file and field when the benchmarks or the scaling rules cannot be used."""
    load_benchmarks(config_dir / "benchmarks.yaml", environment)
    load_document(ScalingRules, config_dir / "scaling.yaml")
