"""How bytes are told apart: by their tags, and messages from what is none."""

import pytest

from haulyard_contracts import (
    DataPiece,
    DirectoryPiece,
    HeaderPiece,
    InlineSource,
    JobControl,
    Message,
    ObjectSource,
    PartDone,
    PartFailed,
    Piece,
    Source,
    UndecodableMessageError,
    decode,
)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b'{"kind":"object","bucket":"b","key":"k","etag":"e"}', ObjectSource),
        (b'{"kind":"inline","data":""}', InlineSource),
    ],
)
def test_a_source_is_told_by_its_tag(data: bytes, kind: type[Message]) -> None:
    assert type(decode(data, Source)) is kind


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b'{"piece":"header","entry":1}', HeaderPiece),
        (b'{"piece":"data","entry":1,"offset":2,"length":3}', DataPiece),
        (b'{"piece":"directory","offset":2}', DirectoryPiece),
    ],
)
def test_a_piece_is_told_by_its_tag(data: bytes, kind: type[Message]) -> None:
    assert type(decode(data, Piece)) is kind


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b'{"type":"job_control.v2","job_id":"j","action":"cancel","requested_at":"2026-11-24T12:00:00Z"}',
        b'{"type":"job_control.v1","job_id":"j","action":"explode","requested_at":"2026-11-24T12:00:00Z"}',
        b'{"type":"job_control.v1","job_id":"j","action":"cancel","requested_at":"yesterday"}',
        b'{"type":"job_control.v1","job_id":"\xff","action":"cancel","requested_at":"2026-11-24T12:00:00Z"}',
        b'{"type":"\xff"}',
        b'{"x":' + b"[" * 100_000,
    ],
)
def test_what_is_no_message_is_undecodable_whatever_is_wrong_with_it(data: bytes) -> None:
    """Also for what is no UTF-8, or nested too deep: another exception would be tried again."""
    with pytest.raises(UndecodableMessageError):
        decode(data, JobControl)


def test_a_union_without_a_tag_is_undecodable() -> None:
    with pytest.raises(UndecodableMessageError):
        decode(b'{"job_id":"j"}', PartDone | PartFailed)
