"""Requests to addresses that users name: only to the public internet and to networks that an operator allows.

A URL is checked when it is given, and every address again when it is connected to, so that a name which changes its
address in between (DNS rebinding) gains nothing: a socket is opened to the very address that was checked. Redirects
are not followed.

Three gates, because each sees what the one before cannot: the URL as text, the addresses that a name resolves to, and
the address that a socket is about to be opened to. Without TLS only allowed networks are reached.

Source: OWASP Server-Side Request Forgery Prevention Cheat Sheet; IANA special-purpose address registries.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable
from contextvars import ContextVar
from functools import lru_cache
from types import SimpleNamespace
from typing import NoReturn
from urllib.parse import urlsplit

import aiohttp
import yarl
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

MAX_URL = 2048
"""Characters of a URL that a user names."""

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Networks = tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]
"""Networks that may be reached although they are not the public internet."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_DOCUMENTATION = ipaddress.IPv6Network("3fff::/20")  # newer than the table of some Python releases
_LOOPBACK = ipaddress.IPv4Address("127.0.0.1")

# What a browser or `inet_aton` takes for an IPv4 address and Python does not (WHATWG URL, "ends in a number").
_NUMBER = re.compile(r"(?:.*\.)?(?:\d+|0x[0-9a-f]*)")

_plain: ContextVar[bool] = ContextVar("plain", default=True)
"""Whether the request for which a connection is being made goes without TLS."""


class UnsafeUrlError(ValueError):
    """The URL must not be requested; the message says why."""


@lru_cache(maxsize=64)
def _parsed(cidrs: tuple[str, ...]) -> Networks:
    return tuple(ipaddress.ip_network(cidr) for cidr in cidrs)


def parse_networks(cidrs: Iterable[str]) -> Networks:
    """Return the networks that are written as ``10.1.0.0/16`` or ``fd00::/8``.

    Raises:
        ValueError: one is not a network, or has bits set behind its prefix.
    """
    return _parsed(tuple(cidrs))


LOOPBACK = parse_networks(("127.0.0.0/8", "::1/128"))
"""This machine."""


def _address(text: str) -> IPAddress:
    ip = ipaddress.ip_address(text.partition("%")[0])
    return ip.ipv4_mapped or ip if isinstance(ip, ipaddress.IPv6Address) else ip


def _is_public(ip: IPAddress) -> bool:
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return _is_public(inner)
        if ip not in _GLOBAL_UNICAST or ip in _DOCUMENTATION:
            return False
    return ip.is_global and not ip.is_multicast


def is_public(address: str) -> bool:
    """Whether an IP address, however it is wrapped in IPv6, belongs to the public internet."""
    return _is_public(_address(address))


def _is_allowed(ip: IPAddress, networks: Networks) -> bool:
    return any(ip in network for network in networks)


def _may_connect(address: str, networks: Networks, *, plain: bool) -> bool:
    """Whether a connection to an address may be made; False also for what is not an address as Python reads them."""
    try:
        ip = _address(address)
    except ValueError:
        return False
    return _is_allowed(ip, networks) or (not plain and _is_public(ip))


def check_url(url: str, *, networks: Networks = ()) -> None:
    """Check the form of a URL that a user gave.

    Args:
        url: what the user gave.
        networks: may be reached although they are not public, and without TLS; a name is believed to lead there until
            it is connected to.

    Raises:
        UnsafeUrlError: it is no absolute https URL, or names an address that must not be reached.
    """
    scheme, host = _split(url)
    schemes = ("https", "http") if networks else ("https",)
    if scheme not in schemes or not host:
        raise UnsafeUrlError(f"must be an absolute URL with {' or '.join(schemes)}")
    if (host == "localhost" or host.endswith(".localhost")) and not _is_allowed(_LOOPBACK, networks):
        raise UnsafeUrlError("must not name this machine")
    try:
        ip = _address(host)
    except ValueError:
        if _NUMBER.fullmatch(host):
            raise UnsafeUrlError("must write an address as four decimal numbers") from None
        return  # a name: its addresses are checked when it is connected to
    if not _is_allowed(ip, networks) and not _is_public(ip):
        raise UnsafeUrlError("must not name an address that is not public")
    if not _is_allowed(ip, networks) and scheme != "https":
        raise UnsafeUrlError("must have https")


