"""The exact bytes of every message, both ways: a change that breaks a live reader breaks one of these."""

from datetime import UTC, datetime
from types import UnionType
from typing import Any

import msgspec
import pytest

from haulyard_contracts import (
    ArchiveLocation,
    Compression,
    DataPiece,
    DirectoryPiece,
    ErrorCode,
    EventType,
    Failure,
    FileState,
    FileStatus,
    HeaderPiece,
    HttpSource,
    InlineSource,
    JobAction,
    JobControl,
    JobDocument,
    JobEvent,
    JobRequested,
    JobStatus,
    Message,
    ObjectSource,
    OnMissing,
    PartDone,
    PartFailed,
    PartTask,
    Phase,
    Preparation,
    PrepareDone,
    PreparedRange,
    PrepareTask,
    Progress,
    RangeToPrepare,
    Result,
    Segment,
    SegmentedSource,
    SliceCrc,
    Task,
    TaskEntry,
    TaskKind,
    UndecodableMessageError,
    UserErasure,
    cloud_event_headers,
    decode,
    encode,
)

NOON = datetime(2026, 11, 24, 12, 0, 0, 250000, tzinfo=UTC)
FAILURE = Failure(code=ErrorCode.FILE_NOT_FOUND, message="no such file")
FAILURE_JSON = '{"code":"FILE_NOT_FOUND","message":"no such file"}'
PROGRESS = Progress(current=1, total=2, percentage=50, bytes_current=10, bytes_total=20)
PROGRESS_JSON = '{"current":1,"total":2,"percentage":50,"bytes_current":10,"bytes_total":20}'

