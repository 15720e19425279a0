"""The endpoints of files: register an object that is in the store, or upload one; see what the catalogue has."""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

from litestar import Response, get, post
from litestar.params import PathParameter
from ulid import ULID

from haulyard_chassis.logs import get_logger
from haulyard_chassis.problems import FieldError, InvalidRequestError, NotFoundError
from haulyard_chassis.store import (
    AccessDeniedError,
    ObjectInfo,
    ObjectNotFoundError,
    StoreError,
    StoreRefusedError,
    StoreUnavailableError,
)
from haulyard_gateway import openapi
from haulyard_gateway.auth import UserRequest
from haulyard_gateway.bodies import FileBody, UploadLink, file_body, in_seconds
from haulyard_gateway.context import Given
from haulyard_gateway.headers import NO_STORE, warning
from haulyard_gateway.ports import CatalogueFile, Ports, Store
from haulyard_gateway.reading import read_object
from haulyard_gateway.settings import GatewaySettings
from haulyard_gateway.sources import may_register, upload_folder
from haulyard_gateway.validation import MAX_FILE_ID, parse_register

log = get_logger(__name__)

FileIdPath = Annotated[str, PathParameter(description="The file's id: an integer.")]

_FILE_ID = re.compile(r"[1-9][0-9]{0,15}")

_STORE_PATIENCE = 5.0
"""Seconds that an answer waits for the store."""


@post("/files", status_code=201, **openapi.ADD_FILE)
async def add_file(request: UserRequest, context: Given) -> Response[FileBody]:
    """Add a file to the catalogue: an object that is there, or one that is to be uploaded."""
    ports, settings = context.ports, context.settings
    wanted = parse_register(await read_object(request))
    upload = None
    if wanted.source is not None:
        bucket, key = wanted.source
        found = await _find(ports.store, request.user, bucket, key, settings)
        file = await ports.catalogue.add(owner_id=request.user, bucket=bucket, key=key, name=wanted.name, found=found)
    else:
        now = datetime.now(UTC)
        bucket, key = settings.files_bucket, f"{upload_folder(request.user)}{ULID.from_datetime(now)}"
        file = await ports.catalogue.add(owner_id=request.user, bucket=bucket, key=key, name=wanted.name, found=None)
        upload = UploadLink(
            method="PUT",
            url=ports.store.presign_put(bucket, key, expires=settings.upload_expires),
            expires_at=in_seconds(now + timedelta(seconds=settings.upload_expires)),
        )
    log.info("file added", file_id=file.file_id, user_id=request.user, uploaded=upload is not None)
    return Response(file_body(file, upload), headers={**NO_STORE, "Location": context.links.file(file.file_id)})


@get("/files/{file_id:str}", **openapi.GET_FILE)
async def get_file(request: UserRequest, file_id: FileIdPath, context: Given) -> Response[FileBody]:
    """Tell what the catalogue has of a file; of one that is awaited, see whether it has arrived."""
    file = None
    if _FILE_ID.fullmatch(file_id) and int(file_id) <= MAX_FILE_ID:
        file = await context.ports.catalogue.get(int(file_id), user_id=request.user)
    headers = NO_STORE
    if file is not None and file.size_bytes is None:
        try:
            file = await _refresh(context.ports, file)
        except StoreError as error:
            log.warning("upload not checked", file_id=file_id, error=str(error))
            headers = NO_STORE | warning("the object store is away; whether the upload has arrived was not checked")
    if file is None:
        raise NotFoundError("You have no file with this id.")
    return Response(file_body(file), headers=headers)


async def _refresh(ports: Ports, file: CatalogueFile) -> CatalogueFile | None:
    try:
        found = await _head(ports.store, file.bucket, file.key)
    except (ObjectNotFoundError, AccessDeniedError):  # keys that may not list a bucket get 403 for what is not there
        return file
    return await ports.catalogue.complete(file.file_id, found)


async def _find(store: Store, user_id: str, bucket: str, key: str, settings: GatewaySettings) -> ObjectInfo:
    """Return what the store says of a source; what may not be registered is not even looked for."""
    if not may_register(user_id, bucket, key, buckets=settings.allowed_source_buckets):
        raise _bad_source("You may not register objects from there.")
    try:
        return await _head(store, bucket, key)
    except (ObjectNotFoundError, AccessDeniedError, StoreRefusedError) as error:
        log.info("source refused", user_id=user_id, error=str(error))
        raise _bad_source(
            "There is no such object, or it may not be read; check bucket and key, which are case-sensitive."
        ) from error


async def _head(store: Store, bucket: str, key: str) -> ObjectInfo:
    try:
        async with asyncio.timeout(_STORE_PATIENCE):
            return await store.head(bucket, key)
    except TimeoutError as error:
        raise StoreUnavailableError(f"HEAD {bucket}/{key}: no answer in {_STORE_PATIENCE} s") from error


def _bad_source(detail: str) -> InvalidRequestError:
    return InvalidRequestError(f"#/source: {detail}", errors=[FieldError(detail=detail, pointer="#/source")])
