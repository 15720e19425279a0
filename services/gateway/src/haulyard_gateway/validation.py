"""Is a body what it should be? Pure functions: from a decoded JSON object to a request, or to all that is wrong."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from haulyard_chassis.egress import UnsafeUrlError, check_url
from haulyard_gateway.faults import Faults, check_known, has_unsafe_characters, shown

MAX_FILE_ID = 2**53 - 1
"""The largest integer that JavaScript holds exactly."""
MAX_NAME_BYTES = 1024
"""Bytes of a file's name, and of an object's key (which is S3's own limit)."""
MAX_FILENAME_BYTES = 200
"""Bytes of an archive's name: file systems take 255, and browsers add `` (1)``."""

_PRIORITIES = range(1, 11)
_DEFAULT_PRIORITY = 5
_SOURCE = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<key>.+)", re.DOTALL)


@dataclass(frozen=True, slots=True, kw_only=True)
class InitiateRequest:
    """A valid wish for an archive."""

    file_ids: tuple[int, ...]
    priority: int
    filename: str | None
    webhook_url: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterFile:
    """A valid wish to add a file to the catalogue."""

    name: str
    source: tuple[str, str] | None
    """Bucket and key of an object that is there; None asks for a link to upload it."""


def parse_initiate(body: Mapping[str, Any], *, max_files: int, allow_private_webhooks: bool) -> InitiateRequest:
    """Return the request that a body of ``POST /v1/download/initiate`` makes.

    Args:
        body: the decoded JSON object.
        max_files: most files of one job.
        allow_private_webhooks: whether webhooks may be on this machine and without TLS; for development.

    Raises:
        InvalidRequestError: with everything that is wrong.
    """
    faults = Faults()
    file_ids = _file_ids(body, max_files, faults)
    priority = _priority(body.get("priority"), faults)
    filename = _filename(body.get("filename"), faults)
    webhook_url = _webhook_url(body.get("webhook_url"), faults, allow_private=allow_private_webhooks)
    check_known(body, ("file_ids", "webhook_url", "priority", "filename"), faults)
    faults.check()
    return InitiateRequest(file_ids=file_ids, priority=priority, filename=filename, webhook_url=webhook_url)


def _file_ids(body: Mapping[str, Any], most: int, faults: Faults) -> tuple[int, ...]:
    wanted = f"a list of 1 to {most} file ids is needed, such as [70000, 70001]."
    if "file_ids" not in body:
        faults.add(f"This field is missing; {wanted}", "file_ids")
        return ()
    given = body["file_ids"]
    if not isinstance(given, list):
        faults.add(f"This is {shown(given)}; {wanted}", "file_ids")
        return ()
    if not given:
        faults.add(f"The list is empty; {wanted}", "file_ids")
    if len(given) > most:
        faults.add(f"There are {len(given)} ids, {most} are allowed; split them over several jobs.", "file_ids")
    seen: dict[int, int] = {}
    # What is over the limit is not looked at: a long list costs no more than the longest that is allowed.
    for position, file_id in enumerate(given[:most]):
        if type(file_id) is not int or not 1 <= file_id <= MAX_FILE_ID:
            faults.add(
                f"{shown(file_id)} is no file id: that is an integer from 1 to {MAX_FILE_ID}.", "file_ids", position
            )
        elif file_id in seen:
            faults.add(f"{file_id} is also at position {seen[file_id]}; name each file once.", "file_ids", position)
        else:
            seen[file_id] = position
    return tuple(seen)


def _priority(given: Any, faults: Faults) -> int:
    if given is None:
        return _DEFAULT_PRIORITY
    if type(given) is not int or given not in _PRIORITIES:
        faults.add(
            f"{shown(given)} is no priority: that is an integer from 1 to 10, and 10 is served first.", "priority"
        )
        return _DEFAULT_PRIORITY
    return given


def _filename(given: Any, faults: Faults) -> str | None:
    if given is None:
        return None
    if not isinstance(given, str):
        faults.add(f'{shown(given)} is no file name: that is a string, such as "photos.zip".', "filename")
        return None
    if not given.strip():
        faults.add("A file name must have at least one visible character.", "filename")
    if len(given.encode()) > MAX_FILENAME_BYTES:
        faults.add(
            f"The file name has {len(given.encode())} bytes in UTF-8, {MAX_FILENAME_BYTES} are allowed.", "filename"
        )
    if "/" in given or "\\" in given or has_unsafe_characters(given):
        faults.add("A file name must not have path separators, control characters or marks of direction.", "filename")
    return given if given.lower().endswith(".zip") else f"{given}.zip"


def _webhook_url(given: Any, faults: Faults, *, allow_private: bool) -> str | None:
    if given is None:
        return None
    if not isinstance(given, str):
        faults.add(
            f'{shown(given)} is no URL: that is a string, such as "https://example.com/callback".', "webhook_url"
        )
        return None
    try:
        check_url(given, allow_private=allow_private)
    except UnsafeUrlError as error:
        faults.add(f"The URL {error}.", "webhook_url")
    return given


def parse_register(body: Mapping[str, Any]) -> RegisterFile:
    """Return the request that a body of ``POST /v1/files`` makes.

    Raises:
        InvalidRequestError: with everything that is wrong.
    """
    faults = Faults()
    source, name = body.get("source"), body.get("name")
    location = _source(source, faults) if source is not None else None
    if name is not None:
        _check_name(name, faults)
    elif source is None:
        faults.add('Either "source" (an object in the store) or "name" (of a file to upload) is needed.')
    elif location is not None:
        name = location[1].rpartition("/")[2]
        if not name:
            faults.add('The key ends with a slash; give the file a name, such as "report.pdf".', "name")
    check_known(body, ("source", "name"), faults)
    faults.check()
    return RegisterFile(name=str(name), source=location)


def _source(given: Any, faults: Faults) -> tuple[str, str] | None:
    match = _SOURCE.fullmatch(given) if isinstance(given, str) else None
    if match is None:
        faults.add(f'{shown(given)} is no source: that is "s3://bucket/key".', "source")
        return None
    bucket, key = match["bucket"], match["key"]
    before = len(faults)
    if len(key.encode()) > MAX_NAME_BYTES:
        faults.add(f"The key has {len(key.encode())} bytes in UTF-8, {MAX_NAME_BYTES} are allowed.", "source")
    if has_unsafe_characters(key):
        faults.add("The key must not have control characters or marks of direction.", "source")
    # Whatever is between us and the store may tidy such paths up, and then it is another object than was checked.
    if key.startswith("/") or any(step in (".", "..") for step in key.split("/")):
        faults.add("The key must not start with a slash, nor have . or .. between slashes.", "source")
    return (bucket, key) if len(faults) == before else None


def _check_name(given: Any, faults: Faults) -> None:
    """A name may have slashes: it is a path inside an archive, and is made safe when one is planned."""
    if not isinstance(given, str):
        faults.add(f'{shown(given)} is no name: that is a string, such as "reports/2025.pdf".', "name")
        return
    if not given.strip():
        faults.add("A name must have at least one visible character.", "name")
    if len(given.encode()) > MAX_NAME_BYTES:
        faults.add(f"The name has {len(given.encode())} bytes in UTF-8, {MAX_NAME_BYTES} are allowed.", "name")
    if has_unsafe_characters(given):
        faults.add("A name must not have control characters or marks of direction.", "name")
