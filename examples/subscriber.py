"""Prints every breach as it opens, worsens and is resolved; what happens while this program is down, it prints later.

    python -m examples.subscriber [nats://host:port] [ENVIRONMENT]

FastStream reads the stream BREACHES by a durable consumer: its place is kept under the name ``printer``, an event is
acknowledged when the handler has returned, and one on which it raised comes again. Fields and types that this program
does not know are for newer ones: it reads what it needs and passes the rest by.
"""

import asyncio
import sys
from typing import Any

from faststream import AckPolicy, FastStream
from faststream.nats import JStream, NatsBroker
from nats.js.api import DeliverPolicy

URL, ENVIRONMENT = [*sys.argv[1:], *("nats://127.0.0.1:4222", "local")[len(sys.argv) - 1 :]]
broker = NatsBroker(URL, logger=None)


@broker.subscriber(
    f"tidegate.{ENVIRONMENT}.breach.>",
    stream=JStream(f"tidegate-{ENVIRONMENT}-BREACHES", declare=False),
    durable="printer",
    deliver_policy=DeliverPolicy.NEW,
    ack_policy=AckPolicy.NACK_ON_ERROR,
)
async def tell(event: dict[str, Any]) -> None:
    breach = event["data"]
    what = event["type"].split(".")[-2]  # opened, escalated, updated, acknowledged, resolved, or what is still to come
    silenced = " (silenced)" if breach.get("silenced_by") else ""
    line = "{system} {metric} = {value:.4g} {unit} (limit {limit:g})".format(**breach)
    print(f"{what:<12} {line}{silenced}", flush=True)  # noqa: T201 - what it is for


if __name__ == "__main__":
    asyncio.run(FastStream(broker, logger=None).run())
