"""Adapter of the bucket that keeps, per endpoint and episode, the last event that was taken; it survives restarts."""

from dataclasses import asdict

import orjson
from nats.js.errors import KeyDeletedError, KeyNotFoundError
from nats.js.kv import KeyValue

from services.forwarder.choosing import Told


class ToldBucket:
    """Raises what nats-py raises when the broker is away."""

    def __init__(self, bucket: KeyValue, endpoint: str) -> None:
        self._bucket, self._endpoint = bucket, endpoint

    async def read(self, breach: str) -> Told | None:
        try:
            entry = await self._bucket.get(self._key(breach))
        except (KeyNotFoundError, KeyDeletedError):
            return None
        return Told(**orjson.loads(entry.value)) if entry.value else None

    async def write(self, breach: str, told: Told) -> None:
        await self._bucket.put(self._key(breach), orjson.dumps(asdict(told)))

    def _key(self, breach: str) -> str:
        return f"{self._endpoint}.{breach}"
