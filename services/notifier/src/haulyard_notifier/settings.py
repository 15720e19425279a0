"""What the notifier is told by its environment."""

import binascii
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import NoDecode

from haulyard_chassis.identity import MIN_SECRET
from haulyard_chassis.settings import ServiceSettings
from haulyard_notifier.webhooks.signature import signing_key


def _split(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _long_enough(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value().encode()) < MIN_SECRET:
        raise ValueError(f"must be at least {MIN_SECRET} bytes long")
    return secret


def _usable_key(secret: SecretStr) -> SecretStr:
    try:
        key = signing_key(secret.get_secret_value())
    except binascii.Error as error:
        raise ValueError("after 'whsec_' must be Base64") from error
    if not key:
        raise ValueError("must not be empty")
    return secret


CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Secret = Annotated[SecretStr, AfterValidator(_long_enough)]


class NotifierSettings(ServiceSettings):
    """Settings of the notifier."""

    jwt_secret: Secret = Field(description="Secret that bearer tokens are signed with (HS256), at least 32 bytes.")
    ticket_secret: Secret = Field(description="Secret that tickets are signed with, at least 32 bytes.")
    cors_origins: CommaList = Field((), description="Web origins whose pages may follow jobs, comma separated.")

    download_expires: int = Field(900, ge=1, le=604_800, description="Seconds that a download link is good for.")
    max_updates_per_second: float = Field(5.0, gt=0, description="Progress messages that one client is sent at most.")
    heartbeat: float = Field(15.0, gt=0, description="Seconds of silence after which an event stream gets a comment.")

    webhook_secret: Annotated[SecretStr, AfterValidator(_usable_key)] | None = Field(
        None, description="Signs webhooks by the Standard Webhooks specification; 'whsec_' + Base64, or plain text."
    )
    webhook_timeout: float = Field(15.0, gt=0, description="Seconds that a webhook may take to answer.")
    webhook_slots: int = Field(16, ge=1, le=1000, description="Webhooks that one process calls at the same time.")

    @model_validator(mode="after")
    def _secrets_differ(self) -> Self:
        if self.jwt_secret == self.ticket_secret:
            raise ValueError("ticket_secret must not be the same as jwt_secret")
        return self
