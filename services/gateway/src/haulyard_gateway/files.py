"""The endpoints of files: add what is in the store, at an origin or yet to be uploaded; list, see and delete files."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

from litestar import Response, delete, get, post
from litestar.params import PathParameter
from ulid import ULID

from haulyard_chassis.logs import audit, get_logger
from haulyard_chassis.problems import ForbiddenError, NotFoundError
from haulyard_chassis.store import AccessDeniedError, ObjectNotFoundError, StoreError
from haulyard_chassis.uploads import upload_folder
from haulyard_gateway import openapi
from haulyard_gateway.auth import UserRequest
from haulyard_gateway.bodies import in_seconds
from haulyard_gateway.context import Context, Given
from haulyard_gateway.file_bodies import FileBody, FileList, FilePage, UploadLink, file_body
from haulyard_gateway.file_validation import NewFile, ObjectAt, SourceRules, parse_register
from haulyard_gateway.headers import NO_STORE, warning
from haulyard_gateway.looking import look_at, look_at_all
from haulyard_gateway.ports import AddedFile, CatalogueFile, Ports
from haulyard_gateway.queries import FILE_ID, FILE_PARAMETERS, file_cursor, link_to_next, parse_files_wanted
from haulyard_gateway.reading import read_object, read_query
from haulyard_gateway.validation import MAX_FILE_ID

log = get_logger(__name__)

_LOOKS = 16
"""Uploads of a page that are looked for at the same time."""

FileIdPath = Annotated[str, PathParameter(description="The file's id: an integer.")]


@post("/files", status_code=201, **openapi.ADD_FILES)
async def add_files(request: UserRequest, context: Given) -> Response[FileBody | FileList]:
    """Add one file to the catalogue, or many: all of them or none."""
    rules = SourceRules(context.settings.source_hosts, context.settings.allowed_networks)
    wanted, is_list = parse_register(await read_object(request), rules)
    added = await _add(request.user, wanted, context)
    audit("files added", user_id=request.user, file_ids=[file.file_id for file in added])
    if is_list:
        return Response(FileList(files=tuple(added)), headers=NO_STORE)
    return Response(added[0], headers={**NO_STORE, "Location": context.links.file(added[0].file_id)})


@get("/files", **openapi.LIST_FILES)
async def list_files(request: UserRequest, context: Given) -> Response[FilePage]:
    """List the files that a user may archive, the newest first."""
    query = read_query(request, FILE_PARAMETERS)
    wanted = parse_files_wanted(query)
    found = await context.ports.catalogue.page(request.user, wanted)
    page = await _refresh_awaited(context.ports, found[: wanted.limit])
    cursor = file_cursor(page[-1].file_id) if len(found) > wanted.limit else None
    body = FilePage(files=tuple(file_body(file) for file in page), next_cursor=cursor)
    return Response(body, headers=NO_STORE | link_to_next(context.links.files(), query, cursor))


@get("/files/{file_id:str}", **openapi.GET_FILE)
async def get_file(request: UserRequest, file_id: FileIdPath, context: Given) -> Response[FileBody]:
    """Tell what the catalogue has of a file; of one that is awaited, see whether it has arrived."""
    file = await _visible(request.user, file_id, context.ports)
    headers = NO_STORE
    if file.is_awaited:
        try:
            file = await _refresh(context.ports, file)
        except StoreError as error:
            log.warning("upload not checked", file_id=file_id, error=str(error))
            headers = NO_STORE | warning("the object store is away; whether the upload has arrived was not checked")
    return Response(file_body(file), headers=headers)


@delete("/files/{file_id:str}", status_code=204, **openapi.DELETE_FILE)
async def delete_file(request: UserRequest, file_id: FileIdPath, context: Given) -> Response[None]:
    """Take a file out of the catalogue; an object that was uploaded for it goes, too, one that was registered stays."""
    ports = context.ports
    file = await _visible(request.user, file_id, ports)
    if file.owner_id is None:
        raise ForbiddenError("The file is everybody's; only an operator takes it away.")
    source = file.source
    # The object first: if that fails, the file is still there, and can be deleted again.
    if (
        isinstance(source, ObjectAt)
        and is_upload(request.user, source, files_bucket=context.settings.files_bucket)
        and not await ports.catalogue.is_used_elsewhere(file.file_id, source, owner_id=request.user)
    ):
        await ports.store.delete(source.bucket, source.key)
    await ports.catalogue.delete(file.file_id, owner_id=request.user)
    audit("file deleted", user_id=request.user, file_id=file.file_id)
    return Response(None, headers=NO_STORE)


def is_upload(user_id: str, source: ObjectAt, *, files_bucket: str) -> bool:
    """Whether an object is one that a user uploaded here, so that it is ours to delete."""
    return source.bucket == files_bucket and source.key.startswith(upload_folder(user_id))


async def _visible(user_id: str, file_id: str, ports: Ports) -> CatalogueFile:
    """Return a file that is the user's own or everybody's; one that is malformed, unknown or another's is none."""
    file = None
    if FILE_ID.fullmatch(file_id) and int(file_id) <= MAX_FILE_ID:
        file = await ports.catalogue.get(int(file_id), user_id=user_id)
    if file is None:
        raise NotFoundError("You have no file with this id.")
    return file


async def _refresh(ports: Ports, file: CatalogueFile) -> CatalogueFile:
    if not isinstance(file.source, ObjectAt):
        return file
    try:
        found = await look_at(ports.store, file.source)
    except (ObjectNotFoundError, AccessDeniedError):  # keys that may not list a bucket get 403 for what is not there
        return file
    completed = await ports.catalogue.complete(file.file_id, found)
    if completed is None:
        raise NotFoundError("You have no file with this id.")
    return completed


async def _refresh_awaited(ports: Ports, page: Sequence[CatalogueFile]) -> list[CatalogueFile]:
    """See which of the uploads that are awaited have arrived; while the store is away they stay awaited."""
    slots = asyncio.Semaphore(_LOOKS)

    async def one(file: CatalogueFile) -> CatalogueFile:
        if not file.is_awaited:
            return file
        async with slots:
            try:
                return await _refresh(ports, file)
            except (StoreError, NotFoundError) as error:
                log.warning("upload not checked", file_id=file.file_id, error=str(error))
                return file

    return list(await asyncio.gather(*(one(file) for file in page)))


async def _add(user_id: str, wanted: Sequence[NewFile], context: Context) -> list[FileBody]:
    """Add files, all or none, and return them with the links to upload those that are not there."""
    settings, ports = context.settings, context.ports
    found = await look_at_all(ports.store, wanted, user_id, settings)
    now = datetime.now(UTC)
    files = [
        AddedFile(
            source=file.source or ObjectAt(settings.files_bucket, f"{upload_folder(user_id)}{ULID.from_datetime(now)}"),
            name=file.name,
            found=info,
        )
        for file, info in zip(wanted, found, strict=True)
    ]
    added = await ports.catalogue.add(user_id, files)
    expires_at = in_seconds(now + timedelta(seconds=settings.upload_expires))

    def link(file: CatalogueFile, asked: NewFile) -> UploadLink | None:
        if asked.source is not None or not isinstance(file.source, ObjectAt):
            return None
        url = ports.store.presign_put(file.source.bucket, file.source.key, expires=settings.upload_expires)
        return UploadLink(method="PUT", url=url, expires_at=expires_at)

    return [file_body(file, link(file, asked)) for file, asked in zip(added, wanted, strict=True)]
