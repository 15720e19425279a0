"""Tokens and tickets: what is forged, stale, or meant for something else is refused."""

import base64
import hmac
import itertools
import json
import time
from typing import Any

import jwt
import pytest

from haulyard_chassis.identity import (
    ADMIN,
    FILES_WRITE,
    JOBS_READ,
    JOBS_WRITE,
    USER_SCOPES,
    InvalidTokenError,
    Principal,
    Purpose,
    SecretVerifier,
    Tickets,
    mint_token,
)

SECRET, OTHER = "s" * 64, "o" * 64  # long enough for HS512, which must be refused for its name, not its key
DEEP = base64.urlsafe_b64encode(b"[" * 30_000).decode() + "..x"
VERIFIER, TICKETS = SecretVerifier(SECRET), Tickets(SECRET)


def token(secret: str = SECRET, algorithm: str = "HS256", **claims: Any) -> str:
    given = {"sub": "alice", "exp": int(time.time()) + 60, **claims}
    return jwt.encode({k: v for k, v in given.items() if v is not None}, secret, algorithm=algorithm)


def unsigned(algorithm: str) -> str:
    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    return f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part({'sub': 'alice', 'exp': int(time.time()) + 60})}."


def raw(header: dict[str, Any], payload: bytes = b'{"sub":"alice","exp":9999999999}') -> str:
    """A token that is signed well, whatever is in it."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    signed = f"{part(json.dumps({'alg': 'HS256', **header}).encode())}.{part(payload)}"
    return f"{signed}.{part(hmac.digest(SECRET.encode(), signed.encode(), 'sha256'))}"


def test_a_minted_token_names_its_user() -> None:
    assert VERIFIER.verify(mint_token(SECRET, "alice@example.com")) == Principal("alice@example.com", USER_SCOPES)


def test_a_token_for_another_audience_is_a_token_still() -> None:
    """Identity providers put their own audiences in; only that of tickets is refused."""
    assert VERIFIER.verify(token(aud=["api", "web"])).user_id == "alice"


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
        pytest.param(token(aud="haulyard:archive"), id="the other kind of ticket"),
        pytest.param(token(pad="x" * 8_192), id="huge"),
        pytest.param(token(scope=["jobs:read", 7]), id="scopes that are no strings"),
        pytest.param(token(scope={"jobs:read": True}), id="scopes in an object"),
        pytest.param(token(scp=7), id="scp is a number"),
        pytest.param(raw({}, b'{"sub":"bob","sub":"alice","exp":9999999999}'), id="two subjects"),
        pytest.param(raw({}, b'{"sub":"alice","exp":9999999999,"aud":{"a":1,"a":2}}'), id="two names further in"),
        pytest.param(raw({}, b'["sub"]'), id="claims in a list"),
        pytest.param(raw({"crit": ["exp"], "exp": 1}), id="a critical extension"),
        pytest.param(raw({"b64": False, "crit": ["b64"]}), id="a payload that is not encoded"),
        pytest.param(raw({"typ": "logout+jwt"}), id="another kind of JWT"),
        pytest.param(raw({"typ": "dpop+jwt"}), id="a proof of possession"),
        pytest.param(raw({"typ": 7}), id="a kind that is a number"),
        pytest.param("eyJhbGciOiJub25lIiwiYWxnIjoiSFMyNTYifQ." + token().partition(".")[2], id="two algorithms"),
    ],
)
def test_a_bad_token_is_refused(bad: str) -> None:
    with pytest.raises(InvalidTokenError):
        VERIFIER.verify(bad)


def test_a_subject_may_have_255_characters() -> None:
    assert VERIFIER.verify(token(sub="ä" * 255)).user_id == "ä" * 255


@pytest.mark.parametrize("sub", [7, ["alice"], {"id": "alice"}, True])
def test_a_subject_that_is_no_string_is_refused(sub: object) -> None:
    """Signed by ourselves, or by an identity provider that should know better."""
    key = jwt.PyJWS()
    payload = json.dumps({"sub": sub, "exp": int(time.time()) + 60}).encode()
    with pytest.raises(InvalidTokenError):
        VERIFIER.verify(key.encode(payload, SECRET, algorithm="HS256"))


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({}, {JOBS_READ, JOBS_WRITE, FILES_WRITE}),
        ({"scope": "jobs:read  admin"}, {JOBS_READ, ADMIN}),
        ({"scope": "jobs:read openid profile JOBS:WRITE"}, {JOBS_READ}),
        ({"scope": ""}, set()),
        ({"scope": ["jobs:write", "files:write"]}, {JOBS_WRITE, FILES_WRITE}),
        ({"scp": "jobs:read"}, {JOBS_READ}),
        ({"scp": ["jobs:read"]}, {JOBS_READ}),
        ({"scope": "jobs:read", "scp": ["admin"]}, {JOBS_READ}),
    ],
)
def test_a_token_grants_the_scopes_that_it_names(claims: dict[str, Any], scopes: set[str]) -> None:
    """One that says nothing of scopes is a user's; nobody becomes an admin by saying nothing."""
    assert VERIFIER.verify(token(**claims)).scopes == scopes


