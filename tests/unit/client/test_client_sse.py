from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haulyard.live.sse import EventStreamParser, ServerSentEvent

STREAM = (
    '\ufeffretry: 2000\n\n: heartbeat\n\nid: 1\nevent: status_update\ndata: {"a": 1}\n\n'
    "data: two\r\ndata:lines\r\rid: 2\ndata: größe\n\nid: with\0nul\ndata\n\ndata: never finished\n"
).encode()
EVENTS = [
    ServerSentEvent(type="status_update", data='{"a": 1}', id="1"),
    ServerSentEvent(type="message", data="two\nlines", id="1"),
    ServerSentEvent(type="message", data="größe", id="2"),
    ServerSentEvent(type="message", data="", id="2"),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=30))
def test_events_are_the_same_however_the_stream_is_cut(cuts: list[int]) -> None:
    parser = EventStreamParser()
    at = [0, *sorted(cuts), len(STREAM)]
    events = [event for start, end in pairwise(at) for event in parser.feed(STREAM[start:end])]
    assert events == EVENTS


@given(st.lists(st.binary(max_size=40), max_size=10))
def test_no_bytes_break_the_parser(chunks: list[bytes]) -> None:
    parser = EventStreamParser()
    for chunk in chunks:
        parser.feed(chunk)


def test_an_endless_event_is_not_kept_in_memory() -> None:
    for chunk in (b"data: " + b"x" * 60, b"data: " + b"x" * 60 + b"\n"):
        parser = EventStreamParser(limit=100)
        parser.feed(chunk)
        with pytest.raises(ValueError, match="too large"):
            parser.feed(chunk)
