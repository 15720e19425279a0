"""Tokens of an identity provider: its keys are had from a real server, and nothing else makes a token good."""

import asyncio
import base64
import contextlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from haulyard_chassis.identity import (
    JOBS_READ,
    InvalidTokenError,
    KeysUnavailableError,
    Principal,
    SecretVerifier,
    Tickets,
    mint_token,
)
from haulyard_chassis.jwks import JwksVerifier, make_verifier, read_keys
from haulyard_chassis.settings import ClientFacingSettings

ISSUER, AUDIENCE = "https://id.example", "haulyard"
RSA, RSA_2 = (rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))
SMALL_RSA = rsa.generate_private_key(public_exponent=65537, key_size=1024)
EC, ED = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
EC_384 = ec.generate_private_key(ec.SECP384R1())
_ALGORITHMS: dict[str, Any] = {
    "RS256": jwt.algorithms.RSAAlgorithm,
    "ES256": jwt.algorithms.ECAlgorithm,
    "ES384": jwt.algorithms.ECAlgorithm,
    "EdDSA": jwt.algorithms.OKPAlgorithm,
}


def public(key: Any, algorithm: str, kid: str | None = None, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_ALGORITHMS[algorithm].to_jwk(key.public_key()))
    found.pop("key_ops", None)
    return found | ({"kid": kid} if kid is not None else {}) | more


ALL_KEYS = [public(RSA, "RS256", "rsa"), public(EC, "ES256", "ec"), public(ED, "EdDSA", "ed")]


def token(key: Any = RSA, algorithm: str = "RS256", kid: Any = "rsa", *, head: Any = None, **claims: Any) -> str:
    given = {"sub": "alice", "exp": int(time.time()) + 60, "iss": ISSUER, "aud": AUDIENCE, "scope": JOBS_READ, **claims}
    headers = {**({"kid": kid} if kid is not None else {}), **(head or {})}
    return jwt.encode(
        {name: value for name, value in given.items() if value is not None}, key, algorithm=algorithm, headers=headers
    )


