"""What the options of command lines take."""

from pathlib import Path

import click
import pytest

from shared.option_types import OUTPUT, OUTPUT_OR_TERMINAL


def test_a_file_to_write_is_known_to_be_writable_before_any_work(tmp_path: Path) -> None:
    there = tmp_path / "there.html"
    there.touch()
    assert OUTPUT.convert(str(there), None, None) == there
    assert OUTPUT.convert(str(tmp_path / "new.html"), None, None) == tmp_path / "new.html"
    assert OUTPUT_OR_TERMINAL.convert(str(there), None, None) == str(there)
    assert OUTPUT_OR_TERMINAL.convert("-", None, None) == "-"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("none/r.html", "none/r.html: folder .*none does not exist"),
        ("folder", "folder is a folder; name a file"),
        ("file/r.html", "folder .*file does not exist"),
        ("-", "- is no file; name one"),
    ],
)
def test_a_place_that_cannot_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with pytest.raises(click.BadParameter, match=words):
        OUTPUT.convert(value, None, None)
