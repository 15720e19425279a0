"""Requests to the object store and to origins as spans: each try of each request, as a part of what needed it.

Those to the store are named by the operation of the S3 API. Keys and paths are left out: users may have named them.

Source: OpenTelemetry semantic conventions for HTTP clients and for object stores (AWS S3).
"""

from collections.abc import Mapping
from types import TracebackType
from typing import Any

import aiohttp
from opentelemetry.trace import Span, StatusCode
from yarl import URL

from haulyard_chassis.tracing import Attributes, SpanKind, begin, is_recording

_OF_BUCKETS = {
    ("GET", "list-type"): "ListObjectsV2",
    ("GET", "uploads"): "ListMultipartUploads",
    ("POST", "delete"): "DeleteObjects",
    ("PUT", "cors"): "PutBucketCors",
    ("PUT", "lifecycle"): "PutBucketLifecycleConfiguration",
    ("PUT", ""): "CreateBucket",
    ("HEAD", ""): "HeadBucket",
}
_OF_OBJECTS = {
    ("POST", "uploads"): "CreateMultipartUpload",
    ("PUT", "partNumber"): "UploadPart",
    ("POST", "uploadId"): "CompleteMultipartUpload",
    ("DELETE", "uploadId"): "AbortMultipartUpload",
    ("GET", ""): "GetObject",
    ("HEAD", ""): "HeadObject",
    ("PUT", ""): "PutObject",
    ("DELETE", ""): "DeleteObject",
}
_COPY_SOURCE = "x-amz-copy-source"
_SERVER_ERROR = 500


def operation(method: str, key: str, query: Mapping[str, str], headers: Mapping[str, str]) -> str:
    """Return what the API calls a request."""
    table = _OF_OBJECTS if key else _OF_BUCKETS
    found = next((table[method, name] for name in query if (method, name) in table), None) or table.get((method, ""))
    if found == "UploadPart" and _COPY_SOURCE in headers:
        return "UploadPartCopy"
    return found or method


class TracedRequest:
    """Stands for aiohttp's context manager of a request: the span ends when the answer was read, or given up."""

    def __init__(self, request: Any, made: Span) -> None:
        self._request = request
        self._span = made

    async def __aenter__(self) -> aiohttp.ClientResponse:
        """Send the request, and return the response once it begins."""
        try:
            response: aiohttp.ClientResponse = await self._request.__aenter__()
        except BaseException as error:
            self._end(error)
            raise
        self._span.set_attribute("http.response.status_code", response.status)
        if response.status >= _SERVER_ERROR:
            self._span.set_status(StatusCode.ERROR, f"answered {response.status}")
        return response

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the connection back."""
        try:
            await self._request.__aexit__(kind, error, trace)
        finally:
            self._end(error)

    def _end(self, error: BaseException | None) -> None:
        if isinstance(error, Exception):
            self._span.set_attribute("error.type", type(error).__name__)
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


def traced(request: Any, name: str, attributes: Attributes) -> Any:
    """Return a request's context manager, with a span if whoever makes the request is inside of one."""
    made = begin(name, kind=SpanKind.CLIENT, attributes=attributes)
    return request if made is None else TracedRequest(request, made)


def to_store(
    request: Any, method: str, bucket: str, key: str, *, query: Mapping[str, str] | None, headers: Mapping[str, str]
) -> Any:
    """Return the context manager of a request to the object store, traced."""
    if not is_recording():
        return request
    query = query or {}
    name = operation(method, key, query, headers)
    attributes: dict[str, str | int | float | bool] = {
        "rpc.system": "aws-api",
        "rpc.service": "S3",
        "rpc.method": name,
        "http.request.method": method,
        "aws.s3.bucket": bucket,
    }
    if "partNumber" in query:
        attributes["aws.s3.part_number"] = int(query["partNumber"])
    byte_range = headers.get("Range") or headers.get("x-amz-copy-source-range")
    if byte_range:
        attributes["haulyard.range"] = byte_range
    return traced(request, f"S3 {name}", attributes)


def to_origin(request: Any, method: str, url: str) -> Any:
    """Return the context manager of a request to where a file comes from, traced. Its URL may be signed."""
    if not is_recording():
        return request
    attributes = {"http.request.method": method, "server.address": URL(url).host or ""}
    return traced(request, f"origin {method}", attributes)
