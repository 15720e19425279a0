"""The grammar of an event stream (HTML standard, section 9.2.6): bytes in, in any pieces, events out. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class ServerSentEvent:
    """One event."""

    type: str
    data: str
    id: str
    """The last id that the stream gave, by this event or one before."""


class EventStreamParser:
    """Takes a stream apart.

    Args:
        limit: bytes that an event may have at most.
    """

    def __init__(self, *, limit: int = 1024 * 1024) -> None:
        self._limit = limit
        self._rest = b""
        self._ends_with_cr = False
        self._is_first = True
        self._type = ""
        self._data: list[str] = []
        self._size = 0
        self._id = ""

    def feed(self, chunk: bytes) -> list[ServerSentEvent]:
        """Take the next bytes; return the events that are complete with them.

        Raises:
            ValueError: an event is larger than the limit.
        """
        # A CR ends a line by itself, and together with the LF after it, which may be in the next chunk.
        if self._ends_with_cr and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._ends_with_cr = False
        if chunk.endswith(b"\r"):
            self._ends_with_cr = True
        data = self._rest + chunk
        lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > self._limit:
            raise ValueError("an event of the stream is too large")
        events = []
        for line in lines:
            event = self._take(self._first(line).decode("utf-8", "replace"))
            if event is not None:
                events.append(event)
        return events

    def _first(self, line: bytes) -> bytes:
        """A stream may begin with a byte order mark."""
        if self._is_first:
            self._is_first = False
            return line.removeprefix(b"\xef\xbb\xbf")
        return line

    def _take(self, line: str) -> ServerSentEvent | None:
        if not line:
            return self._dispatch()
        field, _, value = line.partition(":")  # a comment has an empty field
        value = value.removeprefix(" ")
        match field:
            case "event":
                self._type = value
            case "data":
                self._data.append(value)
                self._size += len(value)
                if self._size > self._limit:
                    raise ValueError("an event of the stream is too large")
            case "id" if "\0" not in value:
                self._id = value
        return None

    def _dispatch(self) -> ServerSentEvent | None:
        data, kind = self._data, self._type or "message"
        self._data, self._type, self._size = [], "", 0
        return ServerSentEvent(type=kind, data="\n".join(data), id=self._id) if data else None
