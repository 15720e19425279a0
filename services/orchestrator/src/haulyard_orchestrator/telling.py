"""Tells of a job's state: to the cache, and as an event."""

from haulyard_chassis.broker import TRACEPARENT, Publisher
from haulyard_chassis.database import Pool
from haulyard_chassis.job_state import CACHE_UNAVAILABLE, JobCache, load_job
from haulyard_chassis.logs import get_logger
from haulyard_contracts import (
    TERMINAL,
    EventType,
    JobDocument,
    JobEvent,
    JobStatus,
    Topology,
    cloud_event_headers,
)
from haulyard_orchestrator import job_records, measures

log = get_logger(__name__)


class Teller:
    """Tells whoever wants to know, as often as it is asked to: the same state is the same event."""

    def __init__(self, *, pool: Pool, cache: JobCache, publisher: Publisher, topology: Topology) -> None:
        self._pool = pool
        self._cache = cache
        self._publisher = publisher
        self._topology = topology

    async def tell(self, job_id: str, *, planned: bool = False) -> None:
        """Write the job's state to the cache and publish the event that it is in this state.

        Raises:
            BrokerUnavailableError: the event is not in the stream; call again.
        """
        recorded = await load_job(self._pool, job_id)
        if recorded is None:
            return
        document = recorded.document
        # The cache first: whoever missed the event reads a state that is at least as new.
        try:
            await self._cache.put(document)
        except CACHE_UNAVAILABLE as error:
            log.warning("cache unavailable", error=repr(error))
        event = event_of(document, planned=planned)
        headers = cloud_event_headers(event, source=f"/haulyard/{self._topology.namespace}")
        if recorded.traceparent:
            headers[TRACEPARENT] = recorded.traceparent
        await self._publisher.publish(
            self._topology.event(job_id, event.type), event, message_id=event.id, headers=headers
        )
        if document.status in TERMINAL:
            took = await job_records.mark_told(self._pool, job_id, document.sequence)
            if took is not None:  # the first time
                measures.ended(document, took)


_EVENT_TYPES = {
    JobStatus.QUEUED: EventType.PROCESSING,
    JobStatus.PROCESSING: EventType.PROGRESS,
    JobStatus.COMPLETED: EventType.COMPLETED,
    JobStatus.FAILED: EventType.FAILED,
    JobStatus.CANCELLED: EventType.CANCELLED,
    JobStatus.EXPIRED: EventType.EXPIRED,
}


def event_of(document: JobDocument, *, planned: bool) -> JobEvent:
    """Return the event that tells of a state.

    Args:
        document: the state.
        planned: the job is in this state because it was planned just now.
    """
    completed = document.status is JobStatus.COMPLETED
    return JobEvent(
        job_id=document.job_id,
        sequence=document.sequence,
        type=EventType.PROCESSING if planned and document.status not in TERMINAL else _EVENT_TYPES[document.status],
        status=document.status,
        progress=document.progress,
        timestamp=document.updated_at,
        error=document.error,
        filename=document.filename if completed else None,
        size_bytes=document.size_bytes if completed else None,
        failed_files=document.failed_files,
    )
