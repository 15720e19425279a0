"""Plans, makes and joins whole archives over a store in memory: what planner and archiver do together."""

import io
import random
import zipfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from haulyard_archiver.parts import PartError, PartMaker
from haulyard_chassis.store import ObjectChangedError, ObjectNotFoundError, StoreUnavailableError, UploadGoneError
from haulyard_contracts import ErrorCode, Failure, PartDone, PartTask, decode, encode
from haulyard_orchestrator import results
from haulyard_orchestrator.part_records import PartRow
from haulyard_orchestrator.planning import FoundFile, LostFile, Plan, make_plan
from haulyard_zipline import Limits, crc32

LIMITS = Limits(min_part=500, packed_part=2_000, body_part=3_000, single_put=1_000, max_part=200_000)


@dataclass
class MemoryStore:
    """As much of an object store as an archiver uses."""

    objects: dict[str, bytes]
    parts: dict[int, bytes] = field(default_factory=dict)
    archive: bytes | None = None
    upload_is_gone: bool = False
    breaks_after: int | None = None

    @asynccontextmanager
    async def read(
        self, _: str, key: str, *, etag: str, offset: int, length: int
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        if key not in self.objects:
            raise ObjectNotFoundError(key)
        data = self.objects[key]
        if etag != str(crc32(data)):
            raise ObjectChangedError(key)

        async def chunks() -> AsyncIterator[bytes]:
            for start in range(offset, offset + length, 700):
                if self.breaks_after is not None and start >= self.breaks_after:
                    raise StoreUnavailableError("connection lost")
                yield data[start : min(start + 700, offset + length)]

        yield chunks()

    async def put(self, _: str, __: str, body: Any, *, size: int, content_type: str) -> str:
        self.archive = await _drain(body)
        assert (len(self.archive), content_type) == (size, "application/zip")
        return "etag"

    async def upload_part(self, _: str, __: str, *, upload_id: str, number: int, body: Any, size: int) -> str:
        if self.upload_is_gone:
            raise UploadGoneError(upload_id)
        self.parts[number] = await _drain(body)
        assert len(self.parts[number]) == size
        return f"etag-{number}"


async def _drain(body: AsyncIterator[bytes]) -> bytes:
    return b"".join([bytes(chunk) async for chunk in body])


def found(position: int, data: bytes, *, known: bool, name: str | None = None) -> FoundFile:
    return FoundFile(
        position=position,
        file_id=70000 + position,
        name=name or f"file-{position}.bin",
        bucket="b",
        key=f"k{position}",
        etag=str(crc32(data)),
        size=len(data),
        mtime=1_700_000_000,
        crc32=crc32(data) if known else None,
    )


def planned(files: list[FoundFile], lost: list[LostFile] | None = None) -> Plan:
    return make_plan(
        job_id="job_1",
        generation=1,
        bucket="a",
        key="z",
        found=files,
        lost=lost or [],
        created_at=1_700_000_000,
        limits=LIMITS,
    )


async def build(plan: Plan, store: MemoryStore, order: random.Random) -> bytes:
    """Make all parts in a random order that respects what waits for what, as the orchestrator releases them."""
    maker = PartMaker(store, readers=3)  # type: ignore[arg-type]
    rows: dict[int, PartRow] = {}
    whole: dict[int, int] = {}
    for part in plan.parts:
        task = replace(part.task, upload_id="u") if len(plan.parts) > 1 else part.task
        rows[task.number] = PartRow(
            number=task.number,
            status="waiting" if part.waits else "queued",
            is_closing=part.is_closing,
            is_body=part.is_body,
            slice_of=part.slice.entry if part.slice else None,
            slice_offset=part.slice.offset if part.slice else None,
            slice_length=part.slice.length if part.slice else None,
            slice_crc32=None,
            attempts=1,
            data_bytes=part.data_bytes,
            task=decode(encode(task), PartTask),
        )
    while queued := [row for row in rows.values() if row.status == "queued"]:
        row = order.choice(queued)
        made = await maker.make(row.task)
        done = PartDone(
            job_id="job_1",
            generation=1,
            number=row.number,
            attempt=1,
            etag=made.etag,
            size=row.task.size,
            slices=made.slices,
        )
        whole |= results.whole_entries(row.task, done)
        rows[row.number] = _with(row, status="done", slice_crc32=results.slice_crc32(row, done))
        for waiting in [each for each in rows.values() if each.status == "waiting"]:
            slices = sorted(
                (each for each in rows.values() if each.slice_of is not None), key=lambda each: each.slice_offset or 0
            )
            if waiting.is_closing:
                if all(each.status == "done" for each in rows.values() if not each.is_closing):
                    checksums = whole | results.joined(slices)
                    task = results.with_checksums(waiting.task, checksums)
                    rows[waiting.number] = _with(waiting, status="queued", task=task)
            elif waiting.slice_of is not None:
                behind = results.tail([each for each in slices if each.slice_of == waiting.slice_of])
                if behind is not None:
                    task = results.with_tail(waiting.task, waiting.slice_of, behind)
                    rows[waiting.number] = _with(waiting, status="queued", task=task)
    assert all(row.status == "done" for row in rows.values())
    return store.archive if store.archive is not None else b"".join(store.parts[n] for n in sorted(store.parts))


def _with(row: PartRow, **changes: Any) -> PartRow:
    return PartRow(**{**{name: getattr(row, name) for name in PartRow.__slots__}, **changes})


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.tuples(st.one_of(st.integers(0, 300), st.integers(0, 12_000)), st.booleans()), min_size=1, max_size=12),
    st.randoms(use_true_random=False),
    st.booleans(),
)
async def test_any_files_in_any_order_of_work_make_an_archive_that_python_reads(
    shapes: list[tuple[int, bool]],
    order: random.Random,
    loses_one: bool,  # noqa: FBT001
) -> None:
    contents = [order.randbytes(size) for size, _ in shapes]
    files = [found(i, data, known=known) for i, (data, (_, known)) in enumerate(zip(contents, shapes, strict=True))]
    lost = [
        LostFile(position=99, file_id=1, failure=Failure(code=ErrorCode.FILE_NOT_FOUND, message="File 1 not found"))
    ]
    plan = planned(files, lost if loses_one else [])
    archive = await build(plan, MemoryStore({f"k{i}": data for i, data in enumerate(contents)}), order)
    assert len(archive) == plan.size
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert opened.testzip() is None
        assert [opened.read(file.name) for file in plan.files] == contents
        assert ("MISSING-FILES.txt" in opened.namelist()) == loses_one


