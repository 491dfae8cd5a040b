"""What a stream keeps, as it was published."""

import contextlib
from typing import Any


async def kept(js: Any, stream: str, subject: str) -> list[bytes]:
    """The bodies of a subject's messages, oldest first."""
    subscription = await js.subscribe(subject, stream=stream, ordered_consumer=True)
    bodies = []
    with contextlib.suppress(TimeoutError):
        while True:
            bodies.append((await subscription.next_msg(timeout=0.25)).data)
    await subscription.unsubscribe()
    return bodies