GOLDEN: list[tuple[str, Any, Message, str]] = [
    (
        "job requested, least",
        JobRequested,
        JobRequested(job_id="job_1", user_id="alice", file_ids=(1, 2), created_at=NOON),
        (
            '{"type":"job_requested.v1","job_id":"job_1","user_id":"alice","file_ids":[1,2],'
            '"created_at":"2026-11-24T12:00:00.250000Z"}'
        ),
    ),
    (
        "job requested, all",
        JobRequested,
        JobRequested(
            job_id="job_1",
            user_id="alice",
            file_ids=(1,),
            created_at=NOON,
            priority=9,
            filename="Übersicht.zip",
            webhook_url="https://example.com/hook",
            compression=Compression.DEFLATE,
            on_missing=OnMissing.FAIL,
            retry_of="job_0",
        ),
        (
            '{"type":"job_requested.v1","job_id":"job_1","user_id":"alice","file_ids":[1],'
            '"created_at":"2026-11-24T12:00:00.250000Z","priority":9,"filename":"Übersicht.zip",'
            '"webhook_url":"https://example.com/hook","compression":"deflate","on_missing":"fail","retry_of":"job_0"}'
        ),
    ),
    (
        "job control",
        JobControl,
        JobControl(job_id="job_1", action=JobAction.CANCEL, requested_at=NOON),
        '{"type":"job_control.v1","job_id":"job_1","action":"cancel","requested_at":"2026-11-24T12:00:00.250000Z"}',
    ),
    (
        "job control, delete",
        JobControl,
        JobControl(job_id="job_1", action=JobAction.DELETE, requested_at=NOON),
        '{"type":"job_control.v1","job_id":"job_1","action":"delete","requested_at":"2026-11-24T12:00:00.250000Z"}',
    ),
    (
        "user erasure",
        UserErasure,
        UserErasure(erasure_id="erasure_1", user_id="alice", requested_at=NOON),
        (
            '{"type":"user_erasure.v1","erasure_id":"erasure_1","user_id":"alice",'
            '"requested_at":"2026-11-24T12:00:00.250000Z"}'
        ),
    ),
    (
        "part task, one PUT",
        PartTask,
        PartTask(
            job_id="job_1",
            generation=1,
            number=1,
            attempt=1,
            bucket="archives",
            key="job_1.zip",
            size=130,
            entries=(
                TaskEntry(
                    index=0, name="a.txt", size=3, mtime=0, offset=0, source=InlineSource(data=b"\x00\xff\n"), crc32=7
                ),
            ),
            pieces=(HeaderPiece(entry=0), DataPiece(entry=0, offset=0, length=3), DirectoryPiece(offset=38)),
        ),
        (
            '{"type":"part_task.v1","job_id":"job_1","generation":1,"number":1,"attempt":1,"bucket":"archives",'
            '"key":"job_1.zip","size":130,"entries":[{"index":0,"name":"a.txt","size":3,"mtime":0,"offset":0,"crc32":7,'
            '"source":{"kind":"inline","data":"AP8K"}}],"pieces":[{"piece":"header","entry":0},'
            '{"piece":"data","entry":0,"offset":0,"length":3},{"piece":"directory","offset":38}]}'
        ),
    ),
    (
        "part task, a part with a tail",
        PartTask,
        PartTask(
            job_id="job_1",
            generation=2,
            number=3,
            attempt=4,
            bucket="archives",
            key="job_1.zip",
            size=5_242_880,
            entries=(
                TaskEntry(
                    index=5,
                    name="b",
                    size=9_000_000_000,
                    mtime=1_700_000_000,
                    offset=42,
                    tail_crc32=4_294_967_295,
                    tail_length=8_000_000_000,
                    source=ObjectSource(bucket="files", key="k", etag='"e"'),
                ),
                TaskEntry(index=6, name="c", size=0, mtime=0, offset=43),
            ),
            pieces=(DataPiece(entry=5, offset=1, length=2),),
            upload_id="u",
        ),
        (
            '{"type":"part_task.v1","job_id":"job_1","generation":2,"number":3,"attempt":4,"bucket":"archives",'
            '"key":"job_1.zip","size":5242880,"entries":[{"index":5,"name":"b","size":9000000000,"mtime":1700000000,'
            '"offset":42,"tail_crc32":4294967295,"tail_length":8000000000,'
            '"source":{"kind":"object","bucket":"files","key":"k","etag":"\\"e\\""}},'
            '{"index":6,"name":"c","size":0,"mtime":0,"offset":43}],'
            '"pieces":[{"piece":"data","entry":5,"offset":1,"length":2}],"upload_id":"u"}'
        ),
    ),
    (
        "part task, a copy",
        PartTask,
        PartTask(
            job_id="job_1",
            generation=1,
            number=2,
            attempt=1,
            bucket="archives",
            key="a.zip",
            size=6_000_000,
            entries=(
                TaskEntry(
                    index=0,
                    name="a",
                    size=9,
                    mtime=0,
                    packed=8,
                    offset=0,
                    source=SegmentedSource(
                        segments=(Segment(bucket="archives", key="staging/1", etag='"e"', offset=1, length=2),), start=3
                    ),
                ),
                TaskEntry(
                    index=1,
                    name="b",
                    size=9,
                    mtime=0,
                    offset=0,
                    source=ObjectSource(bucket="files", key="k", etag='"e"', modified=4),
                ),
                TaskEntry(
                    index=2, name="c", size=9, mtime=0, offset=0, source=HttpSource(url="https://a/b", validator='"v"')
                ),
            ),
            pieces=(
                HeaderPiece(entry=0, offset=1, length=2),
                DataPiece(entry=0, offset=1, length=2),
                DirectoryPiece(offset=9, skip=1, length=2),
            ),
            upload_id="u",
            copy=True,
            check_source=True,
            checksum=True,
        ),
        (
            '{"type":"part_task.v1","job_id":"job_1","generation":1,"number":2,"attempt":1,"bucket":"archives",'
            '"key":"a.zip","size":6000000,"entries":[{"index":0,"name":"a","size":9,"mtime":0,"packed":8,"offset":0,'
            '"source":{"kind":"segments","segments":[{"bucket":"archives","key":"staging/1","etag":"\\"e\\"",'
            '"offset":1,"length":2}],"start":3}},{"index":1,"name":"b","size":9,"mtime":0,"offset":0,'
            '"source":{"kind":"object","bucket":"files","key":"k","etag":"\\"e\\"","modified":4}},'
            '{"index":2,"name":"c","size":9,"mtime":0,"offset":0,'
            '"source":{"kind":"http","url":"https://a/b","validator":"\\"v\\""}}],'
            '"pieces":[{"piece":"header","entry":0,"offset":1,"length":2},'
            '{"piece":"data","entry":0,"offset":1,"length":2},'
            '{"piece":"directory","offset":9,"skip":1,"length":2}],"upload_id":"u","copy":true,"check_source":true,'
            '"checksum":true}'
        ),
    ),
    (
        "prepare task",
        PrepareTask,
        PrepareTask(
            job_id="job_1",
            generation=1,
            number=2,
            attempt=3,
            action=Preparation.DEFLATE,
            ranges=(
                RangeToPrepare(
                    position=0,
                    name="a",
                    source=ObjectSource(bucket="files", key="k", etag='"e"'),
                    offset=5,
                    length=6,
                    is_last=False,
                ),
                RangeToPrepare(position=1, name="b", source=HttpSource(url="https://a/b")),
            ),
            bucket="archives",
            key="staging/job_1/1/2",
        ),
        (
            '{"type":"prepare_task.v1","job_id":"job_1","generation":1,"number":2,"attempt":3,"action":"deflate",'
            '"ranges":[{"position":0,"name":"a","source":{"kind":"object","bucket":"files","key":"k",'
            '"etag":"\\"e\\""},"offset":5,"length":6,"is_last":false},'
            '{"position":1,"name":"b","source":{"kind":"http","url":"https://a/b"}}],'
            '"bucket":"archives","key":"staging/job_1/1/2"}'
        ),
    ),
    (
        "prepare done",
        PrepareDone,
        PrepareDone(
            job_id="job_1",
            generation=1,
            number=2,
            attempt=3,
            ranges=(
                PreparedRange(
                    position=0,
                    offset=5,
                    length=6,
                    crc32=7,
                    segment=Segment(bucket="archives", key="s", etag='"e"', offset=0, length=4),
                ),
                PreparedRange(position=1, offset=0, length=0, crc32=0),
            ),
            bytes_through=6,
            seconds=0.5,
        ),
        (
            '{"type":"prepare_done.v1","job_id":"job_1","generation":1,"number":2,"attempt":3,'
            '"ranges":[{"position":0,"offset":5,"length":6,"crc32":7,"segment":{"bucket":"archives","key":"s",'
            '"etag":"\\"e\\"","offset":0,"length":4}},{"position":1,"offset":0,"length":0,"crc32":0}],'
            '"bytes_through":6,"seconds":0.5}'
        ),
    ),
    (
        "preparation failed",
        PartFailed,
        PartFailed(job_id="job_1", generation=1, number=2, attempt=3, failure=FAILURE, entry=4, phase=Phase.PREPARE),
        (
            '{"type":"part_failed.v1","job_id":"job_1","generation":1,"number":2,"attempt":3,'
            f'"failure":{FAILURE_JSON},"entry":4,"phase":"prepare"}}'
        ),
    ),
    (
        "part done, least",
        PartDone,
        PartDone(job_id="job_1", generation=1, number=2, attempt=1, etag='"e"', size=9),
        '{"type":"part_done.v1","job_id":"job_1","generation":1,"number":2,"attempt":1,"etag":"\\"e\\"","size":9}',
    ),
    (
        "part done, all",
        PartDone,
        PartDone(
            job_id="job_1",
            generation=1,
            number=2,
            attempt=1,
            etag='"e"',
            size=9,
            slices=(SliceCrc(entry=0, offset=1, length=2, crc32=3),),
            bytes_through=8,
            bytes_copied=7,
            checksum=6,
            seconds=0.5,
            whole=True,
            key="a.zip",
        ),
        (
            '{"type":"part_done.v1","job_id":"job_1","generation":1,"number":2,"attempt":1,"etag":"\\"e\\"","size":9,'
            '"slices":[{"entry":0,"offset":1,"length":2,"crc32":3}],"bytes_through":8,"bytes_copied":7,"checksum":6,'
            '"seconds":0.5,"whole":true,"key":"a.zip"}'
        ),
    ),
    (
        "part failed",
        PartFailed,
        PartFailed(job_id="job_1", generation=1, number=2, attempt=3, failure=FAILURE, entry=4),
        (
            '{"type":"part_failed.v1","job_id":"job_1","generation":1,"number":2,"attempt":3,'
            f'"failure":{FAILURE_JSON},"entry":4}}'
        ),
    ),
    (
        "event, least",
        JobEvent,
        JobEvent(
            job_id="job_1",
            sequence=3,
            type=EventType.PROGRESS,
            status=JobStatus.PROCESSING,
            progress=PROGRESS,
            timestamp=NOON,
        ),
        (
            '{"job_id":"job_1","sequence":3,"type":"progress","status":"processing",'
            f'"progress":{PROGRESS_JSON},"timestamp":"2026-11-24T12:00:00.250000Z"}}'
        ),
    ),
    (
        "event, all",
        JobEvent,
        JobEvent(
            job_id="job_1",
            sequence=4,
            type=EventType.FAILED,
            status=JobStatus.FAILED,
            progress=PROGRESS,
            timestamp=NOON,
            error=FAILURE,
            filename="a.zip",
            size_bytes=5,
            failed_files=(1, 2),
        ),
        (
            '{"job_id":"job_1","sequence":4,"type":"failed","status":"failed",'
            f'"progress":{PROGRESS_JSON},"timestamp":"2026-11-24T12:00:00.250000Z","error":{FAILURE_JSON},'
            '"filename":"a.zip","size_bytes":5,"failed_files":[1,2]}'
        ),
    ),
    (
        "document, least",
        JobDocument,
        JobDocument(
            job_id="job_1",
            user_id="alice",
            status=JobStatus.QUEUED,
            sequence=1,
            progress=Progress(current=0, total=1, percentage=0),
            files=(FileState(file_id=1, status=FileStatus.QUEUED),),
            created_at=NOON,
            updated_at=NOON,
        ),
        (
            '{"job_id":"job_1","user_id":"alice","status":"queued","sequence":1,'
            '"progress":{"current":0,"total":1,"percentage":0,"bytes_current":0,"bytes_total":0},'
            '"files":[{"file_id":1,"status":"queued","size_bytes":null,"name":null,"error":null}],'
            '"created_at":"2026-11-24T12:00:00.250000Z","updated_at":"2026-11-24T12:00:00.250000Z"}'
        ),
    ),
    (
        "document, all",
        JobDocument,
        JobDocument(
            job_id="job_1",
            user_id="alice",
            status=JobStatus.COMPLETED,
            sequence=9,
            progress=PROGRESS,
            files=(
                FileState(file_id=1, status=FileStatus.COMPLETED, size_bytes=3, name="a/b"),
                FileState(file_id=2, status=FileStatus.FAILED, error=FAILURE),
            ),
            created_at=NOON,
            updated_at=NOON,
            priority=10,
            filename="x.zip",
            completed_at=NOON,
            expires_at=NOON,
            error=FAILURE,
            size_bytes=77,
            archive=ArchiveLocation(bucket="archives", key="job_1.zip"),
            compression=Compression.DEFLATE,
            on_missing=OnMissing.FAIL,
            retry_of="job_0",
            bytes_copied=6,
            bytes_through=5,
        ),
        (
            '{"job_id":"job_1","user_id":"alice","status":"completed","sequence":9,'
            f'"progress":{PROGRESS_JSON},'
            '"files":[{"file_id":1,"status":"completed","size_bytes":3,"name":"a/b","error":null},'
            f'{{"file_id":2,"status":"failed","size_bytes":null,"name":null,"error":{FAILURE_JSON}}}],'
            '"created_at":"2026-11-24T12:00:00.250000Z","updated_at":"2026-11-24T12:00:00.250000Z","priority":10,'
            '"filename":"x.zip","completed_at":"2026-11-24T12:00:00.250000Z","expires_at":"2026-11-24T12:00:00.250000Z",'
            f'"error":{FAILURE_JSON},"size_bytes":77,"archive":{{"bucket":"archives","key":"job_1.zip"}},'
            '"compression":"deflate","on_missing":"fail","retry_of":"job_0","bytes_copied":6,"bytes_through":5}'
        ),
    ),
]
CASES = [pytest.param(kind, message, text, id=name) for name, kind, message, text in GOLDEN]


