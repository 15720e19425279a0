"""Who is asking: bearer tokens (JWT) for the API, and tickets for one job's live updates.

A ticket travels in a URL, because browsers cannot set headers on WebSocket and EventSource: so it is good for one
job, for reading only, and for a short time.

Sources: RFC 7519 (JSON Web Token), RFC 6750 (bearer tokens), RFC 8725 (JWT best current practices).
"""

import time

import jwt

_ALGORITHM = "HS256"
_TICKET_AUDIENCE = "haulyard:job"
_MAX_USER_ID = 255
_NOT_A_TOKEN = (jwt.PyJWTError, ValueError, OverflowError, RecursionError)
"""What the library raises: its own errors, and whatever Python thinks of bytes that were made to break it."""

MIN_SECRET = 32
"""Bytes that a secret must have at least (RFC 7518, section 3.2)."""


class InvalidTokenError(Exception):
    """The token is missing, malformed, expired, or not signed by us; the message says which."""


def mint_token(secret: str, user_id: str, ttl_seconds: int = 86_400) -> str:
    """Return a bearer token for a user, for development and tests; in production an identity provider does this."""
    now = int(time.time())
    return jwt.encode({"sub": user_id, "iat": now, "exp": now + ttl_seconds}, secret, algorithm=_ALGORITHM)


class TokenVerifier:
    """Verifies bearer tokens that are signed with a shared secret (HS256 and nothing else)."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def verify(self, token: str) -> str:
        """Return the id of the user whom the token names.

        Raises:
            InvalidTokenError
        """
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=[_ALGORITHM],
                options={"require": ["exp", "sub"], "verify_aud": False},
            )
        except _NOT_A_TOKEN as error:
            raise InvalidTokenError(str(error)) from error
        audience = claims.get("aud")
        if _TICKET_AUDIENCE in (audience if isinstance(audience, list) else [audience]):
            raise InvalidTokenError("a ticket is no bearer token")
        user_id = claims["sub"]
        if not user_id or len(user_id) > _MAX_USER_ID or not user_id.isprintable():
            raise InvalidTokenError(f"the subject must be 1 to {_MAX_USER_ID} printable characters")
        return str(user_id)

    def verify_header(self, authorization: str | None) -> str:
        """Return the user of an ``Authorization: Bearer …`` header.

        Raises:
            InvalidTokenError
        """
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise InvalidTokenError("an 'Authorization: Bearer <token>' header is needed")
        return self.verify(token.strip())


class Tickets:
    """Issues and verifies tickets."""

    def __init__(self, secret: str) -> None:
        self._secret = secret

    def issue(self, job_id: str, user_id: str, *, ttl_seconds: int) -> str:
        """Return a ticket to follow one job."""
        claims = {
            "sub": user_id,
            "job": job_id,
            "aud": _TICKET_AUDIENCE,
            "exp": int(time.time()) + ttl_seconds,
        }
        return jwt.encode(claims, self._secret, algorithm=_ALGORITHM)

    def verify(self, ticket: str, job_id: str) -> str:
        """Return the user to whom the ticket for this job was issued.

        Raises:
            InvalidTokenError
        """
        try:
            claims = jwt.decode(
                ticket,
                self._secret,
                algorithms=[_ALGORITHM],
                audience=_TICKET_AUDIENCE,
                options={"require": ["exp", "sub", "job"]},
            )
        except _NOT_A_TOKEN as error:
            raise InvalidTokenError(str(error)) from error
        if claims["job"] != job_id:
            raise InvalidTokenError("the ticket is for another job")
        return str(claims["sub"])
