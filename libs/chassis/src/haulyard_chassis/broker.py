"""NATS JetStream: how we connect, create what we need, and publish.

The client library's defaults lose messages (0.5 s publish time-out, 60 reconnect attempts); ours do not.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import nats.errors
import nats.js.errors
from msgspec import Struct
from nats.aio.client import Client
from nats.js import JetStreamContext, api

from haulyard_chassis.logs import get_logger
from haulyard_chassis.settings import ServiceSettings
from haulyard_chassis.tracing import SpanKind, span
from haulyard_contracts import ConsumerSpec, Retention, StreamSpec, Topology, encode

log = get_logger(__name__)

PUBLISH_TIMEOUT = 5.0
"""Seconds to wait for the broker to say that a message is safe."""

_STREAM_NAME_IN_USE = 10058
_REPLICAS_NOT_POSSIBLE = 10074
_MAX_MESSAGES_PER_SUBJECT = 10077

MESSAGE_ID = "Nats-Msg-Id"
TRACEPARENT = "traceparent"


class BrokerUnavailableError(Exception):
    """The broker did not confirm a message in time: it may or may not have it. Publish again with the same id."""


class MessageTooLargeError(Exception):
    """The message is larger than the broker takes (its ``max_payload``): trying again cannot help."""


class AlreadyPendingError(Exception):
    """A message with this subject is still in its stream; the new one was refused, nothing was changed."""


class TopologyError(Exception):
    """The broker cannot have a stream as it should be, or cannot change one that exists."""


def credentials_apart(urls: Sequence[str]) -> dict[str, Any]:
    """Return servers without their user information, and that beside them, as ``nats.connect`` takes them.

    A server tells its clients of the others in its cluster, by address only. The client tries those, too, when it has
    to connect again, with the credentials of its options and not those in the URLs of the servers it was given. Where
    each of these has its own, they stay in the URLs.

    Args:
        urls: servers, each ``nats://user:password@host:port``, ``nats://token@host:port`` or without credentials.
    """
    full = [url if "://" in url else f"nats://{url}" for url in urls]
    parts = [urlsplit(url) for url in full]
    given = {(each.username, each.password) for each in parts}
    if len(given) != 1 or given == {(None, None)}:
        return {"servers": full}
    servers = [each._replace(netloc=each.netloc.rpartition("@")[2]).geturl() for each in parts]
    ((user, password),) = given
    if password is None:
        return {"servers": servers, "token": user}
    return {"servers": servers, "user": user, "password": password}


async def connect_broker(
    settings: ServiceSettings, *, name: str, on_reconnect: Callable[[], Awaitable[None]] | None = None
) -> Client:
    """Connect to NATS, waiting until it is there.

    The client tries to reconnect for ever: a client that gives up spins at 100 % CPU and consumes nothing.

    Args:
        settings: where NATS is.
        name: how NATS lists the connection.
        on_reconnect: called after each time the connection was lost and made again.
    """

    async def disconnected() -> None:
        log.warning("broker disconnected")

    async def reconnected() -> None:
        log.info("broker reconnected")
        if on_reconnect is not None:
            await on_reconnect()

    async def failed(error: Exception) -> None:
        log.warning("broker connection error", error=repr(error))

    return await nats.connect(
        **credentials_apart(settings.nats_url.get_secret_value().split(",")),
        name=name,
        allow_reconnect=True,
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.5,
        connect_timeout=5,
        ping_interval=10,
        max_outstanding_pings=3,
        drain_timeout=5,
        disconnected_cb=disconnected,
        reconnected_cb=reconnected,
        error_cb=failed,
    )


class Publisher:
    """Publishes messages so that they are either safe in their stream or an error is raised."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._stream = client.jetstream(timeout=PUBLISH_TIMEOUT)

    @property
    def is_connected(self) -> bool:
        """Whether it makes sense to publish now."""
        return self._client.is_connected

    async def publish(
        self, subject: str, message: Struct, *, message_id: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """Publish and wait until the broker has stored the message.

        A message whose ``message_id`` the stream saw within its duplicate window is dropped by the broker; that is
        success.

        Raises:
            AlreadyPendingError: the stream takes one message a subject and still holds one.
            MessageTooLargeError: the broker does not take messages of this size.
            BrokerUnavailableError: no confirmation came.
        """
        name = type(message).__name__
        await self.publish_raw(subject, encode(message), {**(headers or {}), MESSAGE_ID: message_id}, name=name)

    async def publish_raw(
        self, subject: str, payload: bytes, headers: dict[str, str], *, name: str = "message"
    ) -> None:
        """Publish bytes; see `publish`.

        Where traces are recorded, what receives the message becomes a part of what publishes it: the message leaves
        with the ``traceparent`` of a span of that trace to which its own belongs.
        """
        with span(
            f"publish {name}",
            kind=SpanKind.PRODUCER,
            parent=headers.get(TRACEPARENT),
            attributes={"messaging.system": "nats", "messaging.message.body.size": len(payload)},
        ) as traced:
            if traced.traceparent is not None:
                traced.set("messaging.destination.name", subject)
                headers = {**headers, TRACEPARENT: traced.traceparent}
            await self._publish(subject, payload, headers)

    async def _publish(self, subject: str, payload: bytes, headers: dict[str, str]) -> None:
        if not self._client.is_connected:
            # The client would keep the message in memory and send it whenever: better to say so now.
            raise BrokerUnavailableError("not connected to the broker")
        if len(payload) > self._client.max_payload:
            raise MessageTooLargeError(f"{subject}: {len(payload)} bytes; NATS takes {self._client.max_payload}")
        try:
            await self._stream.publish(subject, payload, headers=headers, timeout=PUBLISH_TIMEOUT)
        except nats.js.errors.APIError as error:
            if error.err_code == _MAX_MESSAGES_PER_SUBJECT:
                raise AlreadyPendingError(subject) from error
            raise BrokerUnavailableError(f"{subject}: {error.description}") from error
        except (TimeoutError, nats.errors.Error, OSError) as error:
            raise BrokerUnavailableError(f"{subject}: {error!r}") from error


def _stream_config(spec: StreamSpec, *, replicas: int) -> api.StreamConfig:
    return api.StreamConfig(
        name=spec.name,
        subjects=list(spec.subjects),
        retention=api.RetentionPolicy.WORK_QUEUE
        if spec.retention is Retention.WORK_QUEUE
        else api.RetentionPolicy.LIMITS,
        storage=api.StorageType.FILE,
        num_replicas=replicas,
        max_age=spec.max_age,
        max_msgs_per_subject=1 if spec.one_per_subject else -1,
        discard=api.DiscardPolicy.NEW if spec.one_per_subject else api.DiscardPolicy.OLD,
        discard_new_per_subject=spec.one_per_subject,
        duplicate_window=spec.duplicate_window,
        allow_direct=True,
    )


async def ensure_stream(stream: JetStreamContext, spec: StreamSpec, *, replicas: int) -> None:
    """Create the stream, or bring an existing one up to date.

    Raises:
        TopologyError: it exists and differs in what cannot be changed, or is to have more replicas than servers.
    """
    config = _stream_config(spec, replicas=replicas)
    try:
        await stream.add_stream(config)
    except nats.js.errors.APIError as error:
        if error.err_code == _REPLICAS_NOT_POSSIBLE:
            raise TopologyError(
                f"stream {spec.name} cannot have {replicas} replicas on a single server;"
                " set HAULYARD_NATS_REPLICAS to 1, or use a cluster of as many servers"
            ) from error
        if error.err_code != _STREAM_NAME_IN_USE:
            raise
        try:
            await stream.update_stream(config)
        except nats.js.errors.APIError as refused:
            raise TopologyError(f"stream {spec.name} cannot be updated: {refused.description}") from refused


async def ensure_consumer(stream: JetStreamContext, spec: ConsumerSpec) -> None:
    """Create the durable consumer, or bring an existing one up to date."""
    await stream.add_consumer(
        spec.stream,
        api.ConsumerConfig(
            durable_name=spec.durable,
            filter_subjects=list(spec.filters),
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=spec.ack_wait,
            # The receiver counts and moves a message that comes too often to the dead stream itself: the server
            # would only stop delivering it, and it would stay in the stream unseen.
            max_deliver=-1,
            max_ack_pending=spec.max_ack_pending,
        ),
    )


async def ensure_topology(client: Client, topology: Topology, *, replicas: int) -> None:
    """Create or update all streams; safe to run in every replica of every service at once."""
    stream = client.jetstream(timeout=PUBLISH_TIMEOUT)
    for spec in topology.streams:
        await ensure_stream(stream, spec, replicas=replicas)
