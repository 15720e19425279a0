"""Files at other servers, played by a real one that behaves well and badly: exactly the bytes, or an error."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from email.utils import formatdate

import aiohttp
import pytest
from aiohttp import web

from haulyard_chassis.egress import LOOPBACK, UnsafeUrlError
from haulyard_chassis.origin import (
    Origin,
    OriginChangedError,
    OriginDeniedError,
    OriginError,
    OriginInfo,
    OriginNotFoundError,
    OriginUnavailableError,
    check_source_url,
    origin_session,
    validator_of,
)
from haulyard_chassis.source_urls import parse_hosts

NOW = 1_795_000_000
DATA = bytes(range(256)) * 4_096  # 1 MiB, and each byte says where it is from


@dataclass
class Site:
    """A server with one file, of which a test says how it behaves."""

    data: bytes = DATA
    etag: str | None = '"v1"'
    modified: int | None = NOW - 3_600
    ranges: bool = True
    announces_ranges: str | None = "bytes"
    head: int = 200
    status: int | None = None
    more: dict[str, str] = field(default_factory=dict)
    content_range: str | None = None
    cut: int | None = None
    """Break off after so many bytes of a body."""
    chunked: bool = False
    ignores_if_range: bool = False
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.seen.append((request.method, dict(request.headers)))
        if request.method == "HEAD" and self.head != 200:
            return web.Response(status=self.head)
        if self.status is not None:
            return web.Response(status=self.status, headers=self.more)
        status, body, headers = (
            200,
            self.data,
            {"Content-Type": "application/x-thing", "Date": formatdate(NOW, usegmt=True)},
        )
        headers |= {"ETag": self.etag} if self.etag else {}
        headers |= {"Last-Modified": formatdate(self.modified, usegmt=True)} if self.modified is not None else {}
        headers |= {"Accept-Ranges": self.announces_ranges} if self.announces_ranges else {}
        wanted = request.headers.get("Range") if self.ranges else None
        condition = request.headers.get("If-Range")
        same = condition in (None, headers.get("ETag"), headers.get("Last-Modified")) or self.ignores_if_range
        if wanted and same:
            first, last = (int(text) for text in wanted.removeprefix("bytes=").split("-"))
            if first >= len(self.data):
                return web.Response(status=416, headers=headers | {"Content-Range": f"bytes */{len(self.data)}"})
            last = min(last, len(self.data) - 1)
            status, body = 206, self.data[first : last + 1]
            headers["Content-Range"] = self.content_range or f"bytes {first}-{last}/{len(self.data)}"
        headers |= self.more
        response = web.StreamResponse(status=status, headers=headers)
        if self.chunked and request.method == "GET":
            response.enable_chunked_encoding()
        else:
            response.content_length = len(body)
        await response.prepare(request)
        if request.method == "GET":
            await response.write(body if self.cut is None else body[: self.cut])
            if self.cut is not None and request.transport is not None:
                request.transport.close()
                return response
        await response.write_eof()
        return response


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    found = Site()
    runner = web.ServerRunner(web.Server(found.answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/file"
    async with asyncio.timeout(30):  # what hangs, fails
        yield found
    await runner.cleanup()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with origin_session(LOOPBACK) as opened:
        yield opened


@pytest.fixture
def origin(session: aiohttp.ClientSession) -> Origin:
    return Origin(session)


async def read(source: AbstractAsyncContextManager[AsyncIterator[bytes]]) -> bytes:
    async with source as chunks:
        return b"".join([chunk async for chunk in chunks])


async def test_a_file_is_looked_at(origin: Origin, site: Site) -> None:
    assert await origin.head(site.url) == OriginInfo(
        size=len(DATA), validator='"v1"', ranges=True, modified=NOW - 3_600, content_type="application/x-thing"
    )
    assert [method for method, _ in site.seen] == ["HEAD", "GET"]
    assert site.seen[1][1]["Range"] == "bytes=0-0"
    assert all(headers["Accept-Encoding"] == "identity" for _, headers in site.seen)


@pytest.mark.parametrize("status", [400, 403, 405, 501])
async def test_an_origin_that_refuses_head_is_asked_otherwise(origin: Origin, site: Site, status: int) -> None:
    site.head = status
    info = await origin.head(site.url)
    assert (info.size, info.validator, info.ranges) == (len(DATA), '"v1"', True)


async def test_an_origin_without_ranges_says_so_and_is_believed(origin: Origin, site: Site) -> None:
    site.ranges, site.announces_ranges = False, "none"
    info = await origin.head(site.url)
    assert (info.size, info.ranges) == (len(DATA), False)
    assert [method for method, _ in site.seen] == ["HEAD"]


async def test_an_origin_that_only_claims_to_have_ranges_is_found_out(origin: Origin, site: Site) -> None:
    site.ranges = False
    info = await origin.head(site.url)
    assert (info.size, info.validator, info.ranges) == (len(DATA), '"v1"', False)


@pytest.mark.parametrize("content_range", ["bytes 0-1/1048576", "bytes 1-1/1048576", "0-0/1048576", "bytes 0-0/*"])
async def test_a_range_that_is_not_the_one_asked_for_is_none(origin: Origin, site: Site, content_range: str) -> None:
    site.content_range = content_range
    assert not (await origin.head(site.url)).ranges


async def test_ranges_of_what_cannot_be_told_from_its_next_version_are_none(origin: Origin, site: Site) -> None:
    site.etag, site.modified = 'W/"v1"', NOW - 3_600
    info = await origin.head(site.url)
    assert (info.validator, info.ranges, info.modified) == (None, False, NOW - 3_600)


async def test_an_empty_file_has_no_ranges(origin: Origin, site: Site) -> None:
    for head in (200, 405):
        site.data, site.head = b"", head
        info = await origin.head(site.url)
        assert (info.size, info.validator, info.ranges) == (0, '"v1"', False)
    assert await read(origin.read_all(site.url)) == b""
    assert await read(origin.read(site.url, validator='"v1"', offset=0, length=0)) == b""


@pytest.mark.parametrize(
    ("etag", "modified", "validator"),
    [
        ('"a"', None, '"a"'),
        ('""', None, '""'),
        ('"a"', NOW, '"a"'),
        ('W/"a"', NOW - 3_600, None),
        ("a", NOW - 3_600, None),
        ('"a" ', None, None),
        (None, NOW - 60, formatdate(NOW - 60, usegmt=True)),
        (None, NOW - 59, None),
        (None, NOW + 60, None),
        (None, None, None),
    ],
)
def test_only_what_is_sure_to_change_with_the_file_is_a_validator(
    etag: str | None, modified: int | None, validator: str | None
) -> None:
    headers = {"Date": formatdate(NOW, usegmt=True)}
    headers |= {"ETag": etag} if etag is not None else {}
    headers |= {"Last-Modified": formatdate(modified, usegmt=True)} if modified is not None else {}
    assert validator_of(headers) == validator


@pytest.mark.parametrize("garbage", ["", "yesterday", "Thu, 99 Nov 2026 00:00:00 GMT", "9" * 400])
def test_a_time_that_is_none_is_no_validator(garbage: str) -> None:
    assert validator_of({"Date": formatdate(NOW), "Last-Modified": garbage}) is None
    assert validator_of({"Date": garbage, "Last-Modified": formatdate(0)}) is None


@pytest.mark.parametrize(("offset", "length"), [(0, 1), (0, len(DATA)), (77, 500_000), (len(DATA) - 1, 1)])
async def test_a_range_is_read(origin: Origin, site: Site, offset: int, length: int) -> None:
    body = await read(origin.read(site.url, validator='"v1"', offset=offset, length=length, size=len(DATA)))
    assert body == DATA[offset : offset + length]
    assert site.seen[-1][1]["If-Range"] == '"v1"'


async def test_a_time_of_modification_serves_as_well(origin: Origin, site: Site) -> None:
    site.etag = None
    info = await origin.head(site.url)
    assert info.validator == formatdate(NOW - 3_600, usegmt=True)
    assert await read(origin.read(site.url, validator=info.validator, offset=5, length=9)) == DATA[5:14]


async def test_a_file_that_has_changed_is_noticed(origin: Origin, site: Site) -> None:
    site.etag = '"v2"'
    with pytest.raises(OriginChangedError):
        await read(origin.read(site.url, validator='"v1"', offset=5, length=9))
    with pytest.raises(OriginChangedError):
        await read(origin.read_all(site.url, validator='"v1"'))


async def test_also_by_an_origin_that_does_not_know_if_range(origin: Origin, site: Site) -> None:
    site.etag, site.ignores_if_range = '"v2"', True
    with pytest.raises(OriginChangedError):
        await read(origin.read(site.url, validator='"v1"', offset=5, length=9))
    site.etag = None
    site.modified = None
    site.data = DATA + b"more"
    with pytest.raises(OriginChangedError):
        await read(origin.read(site.url, validator='"v1"', offset=5, length=9, size=len(DATA)))


async def test_a_file_that_has_become_shorter_has_changed(origin: Origin, site: Site) -> None:
    site.data = DATA[:10]
    with pytest.raises(OriginChangedError):
        await read(origin.read(site.url, validator='"v1"', offset=10, length=1))
    with pytest.raises(OriginUnavailableError, match="another range"):
        await read(origin.read(site.url, validator='"v1"', offset=5, length=9))


@pytest.mark.parametrize("cut", [0, 1, 100_000])
async def test_a_body_that_breaks_off_is_an_error(origin: Origin, site: Site, cut: int) -> None:
    site.cut = cut
    with pytest.raises(OriginUnavailableError):
        await read(origin.read(site.url, validator='"v1"', offset=0, length=200_000))
    for chunked in (False, True):
        site.chunked = chunked
        with pytest.raises(OriginUnavailableError):
            await read(origin.read_all(site.url))


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_whole_file_is_read(origin: Origin, site: Site, *, chunked: bool) -> None:
    site.ranges, site.chunked = False, chunked
    assert await read(origin.read_all(site.url, validator='"v1"')) == DATA
    assert "Range" not in site.seen[-1][1]


async def test_a_whole_file_is_not_read_at_once(origin: Origin, site: Site) -> None:
    async with origin.read_all(site.url) as chunks:
        assert max([len(chunk) async for chunk in chunks]) <= 256 * 1024


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (404, OriginNotFoundError),
        (410, OriginNotFoundError),
        (401, OriginDeniedError),
        (403, OriginDeniedError),
        (451, OriginDeniedError),
        (400, OriginDeniedError),
        (301, OriginDeniedError),
        (302, OriginDeniedError),
        (307, OriginDeniedError),
        (304, OriginDeniedError),
        (408, OriginUnavailableError),
        (429, OriginUnavailableError),
        (500, OriginUnavailableError),
        (503, OriginUnavailableError),
    ],
)
async def test_a_status_means_the_same_whatever_was_asked(
    origin: Origin, site: Site, status: int, error: type[OriginError]
) -> None:
    site.status, site.more = status, {"Location": "http://127.0.0.1:1/"}
    with pytest.raises(error):
        await origin.head(site.url)
    with pytest.raises(error):
        await read(origin.read(site.url, validator='"v1"', offset=0, length=1))
    with pytest.raises(error):
        await read(origin.read_all(site.url))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("7", 7.0), (formatdate(0, usegmt=True), 0.0), ("soon", None), ("-1", None), ("9" * 50, None), ("", None)],
)
async def test_an_origin_may_ask_to_wait(origin: Origin, site: Site, value: str, seconds: float | None) -> None:
    site.status, site.more = 429, {"Retry-After": value}
    with pytest.raises(OriginUnavailableError) as caught:
        await origin.head(site.url)
    assert caught.value.retry_after == seconds


async def test_a_content_coding_is_refused(origin: Origin, site: Site) -> None:
    """Its bytes would be archived as they are, under the name of what is in them."""
    site.data, site.more = gzip.compress(b"plain"), {"Content-Encoding": "gzip"}
    for head in (200, 405):
        site.head = head
        with pytest.raises(OriginDeniedError, match="coding"):
            await origin.head(site.url)
    with pytest.raises(OriginDeniedError, match="coding"):
        await read(origin.read(site.url, validator='"v1"', offset=0, length=1))
    with pytest.raises(OriginDeniedError, match="coding"):
        await read(origin.read_all(site.url))


async def raw_site(answer: bytes) -> tuple[asyncio.Server, str]:
    """A server that answers with the same bytes whatever it is asked, and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/file"


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nhow much of it?", OriginDeniedError),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 99\r\n\r\nnot all", OriginUnavailableError),
        (b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-0/1\r\nContent-Length: 1\r\n\r\n1", OriginDeniedError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", OriginUnavailableError),
        (b"SSH-2.0-OpenSSH_9.9\r\n", OriginUnavailableError),
        (b"", OriginUnavailableError),
    ],
)
async def test_a_file_of_unknown_length_is_refused(origin: Origin, answer: bytes, error: type[OriginError]) -> None:
    server, url = await raw_site(answer)
    async with server, asyncio.timeout(20):
        with pytest.raises(error):
            await read(origin.read_all(url))


