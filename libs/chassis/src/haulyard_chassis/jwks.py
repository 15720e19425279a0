"""Bearer tokens that an identity provider signs: its public keys are fetched, kept, and renewed when they change.

The algorithm belongs to the key and never to the token, so that no token can choose how it is verified. A key's id is
only ever looked up among the keys that were fetched; ``jku``, ``x5u`` and ``jwk`` in a token's header mean nothing.

Sources: RFC 7517 (JSON Web Key), RFC 8725 (JWT best current practices), sections 3.1 and 3.10.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import aiohttp
import jwt
import msgspec

from haulyard_chassis.identity import (
    InvalidTokenError,
    KeysUnavailableError,
    Principal,
    Rules,
    SecretVerifier,
    Tickets,
    Verifier,
    bearer_token,
    read_claims,
    read_header,
)
from haulyard_chassis.logs import get_logger
from haulyard_chassis.settings import ClientFacingSettings

log = get_logger(__name__)

_LEEWAY = 5.0
_TIMEOUT = 5.0
_MAX_SET = 256 * 1024
_MAX_KEYS = 100
_MIN_RSA_BITS = 2_048
"""RFC 7518, section 3.3."""
_PAUSE_WITHOUT_KEYS = 1.0
"""Seconds between two fetches while there is no key at all."""

# Kind of key -> the only algorithm with which it is used, and the public members of which it consists.
_KINDS = {
    ("RSA", None): ("RS256", ("n", "e")),
    ("EC", "P-256"): ("ES256", ("crv", "x", "y")),
    ("OKP", "Ed25519"): ("EdDSA", ("crv", "x")),
}


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A public key, and the algorithm that belongs to it."""

    algorithm: str
    key: Any


Keys = Mapping[str | None, SigningKey]
"""Keys by their ids; None: the only key of a set that gives it no id."""


def read_keys(data: bytes) -> Keys:
    """Return the keys of a JWK Set that can be used; others are left out, as RFC 7517, section 5, asks.

    Raises:
        ValueError: it is no JWK Set, or has no key that can be used.
    """
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"the keys are not JSON: {error}") from error
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list) or len(listed) > _MAX_KEYS:
        raise ValueError(f"the keys are no JWK Set of up to {_MAX_KEYS} keys")
    found: dict[str | None, SigningKey] = {}
    for entry in listed:
        key = _signing_key(entry) if isinstance(entry, dict) else None
        kid = entry.get("kid") if isinstance(entry, dict) else None
        # Keys without ids can only be told apart if there is one; of two with one id the first counts.
        if key is not None and (isinstance(kid, str) or (kid is None and len(listed) == 1)):
            found.setdefault(kid, key)
    if not found:
        raise ValueError("none of the keys can be used")
    return found


def _signing_key(entry: dict[str, Any]) -> SigningKey | None:
    kind, curve = entry.get("kty"), entry.get("crv")
    if not isinstance(kind, str) or not isinstance(curve, str | None) or (kind, curve) not in _KINDS:
        return None
    algorithm, members = _KINDS[kind, curve]
    operations = entry.get("key_ops", ["verify"])
    if (
        entry.get("alg", algorithm) != algorithm
        or entry.get("use", "sig") != "sig"
        or not isinstance(operations, list)
        or "verify" not in operations
    ):
        return None
    try:
        public = {"kty": kind, **{name: entry[name] for name in members}}
        key = jwt.PyJWK(public, algorithm).key
    except (KeyError, TypeError, ValueError, jwt.PyJWTError) as error:
        log.warning("key is not usable", kid=entry.get("kid"), error=repr(error))
        return None
    return None if kind == "RSA" and key.key_size < _MIN_RSA_BITS else SigningKey(algorithm, key)


