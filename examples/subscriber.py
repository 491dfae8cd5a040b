"""Prints every breach as it opens, worsens and is resolved: ``python -m examples.subscriber [nats://host:port]``."""

import asyncio
import sys
from typing import Any

from faststream import FastStream
from faststream.nats import NatsBroker

broker = NatsBroker(sys.argv[1] if len(sys.argv) > 1 else "nats://127.0.0.1:4222", logger=None)


# The message carries the reply subject of its publisher, who waits there for the server and not for us.
@broker.subscriber("tidegate.local.breach.>", no_reply=True)
async def tell(event: dict[str, Any]) -> None:
    breach = event["data"]
    sys.stdout.write("{status:9} {system} {metric} = {value:.4g} {unit} (limit {limit:g})\n".format(**breach))
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(FastStream(broker, logger=None).run())
