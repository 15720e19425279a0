"""Every message, subject and stream of Haulyard, and the only types its services share.

This package does no I/O and imports nothing of ours. How it may change, so that two versions can be live at once:

* a field is only ever added, and always with a default; readers ignore fields that they do not know;
* a field never changes its meaning or its type, and is never removed: a message that must is a new tag (``….v2``);
* ``tests/unit/contracts`` pins the exact bytes of every message, so a change that breaks this rule breaks a test.
"""

from haulyard_contracts.codec import Message, UndecodableMessageError, decode, encode
from haulyard_contracts.errors import RETRYABLE, ErrorCode, Failure
from haulyard_contracts.events import EventType, JobEvent, cloud_event_headers
from haulyard_contracts.jobs import (
    TERMINAL,
    ArchiveLocation,
    FileState,
    FileStatus,
    JobDocument,
    JobStatus,
    Progress,
)
from haulyard_contracts.requests import Compression, JobAction, JobControl, JobRequested, OnMissing, UserErasure
from haulyard_contracts.streams import ConsumerSpec, Retention, StreamSpec, Topology
from haulyard_contracts.tasks import (
    DataPiece,
    DirectoryPiece,
    HeaderPiece,
    HttpSource,
    InlineSource,
    ObjectSource,
    PartDone,
    PartFailed,
    PartTask,
    Phase,
    Piece,
    Preparation,
    PrepareDone,
    PreparedRange,
    PrepareTask,
    RangeToPrepare,
    Result,
    Segment,
    SegmentedSource,
    SliceCrc,
    Source,
    Task,
    TaskEntry,
    TaskKind,
)

__all__ = [
    "RETRYABLE",
    "TERMINAL",
    "ArchiveLocation",
    "Compression",
    "ConsumerSpec",
    "DataPiece",
    "DirectoryPiece",
    "ErrorCode",
    "EventType",
    "Failure",
    "FileState",
    "FileStatus",
    "HeaderPiece",
    "HttpSource",
    "InlineSource",
    "JobAction",
    "JobControl",
    "JobDocument",
    "JobEvent",
    "JobRequested",
    "JobStatus",
    "Message",
    "ObjectSource",
    "OnMissing",
    "PartDone",
    "PartFailed",
    "PartTask",
    "Phase",
    "Piece",
    "Preparation",
    "PrepareDone",
    "PrepareTask",
    "PreparedRange",
    "Progress",
    "RangeToPrepare",
    "Result",
    "Retention",
    "Segment",
    "SegmentedSource",
    "SliceCrc",
    "Source",
    "StreamSpec",
    "Task",
    "TaskEntry",
    "TaskKind",
    "Topology",
    "UndecodableMessageError",
    "UserErasure",
    "cloud_event_headers",
    "decode",
    "encode",
]
