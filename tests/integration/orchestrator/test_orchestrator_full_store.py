"""A store that has no room left: the job fails and says why, and nothing half-done stays behind."""

import random
from collections.abc import AsyncIterator, Callable

import pytest
from aiohttp import web

from haulyard_contracts import TERMINAL, Compression, ErrorCode, JobDocument, JobStatus
from haulyard_orchestrator.settings import OrchestratorSettings
from support.quirky_s3 import Asked, QuirkyS3, S3Error, serving
from support.world import World, open_world

MIB = 1024 * 1024

Refusal = Callable[[], S3Error]
REFUSALS: dict[str, Refusal] = {
    "minio": lambda: S3Error(507, "XMinioStorageFull"),
    "ceph": lambda: S3Error(403, "QuotaExceeded"),
}
"""How stores say that they are full."""


@pytest.fixture
async def store() -> AsyncIterator[QuirkyS3]:
    async with serving("aws") as running:
        yield running


@pytest.fixture
async def small_world(settings: OrchestratorSettings, store: QuirkyS3) -> AsyncIterator[World]:
    changed = settings.model_copy(update={"s3_endpoint": store.endpoint})
    async with open_world(changed) as opened:
        yield opened


def full_after(store: QuirkyS3, bucket: str, taken: int, refusal: Refusal) -> None:
    """Let the store take so many more objects or parts of archives, and no other."""
    left = [taken]

    def instead(asked: Asked) -> web.Response | None:
        if asked.method != "PUT" or asked.bucket != bucket or not asked.key:
            return None
        left[0] -= 1
        return refusal().answer() if left[0] < 0 else None

    store.instead = instead


async def to_its_end(world: World, job_id: str) -> JobDocument:
    """Make and report what is sent, and send again what is due, until the job is over."""
    for _ in range(50):
        await world.work(job_id)
        document = await world.document(job_id)
        if document.status in TERMINAL:
            return document
        await world.jobs.send_due(limit=100)
    raise AssertionError(f"the job is still {document.status}")


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=list(REFUSALS))
@pytest.mark.parametrize(
    ("size", "compression", "taken"),
    [
        (1_000, Compression.STORE, 0),
        (14 * MIB, Compression.STORE, 1),
        (14 * MIB, Compression.DEFLATE, 1),
    ],
    ids=["one part", "many parts", "while it is deflated"],
)
async def test_a_job_fails_when_the_store_is_full_and_leaves_nothing(
    small_world: World, store: QuirkyS3, size: int, compression: Compression, taken: int, refusal: Refusal
) -> None:
    world = small_world
    file_id = await world.add_file(random.Random(size).randbytes(size))
    full_after(store, world.bucket, taken, refusal)
    request = await world.request(file_id, compression=compression)
    document = await to_its_end(world, request.job_id)
    assert document.status is JobStatus.FAILED
    assert document.error is not None
    assert document.error.code is ErrorCode.STORE_UNAVAILABLE, document.error.message
    assert refusal().code in document.error.message
    assert store.uploads == {}
    assert [key for key in store.buckets[world.bucket] if not key.startswith(".haulyard-probe/")] == []
    assert await world.tasks(request.job_id) == []


async def test_a_job_goes_on_when_there_is_room_again(small_world: World, store: QuirkyS3) -> None:
    world = small_world
    data = random.Random("room").randbytes(14 * MIB)
    file_id = await world.add_file(data)
    full_after(store, world.bucket, 1, REFUSALS["minio"])
    request = await world.request(file_id)
    await world.work(request.job_id)
    store.instead = lambda _: None
    document = await to_its_end(world, request.job_id)
    assert document.status is JobStatus.COMPLETED
    assert data in await world.archive(request.job_id)
