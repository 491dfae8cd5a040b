"""What may stand under ``sources:``; a mistake is one line that names the field and what would be right."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from services.collector.source_config import PlatformSpec, Resources
from services.collector.source_set import make_sources
from shared.config import load_document, parse, read_yaml
from shared.errors import ConfigError

ROOT = Path(__file__).parents[2]
METRICS = [{"name": "x", "unit": "ms", "form": "gauge", "of": "y"}]


def resources(*sources: Mapping[str, object]) -> Resources:
    return parse(Resources, {"metrics": METRICS, "sources": [*map(dict, sources)]}, "resources.yaml")


def test_the_shipped_file_and_one_without_sources_read_the_platform_alone() -> None:
    shipped = load_document(Resources, ROOT / "config" / "resources.yaml")
    silent = parse(Resources, {"metrics": METRICS}, "resources.yaml")
    assert shipped.sources == silent.sources == (PlatformSpec(kind="platform"),)


def test_the_examples_of_the_guide_are_right() -> None:
    text = (ROOT / "docs" / "resources.md").read_text()
    blocks = [block.split("```")[0] for block in text.split("```yaml\n")[1:]]
    assert blocks
    for block in blocks:
        parse(Resources, {"metrics": METRICS, **yaml.safe_load(block)}, "docs/resources.md")


def test_the_platform_is_left_out_where_nobody_says_where_it_is() -> None:
    one, other = {"kind": "platform"}, {"kind": "platform", "name": "staging", "url": "http://staging:8080"}
    assert make_sources(resources(one), None, 1.0) == []
    made = make_sources(resources(one, {**other, "every_s": 5}), "http://127.0.0.1:8080", 1.0)
    assert [(source.name, every_s) for source, every_s in made] == [("platform", 1.0), ("staging", 5.0)]
    assert [source.name for source, _ in make_sources(resources({**one, "dns": [DNS]}), None, 1.0)] == ["platform"]


DNS = {"name": "relaycore-replicas.platform", "port": 3001, "service": "relaycore", "system": "relaycore"}
PROCESS = {"kind": "process", "service": "relaycore"}


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ({"kind": "dokcer"}, r"sources.0: Input tag 'dokcer' .* 'platform', 'docker', 'cgroup', 'process', 'nvidia'"),
        ({"service": "relaycore"}, r"sources.0: Unable to extract tag using discriminator 'kind'"),
        ({"kind": "docker", "lables": []}, r"sources.0.docker.lables: unknown field"),
        ({"kind": "docker", "url": "here"}, r"sources.0.docker.url: .*pattern.*\(got 'here'\)"),
        ({"kind": "docker", "keep": ["cpu"]}, r"sources.0.docker.keep: no such metric: cpu; there are cpu_usage, "),
        (
            {"kind": "docker", "containers": [{"label": "a=b", "service": "relaycore"}]},
            r"sources.0.docker.containers.0.system: Field required",
        ),
        (PROCESS, r"sources.0.process: needs exactly one of pid_file, command and port .*, not none"),
        ({**PROCESS, "port": 1, "command": "x"}, r"needs exactly one of .*, not command and port"),
        ({**PROCESS, "port": 70_000}, r"sources.0.process.port: .*less than or equal to 65535 \(got 70000\)"),
        ({**PROCESS, "command": "("}, r"sources.0.process.command: no regular expression"),
        ({"kind": "process", "port": 80}, r"sources.0.process.service: Field required"),
        ({"kind": "cgroup", "service": "relaycore", "path": "/"}, r"sources.0.cgroup.path: .*pattern"),
        ({"kind": "nvidia", "service": "n", "gpus": [-1]}, r"sources.0.nvidia.gpus.0: .*greater than or equal to 0"),
        ({"kind": "platform", "every_s": 0}, r"sources.0.platform.every_s: .*greater than or equal to 0.1 \(got 0\)"),
        (
            {"kind": "platform", "url": "http://here", "dns": [DNS]},
            r"sources.0.platform: url and dns are two ways",
        ),
        ({"kind": "platform", "dns": [{**DNS, "name": "a b"}]}, r"sources.0.platform.dns.0.name: .*pattern"),
        ({"kind": "platform", "dns": [{**DNS, "port": 0}]}, r"sources.0.platform.dns.0.port: .*\(got 0\)"),
        ({"kind": "platform", "name": "My Platform"}, r"sources.0.platform.name: .*pattern"),
    ],
)
def test_a_wrong_source_is_one_line_that_names_the_field(source: dict[str, object], line: str) -> None:
    with pytest.raises(ConfigError, match=line) as caught:
        resources(source)
    assert "\n" not in str(caught.value)


def test_two_sources_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="sources: two are called process; give each a name of its own"):
        resources({**PROCESS, "port": 1}, {**PROCESS, "port": 2})
    resources({**PROCESS, "port": 1}, {**PROCESS, "port": 2, "name": "process-2"})


def test_the_file_is_read_as_it_stands() -> None:
    assert read_yaml(ROOT / "config" / "resources.yaml")["sources"] == [{"kind": "platform"}]
