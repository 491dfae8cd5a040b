"""``subscriber.py`` in plain nats-py: ``python -m examples.subscriber_plain [nats://host:port] [ENVIRONMENT]``."""

import asyncio
import json
import sys

import nats

URL, ENVIRONMENT = [*sys.argv[1:], *("nats://127.0.0.1:4222", "local")[len(sys.argv) - 1 :]]


async def main() -> None:
    client = await nats.connect(URL)
    breaches = await client.jetstream().subscribe(
        f"tidegate.{ENVIRONMENT}.breach.>", stream=f"tidegate-{ENVIRONMENT}-BREACHES", durable="plain", manual_ack=True
    )
    async for message in breaches.messages:
        event = json.loads(message.data)  # unknown fields and types are for newer readers
        print(event["type"], event["data"]["system"], event["data"]["metric"], event["data"]["value"], flush=True)  # noqa: T201
        await message.ack()  # what is not acknowledged comes again


if __name__ == "__main__":
    asyncio.run(main())