def test_a_minted_token_may_have_scopes() -> None:
    assert VERIFIER.verify(mint_token(SECRET, "a", scopes=[ADMIN, JOBS_READ])).scopes == {ADMIN, JOBS_READ}


@pytest.mark.parametrize("kind", ["JWT", "at+jwt", "application/at+jwt", "AT+JWT", None])
def test_a_token_may_say_that_it_is_an_access_token(kind: str | None) -> None:
    assert VERIFIER.verify(raw({"typ": kind} if kind else {})).user_id == "alice"


def test_issuer_and_audience_count_if_they_are_set() -> None:
    verifier = SecretVerifier(SECRET, issuer="https://id.example", audience="haulyard-api")
    good: dict[str, Any] = {"iss": "https://id.example", "aud": ["other", "haulyard-api"]}
    assert verifier.verify(token(**good)).user_id == "alice"
    changes: list[dict[str, Any]] = [{"iss": f"{good['iss']}/"}, {"iss": None}, {"aud": "other"}, {"aud": []}]
    for wrong in (*changes, {"aud": None}):
        with pytest.raises(InvalidTokenError):
            verifier.verify(token(**good | wrong))


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
async def test_a_header_names_its_user_whatever_the_case_of_the_scheme(scheme: str) -> None:
    assert (await VERIFIER.verify_header(f"{scheme} {token()}")).user_id == "alice"


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Basic YTpi", token(), f"Token {token()}", "Bearer " + "x" * 8_193],
)
async def test_a_header_without_a_bearer_token_is_refused(header: str | None) -> None:
    with pytest.raises(InvalidTokenError):
        await VERIFIER.verify_header(header)


@pytest.mark.parametrize("purpose", Purpose)
def test_a_ticket_names_its_user(purpose: Purpose) -> None:
    ticket = TICKETS.issue("job_1", "alice", ttl_seconds=60, purpose=purpose)
    assert TICKETS.verify(ticket, "job_1", purpose=purpose) == "alice"


def test_a_ticket_is_to_follow_unless_something_else_was_said() -> None:
    assert TICKETS.verify(TICKETS.issue("job_1", "alice", ttl_seconds=60), "job_1", purpose=Purpose.FOLLOW) == "alice"


@pytest.mark.parametrize(("issued", "used"), [(Purpose.FOLLOW, Purpose.ARCHIVE), (Purpose.ARCHIVE, Purpose.FOLLOW)])
def test_a_ticket_for_one_purpose_is_none_for_the_other(issued: Purpose, used: Purpose) -> None:
    ticket = TICKETS.issue("job_1", "alice", ttl_seconds=60, purpose=issued)
    with pytest.raises(InvalidTokenError):
        TICKETS.verify(ticket, "job_1", purpose=used)


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
        pytest.param(token(aud=["haulyard:job", "haulyard:archive"], job="job_1"), id="for every purpose"),
        pytest.param(token(aud="haulyard:job", job=["job_1"]), id="for a list of jobs"),
        pytest.param("a" * 8_193, id="huge"),
    ],
)
def test_a_bad_ticket_is_refused(bad: str) -> None:
    with pytest.raises(InvalidTokenError):
        TICKETS.verify(bad, "job_1")


def test_a_secret_is_changed_while_tokens_and_tickets_are_out() -> None:
    """First both are good everywhere, then the new one signs, then the old one goes."""
    old, new = SECRET, OTHER
    rounds = [(old, None), (old, new), (new, old), (new, None)]
    for (secret, secondary), (other, other_secondary) in itertools.pairwise(rounds):
        for (signs, _), (one, another) in itertools.permutations([(secret, secondary), (other, other_secondary)]):
            assert SecretVerifier(one, secondary=another).verify(mint_token(signs, "alice")).user_id == "alice"
            ticket = Tickets(signs).issue("job_1", "alice", ttl_seconds=60)
            assert Tickets(one, secondary=another).verify(ticket, "job_1") == "alice"


def test_what_neither_secret_signed_is_refused() -> None:
    with pytest.raises(InvalidTokenError):
        SecretVerifier(SECRET, secondary=OTHER).verify(mint_token("x" * 32, "alice"))
    with pytest.raises(InvalidTokenError):
        Tickets(SECRET, secondary=OTHER).verify(Tickets("x" * 32).issue("job_1", "alice", ttl_seconds=60), "job_1")
    with pytest.raises(InvalidTokenError):
        Tickets(SECRET, secondary=OTHER).verify(Tickets(OTHER).issue("job_1", "alice", ttl_seconds=60), "job_2")
