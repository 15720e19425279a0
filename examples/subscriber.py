"""Prints each archive as it is finished, and after a restart those that were finished meanwhile (needs nats-py)."""

import asyncio
import json
import os

import nats


async def main() -> None:
    namespace = os.environ.get("HAULYARD_NAMESPACE", "haulyard")
    connection = await nats.connect(os.environ.get("HAULYARD_NATS_URL", "nats://localhost:4222"))
    subscription = await connection.jetstream().pull_subscribe(
        f"{namespace}.events.v1.*.completed", durable="example-subscriber", stream=f"{namespace.upper()}_EVENTS"
    )
    while True:
        try:
            messages = await subscription.fetch(10, timeout=60)
        except nats.errors.TimeoutError:
            continue
        for message in messages:
            event = json.loads(message.data)
            print((message.headers or {})["ce-id"], event["filename"], event["size_bytes"], flush=True)
            await message.ack()  # from here on it does not come again


asyncio.run(main())
