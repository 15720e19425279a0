"""Where to follow a job live, for clients that did not start it, or did so long ago that its tickets are too old.

Browsers cannot send a token with a WebSocket or an event stream, so they need a URL with a ticket in it.
"""

from litestar import Response, get

from haulyard_gateway import openapi
from haulyard_gateway.auth import UserRequest
from haulyard_gateway.bodies import LiveLinks
from haulyard_gateway.context import Given
from haulyard_gateway.headers import NO_STORE
from haulyard_gateway.own_jobs import own_job, warn_of
from haulyard_gateway.status import JobIdPath


@get("/jobs/{job_id:str}/live", **openapi.LIVE)
async def live(request: UserRequest, job_id: JobIdPath, context: Given) -> Response[LiveLinks]:
    """Return links with a fresh ticket."""
    job, reading = await own_job(context.ports.state, job_id, request.user)
    ticket = context.tickets.issue(job.job_id, job.user_id, ttl_seconds=context.settings.ticket_ttl)
    body = LiveLinks(
        job_id=job.job_id,
        websocket_url=context.links.websocket(job.job_id, ticket),
        events_url=context.links.events(job.job_id, ticket),
    )
    return Response(body, headers=NO_STORE | warn_of(reading))
