"""A lease whose answers are lost: asked again in time, and its own renewal recognised."""

import asyncio
import time
from typing import Any

from nats.js.errors import KeyWrongLastSequenceError
from nats.js.kv import KeyValue

from shared import lease
from shared.lease import Lease


class Bucket:
    """One key; the answer to the next ``unanswered`` updates is lost after they went through."""

    def __init__(self) -> None:
        self.revision, self.value = 0, b""
        self.unanswered = 0

    async def create(self, key: str, value: bytes) -> int:
        return await self.update(key, value, last=0)

    async def update(self, _: str, value: bytes, last: int) -> int:
        if last != self.revision:
            raise KeyWrongLastSequenceError
        self.revision, self.value = self.revision + 1, value
        if self.unanswered:
            self.unanswered -= 1
            await asyncio.Event().wait()
        return self.revision

    async def get(self, key: str) -> KeyValue.Entry:
        return KeyValue.Entry("leases", key, self.value, self.revision, None, None, None)


async def test_a_renewal_whose_answer_was_lost_is_recognised_although_the_words_have_changed(monkeypatch: Any) -> None:
    monkeypatch.setattr(lease, "ANSWER_S", 0.05)
    bucket: Any = Bucket()
    held = Lease(bucket, "worker.w1")
    assert await held.acquire(b"first")
    bucket.unanswered = 1
    began = time.monotonic()
    assert not await held.renew(b"second")
    assert time.monotonic() - began < 1
    assert not held.lost
    assert await held.renew(b"third")
    assert held.held
    assert await held.renew(b"fourth")
    assert bucket.value == b"fourth"


async def test_a_lease_that_another_took_is_lost() -> None:
    bucket: Any = Bucket()
    held = Lease(bucket, "worker.w1")
    assert await held.acquire(b"mine")
    await bucket.update("worker.w1", b"of another", last=1)
    assert not await held.renew(b"mine")
    assert held.lost
    assert not held.held
