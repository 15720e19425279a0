"""Who is asking: bearer tokens (JWT) for the API, and tickets for one job.

Tokens are signed with a shared secret (here; for development and small installations) or by an identity provider
(`haulyard_chassis.jwks`). What a token must be is the same for both, and said here.

A ticket travels in a URL, because browsers cannot set headers on WebSocket, EventSource and downloads: so it is good
for one job, one purpose, for reading only, and for a short time.

Sources: RFC 7519 (JSON Web Token), RFC 6750 (bearer tokens), RFC 8725 (JWT best current practices), RFC 9068 (access
tokens).
"""

import contextlib
import hmac
import json
import math
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import jwt
import msgspec

JOBS_READ = "jobs:read"
"""See one's jobs, and download their archives."""
JOBS_WRITE = "jobs:write"
"""Ask for archives; cancel, repeat and delete one's jobs."""
FILES_WRITE = "files:write"
"""Add files to the catalogue, and delete one's own."""
ADMIN = "admin"
"""What operators do; implies none of the others."""
SCOPES = frozenset({JOBS_READ, JOBS_WRITE, FILES_WRITE, ADMIN})
"""Every scope that means something here."""
USER_SCOPES = SCOPES - {ADMIN}
"""What a user may who signs in without anything being said about scopes."""


_ALGORITHM = "HS256"
_OUR_AUDIENCES = "haulyard:"
_MAX_USER_ID = 255
_MAX_TOKEN = 8_192
"""Characters of a token; what is larger is not even decoded."""
_TYPES = (None, "jwt", "at+jwt", "application/jwt", "application/at+jwt")
"""Kinds of JWT that are access tokens, or say nothing (RFC 8725, section 3.11)."""
_NOT_A_TOKEN = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)
"""What the library raises: its own errors, and whatever Python thinks of bytes that were made to break it."""


class InvalidTokenError(Exception):
    """The token is missing, malformed, expired, or not signed by whom we trust; the message says which."""


class KeysUnavailableError(Exception):
    """The identity provider's keys could not be fetched, and none are held: nobody can be told from anybody."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking, and what they may do."""

    user_id: str
    scopes: frozenset[str]
    """Of `SCOPES`, those that the token grants."""
    expires_at: float = field(default=math.inf, compare=False)
    """Seconds since 1970 until which the token is good."""


