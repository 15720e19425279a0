"""Is a request for an archive what it should be?

Pure functions: from a decoded JSON object to a request, or to all that is wrong.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from haulyard_chassis.egress import Networks, UnsafeUrlError, check_url
from haulyard_contracts import Compression, OnMissing
from haulyard_gateway.faults import Faults, check_known, has_unsafe_characters, shown

MAX_FILE_ID = 2**53 - 1
"""The largest integer that JavaScript holds exactly."""
MAX_FILENAME_BYTES = 200
"""Bytes of an archive's name: file systems take 255, and browsers add `` (1)``."""
INITIATE_FIELDS = ("file_ids", "webhook_url", "priority", "filename", "compression", "on_missing")

_PRIORITIES = range(1, 11)
_DEFAULT_PRIORITY = 5

Choice = TypeVar("Choice", bound=StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class InitiateRequest:
    """A valid wish for an archive."""

    file_ids: tuple[int, ...]
    priority: int = _DEFAULT_PRIORITY
    filename: str | None = None
    webhook_url: str | None = None
    compression: Compression = Compression.STORE
    on_missing: OnMissing = OnMissing.SKIP


def parse_initiate(body: Mapping[str, Any], *, max_files: int, networks: Networks = ()) -> InitiateRequest:
    """Return the request that a body of ``POST /v1/download/initiate`` makes.

    Args:
        body: the decoded JSON object.
        max_files: most files of one job.
        networks: webhooks may be there although they are not public, and without TLS.

    Raises:
        InvalidRequestError: with everything that is wrong.
    """
    faults = Faults()
    file_ids = _file_ids(body, max_files, faults)
    wanted = _options(body, faults, networks)
    check_known(body, INITIATE_FIELDS, faults)
    faults.check()
    return wanted(file_ids)


def parse_start(body: Mapping[str, Any], *, max_files: int, networks: Networks = ()) -> InitiateRequest:
    """Return the request that a body of ``POST /v1/download/start`` makes: one ``file_id``, or as `parse_initiate`.

    Raises:
        InvalidRequestError: with everything that is wrong.
    """
    faults = Faults()
    if "file_id" in body and "file_ids" in body:
        faults.add('Give either "file_id" or "file_ids".', "file_id")
    file_ids = (_file_id(body, faults),) if "file_id" in body else _file_ids(body, max_files, faults)
    wanted = _options(body, faults, networks)
    check_known(body, ("file_id", *INITIATE_FIELDS), faults)
    faults.check()
    return wanted(file_ids)


def parse_check(body: Mapping[str, Any]) -> int:
    """Return the id of the file that a body of ``POST /v1/download/check`` asks about.

    Raises:
        InvalidRequestError: with everything that is wrong.
    """
    faults = Faults()
    file_id = _file_id(body, faults)
    check_known(body, ("file_id",), faults)
    faults.check()
    return file_id


def is_file_id(given: Any) -> bool:
    """Whether a value can be a file's id."""
    return type(given) is int and 1 <= given <= MAX_FILE_ID


def _options(
    body: Mapping[str, Any], faults: Faults, networks: Networks
) -> Callable[[tuple[int, ...]], InitiateRequest]:
    priority = _priority(body.get("priority"), faults)
    filename = _filename(body.get("filename"), faults)
    webhook_url = _webhook_url(body.get("webhook_url"), faults, networks)
    compression = _choice(body, "compression", Compression.STORE, faults)
    on_missing = _choice(body, "on_missing", OnMissing.SKIP, faults)

    def wanted(file_ids: tuple[int, ...]) -> InitiateRequest:
        return InitiateRequest(
            file_ids=file_ids,
            priority=priority,
            filename=filename,
            webhook_url=webhook_url,
            compression=compression,
            on_missing=on_missing,
        )

    return wanted


def _file_id(body: Mapping[str, Any], faults: Faults) -> int:
    given = body.get("file_id")
    if not is_file_id(given):
        what = "This field is missing" if "file_id" not in body else f"{shown(given)} is no file id"
        faults.add(f"{what}: an integer from 1 to {MAX_FILE_ID} is needed.", "file_id")
        return 0
    return int(given)  # type: ignore[arg-type]  # it is one: it was looked at


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
        if not is_file_id(file_id):
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


def _choice(body: Mapping[str, Any], name: str, default: Choice, faults: Faults) -> Choice:
    given = body.get(name)
    if given is None:
        return default
    kind = type(default)
    if not isinstance(given, str) or given not in list(kind):
        faults.add(f"{shown(given)} is none of {', '.join(shown(str(choice)) for choice in kind)}.", name)
        return default
    return kind(given)


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


def _webhook_url(given: Any, faults: Faults, networks: Networks) -> str | None:
    if given is None:
        return None
    if not isinstance(given, str):
        faults.add(
            f'{shown(given)} is no URL: that is a string, such as "https://example.com/callback".', "webhook_url"
        )
        return None
    try:
        check_url(given, networks=networks)
    except UnsafeUrlError as error:
        faults.add(f"The URL {error}.", "webhook_url")
    return given
