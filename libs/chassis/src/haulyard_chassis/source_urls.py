"""Which ``https://`` sources may be archived: those of hosts that an operator lists."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import yarl

from haulyard_chassis.egress import Networks, UnsafeUrlError, check_url

_ENTRY = re.compile(r"(?P<wildcard>\*\.)?(?P<host>\[[0-9A-Fa-f:.]+\]|[^:/?#@\[\]*\s]+)(?::(?P<port>\d{1,5}))?")
_MAX_PORT = 65_535


@dataclass(frozen=True, slots=True)
class SourceHost:
    """A host of the list."""

    name: str
    """As in a URL that was parsed: lower case, and Punycode."""
    port: int | None
    """None: the port that belongs to the scheme."""
    below: bool
    """Any name below this one, and not this one itself."""

    def matches(self, url: yarl.URL) -> bool:
        """Whether a URL leads here."""
        host = (url.raw_host or "").rstrip(".").lower()
        if not (host.endswith(f".{self.name}") if self.below else host == self.name):
            return False
        return url.is_default_port() if self.port is None else url.port == self.port


@lru_cache(maxsize=64)
def _parsed(entries: tuple[str, ...]) -> tuple[SourceHost, ...]:
    return tuple(_parse(entry) for entry in entries)


def _parse(entry: str) -> SourceHost:
    match = _ENTRY.fullmatch(entry)
    port = int(match["port"]) if match and match["port"] else None
    if match is None or (port is not None and not 1 <= port <= _MAX_PORT):
        raise ValueError(f"{entry!r} is no host: that is files.example.com, *.example.com or files.example.com:8443")
    name = (yarl.URL.build(scheme="https", host=match["host"].strip("[]")).raw_host or "").rstrip(".").lower()
    if not name:
        raise ValueError(f"{entry!r} is no host")
    return SourceHost(name, port, below=match["wildcard"] is not None)


def parse_hosts(entries: Iterable[str]) -> tuple[SourceHost, ...]:
    """Return the hosts that are written as ``files.example.com``, ``*.example.com`` or with ``:port``.

    Raises:
        ValueError: one is not written so.
    """
    return _parsed(tuple(entries))


def check_source_url(url: str, hosts: Iterable[str], networks: Networks = ()) -> None:
    """Check the URL of a source that a user gave.

    Args:
        url: what the user gave.
        hosts: from which sources may be; none refuses every URL.
        networks: may be reached although they are not public, and without TLS.

    Raises:
        UnsafeUrlError: no such source is archived; the message says why.
    """
    check_url(url, networks=networks)
    parsed = yarl.URL(url)
    if "#" in url:
        raise UnsafeUrlError("must not have a fragment, which is never sent")
    if not any(host.matches(parsed) for host in parse_hosts(hosts)):
        raise UnsafeUrlError("must be of a host from which files may be archived")