class Verifier(Protocol):
    """Verifies bearer tokens."""

    async def verify_header(self, authorization: str | None) -> Principal:
        """Return whom an ``Authorization: Bearer …`` header names.

        Raises:
            InvalidTokenError
            KeysUnavailableError: the identity provider's keys cannot be had.
        """
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What is asked of a token beyond its signature."""

    issuer: str | None = None
    """None: any."""
    audience: str | None = None
    """None: any but that of tickets."""
    unscoped: frozenset[str] = frozenset()
    """What a token may that says nothing of scopes."""
    leeway: float = 0.0
    """Seconds by which the clock of whoever issued it may differ from ours."""


def mint_token(
    secret: str, user_id: str, ttl_seconds: int = 86_400, *, scopes: Sequence[str] | None = None, **claims: Any
) -> str:
    """Return a bearer token for a user, for development and tests; in production an identity provider does this."""
    now = int(time.time())
    granted = {} if scopes is None else {"scope": " ".join(scopes)}
    made = {"sub": user_id, "iat": now, "exp": now + ttl_seconds, **granted, **claims}
    return jwt.encode(made, secret, algorithm=_ALGORITHM)


def bearer_token(authorization: str | None) -> str:
    """Return the token of an ``Authorization`` header.

    Raises:
        InvalidTokenError
    """
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise InvalidTokenError("an 'Authorization: Bearer <token>' header is needed")
    return token


def read_header(token: str) -> dict[str, Any]:
    """Return the header of a token, of which nothing has been verified yet.

    Raises:
        InvalidTokenError: it is huge, malformed, of a kind that is no access token, or asks for what we do not do.
    """
    if len(token) > _MAX_TOKEN:
        raise InvalidTokenError(f"the token has more than {_MAX_TOKEN} characters")
    try:
        header = _decode_segment(token.partition(".")[0])
    except _NOT_A_TOKEN as error:
        raise InvalidTokenError(f"the header is not readable: {error}") from error
    kind = header.get("typ")
    if (kind.lower() if isinstance(kind, str) else kind) not in _TYPES:
        raise InvalidTokenError("the token is of a kind that grants no access")
    if "crit" in header or "b64" in header:  # RFC 7515, section 4.1.11: what is not understood must be refused
        raise InvalidTokenError("the header has extensions that are not understood")
    return header


def read_claims(token: str, key: Any, algorithm: str, rules: Rules) -> Principal:
    """Return whom a token names, after verifying it.

    Args:
        token: the token; its header has been read by `read_header`.
        key: with which it must be signed.
        algorithm: the only one that belongs to the key; what the token says of it must be the same.
        rules: what is asked of the claims.

    Raises:
        InvalidTokenError
    """
    try:
        claims = jwt.decode(
            token,
            key,
            algorithms=[algorithm],
            issuer=rules.issuer,
            audience=rules.audience,
            leeway=rules.leeway,
            options={"require": ["exp", "sub"], "verify_aud": rules.audience is not None},
        )
        _decode_segment(token.split(".")[1])
    except _NOT_A_TOKEN as error:
        raise InvalidTokenError(str(error)) from error
    audience = claims.get("aud")
    if any(str(one).startswith(_OUR_AUDIENCES) for one in (audience if isinstance(audience, list) else [audience])):
        raise InvalidTokenError("a ticket is no bearer token")
    return Principal(_user_id(claims["sub"]), _scopes(claims, rules.unscoped), float(claims["exp"]))


def _decode_segment(segment: str) -> dict[str, Any]:
    """Return the JSON object of a token's segment; of two members with one name readers may choose differently."""

    def once(members: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(members)
        if len(found) != len(members):
            raise ValueError("a name occurs twice")
        return found

    decoded = json.loads(urlsafe_b64decode(segment + "=" * (-len(segment) % 4)), object_pairs_hook=once)
    if not isinstance(decoded, dict):
        raise ValueError("it is not an object")  # noqa: TRY004 - one kind of error for whatever is malformed
    return decoded


def _encode_segment(values: dict[str, Any]) -> str:
    return _base64url(msgspec.json.encode(values))


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def _user_id(sub: str) -> str:
    if not sub or len(sub) > _MAX_USER_ID or not sub.isprintable():
        raise InvalidTokenError(f"the subject must be 1 to {_MAX_USER_ID} printable characters")
    return sub


def _scopes(claims: dict[str, Any], unscoped: frozenset[str]) -> frozenset[str]:
    """Return the scopes that ``scope`` (RFC 8693, section 4.2) grants, or ``scp``, as some providers call it."""
    name = next((name for name in ("scope", "scp") if name in claims), None)
    if name is None:
        return unscoped
    given = claims[name]
    granted = given.split() if isinstance(given, str) else given
    if not isinstance(granted, list) or not all(isinstance(scope, str) for scope in granted):
        raise InvalidTokenError(f"the claim {name!r} must be a string of scopes")
    return SCOPES.intersection(granted)


def _secrets(secret: str, secondary: str | None) -> tuple[str, ...]:
    """Return the secrets in the order in which they are tried: what is wrong is told of the last, which signs."""
    return (secret,) if secondary is None else (secondary, secret)


class SecretVerifier:
    """Verifies bearer tokens that are signed with a shared secret (HS256 and nothing else).

    Args:
        secret: the secret.
        secondary: another that is as good, while the secret is being changed.
        issuer: that tokens must have; None: any.
        audience: that tokens must be for; None: any.
    """

    def __init__(
        self, secret: str, *, secondary: str | None = None, issuer: str | None = None, audience: str | None = None
    ) -> None:
        self._secrets = _secrets(secret, secondary)
        self._rules = Rules(issuer=issuer, audience=audience, unscoped=USER_SCOPES)

    def verify(self, token: str) -> Principal:
        """Return whom the token names.

        Raises:
            InvalidTokenError
        """
        read_header(token)
        for secret in self._secrets[:-1]:
            with contextlib.suppress(InvalidTokenError):
                return read_claims(token, secret, _ALGORITHM, self._rules)
        return read_claims(token, self._secrets[-1], _ALGORITHM, self._rules)

    async def verify_header(self, authorization: str | None) -> Principal:
        """Return whom an ``Authorization: Bearer …`` header names.

        Raises:
            InvalidTokenError
        """
        return self.verify(bearer_token(authorization))

    async def close(self) -> None:
        """Do nothing: there is no connection."""


class Purpose(StrEnum):
    """What a ticket is good for."""

    FOLLOW = "follow"
    """To see how the job goes: WebSocket and event stream."""
    ARCHIVE = "archive"
    """To download the bytes of its archive."""


_AUDIENCES = {Purpose.FOLLOW: f"{_OUR_AUDIENCES}job", Purpose.ARCHIVE: f"{_OUR_AUDIENCES}archive"}


class Tickets:
    """Issues and verifies tickets.

    Each new job gets two, so they are signed here: the library, which verifies them, takes six times as long to sign.

    Args:
        secret: signs them.
        secondary: those that are signed with this one are good as well, while the secret is being changed.
    """

    def __init__(self, secret: str, *, secondary: str | None = None) -> None:
        self._secret = secret
        self._secrets = _secrets(secret, secondary)
        self._header = f"{_encode_segment({'alg': _ALGORITHM, 'typ': 'JWT'})}."

    def issue(self, job_id: str, user_id: str, *, ttl_seconds: int, purpose: Purpose = Purpose.FOLLOW) -> str:
        """Return a ticket for one job."""
        claims = {
            "sub": user_id,
            "job": job_id,
            "aud": _AUDIENCES[purpose],
            "exp": int(time.time()) + ttl_seconds,
        }
        signed = self._header + _encode_segment(claims)  # RFC 7515, section 7.1
        return f"{signed}.{_base64url(hmac.digest(self._secret.encode(), signed.encode(), 'sha256'))}"

    def verify(self, ticket: str, job_id: str, *, purpose: Purpose = Purpose.FOLLOW) -> str:
        """Return the user to whom the ticket for this job and purpose was issued.

        Raises:
            InvalidTokenError
        """
        if len(ticket) > _MAX_TOKEN:
            raise InvalidTokenError(f"the ticket has more than {_MAX_TOKEN} characters")
        for secret in self._secrets[:-1]:
            with contextlib.suppress(InvalidTokenError):
                return _ticket_user(ticket, secret, job_id, purpose)
        return _ticket_user(ticket, self._secrets[-1], job_id, purpose)


def _ticket_user(ticket: str, secret: str, job_id: str, purpose: Purpose) -> str:
    try:
        claims = jwt.decode(
            ticket,
            secret,
            algorithms=[_ALGORITHM],
            audience=_AUDIENCES[purpose],
            options={"require": ["exp", "sub", "job"], "strict_aud": True},
        )
    except _NOT_A_TOKEN as error:
        raise InvalidTokenError(str(error)) from error
    if claims["job"] != job_id:
        raise InvalidTokenError("the ticket is for another job")
    return str(claims["sub"])