async def test_the_same_files_make_the_same_bytes_whether_checksums_were_known_or_not() -> None:
    data = [random.Random(7).randbytes(size) for size in (10, 9_000, 0, 700, 5_000)]
    objects = {f"k{i}": each for i, each in enumerate(data)}
    archives = [
        await build(planned([found(i, each, known=known) for i, each in enumerate(data)]), MemoryStore(objects), order)
        for known, order in ((True, random.Random(1)), (False, random.Random(2)))
    ]
    assert archives[0] == archives[1]


async def _error(plan: Plan, store: MemoryStore) -> PartError:
    maker = PartMaker(store, readers=2)  # type: ignore[arg-type]
    task = next(part.task for part in plan.parts if not part.waits)
    with pytest.raises(PartError) as caught:
        await maker.make(replace(task, upload_id="u") if len(plan.parts) > 1 else task)
    return caught.value


@pytest.mark.parametrize("size", [100, 9_000], ids=["packed", "streamed"])
async def test_a_source_that_is_gone_or_replaced_names_its_entry(size: int) -> None:
    data = bytes(size)
    plan = planned([found(0, data, known=False)])
    gone = await _error(plan, MemoryStore({}))
    assert (gone.code, gone.entry) == (ErrorCode.FILE_NOT_FOUND, 0)
    replaced = await _error(plan, MemoryStore({"k0": b"x" * size}))
    assert (replaced.code, replaced.entry) == (ErrorCode.SOURCE_CHANGED, 0)


@pytest.mark.parametrize("size", [900, 9_000], ids=["packed", "streamed"])
async def test_a_source_that_breaks_off_is_a_source_error_and_not_one_of_the_archive(size: int) -> None:
    data = bytes(size)
    error = await _error(planned([found(0, data, known=False)]), MemoryStore({"k0": data}, breaks_after=700))
    assert (error.code, error.entry) == (ErrorCode.SOURCE_UNAVAILABLE, 0)


async def test_an_upload_that_is_gone_names_no_entry() -> None:
    data = bytes(9_000)
    error = await _error(planned([found(0, data, known=False)]), MemoryStore({"k0": data}, upload_is_gone=True))
    assert (error.code, error.entry) == (ErrorCode.UPLOAD_GONE, None)


async def test_bytes_that_do_not_have_the_catalogues_checksum_never_reach_an_archive() -> None:
    data = b"what the store has"
    store = MemoryStore({"k0": data})
    file = found(0, data, known=True)
    wrong = FoundFile(**{**{name: getattr(file, name) for name in FoundFile.__slots__}, "crc32": 1})
    error = await _error(planned([wrong]), store)
    assert (error.code, error.entry, store.archive) == (ErrorCode.CHECKSUM_MISMATCH, 0, None)
