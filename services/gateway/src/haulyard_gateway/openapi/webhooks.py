"""A user's webhooks."""

from haulyard_chassis.identity import JOBS_READ, JOBS_WRITE
from haulyard_chassis.problems import NotFoundError
from haulyard_gateway.documented import Answer, Fault, documented
from haulyard_gateway.openapi.shared import JOB, NO_JOB, NO_RECORD, NO_STATE, at
from haulyard_gateway.webhook_bodies import DeliveriesBody, DeliveryBody, SecretBody, SecretsBody

WEBHOOKS = "Webhooks"

_DELIVERY = f"{JOB}:9"
_HEADERS = ("Cache-Control",)


def _delivery(status: str) -> DeliveryBody:
    return DeliveryBody(
        delivery_id=_DELIVERY,
        job_id=JOB,
        event="completed",
        url="https://example.com/callback",
        status="dead" if status == "dead" else "pending",
        attempts=10,
        last_status=500,
        last_error="answered 500",
        next_attempt_at=None if status == "dead" else at(30),
        last_attempt_at=at(20),
        delivered_at=None,
        created_at=at(2),
    )


def _secret(letter: str, *, expires: bool) -> SecretBody:
    return SecretBody(
        secret=f"whsec_{letter * 43}=", created_at=at(0 if expires else 10), expires_at=at(40) if expires else None
    )


DELIVERIES = documented(
    operation_id="listDeliveries",
    summary="See how a job's webhook was called",
    description="A delivery is tried up to ten times in about three days; then it is `dead`, and is kept.",
    tag=WEBHOOKS,
    path=f"/v1/jobs/{JOB}/deliveries",
    scopes=(JOBS_READ,),
    answers={
        200: Answer(example=DeliveriesBody(deliveries=(_delivery("dead"),)), headers=(*_HEADERS, "Warning")),
    },
    faults=[NO_JOB, NO_STATE, NO_RECORD],
)

REDELIVER = documented(
    operation_id="redeliver",
    summary="Have a delivery made again",
    description="At once, and if that fails, by the schedule from its beginning; whether it was delivered, given up, or"
    " waits for its next attempt. Its `webhook-id` stays the same.",
    tag=WEBHOOKS,
    path=f"/v1/deliveries/{_DELIVERY}/redeliver",
    scopes=(JOBS_WRITE,),
    answers={202: Answer(example=_delivery("pending"), headers=_HEADERS)},
    faults=[Fault(kind=NotFoundError, detail="You have no delivery with this id."), NO_RECORD],
)

SECRETS = documented(
    operation_id="listWebhookSecrets",
    summary="Get the secrets that sign your webhooks",
    description="The first time one is made. Requests are signed by"
    " [Standard Webhooks](https://www.standardwebhooks.com), with each valid secret.",
    tag=WEBHOOKS,
    path="/v1/webhooks/secrets",
    scopes=(JOBS_WRITE,),
    answers={200: Answer(example=SecretsBody(secrets=(_secret("A", expires=False),)), headers=_HEADERS)},
    faults=[NO_RECORD],
)

ROTATE = documented(
    operation_id="rotateWebhookSecret",
    summary="Exchange the secret that signs your webhooks",
    description="A new one is made; the one before is good for a day more, and any older one no longer.",
    tag=WEBHOOKS,
    path="/v1/webhooks/secrets/rotate",
    scopes=(JOBS_WRITE,),
    answers={
        200: Answer(
            example=SecretsBody(secrets=(_secret("B", expires=False), _secret("A", expires=True))), headers=_HEADERS
        )
    },
    faults=[NO_RECORD],
)