def _split(url: str) -> tuple[str, str]:
    """Return scheme and host of a URL whose text all who read it read alike."""
    if len(url) > MAX_URL:
        raise UnsafeUrlError(f"must be at most {MAX_URL} characters")
    if any(character.isspace() or not character.isprintable() for character in url):
        raise UnsafeUrlError("must not contain white space or control characters")
    if "\\" in url:
        raise UnsafeUrlError("must not contain a backslash, which some read as a slash")
    try:
        parts = urlsplit(url)
        # The host as the HTTP client will read it: it folds look-alikes such as "①②⑦.⓪.⓪.①" into an address.
        host, _ = (yarl.URL(url).host or "").rstrip(".").lower(), parts.port
    except ValueError as error:
        raise UnsafeUrlError(f"is not a URL: {error}") from error
    if parts.username is not None or parts.password is not None:
        raise UnsafeUrlError("must not contain a user name or password")
    if "%" in host:
        raise UnsafeUrlError("must not contain a zone, which only this machine knows, nor escapes in the host")
    return parts.scheme, host


class GuardedResolver(AbstractResolver):
    """Resolves names, and refuses those that lead where no request may go.

    Args:
        networks: may be reached although they are not public.
    """

    def __init__(self, networks: Networks = ()) -> None:
        self._inner = ThreadedResolver()
        self._networks = networks

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of ``host``.

        Raises:
            UnsafeUrlError: one of them must not be reached.
        """
        found = await self._inner.resolve(host, port, family)
        for address in found:
            # With or without TLS is for the socket to say: here both are fine.
            if not _may_connect(address["host"], self._networks, plain=False):
                raise UnsafeUrlError(f"{host} leads to an address that is not public")
        return found

    async def close(self) -> None:
        """Release the resolver."""
        await self._inner.close()


def egress_session(
    *, networks: Networks = (), timeout: float | aiohttp.ClientTimeout, keep_alive: bool = False
) -> aiohttp.ClientSession:
    """Return a session for requests to addresses that users named.

    It raises `UnsafeUrlError` for what must not be reached and for redirects that it is told to follow; `check_url`
    before, to tell the user.

    Args:
        networks: may be reached although they are not public, and without TLS.
        timeout: seconds that a request may take, or limits for each of its steps.
        keep_alive: use connections again; they lead to addresses that were checked when they were opened.
    """

    def open_socket(
        address: tuple[
            socket.AddressFamily | int, socket.SocketKind | int, int, str, tuple[str, int] | tuple[str, int, int, int]
        ],
    ) -> socket.socket:
        """Open a socket for an address, if it may be; an address in a URL comes here without being resolved."""
        family, kind, protocol, _, (host, *_) = address
        if not _may_connect(host, networks, plain=_plain.get()):
            raise UnsafeUrlError(
                "without https must lead to a network that is allowed"
                if _plain.get()
                else "must not name an address that is not public"
            )
        return socket.socket(family, kind, protocol)

    async def guard(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        check_url(str(request.url), networks=networks)
        token = _plain.set(not request.is_ssl())
        try:
            return await handler(request)
        finally:
            _plain.reset(token)

    async def refuse(
        _: aiohttp.ClientSession, __: SimpleNamespace, ___: aiohttp.TraceRequestRedirectParams
    ) -> NoReturn:
        raise UnsafeUrlError("must not redirect")

    redirects = aiohttp.TraceConfig()
    redirects.on_request_redirect.append(refuse)
    connector = aiohttp.TCPConnector(
        limit=100,
        use_dns_cache=False,
        resolver=GuardedResolver(networks),
        socket_factory=open_socket,
        force_close=not keep_alive,
    )
    return aiohttp.ClientSession(
        connector=connector,
        timeout=timeout if isinstance(timeout, aiohttp.ClientTimeout) else aiohttp.ClientTimeout(total=timeout),
        cookie_jar=aiohttp.DummyCookieJar(),  # what one user's receiver sets is nothing for the next one's
        trust_env=False,
        auto_decompress=False,
        middlewares=(guard,),
        trace_configs=[redirects],
    )
