"""Tokens and tickets: what is forged, stale, or meant for something else is refused."""

import base64
import json
import time
from typing import Any

import jwt
import pytest

from haulyard_chassis.identity import InvalidTokenError, Tickets, TokenVerifier, mint_token

SECRET, OTHER = "s" * 64, "o" * 64  # long enough for HS512, which must be refused for its name, not its key
DEEP = base64.urlsafe_b64encode(b"[" * 30_000).decode() + "..x"
VERIFIER, TICKETS = TokenVerifier(SECRET), Tickets(SECRET)


def token(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    given = {"sub": "alice", "exp": int(time.time()) + 60, **claims}
    return jwt.encode({k: v for k, v in given.items() if v is not None}, secret, algorithm=algorithm)


def unsigned(algorithm: str) -> str:
    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part({'sub': 'alice', 'exp': int(time.time()) + 60})}."


def test_a_minted_token_names_its_user() -> None:
    assert VERIFIER.verify(mint_token(SECRET, "alice@example.com")) == "alice@example.com"


def test_a_token_for_another_audience_is_a_token_still() -> None:
    """Identity providers put their own audiences in; only that of tickets is refused."""
    assert VERIFIER.verify(token(aud=["api", "web"])) == "alice"


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(unsigned("none"), id="alg none"),
        pytest.param(unsigned("None"), id="alg None"),
        pytest.param(unsigned("HS256"), id="no signature"),
        pytest.param(token(algorithm="HS512"), id="another algorithm"),
        pytest.param(token(secret=OTHER), id="another secret"),
        pytest.param(token(exp=int(time.time()) - 1), id="expired"),
        pytest.param(token(exp=None), id="without exp"),
        pytest.param(token(exp="soon"), id="exp is no number"),
        pytest.param(token(sub=None), id="without sub"),
        pytest.param(token(nbf=int(time.time()) + 60), id="not yet valid"),
        pytest.param(token(sub=""), id="empty subject"),
        pytest.param(token(sub="a" * 256), id="huge subject"),
        pytest.param(token(sub="a\x00b"), id="NUL in the subject"),
        pytest.param(token(sub="a\nb"), id="line break in the subject"),
        pytest.param(token(sub="a\u202eb"), id="mark of direction in the subject"),
        pytest.param(token(sub="\ud800"), id="half a character in the subject"),
        pytest.param("", id="empty"),
        pytest.param("a.b.c", id="nonsense"),
        pytest.param("é" * 40, id="not ASCII"),
        pytest.param("\ud800.\ud800.\ud800", id="not even Unicode"),
        pytest.param("." * 5000, id="dots"),
        pytest.param(DEEP, id="a header nested too deep"),
        pytest.param(token(exp=float("inf")), id="an expiry beyond all numbers"),
        pytest.param(TICKETS.issue("job_1", "alice", ttl_seconds=60), id="a ticket"),
        pytest.param(token(aud=["haulyard:job", "x"]), id="a ticket among other audiences"),
    ],
)
def test_a_bad_token_is_refused(bad: str) -> None:
    with pytest.raises(InvalidTokenError):
        VERIFIER.verify(bad)


def test_a_subject_may_have_255_characters() -> None:
    assert VERIFIER.verify(token(sub="ä" * 255)) == "ä" * 255


@pytest.mark.parametrize("sub", [7, ["alice"], {"id": "alice"}, True])
def test_a_subject_that_is_no_string_is_refused(sub: object) -> None:
    """Signed by ourselves, or by an identity provider that should know better."""
    key = jwt.PyJWS()
    payload = json.dumps({"sub": sub, "exp": int(time.time()) + 60}).encode()
    with pytest.raises(InvalidTokenError):
        VERIFIER.verify(key.encode(payload, SECRET, algorithm="HS256"))


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_header_names_its_user_whatever_the_case_of_the_scheme(scheme: str) -> None:
    assert VERIFIER.verify_header(f"{scheme} {token()}") == "alice"


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic YTpi", token(), f"Token {token()}"])
def test_a_header_without_a_bearer_token_is_refused(header: str | None) -> None:
    with pytest.raises(InvalidTokenError):
        VERIFIER.verify_header(header)


def test_a_ticket_names_its_user() -> None:
    assert TICKETS.verify(TICKETS.issue("job_1", "alice", ttl_seconds=60), "job_1") == "alice"


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(TICKETS.issue("job_2", "alice", ttl_seconds=60), id="for another job"),
        pytest.param(TICKETS.issue("job_1", "alice", ttl_seconds=-1), id="expired"),
        pytest.param(Tickets(OTHER).issue("job_1", "alice", ttl_seconds=60), id="another secret"),
        pytest.param(token(), id="a bearer token"),
        pytest.param(token(job="job_1"), id="a bearer token that names the job"),
        pytest.param(token(aud="haulyard:job"), id="without a job"),
        pytest.param(token(aud="haulyard:job", job="job_1", exp=None), id="for ever"),
        pytest.param(token(aud="haulyard:job", job="job_1", sub=None), id="for nobody"),
        pytest.param(unsigned("none"), id="alg none"),
        pytest.param("\ud800", id="not even Unicode"),
        pytest.param(DEEP, id="a header nested too deep"),
        pytest.param("", id="empty"),
    ],
)
def test_a_bad_ticket_is_refused(bad: str) -> None:
    with pytest.raises(InvalidTokenError):
        TICKETS.verify(bad, "job_1")
