"""Scenarios and suites by name or path, as they stand in the configuration folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from services.console.data_files import with_rows
from shared.config import parse, read_written
from shared.contracts.scenario import Scenario
from shared.contracts.suite import Suite
from shared.errors import ConfigError, closest

D = TypeVar("D", Scenario, Suite)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """``config_dir`` holds ``scenarios/NAME.yaml`` and ``suites/NAME.yaml``."""

    config_dir: Path

    def scenario_names(self) -> list[str]:
        return _names(self.config_dir / "scenarios")

    def suite_names(self) -> list[str]:
        return _names(self.config_dir / "suites")

    def load(self, name: str) -> Scenario | Suite:
        """A scenario or suite; ``ConfigError`` lists the known names, the nearest first."""
        if _is_path(name):
            path = Path(name)
            return _read(Suite, path) if _looks_like_suite(path) else _read(Scenario, path)
        if name in self.scenario_names():
            return self._named(Scenario, "scenarios", name)
        if name in self.suite_names():
            return self._named(Suite, "suites", name)
        scenarios, suites = self.scenario_names(), self.suite_names()
        raise ConfigError(
            f"unknown scenario {name!r}{closest(name, [*scenarios, *suites])}; "
            f"known scenarios: {', '.join(scenarios) or 'none'}; known suites: {', '.join(suites) or 'none'}"
        )

    def load_scenario(self, name: str) -> Scenario:
        """A scenario where a suite would not do."""
        found = self.load(name)
        if isinstance(found, Suite):
            raise ConfigError(f"{name!r} is a suite; a suite is run by itself, and names scenarios only")
        return found

    def _named(self, kind: type[D], folder: str, name: str) -> D:
        path = self.config_dir / folder / f"{name}.yaml"
        document = _read(kind, path)
        if document.name != name:
            raise ConfigError(f"{path}: name: {document.name!r} differs from the file's name; write {name!r}")
        return document


def _read(kind: type[D], path: Path) -> D:
    written = read_written(path)
    return parse(kind, with_rows(written.data, path), str(path), written.line)


def _names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.yaml"))


def _is_path(name: str) -> bool:
    return "/" in name or name.endswith((".yaml", ".yml"))


def _looks_like_suite(path: Path) -> bool:
    return path.parent.name == "suites"
