"""Streams are made once and the same for all; a publish is either safe in its stream or an error."""

import asyncio
import secrets
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext

from haulyard_chassis.broker import (
    AlreadyPendingError,
    BrokerUnavailableError,
    MessageTooLargeError,
    Publisher,
    TopologyError,
    connect_broker,
    ensure_consumer,
    ensure_stream,
    ensure_topology,
)
from haulyard_chassis.settings import ServiceSettings
from haulyard_contracts import JobAction, JobControl, Retention, Topology
from haulyard_devstack import Infra

CANCEL = JobControl(job_id="job_1", action=JobAction.CANCEL, requested_at=datetime(2026, 11, 24, tzinfo=UTC))


async def test_streams_may_be_made_twice_and_by_all_at_once(client: Client, topology: Topology) -> None:
    await asyncio.gather(*(ensure_topology(client, topology, replicas=1) for _ in range(5)))


async def test_a_stream_that_exists_is_brought_up_to_date(stream: JetStreamContext, topology: Topology) -> None:
    await ensure_stream(stream, replace(topology.events, max_age=60.0, duplicate_window=30.0), replicas=1)
    config = (await stream.stream_info(topology.events.name)).config
    assert (config.max_age, config.duplicate_window) == (60.0, 30.0)


async def test_a_stream_with_another_retention_is_a_topology_error(
    stream: JetStreamContext, topology: Topology
) -> None:
    with pytest.raises(TopologyError, match=topology.jobs.name):
        await ensure_stream(stream, replace(topology.jobs, retention=Retention.LIMITS), replicas=1)


async def test_more_replicas_than_servers_are_refused_in_words(client: Client) -> None:
    with pytest.raises(TopologyError, match="HAULYARD_NATS_REPLICAS"):
        await ensure_topology(client, Topology(f"t{secrets.token_hex(6)}"), replicas=3)


async def test_a_consumer_that_exists_is_brought_up_to_date(stream: JetStreamContext, topology: Topology) -> None:
    spec = topology.results_consumer
    await ensure_consumer(stream, spec)
    await ensure_consumer(stream, spec)
    await ensure_consumer(stream, replace(spec, ack_wait=3.0, max_ack_pending=7))
    config = (await stream.consumer_info(spec.stream, spec.durable)).config
    assert (config.ack_wait, config.max_ack_pending, config.max_deliver) == (3.0, 7, -1)


async def test_all_consumers_can_be_made_together(stream: JetStreamContext, topology: Topology) -> None:
    """The broker refuses consumers of a work queue that overlap."""
    for spec in (
        topology.requests_consumer,
        topology.control_consumer,
        topology.results_consumer,
        topology.webhooks_consumer,
        *topology.task_lanes,
    ):
        await ensure_consumer(stream, spec)


async def test_a_message_is_stored_with_its_headers(
    publisher: Publisher, stream: JetStreamContext, topology: Topology
) -> None:
    await publisher.publish(topology.result("job_1"), CANCEL, message_id="m1", headers={"traceparent": "t"})
    stored = await stream.get_last_msg(topology.results.name, topology.result("job_1"))
    assert stored.data is not None
    assert b'"job_control.v1"' in stored.data
    assert stored.headers == {"Nats-Msg-Id": "m1", "traceparent": "t"}


async def test_the_same_message_twice_is_stored_once(
    publisher: Publisher, stream: JetStreamContext, topology: Topology
) -> None:
    for _ in range(3):
        await publisher.publish(topology.result("job_1"), CANCEL, message_id="m1")
    await publisher.publish(topology.result("job_1"), CANCEL, message_id="m2")
    assert (await stream.stream_info(topology.results.name)).state.messages == 2


async def test_the_callers_headers_are_not_changed(publisher: Publisher, topology: Topology) -> None:
    headers = {"traceparent": "t"}
    await publisher.publish(topology.result("job_1"), CANCEL, message_id="m1", headers=headers)
    assert headers == {"traceparent": "t"}


async def test_a_subject_is_taken_until_its_message_is_acknowledged(
    publisher: Publisher, stream: JetStreamContext, topology: Topology
) -> None:
    subject = topology.job_control("job_1", JobAction.CANCEL)
    await ensure_consumer(stream, topology.control_consumer)
    await publisher.publish(subject, CANCEL, message_id="m1")
    with pytest.raises(AlreadyPendingError, match=subject):
        await publisher.publish(subject, CANCEL, message_id="m2")
    await publisher.publish(topology.job_control("job_2", JobAction.CANCEL), CANCEL, message_id="m3")

    consumer = await stream.pull_subscribe_bind(topology.control_consumer.durable, stream=topology.jobs.name)
    (message, *_) = await consumer.fetch(2, timeout=5)
    with pytest.raises(AlreadyPendingError):
        await publisher.publish(subject, CANCEL, message_id="m4")
    await message.ack_sync()
    await publisher.publish(subject, CANCEL, message_id="m5")


async def test_a_subject_that_no_stream_takes_is_an_error(publisher: Publisher, topology: Topology) -> None:
    with pytest.raises(BrokerUnavailableError):
        await publisher.publish(f"{topology.namespace}.nowhere", CANCEL, message_id="m1")


@pytest.mark.fault
async def test_a_broker_that_is_away_is_unavailable_and_back_when_it_is_back(
    settings: ServiceSettings, topology: Topology, embedded: Infra
) -> None:
    """What was not confirmed is not sent later behind the caller's back."""
    back = asyncio.Event()

    async def on_reconnect() -> None:
        back.set()

    client = await connect_broker(settings, name="test", on_reconnect=on_reconnect)
    await ensure_topology(client, topology, replicas=1)
    publisher = Publisher(client)
    await embedded.stop("nats")
    try:
        with pytest.raises(BrokerUnavailableError):
            await publisher.publish(topology.result("job_1"), CANCEL, message_id="m1")
        with pytest.raises(BrokerUnavailableError):
            await publisher.publish(topology.result("job_1"), CANCEL, message_id="m2")
    finally:
        await embedded.start("nats")
    await asyncio.wait_for(back.wait(), 20)
    await publisher.publish(topology.result("job_1"), CANCEL, message_id="m3")
    stream = client.jetstream()
    last = await stream.get_last_msg(topology.results.name, topology.result("job_1"))
    assert last.headers == {"Nats-Msg-Id": "m3"}
    for spec in topology.streams:
        await stream.delete_stream(spec.name)
    await client.close()


async def test_a_message_that_the_broker_will_never_take_is_not_called_unavailable(
    client: Client, topology: Topology
) -> None:
    too_large = b"x" * (client.max_payload + 1)
    with pytest.raises(MessageTooLargeError, match=str(client.max_payload)):
        await Publisher(client).publish_raw(topology.job_control("job_1", JobAction.CANCEL), too_large, {})
