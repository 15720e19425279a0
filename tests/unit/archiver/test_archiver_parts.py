"""Plans, makes and joins whole archives over a store in memory: what planner, archiver and orchestrator do together.

Every kind of store gets the same archive: one that copies or does not, that looks at ETags or does not, that tells
checksums of copies, that wants parts of one size.
"""

import io
import random
import zipfile
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from haulyard_archiver.memory import Budget
from haulyard_archiver.parts import PartMaker
from haulyard_archiver.preparing import Preparer
from haulyard_archiver.reading import PartError
from haulyard_chassis.sources_reading import Reader
from haulyard_chassis.store import (
    CopiedPart,
    ObjectChangedError,
    ObjectInfo,
    ObjectNotFoundError,
    StoreRefusedError,
    StoreUnavailableError,
    UploadGoneError,
)
from haulyard_chassis.store_profile import StoreProfile
from haulyard_contracts import (
    Compression,
    ErrorCode,
    Failure,
    ObjectSource,
    PartDone,
    PartTask,
    PreparedRange,
    decode,
    encode,
)
from haulyard_orchestrator import results
from haulyard_orchestrator.part_records import PartRow
from haulyard_orchestrator.planning import FoundFile, LostFile, Plan, contents_of, make_plan
from haulyard_orchestrator.preparing import Blocks, preparations, prepared
from haulyard_zipline import Limits, crc32

LIMITS = Limits(
    min_part=500,
    packed_part=2_000,
    body_part=3_000,
    copied_part=5_000,
    spread=3,
    single_put=1_000,
    max_part=200_000,
)
PLAIN = StoreProfile(copy=True, copy_checks_etag=True, copy_crc32=False, equal_parts=False, min_part=500)
STORES = {
    "plain": PLAIN,
    "does not copy": StoreProfile(
        copy=False, copy_checks_etag=False, copy_crc32=False, equal_parts=False, min_part=500
    ),
    "copies without looking": StoreProfile(
        copy=True, copy_checks_etag=False, copy_crc32=False, equal_parts=False, min_part=500
    ),
    "tells checksums": StoreProfile(copy=True, copy_checks_etag=True, copy_crc32=True, equal_parts=False, min_part=500),
    "equal parts": StoreProfile(copy=True, copy_checks_etag=True, copy_crc32=False, equal_parts=True, min_part=500),
}
MODIFIED = 1_700_000_000


