"""The validator's settings."""

from pathlib import Path

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """``benchmarks``: file to judge by, ``benchmarks.yaml`` in ``config_dir`` where it is not given."""

    benchmarks: Path | None = None

    @property
    def benchmarks_path(self) -> Path:
        return self.benchmarks or self.config_dir / "benchmarks.yaml"
