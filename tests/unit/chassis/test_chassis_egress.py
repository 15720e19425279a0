"""Addresses that users name lead to the public internet and nowhere else."""

import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.abc import ResolveResult
from hypothesis import given
from hypothesis import strategies as st

from haulyard_chassis.egress import (
    LOOPBACK,
    GuardedResolver,
    Networks,
    UnsafeUrlError,
    check_url,
    egress_session,
    is_public,
    parse_networks,
)


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
    check_url(url)


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
        "https://2130706433/",
        "https://017700000001/",
        "https://0x7f000001/",
        "https://0x7f.1/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://127.0.1/",
        "https://0/",
        "https://0x/",
        "https://1.2.3.4.5/",
        "https://example.1/",
        "https://\uff10\uff58\uff17\uff46.1/",
        "https://127.0.0.1%00.example.com/",
        "https://127%2e0%2e0%2e1/",
        "https://[::127.0.0.1]/",
        "https://[::ffff:0:127.0.0.1]/",
        "https://[0:0:0:0:0:ffff:7f00:0001]/",
        "https://[2001:0:7f00:1::]/",
        "https://[64:ff9b::127.0.0.1]/",
        "https://[64:ff9b:1::808:808]/",
        "https://[2002:0a00:0001::1]/",
        "https://[fe80::1%eth0]/",
        "https://[fe80::1%251]/",
        "https://[ff02::1]/",
        "https://[::]/",
        "https://192.168.0.1../",
        "https://example.com\t/",
        "https:\t//127.0.0.1/",
        "https:\\\\127.0.0.1/",
        "https:/\\127.0.0.1/",
        "https://example.com#@127.0.0.1\\/",
        "https://127.0.0.1#@example.com/",
        "https://127.0.0.1?@example.com/",
        "https://example.com:@127.0.0.1/",
        "https://\u2488\u2489/",
    ],
)
def test_anything_else_is_refused(url: str) -> None:
    with pytest.raises(UnsafeUrlError):
        check_url(url)


NETWORKS = parse_networks(("10.1.0.0/16", "fd00:1::/32", *map(str, LOOPBACK)))


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/hook",
        "http://localhost/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "https://10.1.255.1/",
        "http://10.1.0.0:8080/",
        "http://[fd00:1::7]/",
        "http://service.namespace.svc/hook",
        "https://example.com/",
        "https://8.8.8.8/",
    ],
)
def test_a_network_that_is_allowed_may_be_named_and_needs_no_tls(url: str) -> None:
    check_url(url, networks=NETWORKS)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1/",
        "http://u:p@127.0.0.1/",
        "file:///etc/passwd",
        "http://a\r\nb/",
        "http://8.8.8.8/",
        "https://10.2.0.1/",
        "http://0.0.0.0/",
        "http://0/",
        "http://127.1/",
        "http://2130706433/",
        "https://169.254.169.254/",
        "https://[fd00:2::7]/",
        "https://[2002:0a01:0001::]/",
        "https://[64:ff9b::10.1.0.1]/",
        "https://[::10.1.0.1]/",
        "https://[fe80::1%25eth0]/",
    ],
)
def test_all_others_are_as_forbidden_as_before(url: str) -> None:
    with pytest.raises(UnsafeUrlError):
        check_url(url, networks=NETWORKS)


@pytest.mark.parametrize("cidr", ["10.1.0.1/16", "10.0.0.0/33", "everywhere", "10.1", ""])
def test_what_is_no_network_is_an_error(cidr: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_networks([cidr])


def leading_to(address: str) -> Callable[..., Any]:
    """A `socket.getaddrinfo` for which every name has one address."""

    def getaddrinfo(_: str, port: int, *__: Any, **___: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))]

    return getaddrinfo


def leads_to(monkeypatch: pytest.MonkeyPatch, resolver: GuardedResolver, *addresses: str) -> None:
    async def resolve(host: str, port: int = 0, family: int = socket.AF_INET) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)
            for address in addresses
        ]

    monkeypatch.setattr(resolver._inner, "resolve", resolve)


async def test_a_name_that_leads_to_public_addresses_is_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    resolver = GuardedResolver()
    leads_to(monkeypatch, resolver, "93.184.216.34", "8.8.8.8")
    assert [found["host"] for found in await resolver.resolve("example.com", 443)] == ["93.184.216.34", "8.8.8.8"]
    await resolver.close()


@pytest.mark.parametrize(
    "private", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1", "fe80::1%2"]
)
async def test_a_name_of_which_one_address_is_private_is_refused(monkeypatch: pytest.MonkeyPatch, private: str) -> None:
    resolver = GuardedResolver()
    leads_to(monkeypatch, resolver, "93.184.216.34", private)
    with pytest.raises(UnsafeUrlError, match=r"rebind\.example"):
        await resolver.resolve("rebind.example", 443)
    await resolver.close()


