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
    heartbeat: float = Field(15.0, gt=0, description="Seconds of silence after which an event stream gets a comment.")

    webhook_secret: Annotated[SecretStr, AfterValidator(_usable_key)] | None = Field(
        None, description="Signs webhooks by the Standard Webhooks specification; 'whsec_' + Base64, or plain text."
    )
    webhook_timeout: float = Field(15.0, gt=0, description="Seconds that a webhook may take to answer.")
    webhook_slots: int = Field(16, ge=1, le=1000, description="Webhooks that one process calls at the same time.")
