"""The store's translations: names and keys into requests, answers into our words."""

import base64
import struct
from datetime import UTC, datetime, timedelta
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haulyard_chassis.store import (
    AccessDeniedError,
    ObjectChangedError,
    ObjectNotFoundError,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
    UploadedPart,
    UploadGoneError,
    content_disposition,
)
from haulyard_chassis.store_errors import error_of
from haulyard_chassis.store_wire import (
    completion,
    copied_part,
    decoded_crc32,
    deletion,
    encoded_crc32,
    object_info,
    objects_in,
    path_of,
    query_of,
    undeleted_in,
    uploads_in,
    url_of,
)
from haulyard_chassis.store_xml import can_hold, written

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
    url = url_of("http://store:1", path_of("b", key), "")
    assert url == f"http://store:1{path}"
    assert unquote(urlsplit(url).path) == (f"/b/{key}" if key else "/b")


def test_a_query_is_encoded_as_the_signature_wants_it() -> None:
    query = query_of({"uploads": "", "prefix": "a b/ä~+"})
    assert query == "prefix=a%20b%2F%C3%A4~%2B&uploads="
    assert url_of("http://s", "/b/k", query) == f"http://s/b/k?{query}"


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
    assert object_info({**HEAD, **headers}).crc32 == expected


def test_the_headers_describe_the_object() -> None:
    info = object_info(HEAD)
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
        (500, answer("PreconditionFailed"), ObjectChangedError),
        (500, answer("NoSuchKey"), ObjectNotFoundError),
        (501, answer("NotImplemented"), StoreRefusedError),
        (501, b"", StoreRefusedError),
        (500, answer("NotImplemented"), StoreRefusedError),
    ],
)
def test_an_answer_becomes_an_error_that_says_what_to_do(status: int, body: bytes, kind: type[StoreError]) -> None:
    error = error_of(status, body, "GET b/k")
    assert type(error) is kind
    assert str(error).startswith(f"GET b/k: {status}")
    assert error.code == (body.partition(b"<Code>")[2].partition(b"</Code>")[0].decode())


@given(st.text())
def test_a_text_in_xml_is_read_back_as_it_was(value: str) -> None:
    if can_hold(value):
        assert (ET.fromstring(f"<a>{written(value)}</a>").text or "") == value
    else:
        with pytest.raises((ET.ParseError, UnicodeEncodeError)):
            ET.fromstring(f"<a>{written(value)}</a>")


@given(st.integers(0, 2**32 - 1))
def test_a_crc32_is_read_back_as_it_was(value: int) -> None:
    assert decoded_crc32(encoded_crc32(value)) == value


def test_the_crc32_of_the_text_that_everybody_checks_with() -> None:
    assert encoded_crc32(0xCBF43926) == "y/Q5Jg=="  # of "123456789"


def test_only_parts_with_a_checksum_are_listed_with_one() -> None:
    assert completion([UploadedPart(1, '"a&b"', 0xCBF43926), UploadedPart(2, "c")]) == (
        b"<CompleteMultipartUpload>"
        b'<Part><PartNumber>1</PartNumber><ETag>"a&amp;b"</ETag><ChecksumCRC32>y/Q5Jg==</ChecksumCRC32></Part>'
        b"<Part><PartNumber>2</PartNumber><ETag>c</ETag></Part>"
        b"</CompleteMultipartUpload>"
    )


@pytest.mark.parametrize(
    ("checksum", "crc32"),
    [
        ("", None),
        ("<ChecksumCRC32/>", None),
        ("<ChecksumCRC32>y/Q5Jg==</ChecksumCRC32>", 0xCBF43926),
        ("<ChecksumCRC64NVME>AAAAAAAAAAA=</ChecksumCRC64NVME>", None),
    ],
)
@pytest.mark.parametrize("namespace", ["", ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'])
def test_a_copied_part_has_its_checksum_where_the_store_tells_it(
    namespace: str, checksum: str, crc32: int | None
) -> None:
    copied = copied_part(f"<CopyPartResult{namespace}><ETag>&quot;e&quot;</ETag>{checksum}</CopyPartResult>".encode())
    assert (copied.etag, copied.crc32) == ('"e"', crc32)


def test_a_listing_tells_where_it_goes_on() -> None:
    found, more = objects_in(
        b'<?xml version="1.0"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        b"<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>"
        b"<NextContinuationToken>a+b%2F=</NextContinuationToken>"
        b"<Contents><Key>a+b%2Bc%0A/%C3%A4</Key><Size>7</Size>"
        b"<LastModified>2026-11-24T12:00:00.000Z</LastModified></Contents></ListBucketResult>"
    )
    assert [(listed.key, listed.size) for listed in found] == [("a b+c\n/ä", 7)]
    assert found[0].modified.utcoffset() == timedelta(0)
    assert more == {"continuation-token": "a+b%2F="}


def test_a_listing_that_is_not_encoded_is_read_as_it_is() -> None:
    found, more = objects_in(
        b"<ListBucketResult><Contents><Key>a+b%20</Key><Size>0</Size>"
        b"<LastModified>2026-11-24T12:00:00Z</LastModified></Contents></ListBucketResult>"
    )
    assert [listed.key for listed in found] == ["a+b%20"]
    assert more is None


def test_the_last_page_of_uploads_has_no_next() -> None:
    assert uploads_in(b"<R><IsTruncated>false</IsTruncated><NextKeyMarker>k</NextKeyMarker></R>") == ([], None)


def test_keys_are_named_to_be_deleted() -> None:
    assert deletion(["a&b", "c\r"]) == (
        b"<Delete><Quiet>true</Quiet><Object><Key>a&amp;b</Key></Object><Object><Key>c&#13;</Key></Object></Delete>"
    )


def test_each_object_that_is_not_deleted_is_an_error() -> None:
    left = "".join(
        f"<Error><Key>{code}-key</Key><Code>{code}</Code></Error>"
        for code in ["AccessDenied", "InternalError", "NoSuchKey", "SlowDown", "Other"]
    )
    errors = undeleted_in(f"<DeleteResult><Deleted/>{left}</DeleteResult>".encode(), "POST b?delete")
    assert [type(error) for error in errors] == [
        AccessDeniedError,
        StoreUnavailableError,
        StoreUnavailableError,
        StoreRefusedError,
    ]
    assert str(errors[0]) == "POST b?delete: AccessDenied-key: AccessDenied"
    assert undeleted_in(b"", "x") == []
    assert undeleted_in(b"<DeleteResult/>", "x") == []