@pytest.mark.parametrize("length", ["Content-Length: 6\r\n", ""])
async def test_more_than_was_asked_for_is_an_error(origin: Origin, length: str) -> None:
    head = f"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-2/9\r\n{length}Connection: close\r\n\r\n"
    server, url = await raw_site(head.encode() + b"123456")
    async with server, asyncio.timeout(20):
        with pytest.raises(OriginUnavailableError, match="more than"):
            await read(origin.read(url, validator='"v1"', offset=0, length=3))


async def test_nobody_there_is_unavailable(origin: Origin) -> None:
    with pytest.raises(OriginUnavailableError):
        await origin.head("http://127.0.0.1:1/")


async def test_a_connection_is_used_again_unless_its_answer_was_left(
    origin: Origin, session: aiohttp.ClientSession, site: Site
) -> None:
    for _ in range(3):
        await read(origin.read(site.url, validator='"v1"', offset=0, length=9))
    async with origin.read_all(site.url) as chunks:
        assert await anext(chunks)
    assert await read(origin.read(site.url, validator='"v1"', offset=3, length=4)) == DATA[3:7]


async def test_what_must_not_be_reached_is_not(site: Site) -> None:
    async with origin_session() as session:
        for url in (site.url, site.url.replace("http", "https"), site.url.replace("127.0.0.1", "localhost")):
            with pytest.raises(UnsafeUrlError):
                await Origin(session).head(url)
    assert not site.seen


