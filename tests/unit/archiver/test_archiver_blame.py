"""Whose fault it is that a file cannot be read."""

import pytest

from haulyard_archiver.reading import PartError, blamed
from haulyard_chassis.store import ObjectStore, StoreUnavailableError
from haulyard_contracts import ErrorCode

UNREADABLE = PartError(ErrorCode.SOURCE_UNAVAILABLE, "a.txt: it could not be read", entry=3)


class Answering(ObjectStore):
    """A store that answers, or not."""

    def __init__(self, *, is_there: bool) -> None:
        self._is_there = is_there
        self.asked: list[str] = []

    async def head_bucket(self, bucket: str) -> None:
        self.asked.append(bucket)
        if not self._is_there:
            raise StoreUnavailableError("HEAD: refused")


async def test_a_file_that_alone_cannot_be_read_is_blamed() -> None:
    assert await blamed(UNREADABLE, Answering(is_there=True), "archives") is UNREADABLE


async def test_no_file_is_blamed_while_the_store_is_away() -> None:
    """Else the job would go on without its files, and be complete."""
    error = await blamed(UNREADABLE, Answering(is_there=False), "archives")
    assert (error.code, error.entry) == (ErrorCode.STORE_UNAVAILABLE, None)


@pytest.mark.parametrize("code", set(ErrorCode) - {ErrorCode.SOURCE_UNAVAILABLE})
async def test_other_errors_stay_what_they_are(code: ErrorCode) -> None:
    error, store = PartError(code, "because", entry=1), Answering(is_there=False)
    assert await blamed(error, store, "archives") is error
    assert store.asked == []
