"""A small S3 server in memory, for the tests of kinds of store that cannot be run here.

It does what our client uses, and differs between kinds in what is known to differ between the real ones. It checks no
signatures, and keeps everything in memory: our own client's tests and those of plans are all that it is for. As "ceph"
it passes the suite that also runs against a real Ceph (`tests/integration/chassis/test_chassis_store.py`).

Sources: Amazon S3 API Reference (2006-03-01) for what is not a quirk.
"""

import base64
import hashlib
import re
import secrets
import struct
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import parse_qsl, quote, unquote
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from aiohttp import web

from haulyard_chassis.settings import ServiceSettings
from haulyard_chassis.store import ObjectStore

MIB = 1024 * 1024


@dataclass(frozen=True)
class Kind:
    """What differs between stores; the defaults are the API as it is written."""

    checksums: bool = True
    """Takes, checks and tells CRC-32, and tells that of copied parts."""
    copies: bool = True
    """Knows UploadPartCopy."""
    copies_into_checksummed: bool = True
    """Copies parts into an upload that was created with a checksum algorithm."""
    checks_copy_etag: bool = True
    """Honours x-amz-copy-source-if-match."""
    decodes: int = 1
    """How often it decodes the name of the object to copy from."""
    copied_bytes: Callable[[bytes], bytes] = bytes
    """What becomes of copied bytes."""
    equal_parts: bool = False
    """All parts but the last must have one size."""
    min_part: int = 5 * MIB
    """Bytes that all parts but the last must have."""
    etag_on_complete: bool = True
    """The answer to CompleteMultipartUpload has the ETag."""


KINDS = {
    "aws": Kind(),
    "minio": Kind(copies_into_checksummed=False),
    "r2": Kind(checksums=False, equal_parts=True),
    "gcs": Kind(checksums=False, copies=False),
    "ceph": Kind(checksums=False, checks_copy_etag=False, decodes=2, etag_on_complete=False),
}
"""The kinds that plans must cope with; "gcs" is Google's S3 interface, "r2" Cloudflare's store."""


