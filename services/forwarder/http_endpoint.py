"""Adapter of one receiver: posts an event, signed by the Standard Webhooks scheme (v1, HMAC-SHA256).

``webhook-id`` is the event's own id, the same in every attempt, so a receiver can tell a repetition.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp
from standardwebhooks import Webhook

from services.forwarder.retrying import Answer, answer_of
from shared.contracts.breach import CONTENT_TYPE
from shared.contracts.webhooks import Endpoint


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one attempt; ``reason`` where it was not taken, ``retry_after`` as the receiver said it."""

    answer: Answer
    reason: str = ""
    retry_after: str = ""


class HttpEndpoint:
    """Follows no redirect and reads no more of an answer than its head."""

    def __init__(self, endpoint: Endpoint, keys: tuple[bytes, ...], session: aiohttp.ClientSession) -> None:
        self.endpoint, self._session = endpoint, session
        self._signers = [Webhook(key) for key in keys]

    async def post(self, event_id: str, body: bytes, traceparent: str = "") -> Outcome:
        """One attempt. Faults of the receiver and of the way to it are outcomes, never raised."""
        try:
            async with self._session.post(
                self.endpoint.url,
                data=body,
                headers=self._headers(event_id, body, traceparent),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=self.endpoint.timeout),
            ) as response:
                answer = answer_of(response.status)
                reason = "" if answer is Answer.TAKEN else f"answered {response.status}"
                return Outcome(answer, reason, response.headers.get("Retry-After", ""))
        except TimeoutError:
            return Outcome(Answer.AGAIN, f"did not answer within {self.endpoint.timeout:g} s")
        except (aiohttp.ClientResponseError, aiohttp.InvalidURL) as error:
            # Their text has the whole URL, and many a receiver knows its senders by a part of it.
            return Outcome(Answer.AGAIN, f"does not speak HTTP: {type(error).__name__}")
        except (aiohttp.ClientError, OSError) as error:
            return Outcome(Answer.AGAIN, f"cannot be reached: {error or type(error).__name__}")

    def _headers(self, event_id: str, body: bytes, traceparent: str) -> dict[str, str]:
        # The library reads a time's fields as UTC whatever its zone, so it must be UTC.
        now = datetime.now(UTC)
        signatures = [signer.sign(event_id, now, body.decode()) for signer in self._signers]
        return {
            "Content-Type": CONTENT_TYPE,
            "User-Agent": "tidegate-forwarder",
            "webhook-id": event_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signatures),
            **({"traceparent": traceparent} if traceparent else {}),
        }
