"""The files a report is written to."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from services.console.report_html import render_html
from services.console.report_junit import render_junit
from services.console.report_markdown import render_markdown
from services.console.report_rows import Dossier


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
