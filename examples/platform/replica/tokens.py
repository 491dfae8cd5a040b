"""What a simulated model says: text of a known number of tokens, and its stream as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

from aiohttp import web

_SENTENCE = (
    "the engine torque sensor reads within its range and the brake pressure holds while the battery warms "
    "so the controller may keep its map and the next service is due at the usual distance"
)
_WORDS = _SENTENCE.split()


def generate_tokens(prompt: str, count: int) -> Iterator[str]:
    """`count` tokens that depend on `prompt` alone."""
    start = sum(prompt.encode())
    return (_WORDS[(start + index) % len(_WORDS)] + " " for index in range(count))


def generate_text(prompt: str, count: int) -> str:
    """The tokens as one text."""
    return "".join(generate_tokens(prompt, count)).strip()


async def open_stream(request: web.Request) -> web.StreamResponse:
    """Begin a server-sent event answer."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await response.prepare(request)
    return response


async def stream_tokens(response: web.StreamResponse, prompt: str, count: int, duration_s: float) -> None:
    """Send `count` tokens spread over `duration_s`, a third of it before the first, then `[DONE]`."""
    loop = asyncio.get_running_loop()
    started_at = loop.time()
    gap_s = duration_s * 2 / 3 / max(1, count - 1)
    for index, token in enumerate(generate_tokens(prompt, count)):
        due_at = started_at + duration_s / 3 + index * gap_s
        await asyncio.sleep(max(0.0, due_at - loop.time()))
        await response.write(f"data: {json.dumps({'token': token, 'index': index})}\n\n".encode())
    await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
