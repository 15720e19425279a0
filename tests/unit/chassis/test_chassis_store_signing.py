"""Our signature is the one that a library makes, whatever is signed, and on whichever day."""

from datetime import UTC, datetime
from urllib.parse import parse_qsl, urlsplit

from hypothesis import given
from hypothesis import strategies as st
from miniopy_async.credentials.credentials import Credentials
from miniopy_async.signer import presign_v4, sign_v4_s3

from haulyard_chassis.store_signing import UNSIGNED, Signer
from haulyard_chassis.store_wire import path_of, query_of, url_of

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,12}", fullmatch=True)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E))
TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)).map(lambda time: time.replace(tzinfo=UTC))  # noqa: DTZ001 - given its zone at once


def headers_of(library: object) -> dict[str, str]:
    assert isinstance(library, dict)
    return library


@given(
    method=st.sampled_from(["GET", "HEAD", "PUT", "POST", "DELETE"]),
    key=st.text(st.characters(exclude_categories=["Cs"])),
    query=st.dictionaries(NAMES, st.text(st.characters(exclude_categories=["Cs"])), max_size=4),
    headers=st.dictionaries(NAMES.map(lambda name: f"x-amz-meta-{name}"), VALUES, max_size=4),
    digest=st.sampled_from([UNSIGNED, "0" * 64]),
    times=st.lists(TIMES, min_size=1, max_size=3),
    secret=st.text(min_size=1),
    region=st.sampled_from(["us-east-1", "eu-central-1", "auto"]),
)
def test_it_is_the_librarys(
    method: str,
    key: str,
    query: dict[str, str],
    headers: dict[str, str],
    digest: str,
    times: list[datetime],
    secret: str,
    region: str,
) -> None:
    secret = secret.encode(errors="replace").decode()
    signer = Signer("access", secret, region)
    path, encoded = path_of("bucket", key), query_of(query)
    for now in times:  # the same signer on several days
        ours = signer.signed(
            method, path, encoded, {**headers, "Host": "store:1", "If-Match": '"e"'}, digest=digest, now=now
        )
        unsigned = {name: value for name, value in ours.items() if name != "Authorization"}
        assert unsigned == {
            **headers,
            "Host": "store:1",
            "If-Match": '"e"',
            "x-amz-content-sha256": digest,
            "x-amz-date": now.strftime("%Y%m%dT%H%M%SZ"),
        }
        url = urlsplit(url_of("http://store:1", path, encoded))
        library = sign_v4_s3(method, url, region, unsigned, Credentials("access", secret), digest, now)
        assert ours["Authorization"] == headers_of(library)["Authorization"]


@given(
    method=st.sampled_from(["GET", "PUT"]),
    key=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    query=st.dictionaries(NAMES, st.text(st.characters(exclude_categories=["Cs"])), max_size=4),
    expires=st.integers(1, 604_800),
    now=TIMES,
)
def test_a_link_is_the_librarys(method: str, key: str, query: dict[str, str], expires: int, now: datetime) -> None:
    path = path_of("bucket", key)
    ours = Signer("access", "secret", "eu-central-1").presigned(
        method, "store:1", path, query, expires=expires, now=now
    )
    url = urlsplit(url_of("http://store:1", path, query_of(query)))
    library = presign_v4(method, url, "eu-central-1", Credentials("access", "secret"), now, expires)
    assert library.path == path
    assert sorted(parse_qsl(ours, keep_blank_values=True)) == sorted(parse_qsl(library.query, keep_blank_values=True))


def test_a_link_is_the_one_of_the_documentation() -> None:
    """Amazon S3 API Reference, "Authenticating Requests: Using Query Parameters", the example."""
    query = Signer("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1").presigned(
        "GET",
        "examplebucket.s3.amazonaws.com",
        "/test.txt",
        {},
        expires=86400,
        now=datetime(2013, 5, 24, tzinfo=UTC),
    )
    assert query.endswith("&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404")


def test_it_is_the_one_of_the_documentation() -> None:
    """Amazon S3 API Reference, "Authenticating Requests: Using the Authorization Header", example GET Object."""
    signer = Signer("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1")
    signed = signer.signed(
        "GET",
        "/test.txt",
        "",
        {"Host": "examplebucket.s3.amazonaws.com", "Range": "bytes=0-9"},
        digest="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        now=datetime(2013, 5, 24, tzinfo=UTC),
    )
    assert signed["Authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "
        "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, "
        "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    )
