"""The published contracts are those of the code."""

from pathlib import Path

import pytest

from shared.contracts.asyncapi import CHANNELS, document, files
from shared.subjects import Subjects

DOCS = Path(__file__).parents[2] / "docs" / "contracts"


@pytest.mark.parametrize("name", files())
def test_a_written_contract_is_what_the_code_says(name: str) -> None:
    assert (DOCS / name).read_text() == files()[name], "run `make contracts`"


def test_every_channel_is_a_subject_the_services_use() -> None:
    subjects = Subjects("{environment}")
    used = {
        subjects.run_desired("{run}"),
        subjects.run_state("{run}"),
        subjects.window("{run}", "{system}"),
        subjects.resource("{service}"),
        subjects.span("{system}"),
        subjects.breach("{system}", "{metric}", "{series}"),
        subjects.silence("{silence}"),
        subjects.acknowledge("{breach}"),
        subjects.scaling("{service}"),
        subjects.order("{service}", "{subject}"),
        subjects.dead("{service}"),
    }
    assert {channel["address"] for channel in document()["channels"].values()} == used
    assert len(CHANNELS) == len(used)


def test_every_reference_resolves() -> None:
    components = document()["components"]

    def references(node: object) -> list[str]:
        if isinstance(node, dict):
            found = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return found + [ref for value in node.values() for ref in references(value)]
        return [ref for item in node for ref in references(item)] if isinstance(node, list) else []

    for reference in references(document()):
        kind, name = reference.removeprefix("#/components/").split("/") if "components" in reference else ("", "")
        assert not kind or name in components[kind], reference
