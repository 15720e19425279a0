"""JSON from strangers: what is too deep is refused, whatever it is made of."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from haulyard_chassis.json_input import JsonTooDeepError, bounded_json


def nested(depth: int, opening: bytes, closing: bytes) -> bytes:
    return opening * depth + b"1" + closing * depth


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}"), (b'[0,{"a":', b"}]")])
def test_sixteen_levels_are_read_and_no_more(opening: bytes, closing: bytes) -> None:
    per_turn = opening.count(b"[") + opening.count(b"{")
    assert bounded_json(nested(16 // per_turn, opening, closing))
    with pytest.raises(JsonTooDeepError, match="16 levels"):
        bounded_json(nested(17 // per_turn + 1, opening, closing))


@pytest.mark.parametrize("depth", [1_000, 100_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}"), (b"[", b""), (b'{"a":', b"")])
def test_the_very_deep_is_refused_too(depth: int, opening: bytes, closing: bytes) -> None:
    with pytest.raises((JsonTooDeepError, msgspec.DecodeError)):
        bounded_json(nested(depth, opening, closing))


def test_many_brackets_are_not_deep() -> None:
    wide = b"[" + b",".join([b'{"a":["[[[[[[[[[[[[[[[[[["]}'] * 1_000) + b"]"
    assert len(bounded_json(wide)) == 1_000


@pytest.mark.parametrize("data", [b"", b"{", b"[1,]", b"nul", b"'a'"])
def test_what_is_no_json_is_another_error(data: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        bounded_json(data)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=30,
    ),
    st.integers(1, 6),
)
def test_depth_is_what_it_says(value: Any, max_depth: int) -> None:
    def depth(of: Any) -> int:
        inner = list(of.values()) if isinstance(of, dict) else of
        return 1 + max(map(depth, inner), default=0) if isinstance(of, dict | list) else 0

    data = json.dumps(value).encode()
    if depth(value) > max_depth:
        with pytest.raises(JsonTooDeepError):
            bounded_json(data, max_depth=max_depth)
    else:
        assert bounded_json(data, max_depth=max_depth) == value