@dataclass
class MemoryStore:
    """As much of an object store as an archiver uses, of one kind."""

    objects: dict[str, bytes]
    profile: StoreProfile = PLAIN
    parts: dict[int, bytes] = field(default_factory=dict)
    checksums: dict[int, int | None] = field(default_factory=dict)
    archive: bytes | None = None
    upload_is_gone: bool = False
    breaks_after: int | None = None
    copied: int = 0
    refuses_copies: bool = False
    modified: int = MODIFIED

    def _current(self, key: str, etag: str) -> bytes:
        if key not in self.objects:
            raise ObjectNotFoundError(key)
        data = self.objects[key]
        if etag != str(crc32(data)):
            raise ObjectChangedError(key)
        return data

    async def head(self, _: str, key: str) -> ObjectInfo:
        if key not in self.objects:
            raise ObjectNotFoundError(key)
        data = self.objects[key]
        return ObjectInfo(len(data), str(crc32(data)), datetime.fromtimestamp(self.modified, UTC), "a/b", None)

    @asynccontextmanager
    async def read(
        self, _: str, key: str, *, etag: str, offset: int, length: int
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        data = self._current(key, etag)
        assert 0 <= offset <= offset + length <= len(data)

        async def chunks() -> AsyncIterator[bytes]:
            for start in range(offset, offset + length, 700):
                if self.breaks_after is not None and start >= self.breaks_after:
                    raise StoreUnavailableError("connection lost")
                yield data[start : min(start + 700, offset + length)]

        yield chunks()

    async def put(self, _: str, key: str, body: Any, *, size: int, content_type: str) -> str:
        data = await _drain(body)
        assert len(data) == size
        if key.startswith("staging/"):
            self.objects[key] = data
            return str(crc32(data))
        self.archive = data
        assert content_type == "application/zip"
        return "etag"

    async def upload_part(
        self, _: str, __: str, *, upload_id: str, number: int, body: Any, size: int, crc32: int | None = None
    ) -> str:
        if self.upload_is_gone:
            raise UploadGoneError(upload_id)
        self.parts[number] = await _drain(body)
        self.checksums[number] = crc32
        assert len(self.parts[number]) == size
        return f"etag-{number}"

    async def copy_part(
        self,
        _: str,
        __: str,
        *,
        upload_id: str,
        number: int,
        source_bucket: str,
        source_key: str,
        etag: str,
        offset: int,
        length: int,
    ) -> CopiedPart:
        assert self.profile.copy
        assert length >= LIMITS.min_part
        assert source_bucket
        if self.upload_is_gone:
            raise UploadGoneError(upload_id)
        if self.refuses_copies:
            raise StoreRefusedError("not of so small an object")
        data = self._current(source_key, etag) if self.profile.copy_checks_etag else self.objects[source_key]
        self.parts[number] = data[offset : offset + length]
        self.copied += length
        checksum = crc32(self.parts[number]) if self.profile.copy_crc32 else None
        self.checksums[number] = checksum
        return CopiedPart(f"etag-{number}", checksum)


async def _drain(body: AsyncIterator[bytes]) -> bytes:
    return b"".join([bytes(chunk) async for chunk in body])


def found(position: int, data: bytes, *, known: bool, name: str | None = None) -> FoundFile:
    source = ObjectSource(bucket="b", key=f"k{position}", etag=str(crc32(data)))
    return FoundFile(
        position=position,
        file_id=70000 + position,
        name=name or f"file-{position}.bin",
        origin=source,
        data=source,
        version=source.etag,
        size=len(data),
        mtime=MODIFIED,
        crc32=crc32(data) if known else None,
    )


def planned(files: list[FoundFile], lost: list[LostFile] | None = None, store: StoreProfile = PLAIN) -> Plan:
    return make_plan(
        job_id="job_1",
        generation=1,
        bucket="a",
        key="z",
        found=files,
        contents=contents_of(files, lost or []),
        limits=LIMITS_OF[store.equal_parts],
        store=store,
    )


LIMITS_OF = {
    False: LIMITS,
    True: Limits(
        min_part=500, packed_part=2_000, body_part=3_000, single_put=1_000, max_part=200_000, equal_parts=True
    ),
}


def reader_of(store: MemoryStore) -> Reader:
    return Reader(store, None)  # type: ignore[arg-type]


async def prepare(files: list[FoundFile], store: MemoryStore, compression: Compression) -> list[FoundFile]:
    """Do the preparations that the files need."""
    tasks = preparations(
        files,
        job_id="job_1",
        generation=1,
        bucket="a",
        compression=compression,
        equal_parts=store.profile.equal_parts,
        blocks=Blocks(deflate=2_500, digest=2_500),
    )
    outcomes: dict[int, list[PreparedRange]] = defaultdict(list)
    preparer = Preparer(store, reader_of(store), budget=Budget(50_000))  # type: ignore[arg-type]
    for task in tasks:
        for each in (await preparer.prepare(task)).ranges:
            outcomes[each.position].append(each)
    return prepared(files, outcomes, compression=compression)


async def build(plan: Plan, store: MemoryStore, order: random.Random) -> bytes:
    """Make all parts in a random order that respects what waits for what, as the orchestrator releases them."""
    maker = PartMaker(store, reader_of(store), budget=Budget(50_000), readers=3)  # type: ignore[arg-type]
    rows: dict[int, PartRow] = {}
    known = {planned.entry: planned.file.crc32 for planned in plan.files if planned.file.crc32 is not None}
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
    sizes = {planned.entry: planned.file.size or 0 for planned in plan.files}
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
        if plan.upload_crc32:
            assert made.checksum == store.checksums[row.number] == crc32(store.parts[row.number])
        whole |= results.whole_entries(row.task, done)
        rows[row.number] = _with(row, status="done", slice_crc32=results.slice_crc32(row, done))
        for waiting in [each for each in rows.values() if each.status == "waiting"]:
            slices = sorted(
                (each for each in rows.values() if each.slice_of is not None), key=lambda each: each.slice_offset or 0
            )
            if waiting.is_closing:
                if all(each.status == "done" for each in rows.values() if not each.is_closing):
                    checksums = whole | results.joined(slices, sizes) | known
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


LOST = LostFile(position=99, file_id=1, failure=Failure(code=ErrorCode.FILE_NOT_FOUND, message="File 1 not found"))


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(st.one_of(st.integers(0, 300), st.integers(0, 12_000)), st.booleans(), st.booleans()),
        min_size=1,
        max_size=12,
    ),
    st.randoms(use_true_random=False),
    st.booleans(),
    st.sampled_from(sorted(STORES)),
    st.sampled_from(Compression),
)
async def test_any_files_in_any_order_of_work_on_any_store_make_an_archive_that_python_reads(
    shapes: list[tuple[int, bool, bool]],
    order: random.Random,
    loses_one: bool,  # noqa: FBT001
    kind: str,
    compression: Compression,
) -> None:
    contents = [b"abcd" * (size // 4) if plain else order.randbytes(size) for size, _, plain in shapes]
    files = [found(i, data, known=known) for i, (data, (_, known, _)) in enumerate(zip(contents, shapes, strict=True))]
    store = MemoryStore({f"k{i}": data for i, data in enumerate(contents)}, STORES[kind])
    ready = await prepare(files, store, compression)
    plan = planned(ready, [LOST] if loses_one else [], STORES[kind])
    archive = await build(plan, store, order)
    assert len(archive) == plan.size
    if store.parts:
        sizes = [len(store.parts[number]) for number in sorted(store.parts)]
        assert min(sizes[:-1]) >= LIMITS.min_part
        assert not STORES[kind].equal_parts or len(set(sizes[:-1])) == 1
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert opened.testzip() is None
        assert [opened.read(file.name) for file in plan.files] == contents
        assert ("MISSING-FILES.txt" in opened.namelist()) == loses_one
        if compression is Compression.DEFLATE:
            assert all(info.compress_size <= info.file_size for info in opened.infolist())


async def test_the_same_files_make_the_same_bytes_on_every_store_whether_checksums_were_known_or_not() -> None:
    data = [random.Random(7).randbytes(size) for size in (10, 9_000, 0, 700, 5_000)]
    for compression in Compression:
        archives = set()
        for number, profile in enumerate(STORES.values()):
            for known in (True, False):
                store = MemoryStore({f"k{i}": each for i, each in enumerate(data)}, profile)
                files = [found(i, each, known=known) for i, each in enumerate(data)]
                ready = await prepare(files, store, compression)
                archives.add(await build(planned(ready, store=profile), store, random.Random(number)))
        assert len(archives) == 1


async def test_a_large_file_of_known_checksum_costs_one_small_part_and_the_rest_is_copied() -> None:
    data = random.Random(3).randbytes(50_000)
    store = MemoryStore({"k0": data})
    plan = planned([found(0, data, known=True)])
    assert not any(part.waits for part in plan.parts)
    await build(plan, store, random.Random(1))
    assert store.copied >= len(data) - LIMITS.min_part


async def _error(plan: Plan, store: MemoryStore) -> PartError:
    maker = PartMaker(store, reader_of(store), budget=Budget(50_000), readers=2)  # type: ignore[arg-type]
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


async def _copy_error(store: MemoryStore, data: bytes, *, known: bool = True) -> PartError:
    plan = planned([found(0, data, known=known)], store=store.profile)
    task = next(part.task for part in plan.parts if part.task.copy)
    with pytest.raises(PartError) as caught:
        await PartMaker(store, reader_of(store), budget=Budget(50_000), readers=2).make(replace(task, upload_id="u"))  # type: ignore[arg-type]
    return caught.value


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("kind", ["plain", "copies without looking", "tells checksums"])
async def test_a_source_that_is_replaced_is_never_copied_into_an_archive(kind: str, known: bool) -> None:  # noqa: FBT001
    data = bytes(9_000)
    error = await _copy_error(MemoryStore({"k0": b"x" * 9_000}, STORES[kind]), data, known=known)
    assert (error.code, error.entry) == (ErrorCode.SOURCE_CHANGED, 0)


async def test_a_source_that_was_another_one_meanwhile_is_noticed_by_its_date() -> None:
    data = bytes(9_000)
    store = MemoryStore({"k0": data}, STORES["copies without looking"], modified=MODIFIED + 5)
    error = await _copy_error(store, data)
    assert (error.code, error.entry) == (ErrorCode.SOURCE_CHANGED, 0)


async def test_a_source_that_is_gone_is_named_when_it_is_copied() -> None:
    error = await _copy_error(MemoryStore({}), bytes(9_000))
    assert (error.code, error.entry) == (ErrorCode.FILE_NOT_FOUND, 0)


async def test_an_upload_that_is_gone_is_no_fault_of_the_source_that_was_to_be_copied() -> None:
    data = bytes(9_000)
    error = await _copy_error(MemoryStore({"k0": data}, upload_is_gone=True), data)
    assert (error.code, error.entry) == (ErrorCode.UPLOAD_GONE, None)


async def test_what_a_store_refuses_to_copy_is_streamed() -> None:
    data = random.Random(1).randbytes(9_000)
    store = MemoryStore({"k0": data}, refuses_copies=True)
    plan = planned([found(0, data, known=True)])
    archive = await build(plan, store, random.Random(1))
    assert store.copied == 0
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert opened.read("file-0.bin") == data


async def test_a_part_of_many_pieces_that_is_too_large_for_memory_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("haulyard_archiver.parts.MAX_PACKED", 100)
    data = [random.Random(n).randbytes(700) for n in range(9)]
    store = MemoryStore({f"k{n}": each for n, each in enumerate(data)}, STORES["equal parts"])
    files = await prepare([found(n, each, known=False) for n, each in enumerate(data)], store, Compression.STORE)
    archive = await build(planned(files, store=STORES["equal parts"]), store, random.Random(1))
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        assert [opened.read(name) for name in opened.namelist()] == data


async def test_an_assembled_part_names_the_entry_that_broke_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("haulyard_archiver.parts.MAX_PACKED", 100)
    data = [random.Random(n).randbytes(700) for n in range(9)]
    files = [found(n, each, known=True) for n, each in enumerate(data)]
    objects = {f"k{n}": each for n, each in enumerate(data)} | {"k1": b"replaced"}
    error = await _error(planned(files, store=STORES["equal parts"]), MemoryStore(objects, STORES["equal parts"]))
    assert (error.code, error.entry) == (ErrorCode.SOURCE_CHANGED, 1)


async def test_a_preparation_names_the_file_whose_source_broke() -> None:
    data = bytes(5_000)
    files = [found(3, data, known=False)]
    with pytest.raises(PartError) as gone:
        await prepare(files, MemoryStore({}), Compression.DEFLATE)
    assert (gone.value.code, gone.value.entry) == (ErrorCode.FILE_NOT_FOUND, 3)
    with pytest.raises(PartError) as broken:
        await prepare(files, MemoryStore({"k3": data}, breaks_after=700), Compression.DEFLATE)
    assert (broken.value.code, broken.value.entry) == (ErrorCode.SOURCE_UNAVAILABLE, 3)
