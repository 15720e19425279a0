"""What has to be prepared, and what comes of it."""

import random
from collections import defaultdict
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haulyard_contracts import (
    Compression,
    HttpSource,
    ObjectSource,
    Preparation,
    PreparedRange,
    PrepareTask,
    Segment,
    SegmentedSource,
)
from haulyard_orchestrator.planning import FoundFile, contents_of, digest_of, trimmed
from haulyard_orchestrator.preparing import (
    Blocks,
    ImpossiblePreparationError,
    data_bytes,
    preparations,
    prepared,
    staged_for,
    staging_prefix,
    what_to_prepare,
)
from haulyard_zipline import crc32

STORED = ObjectSource(bucket="b", key="k", etag='"e"')
BLOCKS = Blocks(deflate=1_000, digest=500)


def found(position: int = 0, size: int | None = 10, **changes: object) -> FoundFile:
    values: dict[str, object] = {
        "position": position,
        "file_id": 70_000 + position,
        "name": f"{position}.bin",
        "origin": STORED,
        "data": STORED,
        "version": '"e"',
        "size": size,
        "mtime": 0,
        "crc32": None,
    }
    return FoundFile(**(values | changes))  # type: ignore[arg-type]


def tasks_of(files: list[FoundFile], compression: Compression, *, equal_parts: bool = False) -> tuple[PrepareTask, ...]:
    return preparations(
        files,
        job_id="job_1",
        generation=1,
        bucket="archives",
        compression=compression,
        equal_parts=equal_parts,
        blocks=BLOCKS,
    )


@pytest.mark.parametrize(
    ("file", "compression", "equal_parts", "wanted"),
    [
        (found(), Compression.STORE, False, None),
        (found(), Compression.DEFLATE, False, Preparation.DEFLATE),
        (found(size=0), Compression.DEFLATE, True, None),
        (found(), Compression.STORE, True, Preparation.DIGEST),
        (found(crc32=1), Compression.STORE, True, None),
        (found(origin=HttpSource(url="https://a/b"), size=None), Compression.STORE, False, Preparation.STAGE),
        (found(origin=HttpSource(url="https://a/b"), size=5), Compression.STORE, False, Preparation.STAGE),
        (found(origin=HttpSource(url="https://a/b", validator='"v"')), Compression.STORE, False, None),
        (found(origin=HttpSource(url="https://a/b"), size=None), Compression.DEFLATE, False, Preparation.DEFLATE),
        (found(prepared=True), Compression.DEFLATE, True, None),
    ],
)
def test_what_is_prepared(
    file: FoundFile,
    compression: Compression,
    equal_parts: bool,  # noqa: FBT001
    wanted: Preparation | None,
) -> None:
    assert what_to_prepare(file, compression=compression, equal_parts=equal_parts) is wanted


@given(st.lists(st.integers(0, 5_000), min_size=1, max_size=30))
def test_the_blocks_of_a_file_cover_it_once_and_none_is_too_large(sizes: list[int]) -> None:
    files = [found(position, size) for position, size in enumerate(sizes)]
    tasks = tasks_of(files, Compression.DEFLATE)
    assert [task.number for task in tasks] == list(range(1, len(tasks) + 1))
    assert len({task.key for task in tasks}) == len(tasks)
    covered: dict[int, int] = defaultdict(int)
    for task in tasks:
        assert 0 < sum(each.length or 0 for each in task.ranges) <= BLOCKS.deflate
        for each in task.ranges:
            assert each.offset == covered[each.position]
            covered[each.position] += each.length or 0
            assert each.is_last == (covered[each.position] == sizes[each.position])
    assert dict(covered) == {position: size for position, size in enumerate(sizes) if size}
    assert sum(map(data_bytes, tasks)) == sum(sizes)


def test_a_digest_is_no_progress_because_its_bytes_are_still_to_be_archived() -> None:
    tasks = tasks_of([found(0, 1_200), found(1, 3)], Compression.STORE, equal_parts=True)
    assert [len(task.ranges) for task in tasks] == [1, 1, 1, 1]
    assert sum(map(data_bytes, tasks)) == 0


def outcome(data: bytes, cuts: list[int], *, deflated: int | None) -> list[PreparedRange]:
    edges = [0, *sorted(cuts), len(data)]
    ranges = []
    for number, (low, high) in enumerate(pairwise(edges)):
        segment = Segment(bucket="a", key=f"s{number}", etag="e", offset=number, length=deflated) if deflated else None
        ranges.append(
            PreparedRange(position=0, offset=low, length=high - low, crc32=crc32(data[low:high]), segment=segment)
        )
    return ranges


