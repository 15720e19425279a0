"""What the notifier is told by its environment."""

import binascii
from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from haulyard_chassis.settings import ClientFacingSettings
from haulyard_notifier.webhooks.signature import signing_key


def _usable_key(secret: SecretStr) -> SecretStr:
    try:
        key = signing_key(secret.get_secret_value())
    except binascii.Error as error:
        raise ValueError("after 'whsec_' must be Base64") from error
    if not key:
        raise ValueError("must not be empty")
    return secret


class NotifierSettings(ClientFacingSettings):
    """Settings of the notifier."""

    max_updates_per_second: float = Field(5.0, gt=0, description="Progress messages that one client is sent at most.")
    heartbeat: float = Field(
        15.0,
        gt=0,
        le=25,
        description="Seconds of silence after which an event stream gets a comment; WebSockets get a ping every 20 s.",
    )
    user_connections: int = Field(
        100, ge=1, description="WebSockets and event streams that one user may have open at one notifier process."
    )
    job_connections: int = Field(
        1_000, ge=1, description="WebSockets and event streams that one job may have open at one notifier process."
    )
    drain: float = Field(
        5.0, ge=0, le=60, description="Seconds after SIGTERM over which clients are told to go on elsewhere."
    )

    webhook_secret: Annotated[SecretStr, AfterValidator(_usable_key)] | None = Field(
        None,
        description="Signs all webhooks, besides their users' own secrets (Standard Webhooks); 'whsec_' + Base64, or"
        " plain text.",
    )
    webhook_timeout: float = Field(15.0, gt=0, description="Seconds that a webhook may take to answer.")
    webhook_slots: int = Field(16, ge=1, le=1000, description="Webhooks that one process calls at the same time.")