class JwksVerifier:
    """Verifies bearer tokens with the keys of an identity provider.

    Keys are fetched when the first token comes, when they are old, and when a token names one that is not known; the
    last, which anybody can cause, at most once in a while. While the provider is away, the last good keys count.

    Args:
        url: of the JWK Set.
        issuer: that tokens must have.
        audience: that tokens must be for.
        max_age: seconds after which keys are fetched again.
        pause: seconds between two fetches for the sake of unknown keys.
        clock: returns seconds that only go forward.
    """

    def __init__(
        self,
        url: str,
        *,
        issuer: str,
        audience: str,
        max_age: float = 300.0,
        pause: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._rules = Rules(issuer=issuer, audience=audience, leeway=_LEEWAY)
        self._max_age = max_age
        self._pause = pause
        self._clock = clock
        self._keys: Keys = {}
        self._tried_at: float | None = None
        self._fetched_at = 0.0
        self._fetching: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None

    async def verify_header(self, authorization: str | None) -> Principal:
        """Return whom an ``Authorization: Bearer …`` header names.

        Raises:
            InvalidTokenError
            KeysUnavailableError: there are no keys.
        """
        token = bearer_token(authorization)
        kid = read_header(token).get("kid")
        key = await self._key(kid)
        return read_claims(token, key.key, key.algorithm, self._rules)

    async def _key(self, kid: object) -> SigningKey:
        if kid is not None and not isinstance(kid, str):
            raise InvalidTokenError("the key id must be a string")
        if kid in self._keys:
            if self._clock() - self._fetched_at > self._max_age:
                self._begin_fetch()  # what is held is good enough for this token
            return self._keys[kid]
        fetching = self._begin_fetch()
        if fetching is not None:
            await asyncio.shield(fetching)  # others may wait for it, too
        if not self._keys:
            raise KeysUnavailableError("the keys of the identity provider cannot be had")
        if kid not in self._keys:
            raise InvalidTokenError("the token is signed with a key that is not known")
        return self._keys[kid]

    def _begin_fetch(self) -> asyncio.Task[None] | None:
        """Return the fetch that is under way, begin one, or return None if it is too early for another."""
        if self._fetching is not None and not self._fetching.done():
            return self._fetching
        pause = self._pause if self._keys else _PAUSE_WITHOUT_KEYS
        if self._tried_at is not None and self._clock() - self._tried_at < pause:
            return None
        self._tried_at = self._clock()
        self._fetching = asyncio.create_task(self._fetch(), name="jwks")
        return self._fetching

    async def _fetch(self) -> None:
        try:
            keys = read_keys(await self._download())
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            log.warning("keys not fetched", url=self._url, held=len(self._keys), error=repr(error))
            return
        if keys.keys() != self._keys.keys():
            log.info("keys fetched", keys=len(keys))
        self._keys, self._fetched_at = keys, self._clock()

    async def _download(self) -> bytes:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=_TIMEOUT), cookie_jar=aiohttp.DummyCookieJar()
            )
        async with self._session.get(self._url, allow_redirects=False) as response:
            if response.status != 200:  # noqa: PLR2004 - OK
                raise ValueError(f"answered {response.status}")
            data = await response.content.read(_MAX_SET + 1)
            while len(data) <= _MAX_SET and (more := await response.content.read(_MAX_SET)):
                data += more
            if len(data) > _MAX_SET:
                raise ValueError(f"more than {_MAX_SET} bytes")
            return data

    async def close(self) -> None:
        """Release connections."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait([self._fetching])
        if self._session is not None:
            await self._session.close()


def make_verifier(settings: ClientFacingSettings) -> Verifier:
    """Return the verifier of an installation: with the identity provider's keys, or with the shared secret."""
    secret, secondary = settings.jwt_secrets
    if secret is not None:
        return SecretVerifier(secret, secondary=secondary, issuer=settings.jwt_issuer, audience=settings.jwt_audience)
    if settings.jwks_url is None or settings.jwt_issuer is None or settings.jwt_audience is None:
        raise ValueError("settings that were not validated")
    return JwksVerifier(
        settings.jwks_url,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
        max_age=settings.jwks_max_age,
        pause=settings.jwks_pause,
    )


def make_tickets(settings: ClientFacingSettings) -> Tickets:
    """Return what issues and verifies an installation's tickets."""
    secret, secondary = settings.ticket_secrets
    return Tickets(secret, secondary=secondary)