@pytest.mark.parametrize(("kind", "message", "text"), CASES)
def test_a_message_becomes_exactly_these_bytes(kind: Any, message: Message, text: str) -> None:
    assert encode(message).decode() == text


@pytest.mark.parametrize(("kind", "message", "text"), CASES)
def test_these_bytes_become_exactly_this_message(kind: Any, message: Message, text: str) -> None:
    assert decode(text.encode(), kind) == message


@pytest.mark.parametrize(("kind", "message", "text"), CASES)
def test_a_field_of_a_newer_version_is_ignored(kind: Any, message: Message, text: str) -> None:
    newer = text[:-1] + ',"added_later":{"deep":[1,null,"x"]}}'
    assert decode(newer.encode(), kind) == message


@pytest.mark.parametrize(("kind", "message", "text"), CASES)
def test_a_field_of_the_wrong_type_is_no_message(kind: Any, message: Message, text: str) -> None:
    fields = msgspec.json.decode(text)
    for name in fields:
        with pytest.raises(UndecodableMessageError):
            decode(msgspec.json.encode({**fields, name: {"not": "this"}}), kind)


@pytest.mark.parametrize(("kind", "message", "text"), CASES)
def test_fields_with_a_default_may_be_missing_and_no_others(kind: Any, message: Message, text: str) -> None:
    fields = msgspec.json.decode(text)
    optional = {
        field.encode_name: field.default for field in msgspec.structs.fields(type(message)) if not field.required
    }
    for name in fields:
        shorter = msgspec.json.encode({key: value for key, value in fields.items() if key != name})
        if name in optional:
            assert getattr(decode(shorter, kind), name) == optional[name]
        elif name == "type" and kind.__struct_config__.tag:
            assert decode(shorter, kind) == message  # alone, a tagged message needs no tag
        else:
            with pytest.raises(UndecodableMessageError, match=name):
                decode(shorter, kind)


