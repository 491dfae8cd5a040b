"""The entries of a HAR log as requests with their answers, and which of them a scenario has no use for."""

import base64
import binascii
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from services.console.importing.naming import one_line
from services.console.importing.source import plain
from services.console.importing.weaving import UnwritableError
from shared.errors import ConfigError

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD"})
LONGEST_PAUSE_S = 60.0
MOST_ANSWER = 5_000_000
_STATIC_TYPES = ("image/", "font/", "audio/", "video/", "text/css", "application/font", "application/wasm")
_STATIC_END = re.compile(
    r"\.(png|jpe?g|gif|svg|webp|avif|ico|bmp|css|m?js|cjs|map|woff2?|ttf|otf|eot|mp[34]|webm|ogg|wasm)$", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Entry:
    """``number`` counts from 1 as people do; ``host`` is lower case with its port where the URL has one."""

    number: int
    scheme: str
    host: str
    target: str
    method: str
    headers: tuple[tuple[str, str], ...]
    form: tuple[tuple[str, str], ...]
    body_type: str
    body_text: str
    status: int
    answer_type: str
    answer: Any
    sets_cookie: bool
    begin_s: float | None
    took_s: float

    @property
    def has_body(self) -> bool:
        return bool(self.body_text or self.form)

    @property
    def sends_cookie(self) -> bool:
        return any(name.lower() == "cookie" for name, _ in self.headers)

    def body(self) -> Any:
        """The JSON of its body; ``UnwritableError`` for any other body."""
        kind = self.body_type.partition(";")[0].strip().lower()
        form = kind in ("application/x-www-form-urlencoded", "multipart/form-data")
        try:
            document = json.loads(self.body_text)
        except (ValueError, RecursionError):
            document = None
        if (
            form
            or not self.body_text
            or document is None
            or ("json" not in kind and not isinstance(document, dict | list))
        ):
            raise UnwritableError(f"its body is {one_line(kind, 60) or 'unknown'}; only JSON can be sent")
        try:
            return plain(document)
        except ConfigError as error:
            raise UnwritableError(str(error)) from error


def read_entries(entries: list[Any], source: str) -> list[Entry]:
    """The requests, by when they began where all of them say so; ``ConfigError`` names the entry that is none."""
    read = [_read(index, entry, f"{source}: log.entries[{index}]") for index, entry in enumerate(entries)]
    if all(entry.begin_s is not None for entry in read):
        read.sort(key=lambda entry: entry.begin_s or 0.0)
    return read


def _read(index: int, entry: Any, where: str) -> Entry:
    request, response = (_part(entry, name) for name in ("request", "response"))
    url, method = request.get("url"), request.get("method")
    if not isinstance(url, str) or not isinstance(method, str):
        raise ConfigError(f"{where}: request.url and request.method are missing; each entry has both")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{where}: request.url is no URL") from error
    posted, content = _part(request, "postData"), _part(response, "content")
    status = response.get("status")
    body = posted.get("text")
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return Entry(
        number=index + 1,
        scheme=parts.scheme.lower(),
        host=host if port is None else f"{host}:{port}",
        target=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        method=method.upper(),
        headers=_pairs(request.get("headers")),
        form=_pairs(posted.get("params")) or _form(posted),
        body_type=str(posted.get("mimeType") or ""),
        body_text=body if isinstance(body, str) else "",
        status=status if isinstance(status, int) and not isinstance(status, bool) else 0,
        answer_type=str(content.get("mimeType") or "").partition(";")[0].strip().lower(),
        answer=_answer(content),
        sets_cookie=any(name.lower() == "set-cookie" for name, _ in _pairs(response.get("headers"))),
        begin_s=_instant_s(entry.get("startedDateTime")),
        took_s=_seconds(entry.get("time")),
    )


def is_static(entry: Entry) -> bool:
    """Whether it fetched what pages are made of: told by the answer's type, else by the end of the path."""
    if entry.method not in ("GET", "HEAD") or "json" in entry.answer_type:
        return False
    if entry.answer_type.startswith(_STATIC_TYPES) or "javascript" in entry.answer_type:
        return True
    return _STATIC_END.search(entry.target.partition("?")[0]) is not None


def why_not(entry: Entry) -> str | None:
    """Why a request cannot be a step, or None."""
    if entry.scheme not in ("http", "https") or not entry.host:
        return f"{one_line(entry.scheme, 20) or 'no scheme'} is neither http nor https"
    if entry.method not in METHODS:
        return f"method {one_line(entry.method, 20)} is none a scenario can send"
    if entry.status == 101:
        return "it became a WebSocket"
    return None if 100 <= entry.status <= 599 else "it got no answer"


def _part(node: Any, name: str) -> dict[str, Any]:
    part = node.get(name) if isinstance(node, dict) else None
    return part if isinstance(part, dict) else {}


def _pairs(items: Any) -> tuple[tuple[str, str], ...]:
    listed = [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
    return tuple((str(item["name"]), str(item.get("value", ""))) for item in listed if item.get("name"))


def _form(posted: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    if "urlencoded" not in str(posted.get("mimeType")) or not isinstance(posted.get("text"), str):
        return ()
    try:
        return tuple(parse_qsl(posted["text"]))
    except ValueError:
        return ()


def _answer(content: dict[str, Any]) -> Any:
    """The JSON of an answer, or None."""
    text = content.get("text")
    if not isinstance(text, str) or len(text) > MOST_ANSWER:
        return None
    try:
        raw = base64.b64decode(text, validate=True) if content.get("encoding") == "base64" else text
        return json.loads(raw)
    except (ValueError, binascii.Error, RecursionError):
        return None


def _instant_s(value: Any) -> float | None:
    try:
        instant = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return (instant if instant.tzinfo else instant.replace(tzinfo=UTC)).timestamp()


def _seconds(time_ms: Any) -> float:
    usable = isinstance(time_ms, int | float) and not isinstance(time_ms, bool) and 0 < time_ms < 86_400_000
    return time_ms / 1000 if usable else 0.0
