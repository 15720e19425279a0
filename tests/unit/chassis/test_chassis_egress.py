"""Addresses that users name lead to the public internet and nowhere else."""

import socket
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import ResolveResult

from haulyard_chassis.egress import PublicResolver, UnsafeUrlError, check_url, egress_session, is_public


@pytest.mark.parametrize(
    "address",
    ["93.184.216.34", "8.8.8.8", "2606:4700:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808", "2002:808:808::"],
)
def test_a_public_address_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.255.255.254",
        "0.0.0.0",
        "0.1.2.3",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "198.18.0.1",
        "192.0.2.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::7f00:1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "2002:7f00:1::",
        "2002:a9fe:a9fe::",
        "2001:0:4136:e378:8000:63bf:80ff:fffe",
        "2001:0:4136:e378:8000:63bf:f7f7:f7f7",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::7f00:1",
        "fe80::1",
        "fe80::1%eth0",
        "fec0::1",
        "fd00:ec2::254",
        "ff02::1",
        "2001:db8::1",
        "3fff::1",
    ],
)
def test_any_other_address_is_not_however_it_is_wrapped(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com:8443/hook?a=b#c",
        "HTTPS://Example.COM/",
        "https://bücher.example/",
        "https://93.184.216.34/",
        "https://[2606:4700:4700::1111]:443/",
        "https://127.0.0.1.example.com/",
    ],
)
def test_an_absolute_https_url_of_the_internet_is_fine(url: str) -> None:
    check_url(url, allow_private=False)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com",
        "//example.com/",
        "/hook",
        "https:",
        "https://",
        "https:///path",
        "https:example.com",
        "http://example.com/",
        "ftp://example.com/",
        "file:///etc/passwd",
        "gopher://example.com/",
        "javascript:alert(1)",
        "ws://example.com/",
        "https://user@example.com/",
        "https://user:password@example.com/",
        "https://:@example.com/",
        "https://example.com@127.0.0.1/",
        "https://example.com\\@127.0.0.1/",
        "https://127.0.0.1\\.example.com/",
        "https://exam ple.com/",
        "https://example.com/\r\nX-Injected: 1",
        "https://example.com/\x00",
        "https://example.com/\u202e",
        " https://example.com/",
        "https://example.com:99999/",
        "https://example.com:port/",
        "https://[::1/",
        "https://[nonsense]/",
        "https://example.com/" + "a" * 2048,
        "https://localhost/",
        "https://LOCALHOST/",
        "https://localhost./",
        "https://a.localhost/",
        "https://a.localhost./",
        "https://\uff4cocalhost/",
        "https://127.0.0.1/",
        "https://127.0.0.1./",
        "https://127.0.0.1:8443/",
        "https://①②⑦.⓪.⓪.①/",
        "https://127。0。0。1/",
        "https://\uff11\uff16\uff19.254.169.254/latest/meta-data/",
        "https://169.254.169.254/latest/meta-data/",
        "https://10.1.2.3/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:a9fe:a9fe]/",
        "https://[2002:7f00:1::]/",
        "https://[2001:0:4136:e378:8000:63bf:80ff:fffe]/",
        "https://[64:ff9b::7f00:1]/",
        "https://[fe80::1%25eth0]/",
        "https://[fd00:ec2::254]/",
    ],
)
def test_anything_else_is_refused(url: str) -> None:
    with pytest.raises(UnsafeUrlError):
        check_url(url, allow_private=False)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/hook", "http://localhost/", "https://10.0.0.1/"])
def test_in_development_this_machine_may_be_named(url: str) -> None:
    check_url(url, allow_private=True)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "http://u:p@127.0.0.1/", "file:///etc/passwd", "http://a\r\nb/"])
def test_in_development_a_url_is_still_a_plain_web_address(url: str) -> None:
    with pytest.raises(UnsafeUrlError):
        check_url(url, allow_private=True)


def leads_to(monkeypatch: pytest.MonkeyPatch, resolver: PublicResolver, *addresses: str) -> None:
    async def resolve(host: str, port: int = 0, family: int = socket.AF_INET) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)
            for address in addresses
        ]

    monkeypatch.setattr(resolver._inner, "resolve", resolve)


async def test_a_name_that_leads_to_public_addresses_is_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver = PublicResolver()
    leads_to(monkeypatch, resolver, "93.184.216.34", "8.8.8.8")
    assert [found["host"] for found in await resolver.resolve("example.com", 443)] == ["93.184.216.34", "8.8.8.8"]
    await resolver.close()


@pytest.mark.parametrize(
    "private", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fe80::1%2"]
)
async def test_a_name_of_which_one_address_is_private_is_refused(monkeypatch: pytest.MonkeyPatch, private: str) -> None:
    resolver = PublicResolver()
    leads_to(monkeypatch, resolver, "93.184.216.34", private)
    with pytest.raises(UnsafeUrlError, match=r"rebind\.example"):
        await resolver.resolve("rebind.example", 443)
    await resolver.close()


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "①②⑦.⓪.⓪.①",
        "[::1]",
        "[::ffff:7f00:1]",
        "localhost",
    ],
)
async def test_no_way_to_write_this_machine_is_connected_to(host: str) -> None:
    """Even when nobody called `check_url`: a socket for a private address is never opened."""
    taken: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        port = server.getsockname()[1]
        async with egress_session(allow_private=False, timeout=10) as session:
            with pytest.raises((UnsafeUrlError, aiohttp.ClientError)):
                async with session.get(f"http://{host}:{port}/"):
                    taken.append(host)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert not taken


@pytest.mark.parametrize("host", ["127.0.0.1", "①②⑦.⓪.⓪.①", "[::ffff:7f00:1]"])
async def test_an_address_that_needs_no_resolving_is_refused_at_the_socket(host: str) -> None:
    async with egress_session(allow_private=False, timeout=10) as session:
        with pytest.raises(UnsafeUrlError):
            await session.get(f"http://{host}:1/")
