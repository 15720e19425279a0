"""Requests to addresses that users name: only where the public internet is, so that nobody looks inside through us.

A URL is checked when it is given, and every address again when it is connected to, so that a name which changes its
address in between (DNS rebinding) gains nothing. Redirects are for the caller to refuse.

Three gates, because each sees what the one before cannot: the URL as text, the addresses that a name resolves to, and
the address that a socket is about to be opened to.

Source: OWASP Server-Side Request Forgery Prevention Cheat Sheet; IANA special-purpose address registries.
"""

import ipaddress
import socket
from urllib.parse import urlsplit

import aiohttp
import yarl
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

_MAX_URL = 2048
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
_DOCUMENTATION = ipaddress.IPv6Network("3fff::/20")  # newer than the table of some Python releases


class UnsafeUrlError(ValueError):
    """The URL must not be requested; the message says why."""


def is_public(address: str) -> bool:
    """Whether an IP address, however it is wrapped in IPv6, belongs to the public internet."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if ip not in _GLOBAL_UNICAST or ip in _DOCUMENTATION:
            return False
    return ip.is_global and not ip.is_multicast


def check_url(url: str, *, allow_private: bool) -> None:
    """Check the form of a URL that a user gave.

    Args:
        url: what the user gave.
        allow_private: development only: plain http and addresses of this machine are fine.

    Raises:
        UnsafeUrlError: it is no absolute https URL, or names an address that is not public.
    """
    if len(url) > _MAX_URL:
        raise UnsafeUrlError(f"must be at most {_MAX_URL} characters")
    if any(character.isspace() or not character.isprintable() for character in url):
        raise UnsafeUrlError("must not contain white space or control characters")
    try:
        parts = urlsplit(url)
        # The host as the HTTP client will read it: it folds look-alikes such as "①②⑦.⓪.⓪.①" into an address.
        host, _ = (yarl.URL(url).host or "").rstrip(".").lower(), parts.port
    except ValueError as error:
        raise UnsafeUrlError(f"is not a URL: {error}") from error
    allowed = ("https", "http") if allow_private else ("https",)
    if parts.scheme not in allowed or not host:
        raise UnsafeUrlError(f"must be an absolute URL with {' or '.join(allowed)}")
    if parts.username is not None or parts.password is not None:
        raise UnsafeUrlError("must not contain a user name or password")
    if allow_private:
        return
    if host == "localhost" or host.endswith(".localhost"):
        raise UnsafeUrlError("must not name this machine")
    try:
        public = is_public(host)
    except ValueError:
        return  # a name: its addresses are checked when it is connected to
    if not public:
        raise UnsafeUrlError("must not name an address that is not public")


class PublicResolver(AbstractResolver):
    """Resolves names, and refuses those that lead to an address which is not public."""

    def __init__(self) -> None:
        self._inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of ``host``.

        Raises:
            UnsafeUrlError: one of them is not public.
        """
        found = await self._inner.resolve(host, port, family)
        for address in found:
            if not is_public(address["host"]):
                raise UnsafeUrlError(f"{host} leads to an address that is not public")
        return found

    async def close(self) -> None:
        """Release the resolver."""
        await self._inner.close()


def _open_socket(
    address: tuple[
        socket.AddressFamily | int, socket.SocketKind | int, int, str, tuple[str, int] | tuple[str, int, int, int]
    ],
) -> socket.socket:
    """Open a socket for an address, if it is public; an address in a URL comes here without being resolved."""
    family, kind, protocol, _, (host, *_) = address
    if not is_public(host):
        raise UnsafeUrlError("must not name an address that is not public")
    return socket.socket(family, kind, protocol)


def egress_session(*, allow_private: bool, timeout: float) -> aiohttp.ClientSession:
    """Return a session for requests to addresses that users named; check each URL first with `check_url`."""
    connector = aiohttp.TCPConnector(
        limit=100,
        use_dns_cache=False,
        resolver=None if allow_private else PublicResolver(),
        socket_factory=None if allow_private else _open_socket,
        force_close=True,
    )
    return aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=timeout),
        cookie_jar=aiohttp.DummyCookieJar(),  # what one user's receiver sets is nothing for the next one's
        trust_env=False,
        auto_decompress=False,
    )
