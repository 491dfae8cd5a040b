"""What docs/benchmarks.md shows is what the code does."""

import re
from pathlib import Path

import pytest

from shared.contracts.benchmarks import Benchmark, Source
from shared.contracts.benchmarks_file import load_benchmarks
from shared.contracts.burn import STANDARD
from shared.errors import ConfigError
from shared.settings import PROJECT_ROOT

GUIDE = (PROJECT_ROOT / "docs" / "benchmarks.md").read_text()
(EXAMPLE,) = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)


@pytest.mark.parametrize("environment", ["local", "production"])
def test_the_example_is_read(tmp_path: Path, environment: str) -> None:
    path = tmp_path / "benchmarks.yaml"
    path.write_text(EXAMPLE)
    found = load_benchmarks(path, environment).benchmarks.systems
    response, checkout, *_ = found["shop"].benchmarks
    critical = 400 if environment == "production" else 500
    assert (response.target, response.critical, checkout.target, checkout.critical) == (200, critical, 300, critical)
    assert found["payments"].benchmarks[2].objective == 0.995
    assert found["payments"].benchmarks[2].schedule.time_zone == "Europe/Berlin"


def test_every_field_and_every_source_is_explained() -> None:
    explained = set(
        re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in GUIDE.splitlines() if line[:1] == "|"))
    )
    assert set(Benchmark.model_fields) <= explained
    assert {source.value for source in Source} <= explained


def test_the_standard_burn_rates_are_those_of_the_table() -> None:
    rows = re.findall(r"^\| (\d+) (\w) \| (\d+) (\w) \| ([\d.]+) \| (\w+)", GUIDE, re.MULTILINE)
    seconds = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
    shown = [(int(a) * seconds[b], int(c) * seconds[d], float(factor), level) for a, b, c, d, factor, level in rows]
    assert shown == [(pair.long, pair.short, pair.factor, pair.level) for pair in STANDARD]


def test_the_mistake_is_told_as_shown(tmp_path: Path) -> None:
    (shown,) = re.findall(r"^config/benchmarks.yaml:(.*)$", GUIDE, re.MULTILINE)
    path = tmp_path / "benchmarks.yaml"
    shipped = (PROJECT_ROOT / "config" / "benchmarks.yaml").read_text()
    path.write_text(shipped.replace("critical: 500 ms", "critical: 100 ms"))
    with pytest.raises(ConfigError) as refused:
        load_benchmarks(path, "local")
    assert str(refused.value) == f"{path}:{shown}"
