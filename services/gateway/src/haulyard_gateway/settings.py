"""What the gateway is told by its environment, beyond what every service is told."""

from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from haulyard_chassis.settings import MAX_PRESIGNED, ClientFacingSettings, CommaList

LONGEST_WAIT = 25
"""Seconds that an answer may keep a client waiting: below every proxy's time-out (nginx as we set it: 30 s)."""


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

    rate_limit_per_minute: int = Field(
        100, ge=0, le=1_000_000, description="Requests a minute that one user may make; 0: as many as they like."
    )
    rate_limit_burst: int = Field(
        20, ge=1, le=1_000_000, description="Requests that one user may make at once, before the rate counts."
    )
    max_jobs_per_user: int = Field(
        5, ge=0, le=10_000, description="Jobs that one user may have running at once; 0: as many as they like."
    )
    max_waiting: int = Field(
        1_000,
        ge=0,
        description="Requests that one process lets wait for a change of their job; more are answered at once.",
    )
    start_wait: float = Field(
        LONGEST_WAIT,
        ge=0,
        le=LONGEST_WAIT,
        description="Seconds that the deprecated /v1/download/start waits for the archive before it hands over.",
    )
    archive_streams: int = Field(
        64, ge=1, le=10_000, description="Archives that one process streams at the same time; more are answered 503."
    )
    archive_streams_per_user: int = Field(
        8, ge=1, le=10_000, description="Archives that one process streams for one user at the same time."
    )
    archive_probe_bytes: int = Field(
        32 * 1024 * 1024,
        ge=0,
        description="Most bytes that are read for their checksums when an archive is asked for before it is built;"
        " if more are unread, the archivers read them.",
    )
    archive_patience: float = Field(
        3.0,
        ge=0,
        le=LONGEST_WAIT,
        description="Seconds that a request for an archive waits until that is laid out and its checksums are known.",
    )
    archive_stall: float = Field(
        60.0, gt=0, description="Seconds after which a client that takes nothing of its archive is cut off."
    )
    archive_ticket_ttl: int = Field(
        21_600,
        ge=1,
        description="Seconds that a link to an archive with a ticket in it is good for; a download is resumed by it.",
    )

    @property
    def allowed_source_buckets(self) -> frozenset[str]:
        """Buckets whose objects users may register."""
        return frozenset(self.source_buckets or (self.files_bucket,))
