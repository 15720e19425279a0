"""Is a wish to add files to the catalogue what it should be? Pure functions, as in `validation`."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from haulyard_chassis.egress import Networks, UnsafeUrlError
from haulyard_chassis.source_urls import check_source_url
from haulyard_gateway.faults import Faults, check_known, has_unsafe_characters, shown

MAX_NAME_BYTES = 1024
"""Bytes of a file's name, and of an object's key (which is S3's own limit)."""
MAX_FILES_AT_ONCE = 1_000
"""Files that one request may add."""
FILE_FIELDS = ("source", "name")

_SOURCE = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/(?P<key>.+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ObjectAt:
    """An object in the store."""

    bucket: str
    key: str


@dataclass(frozen=True, slots=True)
class OriginAt:
    """What an origin serves under a URL."""

    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFile:
    """A valid wish to add a file to the catalogue."""

    name: str
    source: ObjectAt | OriginAt | None
    """None asks for a link to upload it."""
    path: tuple[str | int, ...] = ()
    """Where in the body it is."""


@dataclass(frozen=True, slots=True)
class SourceRules:
    """From where files may be archived by URL."""

    hosts: Collection[str]
    networks: Networks = ()


def parse_register(body: Mapping[str, Any], rules: SourceRules) -> tuple[tuple[NewFile, ...], bool]:
    """Return the files that a body of ``POST /v1/files`` adds, and whether it is a list.

    Raises:
        InvalidRequestError: with everything that is wrong.
    """
    faults = Faults()
    if "files" not in body:
        file = _new_file(body, rules, faults)
        faults.check()
        return (file,), False
    given = body["files"]
    check_known(body, ("files",), faults)
    wanted = f'a list of 1 to {MAX_FILES_AT_ONCE} objects is needed, such as [{{"source": "s3://bucket/key"}}].'
    if not isinstance(given, list):
        faults.add(f"This is {shown(given)}; {wanted}", "files")
    elif not 1 <= len(given) <= MAX_FILES_AT_ONCE:
        faults.add(f"There are {len(given)} files; {wanted}", "files")
    faults.check()
    files = []
    for position, item in enumerate(given):
        if isinstance(item, dict):
            files.append(_new_file(item, rules, faults, "files", position))
        else:
            faults.add(f"{shown(item)} is no object.", "files", position)
    faults.check()
    return tuple(files), True


def _new_file(body: Mapping[str, Any], rules: SourceRules, faults: Faults, *path: str | int) -> NewFile:
    source, name = body.get("source"), body.get("name")
    location = _source(source, rules, faults, *path, "source") if source is not None else None
    if name is not None:
        _check_name(name, faults, *path, "name")
    elif source is None:
        faults.add('Either "source" (what is there) or "name" (of a file to upload) is needed.', *path)
    elif location is not None:
        name = _last_step(location)
        if not name or len(name.encode()) > MAX_NAME_BYTES or has_unsafe_characters(name):
            faults.add('The source ends with no fit name; give the file one, such as "report.pdf".', *path, "name")
    check_known(body, FILE_FIELDS, faults, *path)
    return NewFile(name=str(name), source=location, path=path)


def _last_step(location: ObjectAt | OriginAt) -> str:
    if isinstance(location, ObjectAt):
        return location.key.rpartition("/")[2]
    return unquote(urlsplit(location.url).path.rpartition("/")[2], errors="replace")


def _source(given: Any, rules: SourceRules, faults: Faults, *path: str | int) -> ObjectAt | OriginAt | None:
    if isinstance(given, str) and given[:4].lower() == "http":
        return _origin(given, rules, faults, *path)
    match = _SOURCE.fullmatch(given) if isinstance(given, str) else None
    if match is None:
        faults.add(f'{shown(given)} is no source: that is "s3://bucket/key" or "https://host/path".', *path)
        return None
    bucket, key = match["bucket"], match["key"]
    before = len(faults)
    if len(key.encode()) > MAX_NAME_BYTES:
        faults.add(f"The key has {len(key.encode())} bytes in UTF-8, {MAX_NAME_BYTES} are allowed.", *path)
    if has_unsafe_characters(key):
        faults.add("The key must not have control characters or marks of direction.", *path)
    # Whatever is between us and the store may tidy such paths up, and then it is another object than was checked.
    if key.startswith("/") or any(step in (".", "..") for step in key.split("/")):
        faults.add("The key must not start with a slash, nor have . or .. between slashes.", *path)
    return ObjectAt(bucket, key) if len(faults) == before else None


def _origin(given: str, rules: SourceRules, faults: Faults, *path: str | int) -> OriginAt | None:
    try:
        check_source_url(given, rules.hosts, rules.networks)
    except UnsafeUrlError as error:
        faults.add(f"The URL {error}.", *path)
        return None
    return OriginAt(given)


def _check_name(given: Any, faults: Faults, *path: str | int) -> None:
    """A name may have slashes: it is a path inside an archive, and is made safe when one is planned."""
    if not isinstance(given, str):
        faults.add(f'{shown(given)} is no name: that is a string, such as "reports/2025.pdf".', *path)
        return
    if not given.strip():
        faults.add("A name must have at least one visible character.", *path)
    if len(given.encode()) > MAX_NAME_BYTES:
        faults.add(f"The name has {len(given.encode())} bytes in UTF-8, {MAX_NAME_BYTES} are allowed.", *path)
    if has_unsafe_characters(given):
        faults.add("A name must not have control characters or marks of direction.", *path)