class S3Error(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(code)
        self.status = status
        self.code = code

    def answer(self) -> web.Response:
        return web.Response(status=self.status, text=f"<Error><Code>{self.code}</Code></Error>")


@dataclass(frozen=True)
class Stored:
    """An object, or a part of an upload."""

    data: bytes
    etag: str
    content_type: str = "binary/octet-stream"
    crc32: str = ""
    """As it is told: base64, with "-N" for one of checksums of parts."""
    modified: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass
class Upload:
    """A multipart upload."""

    bucket: str
    key: str
    content_type: str
    crc32: bool
    parts: dict[int, Stored] = field(default_factory=dict)
    initiated: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(frozen=True)
class Asked:
    """A request, decoded."""

    method: str
    bucket: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    @property
    def operation(self) -> str:
        """What tells operations apart, such as ``PUT object uploadId copy``."""
        words = [self.method, "object" if self.key else "bucket"]
        words += [name for name in ("uploads", "uploadId", "delete", "cors", "lifecycle") if name in self.query]
        words += ["copy"] if "x-amz-copy-source" in self.headers else []
        return " ".join(words)


class QuirkyS3:
    """The server's state and its operations.

    Args:
        kind: how it differs.
    """

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.endpoint = ""
        self.page = 1000
        """Objects that a listing has at most."""
        self.buckets: dict[str, dict[str, Stored]] = {}
        self.uploads: dict[str, Upload] = {}
        self.rules: dict[tuple[str, str], bytes] = {}
        self.operations: list[str] = []
        """What was asked, in order; see `Asked.operation`."""
        self.instead: Callable[[Asked], web.Response | None] = lambda _: None
        """A test's own answer to a request, if it returns one."""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request."""
        path, _, query = request.raw_path.partition("?")
        bucket, _, key = unquote(path).removeprefix("/").partition("/")
        asked = Asked(
            request.method,
            bucket,
            key,
            dict(parse_qsl(query, keep_blank_values=True)),
            request.headers,
            await request.content.read(),
        )
        self.operations.append(asked.operation)
        try:
            return self.instead(asked) or self._operation(asked)(asked)
        except S3Error as error:
            return error.answer()

    def settings(self) -> ServiceSettings:
        """Return settings of a service that uses this store."""
        values: dict[str, Any] = {
            "nats_url": "nats://x",
            "postgres_dsn": "x",
            "redis_url": "x",
            "s3_endpoint": self.endpoint,
            "s3_access_key": "k",
            "s3_secret_key": "s",
        }
        return ServiceSettings(**values)

    def _operation(self, asked: Asked) -> Callable[[Asked], web.Response]:
        operations = {
            "PUT bucket": self._create_bucket,
            "HEAD bucket": self._head_bucket,
            "GET bucket": self._list_objects,
            "GET bucket uploads": self._list_uploads,
            "POST bucket delete": self._delete_objects,
            "PUT bucket cors": self._put_rule,
            "GET bucket cors": self._get_rule,
            "PUT bucket lifecycle": self._put_rule,
            "GET bucket lifecycle": self._get_rule,
            "PUT object": self._put_object,
            "GET object": self._get_object,
            "HEAD object": self._head_object,
            "DELETE object": self._delete_object,
            "POST object uploads": self._create_upload,
            "PUT object uploadId": self._upload_part,
            "PUT object uploadId copy": self._copy_part,
            "GET object uploadId": self._list_parts,
            "POST object uploadId": self._complete_upload,
            "DELETE object uploadId": self._abort_upload,
        }
        if asked.operation not in operations:
            raise S3Error(501, "NotImplemented")
        return operations[asked.operation]

    # Buckets

    def _objects(self, asked: Asked) -> dict[str, Stored]:
        if asked.bucket not in self.buckets:
            raise S3Error(404, "NoSuchBucket")
        return self.buckets[asked.bucket]

    def _create_bucket(self, asked: Asked) -> web.Response:
        self.buckets.setdefault(asked.bucket, {})
        return web.Response()

    def _head_bucket(self, asked: Asked) -> web.Response:
        self._objects(asked)
        return web.Response()

    def _put_rule(self, asked: Asked) -> web.Response:
        self._check_md5(asked)
        self.rules[asked.bucket, asked.operation.rpartition(" ")[2]] = asked.body
        return web.Response()

    def _get_rule(self, asked: Asked) -> web.Response:
        return web.Response(body=self.rules[asked.bucket, asked.operation.rpartition(" ")[2]])

    def _list_objects(self, asked: Asked) -> web.Response:
        objects, after = self._objects(asked), unquote(asked.query.get("continuation-token", ""))
        page = min(self.page, int(asked.query.get("max-keys", "1000")))
        keys = sorted(key for key in objects if key.startswith(asked.query.get("prefix", "")) and key > after)
        listed = "".join(
            f"<Contents><Key>{quote(key)}</Key><Size>{len(objects[key].data)}</Size>"
            f"<LastModified>{objects[key].modified.isoformat()}</LastModified></Contents>"
            for key in keys[:page]
        )
        more = len(keys) > page
        token = f"<NextContinuationToken>{quote(keys[page - 1])}</NextContinuationToken>" if more else ""
        return _xml(
            "ListBucketResult",
            f"<IsTruncated>{str(more).lower()}</IsTruncated><EncodingType>url</EncodingType>{token}{listed}",
        )

    def _list_uploads(self, asked: Asked) -> web.Response:
        pending = sorted(
            (upload.key, upload_id, upload.initiated)
            for upload_id, upload in self.uploads.items()
            if upload.bucket == asked.bucket and upload.key.startswith(asked.query.get("prefix", ""))
        )
        after = (asked.query.get("key-marker", ""), asked.query.get("upload-id-marker", ""))
        left = [upload for upload in pending if upload[:2] > after]
        page = left[: int(asked.query.get("max-uploads", "1000"))]
        listed = "".join(
            f"<Upload><Key>{escape(key)}</Key><UploadId>{upload_id}</UploadId>"
            f"<Initiated>{initiated.isoformat()}</Initiated></Upload>"
            for key, upload_id, initiated in page
        )
        more = len(left) > len(page)
        key, upload_id, _ = page[-1] if page else ("", "", None)
        return _xml(
            "ListMultipartUploadsResult",
            f"<IsTruncated>{str(more).lower()}</IsTruncated><NextKeyMarker>{escape(key)}</NextKeyMarker>"
            f"<NextUploadIdMarker>{upload_id}</NextUploadIdMarker>{listed}",
        )

    def _delete_objects(self, asked: Asked) -> web.Response:
        self._check_md5(asked)
        keys = [element.text or "" for element in ET.fromstring(asked.body).iterfind("Object/Key")]
        if len(keys) > 1000:
            raise S3Error(400, "MalformedXML")
        objects = self._objects(asked)
        for key in keys:
            objects.pop(key, None)
        return _xml("DeleteResult", "")

    def _check_md5(self, asked: Asked) -> None:
        if base64.b64decode(asked.headers["Content-MD5"]) != hashlib.md5(asked.body).digest():
            raise S3Error(400, "BadDigest")

    # Objects

    def _object(self, asked: Asked) -> Stored:
        if asked.key not in self._objects(asked):
            raise S3Error(404, "NoSuchKey")
        found = self.buckets[asked.bucket][asked.key]
        if asked.headers.get("If-Match", found.etag) != found.etag:
            raise S3Error(412, "PreconditionFailed")
        return found

    def _stored(self, asked: Asked) -> Stored:
        told = asked.headers.get("x-amz-checksum-crc32", "") if self.kind.checksums else ""
        if told and told != _crc32(asked.body):
            raise S3Error(400, "BadDigest")
        content_type = asked.headers.get("Content-Type", "binary/octet-stream")
        return Stored(asked.body, _etag(asked.body), content_type, crc32=told)

    def _put_object(self, asked: Asked) -> web.Response:
        self._objects(asked)[asked.key] = stored = self._stored(asked)
        return web.Response(headers={"ETag": stored.etag})

    def _get_object(self, asked: Asked) -> web.Response:
        found = self._object(asked)
        if "Range" not in asked.headers:
            return web.Response(body=found.data, headers=_headers(found))
        first, last = _range(asked.headers["Range"])
        if first >= len(found.data):
            raise S3Error(416, "InvalidRange")
        return web.Response(status=206, body=found.data[first : last + 1], headers=_headers(found))

    def _head_object(self, asked: Asked) -> web.Response:
        found = self._object(asked)
        headers = {**_headers(found), "Content-Length": str(len(found.data))}
        if found.crc32 and asked.headers.get("x-amz-checksum-mode") == "ENABLED":
            kind = "COMPOSITE" if "-" in found.crc32 else "FULL_OBJECT"
            headers |= {"x-amz-checksum-crc32": found.crc32, "x-amz-checksum-type": kind}
        return web.Response(headers=headers)

    def _delete_object(self, asked: Asked) -> web.Response:
        self._objects(asked).pop(asked.key, None)
        return web.Response(status=204)

    # Multipart uploads

    def _upload(self, asked: Asked) -> Upload:
        upload = self.uploads.get(asked.query["uploadId"])
        if upload is None or (upload.bucket, upload.key) != (asked.bucket, asked.key):
            raise S3Error(404, "NoSuchUpload")
        return upload

    def _create_upload(self, asked: Asked) -> web.Response:
        self._objects(asked)
        crc32 = self.kind.checksums and asked.headers.get("x-amz-checksum-algorithm") == "CRC32"
        upload_id = secrets.token_hex(8)
        self.uploads[upload_id] = Upload(asked.bucket, asked.key, asked.headers["Content-Type"], crc32)
        return _xml("InitiateMultipartUploadResult", f"<UploadId>{upload_id}</UploadId>")

    def _upload_part(self, asked: Asked) -> web.Response:
        upload, stored = self._upload(asked), self._stored(asked)
        if upload.crc32 and not stored.crc32:
            raise S3Error(400, "InvalidRequest")
        upload.parts[int(asked.query["partNumber"])] = stored
        return web.Response(headers={"ETag": stored.etag})

    def _copy_part(self, asked: Asked) -> web.Response:
        if not self.kind.copies:
            raise S3Error(501, "NotImplemented")
        upload = self._upload(asked)
        if upload.crc32 and not self.kind.copies_into_checksummed:
            raise S3Error(400, "InvalidArgument")
        name = asked.headers["x-amz-copy-source"]
        for _ in range(self.kind.decodes):
            name = unquote(name)
        bucket, _, key = name.removeprefix("/").partition("/")
        wanted = asked.headers.get("x-amz-copy-source-if-match") if self.kind.checks_copy_etag else None
        source = self._object(replace(asked, bucket=bucket, key=key, headers={"If-Match": wanted} if wanted else {}))
        first, last = _range(asked.headers["x-amz-copy-source-range"])
        if last >= len(source.data):
            raise S3Error(400, "InvalidArgument")
        data = self.kind.copied_bytes(source.data[first : last + 1])
        stored = Stored(data, _etag(data), crc32=_crc32(data) if upload.crc32 else "")
        upload.parts[int(asked.query["partNumber"])] = stored
        checksum = f"<ChecksumCRC32>{stored.crc32}</ChecksumCRC32>" if stored.crc32 else ""
        return _xml("CopyPartResult", f"<ETag>{escape(stored.etag)}</ETag>{checksum}")

    def _list_parts(self, asked: Asked) -> web.Response:
        parts = sorted(self._upload(asked).parts)
        return _xml("ListPartsResult", "".join(f"<Part><PartNumber>{part}</PartNumber></Part>" for part in parts))

    def _complete_upload(self, asked: Asked) -> web.Response:
        upload, parts = self._upload(asked), []
        numbers = []
        for listed in ET.fromstring(asked.body).iterfind("Part"):
            numbers.append(int(listed.findtext("PartNumber", "0")))
            part = upload.parts.get(numbers[-1])
            if part is None or part.etag != listed.findtext("ETag"):
                raise S3Error(400, "InvalidPart")
            if upload.crc32 and listed.findtext("ChecksumCRC32") != part.crc32:
                raise S3Error(400, "InvalidRequest")
            parts.append(part)
        if not parts:
            raise S3Error(400, "MalformedXML")
        if numbers != sorted(set(numbers)):
            raise S3Error(400, "InvalidPartOrder")
        sizes = [len(part.data) for part in parts[:-1]]
        if any(size < self.kind.min_part for size in sizes):
            raise S3Error(400, "EntityTooSmall")
        if self.kind.equal_parts and sizes and (len(set(sizes)) > 1 or len(parts[-1].data) > sizes[0]):
            raise S3Error(400, "InvalidPart")
        made = _joined(upload, parts)
        self.buckets[asked.bucket][asked.key] = made
        del self.uploads[asked.query["uploadId"]]
        etag = escape(made.etag) if self.kind.etag_on_complete else ""
        return _xml("CompleteMultipartUploadResult", f"<ETag>{etag}</ETag>")

    def _abort_upload(self, asked: Asked) -> web.Response:
        self._upload(asked)
        del self.uploads[asked.query["uploadId"]]
        return web.Response(status=204)


@asynccontextmanager
async def serving(kind: str | Kind) -> AsyncIterator[QuirkyS3]:
    """Start a server of that kind on a free port of this machine."""
    state = QuirkyS3(KINDS[kind] if isinstance(kind, str) else kind)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        return await state.handle(request)  # looked up each time: a test may replace it

    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    state.endpoint = f"http://{host}:{port}"
    try:
        yield state
    finally:
        await runner.cleanup()


@asynccontextmanager
async def client_of(server: QuirkyS3, *, bucket: str) -> AsyncIterator[ObjectStore]:
    """Open a client of the server, on which there is a bucket."""
    client = ObjectStore(server.settings())
    await client.open()
    try:
        await client.ensure_bucket(bucket)
        yield client
    finally:
        await client.close()


def _joined(upload: Upload, parts: list[Stored]) -> Stored:
    """Return the object that parts make; its ETag and CRC-32 are of those of the parts."""
    digests = b"".join(bytes.fromhex(part.etag.strip('"')) for part in parts)
    etag = f'"{hashlib.md5(digests).hexdigest()}-{len(parts)}"'
    crc32 = f"{_crc32(b''.join(base64.b64decode(part.crc32) for part in parts))}-{len(parts)}" if upload.crc32 else ""
    return Stored(b"".join(part.data for part in parts), etag, upload.content_type, crc32)


def _headers(found: Stored) -> dict[str, str]:
    return {
        "ETag": found.etag,
        "Last-Modified": format_datetime(found.modified, usegmt=True),
        "Content-Type": found.content_type,
    }


def _range(header: str) -> tuple[int, int]:
    found = re.fullmatch(r"bytes=(\d+)-(\d+)", header)
    if found is None:
        raise S3Error(400, "InvalidArgument")
    return int(found[1]), int(found[2])


def _etag(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


def _crc32(data: bytes) -> str:
    return base64.b64encode(struct.pack(">I", zlib.crc32(data))).decode()


def _xml(root: str, content: str) -> web.Response:
    return web.Response(text=f'<{root} xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{content}</{root}>')