def forged(header: dict[str, Any], sign_with: bytes = b"") -> str:
    """A token that an attacker puts together by hand, signed with HMAC or not at all."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    claims = {"sub": "alice", "exp": int(time.time()) + 60, "iss": ISSUER, "aud": AUDIENCE}
    signed = f"{part(json.dumps(header).encode())}.{part(json.dumps(claims).encode())}"
    return f"{signed}.{part(hmac.digest(sign_with, signed.encode(), 'sha256') if sign_with else b'')}"


RSA_PEM, RSA_DER = (
    RSA.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    for encoding in (serialization.Encoding.PEM, serialization.Encoding.DER)
)


@dataclass
class Provider:
    """An identity provider, of which a test says what it answers."""

    keys: list[Any] = field(default_factory=lambda: list(ALL_KEYS))
    status: int = 200
    body: bytes | None = None
    asked: int = 0
    url: str = ""
    held: asyncio.Event | None = None
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.BaseRequest) -> web.Response:
        self.asked += 1
        self.reached.set()
        if self.held is not None:
            await self.held.wait()
        body = self.body if self.body is not None else json.dumps({"keys": self.keys}).encode()
        return web.Response(status=self.status, body=body, headers={"Location": "/elsewhere"})


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    found = Provider()
    runner = web.ServerRunner(web.Server(found.answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/keys"
    yield found
    await runner.cleanup()


@dataclass
class Clock:
    """Time that a test moves on."""

    now: float = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def verifier(provider: Provider, clock: Clock) -> AsyncIterator[JwksVerifier]:
    made = JwksVerifier(provider.url, issuer=ISSUER, audience=AUDIENCE, max_age=300.0, pause=10.0, clock=clock)
    yield made
    await made.close()


async def user_of(verifier: JwksVerifier, bearer: str) -> str:
    async with asyncio.timeout(10):
        return (await verifier.verify_header(f"Bearer {bearer}")).user_id


@pytest.mark.parametrize(("key", "algorithm", "kid"), [(RSA, "RS256", "rsa"), (EC, "ES256", "ec"), (ED, "EdDSA", "ed")])
async def test_a_token_of_the_provider_is_good(verifier: JwksVerifier, key: Any, algorithm: str, kid: str) -> None:
    header = f"Bearer {token(key, algorithm, kid)}"
    assert await verifier.verify_header(header) == Principal("alice", frozenset({JOBS_READ}))


async def test_a_token_that_names_no_scope_grants_nothing(verifier: JwksVerifier) -> None:
    """That somebody has a token is no sign that they may use us. Clocks may differ a little."""
    found = await verifier.verify_header(f"Bearer {token(scope=None, nbf=int(time.time()) + 2)}")
    assert found == Principal("alice", frozenset())


ATTACKS = {
    "none": forged({"alg": "none", "kid": "rsa"}),
    "None": forged({"alg": "NonE", "kid": "rsa"}),
    "no algorithm": forged({"kid": "rsa"}),
    "an algorithm that is a list": forged({"alg": ["RS256"], "kid": "rsa"}),
    "the public key as a shared secret (PEM)": forged({"alg": "HS256", "kid": "rsa"}, RSA_PEM),
    "the public key as a shared secret (PEM without its last line break)": forged(
        {"alg": "HS256", "kid": "rsa"}, RSA_PEM.strip()
    ),
    "the public key as a shared secret (DER)": forged({"alg": "HS256", "kid": "rsa"}, RSA_DER),
    "the key's modulus as a shared secret": forged({"alg": "HS256", "kid": "rsa"}, ALL_KEYS[0]["n"].encode()),
    "an empty shared secret": forged({"alg": "HS256", "kid": "rsa"}, b"\0"),
    "another algorithm of the same key (RS512)": token(algorithm="RS512"),
    "another algorithm of the same key (PS256)": token(algorithm="PS256"),
    "another's key": token(RSA_2),
    "one key's id, another's signature": token(EC, "ES256", "rsa"),
    "the reverse": token(RSA, "RS256", "ec"),
    "no key id": token(kid=None),
    "an empty key id": token(kid=""),
    "a key id that is no string": forged({"alg": "RS256", "kid": ["rsa"]}),
    "a key id that is an object": forged({"alg": "RS256", "kid": {"a": "rsa"}}),
    "a key id that is a path": token(kid="../../../../dev/null"),
    "a key id that is a URL": token(kid="https://evil.example/keys"),
    "a key id that is SQL": token(kid="rsa' UNION SELECT 'secret"),
    "a key id that is a command": token(kid="rsa;id"),
    "a key id with a NUL": token(kid="rsa\x00"),
    "a key of its own (jwk)": token(RSA_2, kid="mine", head={"jwk": public(RSA_2, "RS256", "mine")}),
    "a set of its own (jku)": token(RSA_2, kid="mine", head={"jku": "https://evil.example/keys"}),
    "a certificate of its own (x5u, x5c)": token(RSA_2, head={"x5u": "https://evil.example/c", "x5c": ["MII"]}),
    "a critical extension": token(head={"crit": ["x"], "x": 1}),
    "a logout token": token(head={"typ": "logout+jwt"}),
    "expired": token(exp=int(time.time()) - 60),
    "without expiry": token(exp=None),
    "not yet valid": token(nbf=int(time.time()) + 60),
    "issued in the future": token(iat=int(time.time()) + 60),
    "another issuer": token(iss="https://evil.example"),
    "an issuer that begins alike": token(iss=f"{ISSUER}.evil.example"),
    "a list of issuers": token(iss=None, head=None, **{"iss ": ISSUER}),
    "without issuer": token(iss=None),
    "another audience": token(aud="another-service"),
    "without audience": token(aud=None),
    "an audience that begins alike": token(aud=f"{AUDIENCE}-admin"),
    "without subject": token(sub=None),
    "an empty subject": token(sub=""),
    "huge": token(pad="x" * 10_000),
    "the signature cut off": token().rpartition(".")[0] + ".",
    "another payload": ".".join(
        [token().split(".")[0], token(EC, "ES256", "ec", sub="mallory").split(".")[1], token().split(".")[2]]
    ),
    "a ticket": Tickets("t" * 32).issue("job_1", "alice", ttl_seconds=60),
    "a token of the shared secret": mint_token("s" * 32, "alice"),
    "five parts, as if encrypted": "a.b.c.d.e",
}


@pytest.mark.parametrize("attack", ATTACKS)
async def test_an_attack_is_refused(verifier: JwksVerifier, attack: str) -> None:
    with pytest.raises(InvalidTokenError):
        await user_of(verifier, ATTACKS[attack])


async def test_keys_are_fetched_once_however_many_ask(verifier: JwksVerifier, provider: Provider) -> None:
    assert set(await asyncio.gather(*(user_of(verifier, token()) for _ in range(50)))) == {"alice"}
    assert provider.asked == 1


async def test_a_new_key_is_known_when_its_first_token_comes(
    verifier: JwksVerifier, provider: Provider, clock: Clock
) -> None:
    await user_of(verifier, token())
    provider.keys.append(public(RSA_2, "RS256", "new"))
    clock.now += 11
    assert await user_of(verifier, token(RSA_2, kid="new")) == "alice"
    assert provider.asked == 2


async def test_made_up_keys_cause_few_fetches(verifier: JwksVerifier, provider: Provider, clock: Clock) -> None:
    await user_of(verifier, token())
    for number in range(50):
        with pytest.raises(InvalidTokenError, match="not known"):
            await user_of(verifier, token(kid=f"made-up-{number}"))
    assert provider.asked == 1
    clock.now += 11
    for number in range(50):
        with pytest.raises(InvalidTokenError, match="not known"):
            await user_of(verifier, token(kid=f"made-up-{number}"))
    assert provider.asked == 2


async def test_a_key_that_was_withdrawn_is_good_no_longer(
    verifier: JwksVerifier, provider: Provider, clock: Clock
) -> None:
    await user_of(verifier, token())
    provider.keys = [public(EC, "ES256", "ec")]
    clock.now += 301
    await user_of(verifier, token())  # the last one: it starts the fetch
    assert verifier._fetching is not None
    await verifier._fetching
    with pytest.raises(InvalidTokenError):
        await user_of(verifier, token())
    assert await user_of(verifier, token(EC, "ES256", "ec")) == "alice"


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, None), (302, None), (200, b"<html>"), (200, b'{"keys": []}'), (200, b"[" * 5_000), (200, b" " * 300_000)],
)
async def test_the_last_good_keys_count_while_the_provider_talks_nonsense(
    verifier: JwksVerifier, provider: Provider, clock: Clock, status: int, body: bytes | None
) -> None:
    await user_of(verifier, token())
    provider.status, provider.body = status, body
    for _ in range(3):
        clock.now += 1_000
        assert await user_of(verifier, token()) == "alice"
        assert verifier._fetching is not None
        await verifier._fetching
    assert provider.asked == 4


async def test_without_any_keys_nobody_is_refused_and_nobody_let_in(
    verifier: JwksVerifier, provider: Provider, clock: Clock
) -> None:
    provider.status = 503
    for _ in range(5):
        with pytest.raises(KeysUnavailableError):
            await user_of(verifier, token())
    assert provider.asked == 1
    provider.status = 200
    clock.now += 2
    assert await user_of(verifier, token()) == "alice"


async def test_a_caller_who_leaves_does_not_break_the_fetch_for_others(
    verifier: JwksVerifier, provider: Provider
) -> None:
    provider.held = asyncio.Event()
    first, second = (asyncio.create_task(user_of(verifier, token())) for _ in range(2))
    await provider.reached.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    provider.held.set()
    assert await second == "alice"


async def test_closing_ends_a_fetch(provider: Provider) -> None:
    provider.held = asyncio.Event()
    verifier = JwksVerifier(provider.url, issuer=ISSUER, audience=AUDIENCE)
    waiting = asyncio.create_task(user_of(verifier, token()))
    await provider.reached.wait()
    waiting.cancel()
    await asyncio.wait([waiting])
    await verifier.close()
    provider.held.set()
    assert verifier._session is not None
    assert verifier._session.closed


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param({"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0", "kid": "k"}, id="a shared secret"),
        pytest.param(public(RSA, "RS256", "k", use="enc"), id="for encryption"),
        pytest.param(public(RSA, "RS256", "k", key_ops=["encrypt"]), id="for other operations"),
        pytest.param(public(RSA, "RS256", "k", alg="RS512"), id="another algorithm"),
        pytest.param(public(RSA, "RS256", "k", alg="HS256"), id="a shared secret's algorithm"),
        pytest.param(public(SMALL_RSA, "RS256", "k"), id="too short"),
        pytest.param(public(EC_384, "ES384", "k"), id="another curve"),
        pytest.param(public(EC, "ES256", "k", crv="P-384"), id="a curve that it is not on"),
        pytest.param(public(EC, "ES256", "k", x="AAAA"), id="not on its curve"),
        pytest.param({"kty": "RSA", "kid": "k"}, id="without numbers"),
        pytest.param({"kty": ["RSA"], "kid": "k"}, id="kty is a list"),
        pytest.param(public(RSA, "RS256", "k", n=7), id="a modulus that is no string"),
        pytest.param(public(RSA, "RS256", "k") | {"kid": 7}, id="kid is a number"),
        pytest.param("rsa", id="a string"),
        pytest.param(None, id="null"),
    ],
)
def test_a_key_that_cannot_be_used_is_left_out(entry: Any) -> None:
    good = public(ED, "EdDSA", "ed", use="sig", alg="EdDSA", key_ops=["verify"])
    assert set(read_keys(json.dumps({"keys": [entry, good]}).encode())) == {"ed"}
    with pytest.raises(ValueError, match="none of the keys"):
        read_keys(json.dumps({"keys": [entry]}).encode())


def test_a_published_private_key_is_only_used_as_what_it_should_have_been() -> None:
    leaked = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(RSA)) | {"kid": "k"}
    leaked.pop("key_ops")
    assert not hasattr(read_keys(json.dumps({"keys": [leaked]}).encode())["k"].key, "sign")


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b"{}", b'{"keys": {}}', b"\xff", b'{"keys": [' + b"{}," * 200 + b"{}]}"]
)
def test_what_is_no_set_of_keys_is_an_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="key"):
        read_keys(data)


async def test_a_single_key_needs_no_id(verifier: JwksVerifier, provider: Provider) -> None:
    provider.keys = [public(RSA, "RS256")]
    assert await user_of(verifier, token(kid=None)) == "alice"
    with pytest.raises(InvalidTokenError):
        await user_of(verifier, token(kid="rsa"))


NEEDED = {
    "nats_url": "nats://x",
    "postgres_dsn": "x",
    "redis_url": "x",
    "s3_endpoint": "http://x",
    "s3_access_key": "k",
    "s3_secret_key": "s",
    "ticket_secret": "t" * 32,
}
PROVIDED = {"jwks_url": "https://id.example/keys", "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE}


async def test_settings_say_who_verifies() -> None:
    by_secret = make_verifier(ClientFacingSettings.model_validate(NEEDED | {"jwt_secret": "j" * 32}))
    by_keys = make_verifier(ClientFacingSettings.model_validate(NEEDED | PROVIDED))
    assert isinstance(by_secret, SecretVerifier)
    assert isinstance(by_keys, JwksVerifier)
    assert (await by_secret.verify_header(f"Bearer {mint_token('j' * 32, 'alice')}")).user_id == "alice"
    await by_secret.close()
    await by_keys.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        PROVIDED | {"jwt_secret": "j" * 32},
        PROVIDED | {"jwt_issuer": None},
        PROVIDED | {"jwt_audience": ""},
        PROVIDED | {"jwks_url": "http://id.example/keys"},
        PROVIDED | {"jwks_url": "file:///etc/keys", "environment": "development"},
        PROVIDED | {"jwks_url": "https:"},
    ],
)
def test_there_is_one_way_to_sign_and_it_is_complete(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="HAULYARD_J"):
        ClientFacingSettings.model_validate(NEEDED | wrong)


def test_in_development_the_provider_may_be_here() -> None:
    given = NEEDED | PROVIDED | {"jwks_url": "http://127.0.0.1:8080/keys", "environment": "development"}
    assert ClientFacingSettings.model_validate(given).jwks_url == "http://127.0.0.1:8080/keys"


@given(
    st.text(max_size=200) | st.binary(max_size=200).map(lambda data: base64.urlsafe_b64encode(data).decode() + ".e30.")
)
def test_whatever_is_sent_is_no_more_than_an_invalid_token(text: str) -> None:
    header = token().partition(".")[0]
    for given_token in (text, f"{header}.{text}.{text}", f"{text}.{header}.x"):
        with pytest.raises(InvalidTokenError):
            SecretVerifier("s" * 32).verify(given_token)


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.text(max_size=10)
        | st.sampled_from(["RSA", "EC", "P-256", "OKP"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["keys", "kty", "crv", "kid", "alg", "use", "n", "e", "x", "y"]), inner)
        ),
        max_leaves=20,
    )
)
def test_whatever_a_provider_publishes_is_keys_or_an_error(document: Any) -> None:
    for published in (document, {"keys": document}, {"keys": [document]}):
        with contextlib.suppress(ValueError):
            assert read_keys(json.dumps(published).encode())
