"""The files a report is written to. Checked before the run, so that no run is lost to a misspelt folder."""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from services.console.report_html import render_html
from services.console.report_junit import render_junit
from services.console.report_markdown import render_markdown
from services.console.report_rows import Dossier
from shared.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ReportFiles:
    """Where to write; ``-`` as JSON path is standard output."""

    json_path: str | None = None
    html_path: Path | None = None
    junit_path: Path | None = None
    markdown_path: Path | None = None

    @property
    def uses_stdout(self) -> bool:
        return self.json_path == "-"

    def check(self) -> None:
        """``ConfigError`` for a path that cannot be written."""
        check_writable(
            {
                "--json": self.json_path,
                "--html": self.html_path,
                "--junit": self.junit_path,
                "--markdown": self.markdown_path,
            }
        )

    def write(self, dossiers: list[Dossier]) -> list[str]:
        """Write what was asked for, return the files written. Several runs (a suite) become one document each."""
        if not dossiers:
            return []
        reports = [dossier.report for dossier in dossiers]
        written = []
        if self.json_path:
            document = reports[0] if len(reports) == 1 else {"runs": reports}
            text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
            if self.uses_stdout:
                sys.stdout.write(text)
            else:
                Path(self.json_path).write_text(text, encoding="utf-8")
                written.append(self.json_path)
        if self.html_path:
            self.html_path.write_text(render_html(dossiers), encoding="utf-8")
            written.append(str(self.html_path))
        if self.junit_path:
            self.junit_path.write_bytes(render_junit(reports))
            written.append(str(self.junit_path))
        if self.markdown_path:
            self.markdown_path.write_text(render_markdown(dossiers), encoding="utf-8")
            written.append(str(self.markdown_path))
        return written


def check_writable(named: Mapping[str, str | Path | None]) -> None:
    """``ConfigError`` for the path of an option that cannot be written; None and ``-`` are no path."""
    for option, path in named.items():
        if path is None or path == "-":
            continue
        if path == Path("-"):
            raise ConfigError(f"{option}: - is no file; name one, only JSON goes to the terminal")
        folder = Path(path).absolute().parent
        if not folder.is_dir():
            raise ConfigError(f"{option}: {path}: folder {folder} does not exist")
        if Path(path).is_dir():
            raise ConfigError(f"{option}: {path} is a folder; name a file")
        if not os.access(path if Path(path).exists() else folder, os.W_OK):
            raise ConfigError(f"{option}: {path}: no permission to write there")
