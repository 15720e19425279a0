"""Planning for stores that want all parts but the last to have the same size: the archive is cut as it comes."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from haulyard_zipline.draft import Written
from haulyard_zipline.entry import Entry
from haulyard_zipline.errors import ArchiveTooLargeError, UnknownCrcError
from haulyard_zipline.layout import Data, Directory, Header, Piece
from haulyard_zipline.limits import Limits

_STEP: Final = 1024 * 1024


def equal_parts(
    entries: Sequence[Entry], header_sizes: Sequence[int], directory_size: int, limits: Limits
) -> Iterator[Written]:
    """Yield the parts of an archive, all but the last of the same size: `packed_part`, or what keeps `max_parts`.

    Headers and the directory are cut where a part ends. So an entry can share parts with the directory and with
    entries on both sides: if these had to wait for CRC-32s, they would wait for each other.

    Raises:
        UnknownCrcError: an entry's CRC-32 is not known.
        ArchiveTooLargeError: parts of max_part are not enough.
    """
    for entry in entries:
        if entry.crc32 is None:
            raise UnknownCrcError(entry.name)
    whole = list(_whole(entries, header_sizes, directory_size))
    return _cut(whole, _part_size(sum(size for _, size in whole), limits))


def _part_size(archive_size: int, limits: Limits) -> int:
    least = -(-archive_size // limits.max_parts)
    if least <= limits.packed_part:
        return limits.packed_part
    size = -(-least // _STEP) * _STEP
    if size > limits.max_part:
        raise ArchiveTooLargeError(
            f"equal parts would be {size} bytes each; max_part is {limits.max_part}, max_parts {limits.max_parts}"
        )
    return size


def _whole(entries: Sequence[Entry], header_sizes: Sequence[int], directory_size: int) -> Iterator[tuple[Piece, int]]:
    """Yield all pieces of an archive, and the bytes of each."""
    for index, (entry, header_size) in enumerate(zip(entries, header_sizes, strict=True)):
        yield Header(index), header_size
        if entry.data_size:
            yield Data(index, 0, entry.data_size), entry.data_size
    yield Directory(), directory_size


def _cut(pieces: Iterable[tuple[Piece, int]], part_size: int) -> Iterator[Written]:
    held: list[Piece] = []
    room = part_size
    for piece, size in pieces:
        offset = 0
        while offset < size:
            length = min(room, size - offset)
            held.append(_slice(piece, size, offset, length))
            offset += length
            room -= length
            if not room:
                yield Written(part_size, tuple(held))
                held, room = [], part_size
    if held:
        yield Written(part_size - room, tuple(held))


def _slice(piece: Piece, size: int, offset: int, length: int) -> Piece:
    to = None if offset + length == size else length
    match piece:
        case Header(entry):
            return Header(entry, offset, to)
        case Data(entry):
            return Data(entry, offset, length)
        case Directory():
            return Directory(offset, to)
