"""What an archive is known by: different for whatever differs, the same for what cannot be told apart."""

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from haulyard_zipline import Entry, content_digest

A = Entry("a", 1, 7, 5)
B = Entry("b", 2, None, 6)

described = st.lists(
    st.tuples(
        st.builds(
            Entry,
            name=st.text("a0é", min_size=1, max_size=4),
            size=st.integers(0, 20),
            crc32=st.none(),
            mtime=st.integers(-20, 20),
        ),
        st.binary(max_size=4),
    ),
    max_size=4,
)


def digest(entries: list[tuple[Entry, bytes]]) -> str:
    return content_digest([entry for entry, _ in entries], [identity for _, identity in entries])


@given(described, described)
def test_different_archives_have_different_digests(
    one: list[tuple[Entry, bytes]], other: list[tuple[Entry, bytes]]
) -> None:
    assume(one != other)
    assert digest(one) != digest(other)


@pytest.mark.parametrize(
    "other",
    [
        [(replace(A, name="c"), b"x"), (B, b"y")],
        [(replace(A, size=3), b"x"), (B, b"y")],
        [(replace(A, mtime=3), b"x"), (B, b"y")],
        [(A, b"z"), (B, b"y")],
        [(A, b"xy"), (B, b"")],
        [(B, b"y"), (A, b"x")],
        [(A, b"x")],
        [(A, b"x"), (B, b"y"), (B, b"y")],
        [],
    ],
)
def test_every_field_the_order_and_the_number_matter(other: list[tuple[Entry, bytes]]) -> None:
    assert digest([(A, b"x"), (B, b"y")]) != digest(other)


def test_what_follows_from_the_rest_does_not_matter() -> None:
    assert content_digest([A, B], [b"x", b"y"]) == content_digest(
        [replace(A, crc32=None, packed=1), replace(B, crc32=9)], [b"x", b"y"]
    )


def test_digests_stay_as_they_are_for_archives_that_were_built_before() -> None:
    assert content_digest([A, B], [b"x", b"y"]) == "0258986be3f22afb7a8c3eaae0369d1f467a9f2a2106cea26450ace8b66c6dd4"
    assert content_digest([], []) == "8ff20e658dcf91d208f571fca5ba3f24c63797a850b6b8913c2072962a80ccde"


def test_more_or_fewer_identities_than_entries_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        content_digest([A], [])
