"""The report page in a real browser without a network: it draws its figures, complains of nothing, and obeys nobody."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.console.report_html import render_html
from services.console.report_rows import Dossier
from tests.unit.console_cases import full_dossier

pytestmark = pytest.mark.integration
EVIL = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
PATIENCE_S = 90


@dataclass(frozen=True, slots=True)
class Seen:
    """What the browser made of a page: its DOM when all is drawn, and what it wrote to its console."""

    dom: str
    console: list[str]

    @property
    def figures(self) -> int:
        return len(re.findall(r"data-figure=", self.dom))

    @property
    def drawn(self) -> int:
        return len(re.findall(r'class="[^"]*\bplot\b[^"]*\bdrawn\b', self.dom))


@pytest.fixture(scope="module")
def browser() -> str:
    found = shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail("chromium is missing; .ci/run installs it")
        pytest.skip("needs chromium")
    return found


def look(browser: str, folder: Path, dossiers: list[Dossier], width: int = 1280, *options: str) -> Seen:
    """Open the page as a file, with every name of a host unknown; a window as high as the page sees all of it."""
    page = folder / "report.html"
    page.write_text(render_html(dossiers), encoding="utf-8")
    return open_page(browser, page, width, *options)


def open_page(browser: str, page: Path, width: int = 1280, *options: str) -> Seen:
    opened = subprocess.run(
        [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            f"--user-data-dir={page.with_name('profile')}",
            "--host-resolver-rules=MAP * ~NOTFOUND",
            "--enable-logging=stderr",
            "--virtual-time-budget=10000",
            f"--window-size={width},20000",
            *options,
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    return Seen(opened.stdout, re.findall(r":CONSOLE[^\]]*\] (.*)", opened.stderr))


def test_a_complaint_would_be_heard(browser: str, tmp_path: Path) -> None:
    page = tmp_path / "complaining.html"
    page.write_text("<!doctype html><script>console.error('oh'); missing();</script>", encoding="utf-8")
    assert [line.split('"')[1] for line in open_page(browser, page).console] == [
        "oh",
        "Uncaught ReferenceError: missing is not defined",
    ]


@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
def test_every_figure_is_drawn_without_a_network_and_without_a_complaint(
    browser: str, tmp_path: Path, width: int
) -> None:
    seen = look(browser, tmp_path, [full_dossier("relaycore")], width)
    assert seen.console == []
    assert seen.figures == seen.drawn == 14
    times = seen.dom[seen.dom.index("Request times: relaycore") :]
    assert len(re.findall(r'class="trace scatter', times[: times.index("</figure>")])) == 6, (
        "six lines of the first figure"
    )
    assert len(re.findall(r'class="legendtext"[^>]*>response p95<', seen.dom)) == 1


def test_the_colours_follow_a_dark_screen(browser: str, tmp_path: Path) -> None:
    light = look(browser, tmp_path, [full_dossier("relaycore")])
    dark = look(browser, tmp_path, [full_dossier("relaycore")], 1280, "--blink-settings=preferredColorScheme=0")
    assert "rgb(15, 110, 132)" in light.dom, "--c0 of the page, as Plotly writes it"
    assert "rgb(99, 198, 220)" in dark.dom
    assert dark.console == []


def test_a_hostile_name_is_text_and_nothing_else(browser: str, tmp_path: Path) -> None:
    seen = look(browser, tmp_path, [full_dossier(EVIL)])
    assert "<title>Tidegate: run-1</title>" in seen.dom
    assert seen.console == [], "nothing was tried that the page's policy had to stop"
    assert "<img" not in seen.dom
    assert seen.drawn == seen.figures > 0
