"""Whose fault it is that a file cannot be read."""

from collections.abc import Iterable

import pytest

from haulyard_archiver.reading import PartError, surely
from haulyard_chassis.store import ObjectStore, StoreUnavailableError
from haulyard_contracts import ErrorCode


def unreadable() -> PartError:
    return PartError(ErrorCode.SOURCE_UNAVAILABLE, "a.txt: it could not be read", entry=3)


class Answering(ObjectStore):
    """A store that answers, or not, each time that it is asked."""

    def __init__(self, answers: Iterable[bool]) -> None:
        self._answers = list(answers)

    async def head_bucket(self, bucket: str) -> None:
        assert bucket == "archives"
        if not self._answers.pop(0):
            raise StoreUnavailableError("HEAD: refused")


class Attempts:
    """A task that fails as it is told to, and then does not."""

    def __init__(self, failures: Iterable[PartError]) -> None:
        self._failures = list(failures)
        self.made = 0

    async def __call__(self) -> str:
        self.made += 1
        if self._failures:
            raise self._failures.pop(0)
        return "made"


async def test_a_file_that_alone_cannot_be_read_is_blamed() -> None:
    attempts = Attempts([unreadable()] * 2)
    with pytest.raises(PartError) as caught:
        await surely(attempts, Answering([True, True]), "archives")
    assert (caught.value.code, caught.value.entry) == (ErrorCode.SOURCE_UNAVAILABLE, 3)
    assert attempts.made == 2


@pytest.mark.parametrize("answers", [(False,), (True, False)], ids=["away", "going away"])
async def test_no_file_is_blamed_while_the_store_is_away(answers: tuple[bool, ...]) -> None:
    """Else the job would go on without its files, and be complete."""
    with pytest.raises(PartError) as caught:
        await surely(Attempts([unreadable()] * 2), Answering(answers), "archives")
    assert (caught.value.code, caught.value.entry) == (ErrorCode.STORE_UNAVAILABLE, None)


async def test_no_file_is_blamed_for_what_the_store_did_before_it_came_back() -> None:
    """The store is there again when it is asked, and was not when the file was read."""
    assert await surely(Attempts([unreadable()]), Answering([True]), "archives") == "made"


@pytest.mark.parametrize("code", sorted(set(ErrorCode) - {ErrorCode.SOURCE_UNAVAILABLE}))
async def test_other_errors_stay_what_they_are(code: ErrorCode) -> None:
    error = PartError(code, "because", entry=1)
    attempts = Attempts([error])
    with pytest.raises(PartError) as caught:
        await surely(attempts, Answering([]), "archives")
    assert caught.value is error
    assert attempts.made == 1
