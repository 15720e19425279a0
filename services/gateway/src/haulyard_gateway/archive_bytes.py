"""The bytes of archives: from the sources while an archive is being built, from the store once it is.

What has been sent cannot be taken back, so all that goes wrong ends the stream, unless the rest can be had another way:
what fails for a moment is tried again from where it stopped, and when the archive has been built meanwhile (then what
was staged for it is gone), the rest comes from there. Nothing is read ahead: memory is a chunk or two a stream, and a
client that takes its time holds the source back.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

from haulyard_chassis.logs import get_logger
from haulyard_chassis.metrics import counter, gauge
from haulyard_chassis.origin import OriginUnavailableError
from haulyard_chassis.problems import ProblemError, UnavailableError
from haulyard_chassis.sources_reading import SOURCE_ERRORS
from haulyard_chassis.store import StoreRefusedError, StoreUnavailableError
from haulyard_gateway.archive_checksums import Checksums, Unread
from haulyard_gateway.archive_contents import ArchiveState, Built, LaidOut
from haulyard_gateway.archive_ports import ArchiveFinder, ArchiveStore, SourceReader, Wanted
from haulyard_gateway.errors import RecordUnavailableError
from haulyard_zipline import Data, View, crc32

log = get_logger(__name__)

_TRIES: Final = 4
"""Times that a stream goes on from where it stopped without getting any further."""
_FIRST_PAUSE: Final = 0.2
"""Seconds before the second try; doubled for each further one."""
_HELD: Final = 64 * 1024
"""Bytes of headers that wait for the data behind them, so that each does not take a packet of its own."""
_BUSY: Final = 5
"""Seconds after which to come back when there are too many streams."""

_FLEETING = (StoreUnavailableError, OriginUnavailableError)
"""Errors after which the same may work."""

STREAMS = gauge("archive_streams", "Archives that are being streamed.")
STREAMED_BYTES = counter("archive_streamed_bytes_total", "Bytes of archives that were streamed.", ["origin"])


class BrokenOffError(Exception):
    """The rest of the archive cannot be had."""


class WrongChecksumError(BrokenOffError):
    """A source does not have the CRC-32 that its header says."""


class TooManyStreamsError(ProblemError):
    """You are downloading as many archives as you may at once; try again when one is done."""

    status = 429
    slug = "too-many-downloads"
    title = "Too many downloads at once"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLimits:
    """How many streams one process serves at the same time."""

    all: int
    each_user: int


class Slots:
    """Counts streams."""

    def __init__(self, limits: StreamLimits) -> None:
        self._limits = limits
        self._taken: Counter[str] = Counter()

    @contextmanager
    def taken(self, user_id: str) -> Iterator[None]:
        """Take a place for a user's stream.

        Raises:
            UnavailableError, TooManyStreamsError: there is none.
        """
        if self._taken[user_id] >= self._limits.each_user:
            raise TooManyStreamsError(
                f"You are downloading {self._limits.each_user} archives at once, and no more may be.",
                headers={"Retry-After": str(_BUSY)},
            )
        if self._taken.total() >= self._limits.all:
            raise UnavailableError("Too many archives are being streamed. Try again.", retry_after=_BUSY)
        self._taken[user_id] += 1
        STREAMS.inc()
        try:
            yield
        finally:
            STREAMS.dec()
            self._taken[user_id] -= 1
            if not self._taken[user_id]:
                del self._taken[user_id]


class Archives:
    """Streams archives.

    Args:
        finder: knows how far they are.
        store: holds those that are built.
        reader: reads what others are made of.
        limits: how many streams there may be.
    """

    def __init__(
        self, finder: ArchiveFinder, store: ArchiveStore, reader: SourceReader, *, limits: StreamLimits
    ) -> None:
        self._finder = finder
        self._store = store
        self._reader = reader
        self._checksums = Checksums(reader)
        self._slots = Slots(limits)

    async def close(self) -> None:
        """End what goes on in the background."""
        await self._checksums.close()

    async def find(self, job_id: str) -> ArchiveState:
        """Return how far the archive of a job is.

        Raises:
            RecordUnavailableError
        """
        return await self._finder.find(job_id)

    @asynccontextmanager
    async def open(self, wanted: Wanted) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open bytes of an archive; what is iterated over is all of them, or raises.

        Raises:
            UnavailableError, TooManyStreamsError: there are too many streams.
            BrokenOffError: when it is entered: the first bytes cannot be had; later: the rest.
        """
        with self._slots.taken(wanted.user_id):
            async with aclosing(self._chunks(wanted)) as chunks:
                try:
                    first = await anext(chunks)
                except StopAsyncIteration:
                    first = b""
                async with aclosing(_behind(first, chunks)) as all_of_them:
                    yield all_of_them

    async def _chunks(self, wanted: Wanted) -> AsyncGenerator[bytes, None]:
        archive, position, tries = wanted.archive, wanted.start, 0
        while position < wanted.stop:
            try:
                async with aclosing(self._once(archive, position, wanted.stop)) as chunks:
                    async for chunk in chunks:
                        yield chunk
                        tries, position = 0, position + len(chunk)
            except SOURCE_ERRORS as error:
                log.info("archive stream interrupted", job_id=wanted.job_id, position=position, error=repr(error))
                now = await self._built(wanted)
                tries += 1
                if now is not None and now != archive:
                    archive = now
                elif isinstance(error, _FLEETING) and tries < _TRIES:
                    await asyncio.sleep(_FIRST_PAUSE * 2 ** (tries - 1))
                else:
                    raise BrokenOffError(f"byte {position} cannot be had: {error}") from error

    async def _built(self, wanted: Wanted) -> Built | None:
        """Return where the same archive is by now, if it has been built."""
        try:
            now = await self.find(wanted.job_id)
        except RecordUnavailableError as error:
            log.warning("record unavailable", error=str(error))
            return None
        return now if isinstance(now, Built) and now.etag == wanted.archive.etag else None

    def _once(self, archive: LaidOut | Built, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        match archive:
            case Built():
                return self._from_object(archive, start, stop)
            case LaidOut():
                return self._from_sources(archive, start, stop)

    async def _from_object(self, archive: Built, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        place = archive.location
        info = await self._store.head(place.bucket, place.key)
        if info.size != archive.size:
            raise StoreRefusedError(f"{place.key} has {info.size} bytes, not {archive.size}")
        async with self._store.read(
            place.bucket, place.key, etag=info.etag, offset=start, length=stop - start
        ) as chunks:
            async for chunk in chunks:
                STREAMED_BYTES.labels("archive").inc(len(chunk))
                yield chunk

    async def _from_sources(self, archive: LaidOut, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        missing = archive.unknown(start, stop)
        if missing:
            unread = [Unread(archive.sources[index], archive.entries[index].size) for index in missing]
            archive = archive.with_checksums(dict(zip(missing, await self._checksums.of(unread), strict=True)))
        held = bytearray()
        for piece in View(archive.entries).content(start, stop):
            if isinstance(piece, bytes):
                held += piece
            else:
                async with aclosing(self._data(archive, piece)) as chunks:
                    async for chunk in chunks:
                        yield bytes(held) + chunk if held else chunk
                        held.clear()
            if len(held) >= _HELD:
                yield bytes(held)
                held.clear()
        if held:
            yield bytes(held)

    async def _data(self, archive: LaidOut, piece: Data) -> AsyncGenerator[bytes, None]:
        """Yield a slice of an entry's data; of a whole entry only if it has the CRC-32 that its header says."""
        entry, value, left = archive.entries[piece.entry], 0, piece.length
        is_whole = entry.packed is None and piece.length == entry.size
        async with self._reader.open(archive.sources[piece.entry], offset=piece.offset, length=piece.length) as chunks:
            async for chunk in chunks:
                left -= len(chunk)
                if is_whole:
                    value = crc32(chunk, value)
                    if not left and value != entry.crc32:
                        raise WrongChecksumError(f"the CRC-32 of {entry.name} is {value:08x}, not {entry.crc32:08x}")
                STREAMED_BYTES.labels("sources").inc(len(chunk))
                yield chunk


async def _behind(first: bytes, rest: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    yield first
    async for chunk in rest:
        yield chunk
