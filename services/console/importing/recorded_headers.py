"""Which recorded headers a step sends again: those that say what is asked, not those of the browser's connection."""

import re

from services.console.importing.entries import Entry
from shared.contracts.sendable import HEADER_NAME, UNSENDABLE

# Each request needs its own: a new one for each iteration.
SENT_AFRESH = frozenset({"idempotency-key", "x-idempotency-key", "x-request-id", "x-correlation-id"})
# Cookies, the connection, the browser's cache, where it came from, traces: all of one recording only.
_LEFT_OUT = re.compile(
    r"cookie2?|host|content-(length|encoding)|user-agent|connection|keep-alive|te|trailer|transfer-encoding|upgrade"
    r"|upgrade-insecure-requests|accept-encoding|referer|origin|cache-control|pragma|dnt|priority|date|expect|via"
    r"|forwarded|traceparent|tracestate|baggage|b3|sentry-trace|newrelic|save-data|http2-settings|alt-used"
    r"|(sec|proxy|if|access-control|x-b3|x-forwarded|x-tidegate|x-datadog)-.*|:.*"
)


def kept_headers(entry: Entry, afresh: int) -> dict[str, str]:
    """Headers by name as recorded, one sent twice with a comma. ``afresh``: how many steps before have their own id."""
    kept: dict[str, str] = {}
    spelt: dict[str, str] = {}
    for name, value in entry.headers:
        low = name.lower()
        if _LEFT_OUT.fullmatch(low) or not HEADER_NAME.fullmatch(name) or UNSENDABLE.search(value):
            continue
        if low == "content-type" and (not entry.has_body or value.replace(" ", "").lower() in _USUAL_JSON):
            continue
        own = spelt.setdefault(low, name)
        if low in SENT_AFRESH:
            kept[own] = f"${{uuid}}-{afresh + 1}" if afresh else "${uuid}"
        else:
            kept[own] = f"{kept[own]}, {value}" if own in kept else value
    return kept


_USUAL_JSON = ("application/json", "application/json;charset=utf-8")
