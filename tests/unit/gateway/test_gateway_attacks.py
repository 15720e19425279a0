"""Lists of attacks, of which none may get through."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from haulyard_chassis.identity import Purpose, Tickets, mint_token
from haulyard_chassis.uploads import upload_folder
from unit.gateway.conftest import JOB_ID, JWT_SECRET, TICKET_SECRET

if TYPE_CHECKING:
    from litestar import Litestar
    from litestar.testing import AsyncTestClient

    from unit.gateway.conftest import World

    Client = AsyncTestClient[Litestar]

INITIATE = "/v1/download/initiate"


def segment(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


CLAIMS: dict[str, Any] = {"sub": "alice", "exp": 9_999_999_999}
SIGNED = mint_token(JWT_SECRET, "alice")
HEADER, PAYLOAD, SIGNATURE = SIGNED.split(".")
TICKETS = Tickets(TICKET_SECRET)


def signed(claims: dict[str, Any], **headers: Any) -> str:
    return jwt.encode(claims, JWT_SECRET, algorithm="HS256", headers=headers or None)


@pytest.mark.parametrize(
    "token",
    [
        f"{segment({'alg': 'none'})}.{segment(CLAIMS)}.",
        f"{segment({'alg': 'None'})}.{segment(CLAIMS)}.",
        f"{segment({'alg': 'nOnE', 'typ': 'JWT'})}.{segment(CLAIMS)}.{SIGNATURE}",
        f"{segment({})}.{segment(CLAIMS)}.{SIGNATURE}",
        f"{HEADER}.{segment(CLAIMS)}.{SIGNATURE}",
        f"{HEADER}.{PAYLOAD}.",
        f"{HEADER}.{PAYLOAD}",
        f"{HEADER}.{PAYLOAD}.{SIGNATURE[:-4]}AAAA",
        f"{HEADER}.{PAYLOAD}.{SIGNATURE}.{SIGNATURE}",
        jwt.encode(CLAIMS, "x" * 40, algorithm="HS256"),
        jwt.encode(CLAIMS, JWT_SECRET * 2, algorithm="HS512"),
        jwt.encode(CLAIMS, TICKET_SECRET, algorithm="HS256"),
        signed({"sub": "alice", "exp": int(time.time()) - 60}),
        signed({"sub": "alice"}),
        signed({"exp": CLAIMS["exp"]}),
        signed(CLAIMS | {"sub": ""}),
        signed(CLAIMS | {"sub": "a\r\nb"}),
        signed(CLAIMS | {"sub": "x" * 256}),
        signed(CLAIMS | {"nbf": int(time.time()) + 3600}),
        signed(CLAIMS | {"aud": "haulyard:job"}),
        signed(CLAIMS | {"aud": ["other", "haulyard:archive"]}),
        signed(CLAIMS, crit=["x"]),
        signed(CLAIMS, typ="logout+jwt"),
        TICKETS.issue(JOB_ID, "alice", ttl_seconds=60),
        TICKETS.issue(JOB_ID, "alice", ttl_seconds=60, purpose=Purpose.ARCHIVE),
        "A" * 100_000,
        "..",
        "null",
        "%00",
    ],
)
async def test_no_forged_token_is_believed(client: Client, world: World, token: str) -> None:
    world.add_job()
    for method, path in (("GET", f"/v1/jobs/{JOB_ID}/status"), ("POST", INITIATE), ("DELETE", f"/v1/jobs/{JOB_ID}")):
        answer = await client.request(
            method, path, json={"file_ids": [1]}, headers={"Authorization": f"Bearer {token}"}
        )
        assert answer.status_code in (400, 401, 431), token[:80]
    assert world.broker.sent == []


@pytest.mark.parametrize("kid", ["../../../dev/null", "' OR 1=1 --", "/etc/passwd", "|cat /etc/passwd", "a" * 5_000, 7])
async def test_a_key_id_chooses_nothing(client: Client, kid: Any) -> None:
    token = f"{segment({'alg': 'HS256', 'kid': kid, 'jku': 'https://evil.example/keys'})}.{segment(CLAIMS)}."
    answer = await client.get("/v1/jobs", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401


@pytest.mark.parametrize("authorization", ["bearer", "Bearer ", "Token x", "Bearer\t", "Basic " + segment(b"a:b"), ""])
async def test_what_is_no_token_is_none(client: Client, authorization: str) -> None:
    assert (await client.get("/v1/jobs", headers={"Authorization": authorization})).status_code == 401


PRIVATE = [
    "127.0.0.1",
    "127.1",
    "0",
    "0x7f000001",
    "2130706433",
    "017700000001",
    "0177.0.0.1",
    "localhost",
    "LOCALHOST.",
    "a.localhost",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "169.254.169.254",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "[fd00::1]",
    "[fe80::1%25eth0]",
    "[ff02::1]",
    "0.0.0.0",
    "255.255.255.255",
    "224.0.0.1",
    "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460",
    "127\u30020\u30020\u30021",
    "\uff11\uff12\uff17.0.0.1",
]


@pytest.mark.parametrize("host", PRIVATE)
async def test_no_webhook_leads_inside(client: Client, world: World, host: str) -> None:
    for url in (
        f"https://{host}/x",
        f"https://{host}:8443/x",
        f"http://{host}/x",
        f"https://example.com@{host}/",
        f"https://{host}\\@example.com/",
        f"https://example.com#@{host}/",
    ):
        answer = await client.post(INITIATE, json={"file_ids": [1], "webhook_url": url})
        if "#@" in url:  # a fragment is never sent: this leads to example.com
            assert answer.status_code in (202, 400)
            continue
        assert answer.status_code == 400, url
        assert answer.json()["errors"][0]["pointer"] == "#/webhook_url"
    assert all(host not in str(request.webhook_url).partition("#")[0] for _, request, _, _ in world.broker.sent)


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        "file:///etc/passwd",
        "gopher://example.com/",
        "ftp://example.com/",
        "//example.com/x",
        "https:///x",
        "https://",
        "https://example.com/\r\nHost: evil",
        "https://exa\tmple.com/",
        " https://example.com/",
        "https://user:password@example.com/",
        "https://example.com:99999/",
        "https://example.com:0x50/",
        "https://[::1",
        "https://" + "a" * 3000,
    ],
)
async def test_no_odd_url_is_a_webhook(client: Client, url: str) -> None:
    assert (await client.post(INITIATE, json={"file_ids": [1], "webhook_url": url})).status_code == 400


@pytest.mark.parametrize("host", PRIVATE)
async def test_no_source_leads_inside(client: Client, world: World, host: str) -> None:
    for url in (f"https://{host}/x", f"http://{host}/x", f"https://origin.example.com@{host}/x"):
        answer = await client.post("/v1/files", json={"source": url})
        assert answer.status_code == 400, url
    assert world.catalogue.files == {}


@pytest.mark.parametrize(
    "key",
    [
        f"{upload_folder('bob')}x",
        f"/{upload_folder('bob')}x",
        f"./{upload_folder('bob')}x",
        f"a/../{upload_folder('bob')}x",
        f"uploads/../{upload_folder('bob')}x",
        f"uploads//{upload_folder('bob').removeprefix('uploads/')}x",
        f"{upload_folder('alice')}../{upload_folder('bob').removeprefix('uploads/')}x",
        f"{upload_folder('alice').rstrip('/')}x",
        "uploads/",
        "uploads/\x00",
        "a\r\nb",
        "..",
        ".",
        "\u202egpj.exe",
        "x" * 2000,
    ],
)
async def test_no_key_leads_to_anothers_upload(client: Client, world: World, key: str) -> None:
    world.store.put("haulyard-files", f"{upload_folder('bob')}x")
    world.store.put("haulyard-files", key)
    answer = await client.post("/v1/files", json={"source": f"s3://haulyard-files/{key}"})
    assert answer.status_code == 400
    assert world.catalogue.files == {}


@pytest.mark.parametrize(
    "name",
    [
        "a\r\nSet-Cookie: x=1",
        "a\nb",
        "a\x00b",
        "a\x7fb",
        "a\u2028b",
        "a\u202egpj.exe",
        "../../etc/passwd",
        "..\\..\\windows",
        "/etc/passwd",
        "a/b.zip",
        "C:\\x.zip",
        "",
        " ",
        "x" * 300,
        "\ud800",
    ],
)
async def test_no_file_name_gets_into_a_header_or_a_path(client: Client, world: World, name: str) -> None:
    body = json.dumps({"file_ids": [1], "filename": name})
    answer = await client.post(INITIATE, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert world.broker.sent == []


@pytest.mark.parametrize(
    "name", ['a";filename="evil.exe', "a%0d%0aSet-Cookie: x=1", "a;b=c", "<script>", "'; DROP TABLE files; --"]
)
async def test_what_only_looks_like_an_attack_is_a_name(client: Client, world: World, name: str) -> None:
    assert (await client.post(INITIATE, json={"file_ids": [1], "filename": name})).status_code == 202
    assert world.broker.sent[0][1].filename == f"{name}.zip"


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 10_000,
        b'{"a":' * 10_000,
        b'{"file_ids": ' + b"[" * 40 + b"]" * 40 + b"}",
        b'{"file_ids": [1], "file_ids": [2]}',
        b'{"file_ids": [NaN]}',
        b'{"file_ids": [Infinity]}',
        b'{"file_ids": [1e400]}',
        b'{"file_ids": [' + b"9" * 5_000 + b"]}",
        b'{"file_ids": [1.0]}',
        b'{"file_ids": ["1"]}',
        b'{"file_ids": [true]}',
        b'{"file_ids": [1]} {"file_ids": [2]}',
        b'{"file_ids": [1],}',
        b"\xef\xbb\xbf" + b'{"file_ids": [1]}',
        '{"file_ids": [1]}'.encode("utf-16"),
        b'{"file_ids": [1], "__proto__": {"admin": true}}',
        b'{"file_ids": {"$gt": 0}}',
        b'{"file_ids": "1; DROP TABLE files"}',
    ],
)
async def test_no_odd_body_is_read(client: Client, world: World, body: bytes) -> None:
    answer = await client.post(INITIATE, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert answer.json()["type"] == "/problems/invalid-request"
    assert world.broker.sent == []


@pytest.mark.parametrize("path", ["/v1/files", INITIATE, "/v1/download/check", "/v1/download/start"])
async def test_a_body_that_is_too_large_is_not_read(client: Client, path: str) -> None:
    body = b'{"name": "' + b"x" * 2_000_000 + b'"}'
    answer = await client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "job_id", ["*", ">", "job_*", "..%2f..%2fjobs", f"{JOB_ID}%0a", f"{JOB_ID}.>", "%00", "a" * 5_000]
)
async def test_no_job_id_becomes_part_of_a_subject(client: Client, world: World, job_id: str) -> None:
    for method, path in (("GET", "status?wait=1"), ("POST", "cancel"), ("POST", "retry"), ("GET", "download")):
        assert (await client.request(method, f"/v1/jobs/{job_id}/{path}")).status_code == 404
    assert world.broker.sent == []
    assert world.changes.watches.empty()
