"""A user's webhooks: how deliveries went, delivering again, and the secrets that sign them."""

import re
from typing import Annotated

from litestar import Response, get, post
from litestar.params import PathParameter

from haulyard_chassis.logs import audit
from haulyard_chassis.problems import NotFoundError
from haulyard_gateway import openapi
from haulyard_gateway.auth import UserRequest
from haulyard_gateway.context import Given
from haulyard_gateway.headers import NO_STORE
from haulyard_gateway.own_jobs import own_job, warn_of
from haulyard_gateway.queries import JOB_ID
from haulyard_gateway.status import JobIdPath
from haulyard_gateway.webhook_bodies import DeliveriesBody, DeliveryBody, SecretsBody, delivery_body, secrets_body

DeliveryIdPath = Annotated[str, PathParameter(description="The delivery's id: the `webhook-id` of its requests.")]

_DELIVERY_ID = re.compile(rf"{JOB_ID.pattern}:[0-9]{{1,18}}")


@get("/jobs/{job_id:str}/deliveries", **openapi.DELIVERIES)
async def list_deliveries(request: UserRequest, job_id: JobIdPath, context: Given) -> Response[DeliveriesBody]:
    """Tell how the deliveries of a job went."""
    job, reading = await own_job(context.ports.state, job_id, request.user)
    found = await context.ports.webhooks.deliveries(job.job_id, request.user)
    body = DeliveriesBody(deliveries=tuple(delivery_body(delivery) for delivery in found))
    return Response(body, headers=NO_STORE | warn_of(reading))


@post("/deliveries/{delivery_id:str}/redeliver", status_code=202, **openapi.REDELIVER)
async def redeliver(request: UserRequest, delivery_id: DeliveryIdPath, context: Given) -> Response[DeliveryBody]:
    """Have a delivery made again."""
    found = (
        await context.ports.webhooks.redeliver(delivery_id, request.user)
        if _DELIVERY_ID.fullmatch(delivery_id)
        else None
    )
    if found is None:
        raise NotFoundError("You have no delivery with this id.")
    return Response(delivery_body(found), headers=NO_STORE)


@get("/webhooks/secrets", **openapi.SECRETS)
async def list_secrets(request: UserRequest, context: Given) -> Response[SecretsBody]:
    """Show the secrets that sign the user's webhooks."""
    return Response(secrets_body(await context.ports.webhooks.secrets(request.user)), headers=NO_STORE)


@post("/webhooks/secrets/rotate", status_code=200, **openapi.ROTATE)
async def rotate_secret(request: UserRequest, context: Given) -> Response[SecretsBody]:
    """Make a new secret; the one before is still good for a day."""
    made = await context.ports.webhooks.rotate(request.user)
    audit("webhook secret rotated", user_id=request.user)
    return Response(secrets_body(made), headers=NO_STORE)
