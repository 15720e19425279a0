"""Tokens that are remembered: no longer than they are good, no more than there is room for, and none that is bad."""

import pytest

from haulyard_chassis.identity import USER_SCOPES, InvalidTokenError, Principal, SecretVerifier, mint_token
from haulyard_chassis.remembered import BELIEVED, RememberingVerifier


class Counting:
    """Names the user that the header is, and counts how often it is asked."""

    def __init__(self, *, expires_at: float) -> None:
        self.asked = 0
        self.expires_at = expires_at
        self.closed = False

    async def verify_header(self, authorization: str | None) -> Principal:
        self.asked += 1
        if authorization is None or authorization == "bad":
            raise InvalidTokenError("no")
        return Principal(authorization, USER_SCOPES, self.expires_at)

    async def close(self) -> None:
        self.closed = True


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("expires_at", "good_for"), [(1e9, BELIEVED), (1_005.0, 5.0)])
async def test_one_is_asked_once_while_it_is_believed(expires_at: float, good_for: float) -> None:
    inner, clock = Counting(expires_at=expires_at), Clock()
    verifier = RememberingVerifier(inner, clock=clock)
    for _ in range(3):
        assert (await verifier.verify_header("alice")).user_id == "alice"
    clock.now += good_for - 0.01
    await verifier.verify_header("alice")
    assert inner.asked == 1
    clock.now += 0.01
    await verifier.verify_header("alice")
    assert inner.asked == 2


async def test_a_clock_that_is_set_back_makes_none_good_for_longer() -> None:
    inner, clock = Counting(expires_at=1e9), Clock()
    verifier = RememberingVerifier(inner, clock=clock)
    await verifier.verify_header("alice")
    clock.now -= 3_600
    await verifier.verify_header("alice")
    assert inner.asked == 2


async def test_what_is_refused_is_looked_at_each_time() -> None:
    inner = Counting(expires_at=1e9)
    verifier = RememberingVerifier(inner)
    for header in ("bad", None, "bad"):
        with pytest.raises(InvalidTokenError):
            await verifier.verify_header(header)
    assert inner.asked == 3


async def test_those_not_seen_for_longest_make_room() -> None:
    inner = Counting(expires_at=1e9)
    verifier = RememberingVerifier(inner, most=2, clock=Clock())
    for header in ("alice", "bob", "alice", "carol", "alice"):
        await verifier.verify_header(header)
    assert inner.asked == 3
    await verifier.verify_header("bob")
    assert inner.asked == 4
    await verifier.close()
    assert inner.closed


async def test_a_real_token_expires_when_it_says() -> None:
    clock = Clock()
    verifier = RememberingVerifier(SecretVerifier("s" * 32), clock=clock)
    token = mint_token("s" * 32, "alice", ttl_seconds=3_600)
    principal = await verifier.verify_header(f"Bearer {token}")
    assert principal == Principal("alice", USER_SCOPES)
    assert principal.expires_at != float("inf")