HOSTS = ("files.example.com", "*.cdn.example.com", "other.example:8443", "bücher.example", "8.8.8.8", "127.0.0.1:81")


@pytest.mark.parametrize(
    "url",
    [
        "https://files.example.com/a?b=c",
        "https://FILES.example.com:443/a",
        "https://files.example.com./a",
        "https://a.cdn.example.com/",
        "https://a.b.cdn.example.com/",
        "https://other.example:8443/",
        "https://bücher.example/",
        "https://xn--bcher-kva.example/",
        "https://8.8.8.8/",
        "http://127.0.0.1:81/",
    ],
)
def test_a_listed_host_is_a_source(url: str) -> None:
    check_source_url(url, HOSTS, LOOPBACK)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/",
        "https://evilfiles.example.com/",
        "https://files.example.com.evil.example/",
        "https://files.example.com:8443/",
        "https://files.example.com@evil.example/",
        "https://files.example.com\\@evil.example/",
        "https://cdn.example.com/",
        "https://evilcdn.example.com/",
        "https://other.example/",
        "https://127.0.0.1/",
        "http://files.example.com:443/",
        "https://files.example.com/#a",
        "https://files.example.com/#",
        "ftp://files.example.com/",
        "s3://bucket/key",
        "",
    ],
)
def test_no_other_is(url: str) -> None:
    with pytest.raises(UnsafeUrlError):
        check_source_url(url, HOSTS, LOOPBACK)


def test_without_a_list_there_are_none() -> None:
    with pytest.raises(UnsafeUrlError, match="may be archived"):
        check_source_url("https://files.example.com/", ())


@pytest.mark.parametrize(
    "entry", ["*", "*.", "", "https://a.example", "a.example/x", "a:0", "a:65536", "a:b", "a b", "*.*.a"]
)
def test_what_is_no_host_is_an_error(entry: str) -> None:
    with pytest.raises(ValueError, match="no host"):
        parse_hosts([entry])