@given(st.binary(min_size=4, max_size=200), st.lists(st.integers(1, 3), max_size=3, unique=True), st.randoms())
def test_what_ranges_found_out_is_joined_in_whatever_order_it_comes(
    data: bytes, cuts: list[int], order: random.Random
) -> None:
    ranges = outcome(data, cuts, deflated=1)
    order.shuffle(ranges)
    (file,) = prepared([found(0, len(data))], {0: ranges}, compression=Compression.DEFLATE)
    assert (file.crc32, file.size, file.prepared) == (crc32(data), len(data), True)
    if len(ranges) < len(data):
        assert isinstance(file.data, SegmentedSource)
        assert [segment.key for segment in file.data.segments] == [f"s{n}" for n in range(len(cuts) + 1)]
        assert file.packed == len(ranges)
    else:
        assert (file.data, file.packed) == (STORED, None)


def test_what_deflate_does_not_make_smaller_is_stored() -> None:
    (file,) = prepared([found(0, 4)], {0: outcome(b"abcd", [], deflated=4)}, compression=Compression.DEFLATE)
    assert (file.packed, file.data) == (None, STORED)


def test_what_can_be_read_only_once_stays_deflated_because_there_is_nothing_else() -> None:
    origin = HttpSource(url="https://a/b")
    file = found(0, None, origin=origin, data=origin, version="")
    (file,) = prepared([file], {0: outcome(b"abcd", [], deflated=9)}, compression=Compression.DEFLATE)
    assert (file.size, file.packed) == (4, 9)


def test_what_was_staged_is_read_from_the_store() -> None:
    origin = HttpSource(url="https://a/b")
    file = found(0, None, origin=origin, data=origin, version="")
    (file,) = prepared([file], {0: outcome(b"abcd", [], deflated=4)}, compression=Compression.STORE)
    assert (file.size, file.packed, file.crc32) == (4, None, crc32(b"abcd"))
    assert file.data == ObjectSource(bucket="a", key="s0", etag="e")


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_range_that_is_missing_is_never_papered_over(missing: int) -> None:
    ranges = outcome(b"abcdef", [2, 4], deflated=1)
    del ranges[missing]
    with pytest.raises(ImpossiblePreparationError):
        prepared([found(0, 6)], {0: ranges}, compression=Compression.DEFLATE)


def test_a_staging_key_tells_its_job() -> None:
    (task, *_) = tasks_of([found()], Compression.DEFLATE)
    assert task.key.startswith(staging_prefix("job_1"))
    assert staged_for(task.key) == "job_1"


@given(st.lists(st.integers(1, 50), min_size=1, max_size=10), st.data())
def test_a_task_lists_only_the_segments_that_it_needs(lengths: list[int], data: st.DataObject) -> None:
    segments = tuple(
        Segment(bucket="a", key=f"s{number}", etag="e", offset=0, length=length)
        for number, length in enumerate(lengths)
    )
    low = data.draw(st.integers(0, sum(lengths) - 1))
    high = data.draw(st.integers(low + 1, sum(lengths)))
    source = trimmed(SegmentedSource(segments=segments), range(low, high))
    assert isinstance(source, SegmentedSource)
    end = source.start + sum(segment.length for segment in source.segments)
    assert source.start <= low
    assert end >= high
    assert source.start + source.segments[0].length > low
    assert end - source.segments[-1].length < high


def test_a_source_without_a_version_makes_no_digest() -> None:
    for file in (found(version=""), found(size=None)):
        assert digest_of([file], contents_of([file], []), Compression.STORE) is None


def test_the_digest_depends_on_all_that_the_archive_depends_on() -> None:
    other = ObjectSource(bucket="b", key="k", etag='"f"')
    variants = [
        ([found()], Compression.STORE),
        ([found()], Compression.DEFLATE),
        ([found(size=11)], Compression.STORE),
        ([found(mtime=1)], Compression.STORE),
        ([found(name="other")], Compression.STORE),
        ([found(origin=other, version='"f"')], Compression.STORE),
        ([found(), found(1)], Compression.STORE),
        ([found(1), found()], Compression.STORE),
    ]
    digests = {digest_of(files, contents_of(files, []), compression) for files, compression in variants}
    assert len(digests) == len(variants)
    known = found(crc32=5, confirmed=False)
    assert digest_of([known], contents_of([known], []), Compression.STORE) in digests
