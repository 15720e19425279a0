"""Looking at sources in the store: is the object there, and may this user have it?"""

import asyncio
from collections.abc import Sequence

from haulyard_chassis.logs import get_logger
from haulyard_chassis.store import (
    AccessDeniedError,
    ObjectInfo,
    ObjectNotFoundError,
    StoreRefusedError,
    StoreUnavailableError,
)
from haulyard_gateway.faults import Faults
from haulyard_gateway.file_validation import NewFile, ObjectAt
from haulyard_gateway.ports import Store
from haulyard_gateway.settings import GatewaySettings
from haulyard_gateway.sources import may_register

log = get_logger(__name__)

_PATIENCE = 5.0
"""Seconds that an answer waits for the store to tell of one object."""
_PATIENCE_FOR_MANY = 20.0
"""Seconds that an answer waits for all objects of a list."""
_AT_ONCE = 32
"""Objects of a list that are looked at at the same time."""


async def look_at(store: Store, source: ObjectAt, *, patience: float = _PATIENCE) -> ObjectInfo:
    """Return what the store says of an object.

    Raises:
        ObjectNotFoundError, AccessDeniedError, StoreRefusedError
        StoreUnavailableError: also if it does not answer in time.
    """
    try:
        async with asyncio.timeout(patience):
            return await store.head(source.bucket, source.key)
    except TimeoutError as error:
        raise StoreUnavailableError(f"HEAD {source.bucket}/{source.key}: no answer in {patience} s") from error


async def look_at_all(
    store: Store, files: Sequence[NewFile], user_id: str, settings: GatewaySettings
) -> list[ObjectInfo | None]:
    """Return what the store says of each file's source; None for those that are not in it.

    Raises:
        InvalidRequestError: names all that are not there, or that the user may not register.
        StoreUnavailableError
    """
    slots = asyncio.Semaphore(_AT_ONCE)
    patience = _PATIENCE if len(files) == 1 else _PATIENCE_FOR_MANY

    async def one(source: ObjectAt) -> ObjectInfo | str:
        """Return what is found, or what is wrong."""
        # What may not be registered is not even looked for.
        if not may_register(user_id, source.bucket, source.key, buckets=settings.allowed_source_buckets):
            return "You may not register objects from there."
        async with slots:
            try:
                return await look_at(store, source, patience=patience)
            except (ObjectNotFoundError, AccessDeniedError, StoreRefusedError) as error:
                log.info("source refused", user_id=user_id, error=str(error))
                return "There is no such object, or it may not be read; check bucket and key, which are case-sensitive."

    try:
        async with asyncio.timeout(patience), asyncio.TaskGroup() as group:
            looks = [
                group.create_task(one(file.source)) if isinstance(file.source, ObjectAt) else None for file in files
            ]
    except TimeoutError as error:
        raise StoreUnavailableError(f"{len(files)} sources were not looked at in {patience} s") from error
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    found = [look.result() if look else None for look in looks]
    faults = Faults()
    for file, result in zip(files, found, strict=True):
        if isinstance(result, str):
            faults.add(result, *file.path, "source")
    faults.check()
    return [result for result in found if not isinstance(result, str)]
