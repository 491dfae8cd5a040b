"""When the tokens of a streamed answer came: time to the first, the longest gap, how many; pure."""

import json
from typing import Any

from services.generator.answer import MISSING, compile_path
from services.generator.transport import TokenRule

_MAX_LINE = 1024 * 1024


class TokenClock:
    """Fed with the pieces of a body as they arrive; ``ttft_us`` counts from ``sent_us``, 0 while no token came.

    Tokens that arrive in one piece arrived at the same moment. A line may be cut anywhere between pieces.
    """

    __slots__ = ("_last_us", "_path", "_rest", "_rule", "_sent_us", "gap_us", "tokens", "ttft_us")

    def __init__(self, rule: TokenRule, sent_us: int) -> None:
        self._rule, self._sent_us = rule, sent_us
        self._path = compile_path(rule.path) if rule.path else None
        self._rest = b""
        self._last_us = 0
        self.ttft_us = self.gap_us = self.tokens = 0

    def feed(self, piece: bytes, now_us: int) -> None:
        if self._rule.format == "chunks":
            self._count(piece, now_us)
            return
        *lines, self._rest = (self._rest + piece).split(b"\n")
        if len(self._rest) > _MAX_LINE:
            self._rest = b""
        for line in lines:
            self._line(line, now_us)

    def end(self, now_us: int) -> None:
        """The body has ended: what stands after the last line break is a line too."""
        rest, self._rest = self._rest, b""
        if rest:
            self._line(rest, now_us)

    def _line(self, line: bytes, now_us: int) -> None:
        text = line.strip()
        if self._rule.format == "sse":
            text = text[5:].strip() if text.startswith(b"data:") else b""
        if text and text != b"[DONE]":
            self._count(text, now_us)

    def _count(self, data: bytes, now_us: int) -> None:
        if not data or (self._path is not None and not _text_at(self._path, data)):
            return
        if self.tokens:
            self.gap_us = max(self.gap_us, now_us - self._last_us)
        else:
            self.ttft_us = max(now_us - self._sent_us, 1)
        self.tokens += 1
        self._last_us = now_us


def _text_at(path: Any, data: bytes) -> bool:
    try:
        value = path(json.loads(data))
    except ValueError:
        return False
    return value is not MISSING and value not in (None, "")
