"""The store's translations: names and keys into requests, answers into our words."""

import base64
import struct
from datetime import UTC, datetime
from urllib.parse import unquote, urlsplit

import pytest

from haulyard_chassis.store import (
    AccessDeniedError,
    ObjectChangedError,
    ObjectNotFoundError,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
    UploadGoneError,
    _error,
    _object_info,
    _url,
    content_disposition,
)

HEAD = {
    "Content-Length": "9",
    "ETag": '"e"',
    "Last-Modified": "Tue, 24 Nov 2026 12:00:00 GMT",
    "Content-Type": "text/plain",
}


@pytest.mark.parametrize(
    ("filename", "header"),
    [
        ("a.zip", "attachment; filename=\"a.zip\"; filename*=UTF-8''a.zip"),
        ("My files.zip", "attachment; filename=\"My files.zip\"; filename*=UTF-8''My%20files.zip"),
        ("Übung.zip", "attachment; filename=\"_bung.zip\"; filename*=UTF-8''%C3%9Cbung.zip"),
        ("写真📷.zip", "attachment; filename=\"___.zip\"; filename*=UTF-8''%E5%86%99%E7%9C%9F%F0%9F%93%B7.zip"),
        ("100%.zip", "attachment; filename=\"100_.zip\"; filename*=UTF-8''100%25.zip"),
        ("it's;x=1.zip", "attachment; filename=\"it's;x=1.zip\"; filename*=UTF-8''it%27s%3Bx%3D1.zip"),
        ("half\ud800.zip", "attachment; filename=\"half_.zip\"; filename*=UTF-8''half%3F.zip"),
    ],
)
def test_an_archive_is_saved_under_its_name(filename: str, header: str) -> None:
    assert content_disposition(filename) == header


@pytest.mark.parametrize(
    "filename", ['a"; filename="evil.exe', "a\r\nSet-Cookie: x=1", "a\\", "a\x00b", "a\x7fb", "\u2028"]
)
def test_a_name_cannot_break_out_of_its_header(filename: str) -> None:
    header = content_disposition(filename)
    assert header.isascii()
    assert header.isprintable()
    assert header.count('"') == 2
    assert "\\" not in header
    assert unquote(header.rpartition("''")[2]) == filename


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("", "/b"),
        ("a/b.txt", "/b/a/b.txt"),
        ("a b+c", "/b/a%20b%2Bc"),
        ("100%", "/b/100%25"),
        ("%2e%2e/x", "/b/%252e%252e/x"),
        ("ä/写", "/b/%C3%A4/%E5%86%99"),
        ("a?b#c&d=e", "/b/a%3Fb%23c%26d%3De"),
        ("//x", "/b///x"),
        ("../x", "/b/../x"),
        ("~a-b_c.d", "/b/~a-b_c.d"),
        ("a'(b)!*", "/b/a%27%28b%29%21%2A"),
        ("a\nb\x00", "/b/a%0Ab%00"),
    ],
)
def test_a_key_becomes_a_path_that_leads_to_it(key: str, path: str) -> None:
    url = _url("http://store:1", "b", key, {})
    assert url == f"http://store:1{path}"
    assert unquote(urlsplit(url).path) == (f"/b/{key}" if key else "/b")


def test_a_query_is_encoded_as_the_signature_wants_it() -> None:
    assert _url("http://s", "b", "k", {"uploads": "", "prefix": "a b/ä~+"}) == (
        "http://s/b/k?uploads=&prefix=a%20b%2F%C3%A4~%2B"
    )


def crc(value: int) -> str:
    return base64.b64encode(struct.pack(">I", value)).decode()


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"x-amz-checksum-crc32": crc(7)}, 7),
        ({"x-amz-checksum-crc32": crc(0xFFFFFFFF), "x-amz-checksum-type": "FULL_OBJECT"}, 0xFFFFFFFF),
        ({"x-amz-checksum-crc32": crc(7), "x-amz-checksum-type": "COMPOSITE"}, None),
        ({"x-amz-checksum-crc32": crc(7) + "-12", "x-amz-checksum-type": "COMPOSITE"}, None),
        ({"x-amz-checksum-crc32": crc(7) + "-12"}, None),
    ],
)
def test_a_checksum_counts_only_if_it_is_of_the_whole_object(headers: dict[str, str], expected: int | None) -> None:
    assert _object_info({**HEAD, **headers}).crc32 == expected


def test_the_headers_describe_the_object() -> None:
    info = _object_info(HEAD)
    assert (info.size, info.etag, info.content_type) == (9, '"e"', "text/plain")
    assert info.modified == datetime(2026, 11, 24, 12, tzinfo=UTC)


def answer(code: str) -> bytes:
    return f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>m</Message></Error>'.encode()


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, answer("InvalidArgument"), StoreRefusedError),
        (400, answer("RequestTimeout"), StoreUnavailableError),
        (400, answer("EntityTooSmall"), StoreRefusedError),
        (401, b"", AccessDeniedError),
        (403, answer("SignatureDoesNotMatch"), AccessDeniedError),
        (403, answer("InvalidAccessKeyId"), AccessDeniedError),
        (403, b"", AccessDeniedError),
        (404, answer("NoSuchKey"), ObjectNotFoundError),
        (404, answer("NoSuchBucket"), ObjectNotFoundError),
        (404, b"", ObjectNotFoundError),
        (404, answer("NoSuchUpload"), UploadGoneError),
        (500, answer("NoSuchUpload"), UploadGoneError),
        (408, b"", StoreUnavailableError),
        (409, answer("BucketAlreadyExists"), StoreRefusedError),
        (409, answer("OperationAborted"), StoreUnavailableError),
        (412, answer("PreconditionFailed"), ObjectChangedError),
        (416, answer("InvalidRange"), StoreRefusedError),
        (429, b"", StoreUnavailableError),
        (500, answer("InternalError"), StoreUnavailableError),
        (503, answer("SlowDown"), StoreUnavailableError),
        (503, b"<html>not XML", StoreUnavailableError),
        (301, answer("PermanentRedirect"), StoreRefusedError),
        (200, answer("SlowDown"), StoreUnavailableError),
    ],
)
def test_an_answer_becomes_an_error_that_says_what_to_do(status: int, body: bytes, kind: type[StoreError]) -> None:
    error = _error(status, body, "GET b/k")
    assert type(error) is kind
    assert str(error).startswith(f"GET b/k: {status}")
