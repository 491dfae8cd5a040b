"""Leases in a key-value bucket: compare-and-set each second, gone by the server's clock when not renewed.

The bucket's age limit (``shared.streams.LEASE_S``) expires a key; nothing compares wall clocks. A holder trusts its
lease only until ``SAFE_S`` after the start of its last confirmed renewal, which ends before the server's expiry: a
frozen and thawed holder finds itself expired before it acts.
"""

import asyncio
import logging
import time
from collections import deque

from nats.errors import Error as NatsError
from nats.js.errors import APIError, KeyDeletedError, KeyNotFoundError, KeyWrongLastSequenceError
from nats.js.kv import KeyValue

RENEW_S = 1.0
SAFE_S = 3.0
# An answer that has not come by then is taken for lost, while there is time to ask again.
ANSWER_S = 1.0

logger = logging.getLogger(__name__)


class Lease:
    """One key that at most one holder has. ``epoch`` is the revision at which it was acquired: it only grows."""

    def __init__(self, bucket: KeyValue, key: str) -> None:
        self._bucket = bucket
        self.key = key
        self.epoch = 0
        self._revision = 0
        self._confirmed_at = float("-inf")
        self._offered: deque[bytes] = deque(maxlen=8)

    @property
    def held(self) -> bool:
        """True while this holder may act: the last confirmed renewal began less than ``SAFE_S`` ago."""
        return self._revision > 0 and time.monotonic() < self.held_until

    @property
    def held_until(self) -> float:
        """Until when (s, ``time.monotonic``) this holder may act without another renewal."""
        return self._confirmed_at + SAFE_S

    @property
    def lost(self) -> bool:
        """True when another took it, or it was never held."""
        return self._revision == 0

    async def acquire(self, value: bytes) -> bool:
        """Take the lease if it is free; False when another holds it. A broker that is away raises nothing: False."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(ANSWER_S):
                revision = await self._bucket.create(self.key, value)
        except KeyWrongLastSequenceError:
            return False
        except (NatsError, APIError, TimeoutError) as error:
            logger.debug("lease %s not acquired: %s", self.key, error)
            return False
        self.epoch = self._revision = revision
        self._confirmed_at = began
        self._offered.clear()
        return True

    async def renew(self, value: bytes) -> bool:
        """Renew; False when unconfirmed (may still be held, see ``held``) or lost (see ``lost``)."""
        if self.lost:
            return False
        began = time.monotonic()
        self._offered.append(value)
        try:
            async with asyncio.timeout(ANSWER_S):
                self._revision = await self._bucket.update(self.key, value, last=self._revision)
        except KeyWrongLastSequenceError:
            # Either it expired or another took it; or a renewal whose answer was lost went through, which the
            # values offered since the last answer tell.
            return await self._reread(began)
        except (NatsError, APIError, TimeoutError) as error:
            logger.warning("lease %s not confirmed: %s", self.key, error)
            return False
        self._confirmed_at = began
        self._offered.clear()
        return True

    async def _reread(self, began: float) -> bool:
        try:
            async with asyncio.timeout(ANSWER_S):
                entry = await self._bucket.get(self.key)
        except (KeyNotFoundError, KeyDeletedError):
            self._revision = 0
            return False
        except (NatsError, APIError, TimeoutError):
            return False
        if entry.value in self._offered and entry.revision is not None:
            self._revision, self._confirmed_at = entry.revision, began
            self._offered.clear()
            return True
        self._revision = 0
        return False

    async def release(self) -> None:
        """Give it back at once; without effect when it is no longer held."""
        if self.lost:
            return
        revision, self._revision = self._revision, 0
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._bucket.delete(self.key, last=revision)
        except (NatsError, APIError, TimeoutError) as error:
            logger.debug("lease %s left to expire: %s", self.key, error)
