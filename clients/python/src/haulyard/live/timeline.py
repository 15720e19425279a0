"""What is news: one order of a job's states, whichever way they are heard of. Pure.

WebSocket, SSE and polling each tell whole states, and each may tell an old one again: after a reconnect, or because the
poll's answer came from a cache. A timeline lets each state through once and never a step back.
"""

from collections.abc import Mapping
from datetime import datetime

import msgspec

from haulyard.errors import UnexpectedAnswerError
from haulyard.models import Failure, Job, JobStatus, Progress, Update, Way

_ORDER: Mapping[JobStatus, int] = {
    JobStatus.QUEUED: 0,
    JobStatus.PROCESSING: 1,
    JobStatus.UNKNOWN: 1,
    JobStatus.FAILED: 2,
    JobStatus.CANCELLED: 2,
    JobStatus.COMPLETED: 2,
    JobStatus.EXPIRED: 3,
}


class _Message(msgspec.Struct, frozen=True, kw_only=True):
    """Any of the server's messages; which fields it has depends on its type."""

    type: str
    job_id: str
    sequence: int
    status: JobStatus | None = None
    progress: Progress | None = None
    timestamp: datetime | None = None
    error: Failure | None = None
    filename: str | None = None
    size_bytes: int | None = None
    failed_files: tuple[int, ...] = ()


_ENDS: Mapping[str, JobStatus] = {"completed": JobStatus.COMPLETED, "error": JobStatus.FAILED}


class Timeline:
    """The states of one job that a listener was told, in order.

    Args:
        job_id: the job.
        after: the sequence of the last state that the listener knows; 0 for none.
    """

    def __init__(self, job_id: str, *, after: int = 0) -> None:
        self._job_id = job_id
        self._after = after
        self._last: Update | None = None

    @property
    def last_event_id(self) -> int:
        """What to tell the server, so that it need not tell again what the listener knows; 0 for nothing."""
        return self._after

    @property
    def is_over(self) -> bool:
        """Whether the last state is one that nothing follows."""
        return self._last is not None and self._last.status.is_over

    def hear_message(self, text: str | bytes, *, via: Way) -> Update | None:
        """Take a message of WebSocket or SSE; return the state if it is news.

        Raises:
            UnexpectedAnswerError: it is no message of this API.
        """
        try:
            message = msgspec.json.decode(text, type=_Message)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise UnexpectedAnswerError(f"The server sent what is no message of this API: {error}") from error
        status = _ENDS.get(message.type, message.status)
        if status is None or message.job_id != self._job_id:
            return None  # of a kind that a newer server has; the state comes in another message
        return self._take(
            Update(
                job_id=message.job_id,
                status=status,
                progress=message.progress or self._progress_at(status),
                sequence=message.sequence,
                timestamp=message.timestamp,
                error=message.error,
                filename=message.filename,
                size_bytes=message.size_bytes,
                failed_files=message.failed_files,
                via=via,
            )
        )

    def hear_status(self, job: Job) -> Update | None:
        """Take a poll's answer; return the state if it is news."""
        return self._take(
            Update(
                job_id=job.job_id,
                status=job.status,
                progress=job.progress,
                sequence=job.sequence,
                timestamp=job.updated_at,
                error=job.error,
                filename=job.filename,
                size_bytes=job.size_bytes,
                failed_files=tuple(file.file_id for file in job.failed_files),
                via=Way.POLLING,
            )
        )

    def _take(self, update: Update) -> Update | None:
        if self.is_over:
            return None
        is_news = self._is_news(update)
        self._after = max(self._after, update.sequence or 0)
        if not is_news:
            return None
        self._last = update
        return update

    def _is_news(self, update: Update) -> bool:
        last = self._last
        # An end is told even to a listener who claims to have seen more: it must not wait for ever.
        if update.status.is_over:
            return True
        if update.sequence is not None and update.sequence <= self._after:
            return False
        if last is None or (update.sequence is not None and last.sequence is not None):
            return True
        # One of the two has no sequence (servers before 0.2 do not tell it to polls): only a state that is further on
        # is surely news.
        return _position(update) > _position(last)

    def _progress_at(self, status: JobStatus) -> Progress:
        """The messages of a job's end do not repeat its progress."""
        last = self._last.progress if self._last is not None else Progress()
        if status is not JobStatus.COMPLETED:
            return last
        return Progress(
            current=last.total,
            total=last.total,
            percentage=100,
            bytes_current=last.bytes_total,
            bytes_total=last.bytes_total,
        )


def _position(update: Update) -> tuple[int, int, int]:
    return _ORDER[update.status], update.progress.current, update.progress.bytes_current
