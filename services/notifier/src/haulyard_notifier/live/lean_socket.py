"""uvicorn's WebSocket protocol, made to be there ten thousand times.

What a connection needs only until it is accepted is let go then, and what it has for traffic in both directions is
replaced by what suffices for a client that only listens. Nothing of the protocol itself is changed, but for this: a
client that does not read is still told why it is dropped, behind whatever waits for it, and does not stay for ever.
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

_UNSENT = 16_384
"""Bytes that may wait for a client in this process before sending pauses; progress that waits for long is old."""
_LAST_WORDS = 5.0
"""Seconds in which a client may read what waits for it, and why it is dropped."""


class _Mailbox:
    """A queue for one reader, without the four double-ended queues that asyncio's has: 3 KB less."""

    __slots__ = ("_messages", "_reader")

    def __init__(self) -> None:
        self._messages: list[Any] = []
        self._reader: asyncio.Future[None] | None = None

    def put_nowait(self, message: Any) -> None:
        """Add a message."""
        self._messages.append(message)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def empty(self) -> bool:
        """Return whether there is no message."""
        return not self._messages

    async def get(self) -> Any:
        """Return the next message, waiting for it."""
        while not self._messages:
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader
            self._reader = None
        return self._messages.pop(0)


class LeanSocket(WebSocketsSansIOProtocol):
    """One WebSocket; for `haulyard_chassis.serve.serve`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.queue = cast("asyncio.Queue[Any]", _Mailbox())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let little wait in this process."""
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=_UNSENT)

    async def send(self, message: Any) -> None:
        """Send, as ASGI says; a close is written also when nothing else may be, because the client does not read."""
        if message["type"] == "websocket.close" and self.handshake_complete and not self.writable.is_set():
            self._drop(message["code"], message["reason"])
            return
        accepting = not self.handshake_complete
        await super().send(message)
        if accepting and self.handshake_complete:
            self._forget_the_handshake()

    def _drop(self, code: int, reason: str) -> None:
        if self.close_sent or self.disconnected or self.transport.is_closing():
            return
        self.conn.send_close(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.stop_keepalive()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
        self.close_timer = self.loop.call_later(_LAST_WORDS, self.transport.abort)

    def _forget_the_handshake(self) -> None:
        self.request = self.response = None  # type: ignore[assignment] # they are not looked at again
