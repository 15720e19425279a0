"""Who may watch what."""

import pytest

from haulyard_chassis.identity import InvalidTokenError, Purpose, SecretVerifier, Tickets, mint_token
from haulyard_notifier.live.access import Access, Admission, InsufficientScopeError, is_job_id, seen_sequence

SECRET, TICKETS = "s" * 32, "t" * 32


@pytest.fixture
def access() -> Access:
    return Access(SecretVerifier(SECRET), Tickets(TICKETS))


async def test_a_bearer_token_names_the_owner(access: Access) -> None:
    header = f"Bearer {mint_token(SECRET, 'alice')}"
    assert await access.admit("job_1", ticket=None, authorization=header) == Admission("alice", must_own=True)


async def test_a_ticket_is_the_permission(access: Access) -> None:
    ticket = Tickets(TICKETS).issue("job_1", "alice", ttl_seconds=60)
    assert await access.admit("job_1", ticket=ticket, authorization=None) == Admission("alice", must_own=False)


async def test_a_ticket_for_another_job_is_none_whatever_the_header(access: Access) -> None:
    ticket = Tickets(TICKETS).issue("job_2", "alice", ttl_seconds=60)
    with pytest.raises(InvalidTokenError):
        await access.admit("job_1", ticket=ticket, authorization=f"Bearer {mint_token(SECRET, 'alice')}")


async def test_a_ticket_for_the_archive_follows_nothing(access: Access) -> None:
    ticket = Tickets(TICKETS).issue("job_1", "alice", ttl_seconds=60, purpose=Purpose.ARCHIVE)
    with pytest.raises(InvalidTokenError):
        await access.admit("job_1", ticket=ticket, authorization=None)


async def test_a_token_must_grant_reading(access: Access) -> None:
    header = f"Bearer {mint_token(SECRET, 'alice', scopes=['files:write'])}"
    with pytest.raises(InsufficientScopeError, match="jobs:read"):
        await access.admit("job_1", ticket=None, authorization=header)


async def test_without_either_nobody_gets_in(access: Access) -> None:
    with pytest.raises(InvalidTokenError):
        await access.admit("job_1", ticket=None, authorization=None)


@pytest.mark.parametrize("text", ["*", ">", "job.1", "", "job 1", "j" * 51, "jöb", "job_1\n"])
def test_what_means_something_in_a_subject_is_no_job_id(text: str) -> None:
    assert not is_job_id(text)


def test_job_ids_are_job_ids() -> None:
    assert is_job_id("job_01JXYZ0123456789ABCDEFGHJK")


@pytest.mark.parametrize(
    ("candidates", "sequence"),
    [
        ((None, None), 0),
        (("7", "9"), 7),
        ((None, "9"), 9),
        (("x", "9"), 9),
        (("-1",), 0),
        (("²",), 0),
        (("9" * 5000,), 0),
        (("9" * 19,), 2**63 - 1),
    ],
)
def test_the_first_valid_sequence_counts(candidates: tuple[str | None, ...], sequence: int) -> None:
    assert seen_sequence(*candidates) == sequence
