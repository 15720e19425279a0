"""What the gateway is told by its environment, beyond what every service is told."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from haulyard_chassis.settings import MAX_PRESIGNED, ClientFacingSettings, CommaList


def _base_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be an http or https URL without query or fragment, such as https://api.example.com")
    return url.rstrip("/")


BaseUrl = Annotated[str, AfterValidator(_base_url)]


class GatewaySettings(ClientFacingSettings):
    """The gateway's settings."""

    public_api_url: BaseUrl = Field(description="URL under which clients reach the gateway.")
    public_notifier_url: BaseUrl = Field(
        description="http(s) URL under which clients reach the notifier; WebSockets use the same with ws(s)."
    )

    max_files_per_job: int = Field(
        100,
        ge=1,
        le=1_000,
        description="Most files that one job may have. A task names each; with more than 500, NATS has to take messages"
        " of 2 MB (max_payload).",
    )
    source_buckets: CommaList = Field(
        (), description="Buckets whose objects users may register, comma separated; the files bucket if not set."
    )
    upload_expires: int = Field(900, ge=1, le=MAX_PRESIGNED, description="Seconds that a link to upload is good for.")
    ticket_ttl: int = Field(3600, ge=1, description="Seconds within which a ticket for live updates must be used.")

    @property
    def allowed_source_buckets(self) -> frozenset[str]:
        """Buckets whose objects users may register."""
        return frozenset(self.source_buckets or (self.files_bucket,))