@pytest.fixture
def server() -> Iterator[socket.socket]:
    """Listens on this machine, where nobody must come."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(0)
        yield listening
        with pytest.raises(BlockingIOError):
            listening.accept()


@pytest.mark.parametrize("scheme", ["http", "https"])
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
        "localhost.",
    ],
)
async def test_no_way_to_write_this_machine_is_connected_to(server: socket.socket, scheme: str, host: str) -> None:
    """Even when nobody called `check_url`."""
    async with egress_session(timeout=10) as session:
        with pytest.raises(UnsafeUrlError):
            await session.get(f"{scheme}://{host}:{server.getsockname()[1]}/")


@pytest.mark.parametrize("networks", [(), parse_networks(["10.0.0.0/8"])])
async def test_a_name_that_leads_here_is_not_connected_to(
    server: socket.socket, monkeypatch: pytest.MonkeyPatch, networks: Networks
) -> None:
    """Rebinding: the text of the URL says nothing, only the address does."""
    monkeypatch.setattr(socket, "getaddrinfo", leading_to("127.0.0.1"))
    async with egress_session(networks=networks, timeout=10) as session:
        with pytest.raises(UnsafeUrlError, match=r"rebind\.example leads"):
            await session.get(f"https://rebind.example:{server.getsockname()[1]}/")


async def test_the_socket_is_opened_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even a resolver that says one thing and a socket that would be opened to another come to nothing."""
    async with egress_session(timeout=10) as session:
        assert isinstance(session.connector, aiohttp.TCPConnector)
        monkeypatch.setattr(session.connector._resolver, "_networks", LOOPBACK)
        monkeypatch.setattr(socket, "getaddrinfo", leading_to("127.0.0.1"))
        with pytest.raises(UnsafeUrlError, match="not public"):
            await session.get("https://rebind.example:1/")


async def test_without_tls_a_name_must_lead_to_an_allowed_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", leading_to("93.184.216.34"))
    async with egress_session(networks=LOOPBACK, timeout=10) as session:
        with pytest.raises(UnsafeUrlError, match="without https"):
            await session.get("http://example.com:1/")


@pytest.fixture
async def origin() -> AsyncIterator[str]:
    """Redirects ``/away`` to where it may not lead, and answers elsewhere."""

    async def answer(request: web.BaseRequest) -> web.Response:
        if request.path == "/away":
            return web.Response(status=302, headers={"Location": "http://127.0.0.1:1/", "Set-Cookie": "a=b"})
        return web.json_response(dict(request.headers))

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.mark.parametrize("keep_alive", [False, True])
async def test_an_allowed_network_is_reached_by_name_and_by_address(origin: str, *, keep_alive: bool) -> None:
    async with egress_session(networks=LOOPBACK, timeout=10, keep_alive=keep_alive) as session:
        for url in (origin, origin.replace("127.0.0.1", "localhost"), origin):
            async with session.get(url) as response:
                assert response.status == 200


async def test_a_redirect_is_seen_and_never_followed(origin: str) -> None:
    async with egress_session(networks=LOOPBACK, timeout=10) as session:
        async with session.get(f"{origin}/away", allow_redirects=False) as response:
            assert response.status == 302
        with pytest.raises(UnsafeUrlError, match="redirect"):
            await session.get(f"{origin}/away")
        async with session.get(origin) as response:
            assert "Cookie" not in await response.json()


@given(st.ip_addresses(v=4))
def test_every_form_of_a_private_address_is_as_private(ip: ipaddress.IPv4Address) -> None:
    """Wrapped in IPv6, or in digits that only some readers fold."""
    wide = "".join(chr(ord(digit) + 0xFEE0) if digit.isdigit() else digit for digit in str(ip))
    forms = [
        str(ip),
        wide,
        f"[::ffff:{ip}]",
        f"[64:ff9b::{ip}]",
        f"[{ipaddress.IPv6Address((0x2002 << 112) | (int(ip) << 80))}]",
    ]
    refused = []
    for form in forms:
        try:
            check_url(f"https://{form}/")
        except UnsafeUrlError:
            refused.append(form)
    assert refused == ([] if ip.is_global and not ip.is_multicast else forms)
    for legacy in (str(int(ip)), hex(int(ip)), f"0{int(ip):o}"):
        with pytest.raises(UnsafeUrlError):
            check_url(f"https://{legacy}/")


@given(st.text(max_size=60))
def test_nothing_that_a_user_can_write_is_more_than_an_unsafe_url(text: str) -> None:
    for url in (text, f"https://{text}", f"https://{text}.example/{text}"):
        with contextlib.suppress(UnsafeUrlError):
            check_url(url, networks=LOOPBACK)
