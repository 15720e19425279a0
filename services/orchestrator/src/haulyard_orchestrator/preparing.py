"""What has to be done with files before their archive can be laid out, and what comes of it. Pure functions.

* A source of unknown length, or of which no ranges can be had, is put into the store once.
* What is to be deflated is deflated in blocks, in parallel; the layout follows when the sizes are known.
* Where all parts must have one size, a header can be anywhere, so all checksums must be known first.
"""

import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from typing import Final

from haulyard_contracts import (
    Compression,
    HttpSource,
    ObjectSource,
    Preparation,
    PreparedRange,
    PrepareTask,
    RangeToPrepare,
    SegmentedSource,
    Source,
)
from haulyard_orchestrator.planning import FoundFile
from haulyard_zipline import join_crcs

MIB: Final = 1024 * 1024

MAX_TASKS: Final = 9_000
"""Preparations that one plan has at most, roughly: they are numbered as S3 numbers parts, to 10,000."""

_MAX_RANGES: Final = 200
"""Files of one preparation at most, so that its message stays small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blocks:
    """Bytes of source in one preparation."""

    deflate: int = 128 * MIB
    digest: int = 64 * MIB


class ImpossiblePreparationError(Exception):
    """What was staged does not fit together: a fault of ours."""


STAGING: Final = "staging/"
"""Start of the keys of all staging objects."""


def staging_prefix(job_id: str) -> str:
    """Return the start of the keys of all staging objects of a job."""
    return f"{STAGING}{job_id}/"


def staged_for(key: str) -> str:
    """Return the job for which a staging object was made."""
    return key.removeprefix(STAGING).partition("/")[0]


def what_to_prepare(file: FoundFile, *, compression: Compression, equal_parts: bool) -> Preparation | None:
    """Return what has to be done with a file first, if anything."""
    if file.prepared or file.size == 0:
        return None
    if compression is Compression.DEFLATE:
        return Preparation.DEFLATE
    if _must_be_staged(file):
        return Preparation.STAGE
    return Preparation.DIGEST if equal_parts and file.crc32 is None else None


def _must_be_staged(file: FoundFile) -> bool:
    return file.size is None or (isinstance(file.origin, HttpSource) and file.origin.validator is None)


def preparations(
    found: Sequence[FoundFile],
    *,
    job_id: str,
    generation: int,
    bucket: str,
    compression: Compression,
    equal_parts: bool,
    blocks: Blocks,
) -> tuple[PrepareTask, ...]:
    """Return the preparations that a job needs before it can be laid out; the same for the same files.

    Args:
        found: the files of the job.
        job_id: the job.
        generation: counts its plans, from 1.
        bucket: takes the staging objects.
        compression: of the archive.
        equal_parts: whether the store wants parts of one size.
        blocks: how much goes into one preparation.
    """
    wanted: dict[Preparation, list[FoundFile]] = defaultdict(list)
    for file in found:
        action = what_to_prepare(file, compression=compression, equal_parts=equal_parts)
        if action is not None:
            wanted[action].append(file)
    numbers = count(1)
    tasks = []
    for action, files in wanted.items():
        smallest = blocks.digest if action is Preparation.DIGEST else blocks.deflate
        block = max(smallest, sum(file.size or 0 for file in files) // MAX_TASKS)
        for ranges in _grouped(files, block):
            number = next(numbers)
            tasks.append(
                PrepareTask(
                    job_id=job_id,
                    generation=generation,
                    number=number,
                    attempt=1,
                    action=action,
                    ranges=tuple(ranges),
                    bucket=bucket,
                    key=f"{staging_prefix(job_id)}{generation}/{number}",
                )
            )
    return tuple(tasks)


def _grouped(files: Sequence[FoundFile], block: int) -> Iterator[list[RangeToPrepare]]:
    """Yield the ranges of each preparation: large files are cut in blocks, small ones share one."""
    group: list[RangeToPrepare] = []
    size = 0
    for file in files:
        if file.size is None or _must_be_staged(file):  # from its start to its end, in one go
            yield [RangeToPrepare(position=file.position, name=file.name, source=file.origin)]
            continue
        if file.size > block:
            yield from ([each] for each in _blocks(file, file.size, block))
            continue
        if group and (size + file.size > block or len(group) == _MAX_RANGES):
            yield group
            group, size = [], 0
        group.append(
            RangeToPrepare(position=file.position, name=file.name, source=file.origin, offset=0, length=file.size)
        )
        size += file.size
    if group:
        yield group


def _blocks(file: FoundFile, size: int, block: int) -> Iterator[RangeToPrepare]:
    pieces = -(-size // block)
    edges = [size * piece // pieces for piece in range(pieces + 1)]
    for low, high in pairwise(edges):
        yield RangeToPrepare(
            position=file.position,
            name=file.name,
            source=file.origin,
            offset=low,
            length=high - low,
            is_last=high == size,
        )


def data_bytes(task: PrepareTask) -> int:
    """Return the source bytes of a preparation, as far as they are known, that count as progress.

    Those of a digest are not counted: they are counted when they are archived.
    """
    if task.action is Preparation.DIGEST:
        return 0
    return sum(each.length or 0 for each in task.ranges)


def prepared(
    found: Sequence[FoundFile], outcomes: Mapping[int, Sequence[PreparedRange]], *, compression: Compression
) -> list[FoundFile]:
    """Return the files with what their preparations found out.

    Args:
        found: the files of the job.
        outcomes: for each prepared file, by its position, what became of its ranges.
        compression: of the archive.

    Raises:
        ImpossiblePreparationError: the ranges of a file do not cover it.
    """
    return [
        _prepared(file, outcomes[file.position], compression) if file.position in outcomes else file for file in found
    ]


def _prepared(file: FoundFile, outcomes: Sequence[PreparedRange], compression: Compression) -> FoundFile:
    ranges = sorted(outcomes, key=lambda each: each.offset)
    size = 0
    for each in ranges:
        if each.offset != size:
            raise ImpossiblePreparationError(f"file {file.file_id} is prepared up to byte {size}, not {each.offset}")
        size += each.length
    if file.size not in (None, size):
        raise ImpossiblePreparationError(f"{size} of {file.size} bytes of file {file.file_id} are prepared")
    checksum = join_crcs([(each.crc32, each.length) for each in ranges])
    segments = tuple(each.segment for each in ranges if each.segment is not None)
    data: Source = file.origin
    packed = None
    if compression is Compression.DEFLATE:
        deflated = sum(segment.length for segment in segments)
        # Stored when that is no larger; but what can be read only once has nothing else to be stored from.
        if deflated < size or (_must_be_staged(file) and size):
            data, packed = SegmentedSource(segments=segments), deflated
    elif segments:
        (segment,) = segments
        data = ObjectSource(bucket=segment.bucket, key=segment.key, etag=segment.etag)
    return dataclasses.replace(file, size=size, crc32=checksum, packed=packed, data=data, prepared=True)