def test_every_message_type_is_pinned() -> None:
    """All subclasses of Message are either a case above or part of one."""
    inside = {Failure, Progress, FileState, ArchiveLocation, SliceCrc, TaskEntry, ObjectSource, InlineSource}
    inside |= {HeaderPiece, DataPiece, DirectoryPiece, HttpSource, SegmentedSource, Segment}
    inside |= {RangeToPrepare, PreparedRange}
    assert {kind for _, kind, _, _ in GOLDEN} | inside == set(Message.__subclasses__())


@pytest.mark.parametrize(
    ("kind", "union"),
    [
        (PartDone, Result),
        (PartFailed, Result),
        (PrepareDone, Result),
        (PartTask, Task),
        (PrepareTask, Task),
        (JobControl, JobControl | UserErasure),
        (UserErasure, JobControl | UserErasure),
    ],
)
def test_a_message_is_told_by_its_tag(kind: type[Message], union: UnionType) -> None:
    text = next(text for _, golden, _, text in GOLDEN if golden is kind)
    assert type(decode(text.encode(), union)) is kind


def test_a_message_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        FAILURE.message = "other"  # type: ignore[misc]


def test_a_task_knows_what_it_makes() -> None:
    tasks = [message for _, kind, message, _ in GOLDEN if kind in (PartTask, PrepareTask)]
    kinds = [task.kind for task in tasks if isinstance(task, PartTask | PrepareTask)]
    assert kinds == [TaskKind.PUT, TaskKind.PART, TaskKind.COPY, TaskKind.PREPARE]


def test_an_event_has_cloud_event_attributes_as_headers() -> None:
    event = JobEvent(
        job_id="job_1",
        sequence=7,
        type=EventType.COMPLETED,
        status=JobStatus.COMPLETED,
        progress=PROGRESS,
        timestamp=NOON,
    )
    assert cloud_event_headers(event, source="/haulyard") == {
        "ce-specversion": "1.0",
        "ce-id": "job_1:7",
        "ce-source": "/haulyard",
        "ce-type": "haulyard.job.completed",
        "ce-subject": "job_1",
        "ce-time": "2026-11-24T12:00:00.250000+00:00",
        "content-type": "application/json",
    }
