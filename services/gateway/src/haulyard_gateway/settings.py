"""What the gateway is told by its environment, beyond what every service is told."""

from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator
from pydantic_settings import NoDecode

from haulyard_chassis.identity import MIN_SECRET
from haulyard_chassis.settings import ServiceSettings

_MAX_PRESIGNED = 7 * 86_400  # AWS Signature Version 4 signs for seven days at most


def _split(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _long_enough(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value().encode()) < MIN_SECRET:
        raise ValueError(f"must be at least {MIN_SECRET} bytes")
    return secret


def _base_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be an http or https URL without query or fragment, such as https://api.example.com")
    return url.rstrip("/")


CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
Secret = Annotated[SecretStr, AfterValidator(_long_enough)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]


class GatewaySettings(ServiceSettings):
    """The gateway's settings."""

    jwt_secret: Secret = Field(description="Secret that signs users' tokens (HS256); at least 32 bytes.")
    ticket_secret: Secret = Field(description="Secret that signs tickets for live updates; at least 32 bytes.")

    public_api_url: BaseUrl = Field(description="URL under which clients reach the gateway.")
    public_notifier_url: BaseUrl = Field(
        description="http(s) URL under which clients reach the notifier; WebSockets use the same with ws(s)."
    )
    cors_origins: CommaList = Field((), description="Web origins whose pages may call the API, comma separated.")

    max_files_per_job: int = Field(100, ge=1, le=10_000, description="Most files that one job may have.")
    source_buckets: CommaList = Field(
        (), description="Buckets whose objects users may register, comma separated; the files bucket if not set."
    )
    upload_expires: int = Field(900, ge=1, le=_MAX_PRESIGNED, description="Seconds that a link to upload is good for.")
    download_expires: int = Field(
        900, ge=1, le=_MAX_PRESIGNED, description="Seconds that a link to download is good for."
    )
    ticket_ttl: int = Field(3600, ge=1, description="Seconds within which a ticket for live updates must be used.")

    @model_validator(mode="after")
    def _secrets_differ(self) -> Self:
        if self.jwt_secret == self.ticket_secret:
            raise ValueError("ticket_secret must not be the same as jwt_secret")
        return self

    @property
    def allowed_source_buckets(self) -> frozenset[str]:
        """Buckets whose objects users may register."""
        return frozenset(self.source_buckets or (self.files_bucket,))
