"""The live line of a run on a terminal, and its plain form for logs and pipes."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.text import Text

from services.console.progress import Notice, Snapshot
from services.console.session import View
from services.console.wording import format_clock, format_ms

TERMINAL_EVERY_S = 1.0
PLAIN_EVERY_S = 5.0


class TerminalView:
    """One line that changes in place, events above it."""

    def __init__(self, console: Console, live: Live, now_s: Callable[[], float] = time.monotonic) -> None:
        self._console, self._live, self._now_s = console, live, now_s
        self._due_at = 0.0

    def show(self, snapshot: Snapshot) -> None:
        if self._now_s() >= self._due_at:
            self._due_at = self._now_s() + TERMINAL_EVERY_S
            self._live.update(_styled(snapshot), refresh=True)

    def notice(self, notice: Notice) -> None:
        self._console.print(Text(notice.text, style=notice.style))


class PlainView:
    """A line every few seconds, and one for each event."""

    def __init__(self, console: Console, now_s: Callable[[], float] = time.monotonic) -> None:
        self._console, self._now_s = console, now_s
        self._due_at = 0.0

    def show(self, snapshot: Snapshot) -> None:
        if self._now_s() >= self._due_at:
            self._due_at = self._now_s() + PLAIN_EVERY_S
            self._print(snapshot.line())

    def notice(self, notice: Notice) -> None:
        self._print(notice.text)

    def _print(self, line: str) -> None:
        self._console.print(Text(line), soft_wrap=True)


@contextmanager
def open_view(console: Console) -> Iterator[View]:
    """The view that suits the console."""
    if not console.is_terminal:
        yield PlainView(console)
        return
    with Live(console=console, auto_refresh=False, transient=True) as live:
        yield TerminalView(console, live)


def _styled(snapshot: Snapshot) -> Text:
    share = snapshot.elapsed_s / snapshot.duration_s if snapshot.duration_s else 0.0
    filled = round(20 * min(1.0, share))
    line = Text()
    line.append("━" * filled, style="cyan").append("━" * (20 - filled), style="dim")
    line.append(f" {format_clock(snapshot.elapsed_s)}/{format_clock(snapshot.duration_s)}", style="bold")
    line.append(f"  {snapshot.phase or 'waiting'}", style="dim")
    if snapshot.level:
        line.append(f"  {snapshot.level}", style="cyan")
    line.append(f"  {snapshot.users} users  {snapshot.rate_per_s:.0f}/s  ")
    line.append("p95 –" if snapshot.p95_ms is None else f"p95 {format_ms(snapshot.p95_ms)}", style="bold")
    line.append(f"  {snapshot.failed} errors", style="red" if snapshot.failed else "")
    line.append(f"  {snapshot.open_breaches} breaches open", style="red" if snapshot.open_breaches else "")
    for service, count in sorted(snapshot.replicas.items()):
        line.append(f"  {service}×{count}", style="cyan")
    return line
