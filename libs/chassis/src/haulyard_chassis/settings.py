"""Settings that all services share: one typed object, read from ``HAULYARD_…`` variables before anything connects.

Secrets have no default: a service without its secret does not start.
"""

import sys
from typing import Annotated, Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from pydantic_settings import SettingsError as UnreadableSourceError

from haulyard_chassis.egress import LOOPBACK, Networks, parse_networks
from haulyard_chassis.source_urls import parse_hosts


def _split(value: Any) -> Any:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def _networks(cidrs: tuple[str, ...]) -> tuple[str, ...]:
    parse_networks(cidrs)
    return cidrs


def _hosts(hosts: tuple[str, ...]) -> tuple[str, ...]:
    parse_hosts(hosts)
    return hosts


def _http_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("must be an http or https URL")
    return url.rstrip("/")


CommaList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]
"""Values separated by commas."""


class ServiceSettings(BaseSettings):
    """What any service is told by its environment. Each service extends it with its own."""

    model_config = SettingsConfigDict(env_prefix="HAULYARD_", frozen=True, extra="ignore")

    environment: Literal["development", "production"] = Field(
        "production", description="Development shows more and allows loopback webhooks."
    )
    namespace: str = Field(
        "haulyard", pattern=r"^[A-Za-z0-9_-]{1,32}$", description="First token of every subject and stream."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severity that is logged."
    )
    log_format: Literal["json", "console"] = Field("json", description="One JSON object a line, or lines for people.")

    http_host: str = Field("127.0.0.1", description="Address on which the service listens.")
    http_port: int = Field(8080, ge=0, le=65535, description="Port on which the service listens.")
    behind_tls: bool = Field(
        default=False,
        description="A proxy in front ends TLS and sets X-Forwarded-Proto itself, whatever clients send: believe it.",
    )
    metrics_enabled: bool = Field(
        default=True, description="Answer /metrics for Prometheus; proxies must not pass it on to the internet."
    )
    otlp_endpoint: Annotated[str, AfterValidator(_http_url)] | None = Field(
        None,
        description="OpenTelemetry collector that takes OTLP over HTTP, without the path /v1/traces:"
        " http://collector:4318. Nothing is traced if not set. The exporter's other standard variables"
        " (OTEL_EXPORTER_OTLP_HEADERS, …_CERTIFICATE, …_TIMEOUT, OTEL_BSP_…, OTEL_RESOURCE_ATTRIBUTES) work, too.",
    )
    trace_ratio: float = Field(
        1.0,
        ge=0,
        le=1,
        description="Share of the traces that begin here which is recorded; of one that a caller began, the caller"
        " decides.",
    )
    sentry_dsn: SecretStr | None = Field(
        None,
        description="Where Sentry, or what speaks its protocol, takes errors; needs the package's extra 'sentry'.",
    )
    shutdown_grace: float = Field(25.0, gt=0, description="Seconds that running work may take after SIGTERM.")

    nats_url: SecretStr = Field(
        description="NATS servers, comma separated: nats://user:password@host:4222. With the same user in each, the "
        "other servers of their cluster are tried, too."
    )
    nats_replicas: int = Field(1, ge=1, le=5, description="Replicas of each stream: 1 embedded, 3 clustered.")
    postgres_dsn: SecretStr = Field(description="PostgreSQL: postgresql://user:password@host:5432/haulyard.")
    postgres_pool: int = Field(10, ge=1, le=200, description="Most connections that one process opens.")
    redis_url: SecretStr = Field(description="Valkey or Redis: redis://:password@host:6379/0.")

    s3_endpoint: str = Field(description="URL of the S3 API, as the services reach it.")
    s3_public_endpoint: str | None = Field(
        None, description="URL of the S3 API as clients reach it, for presigned links; as s3_endpoint if not set."
    )
    s3_region: str = Field("us-east-1", description="Region for signatures.")
    s3_access_key: SecretStr = Field(description="S3 access key.")
    s3_secret_key: SecretStr = Field(description="S3 secret key.")
    archive_bucket: str = Field("haulyard-archives", description="Bucket that takes the archives.")
    files_bucket: str = Field("haulyard-files", description="Bucket that takes uploaded files.")

    egress_networks: Annotated[CommaList, AfterValidator(_networks)] = Field(
        (),
        description="Networks (10.1.0.0/16), comma separated, that webhooks and https sources may reach although they"
        " are not public, also without TLS; in development this machine always is.",
    )
    source_hosts: Annotated[CommaList, AfterValidator(_hosts)] = Field(
        (),
        description="Hosts from which files may be archived by URL, comma separated: files.example.com,"
        " *.example.com:8443; none if not set.",
    )

    @property
    def allowed_networks(self) -> Networks:
        """Networks that may be reached although they are not public."""
        return parse_networks(self.egress_networks) + (LOOPBACK if self.environment == "development" else ())


MIN_SECRET = 32
"""Bytes that a secret must have at least (RFC 7518, section 3.2)."""


def _long_enough(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value().encode()) < MIN_SECRET:
        raise ValueError(f"must be at least {MIN_SECRET} bytes")
    return secret


Secret = Annotated[SecretStr, AfterValidator(_long_enough)]
"""A secret that signs tokens."""

MAX_PRESIGNED = 7 * 86_400
"""Seconds that a link can be good for at most (AWS Signature Version 4)."""


class ClientFacingSettings(ServiceSettings):
    """What a service is told that clients talk to."""

    jwt_secret: Secret | None = Field(
        None, description="Secret that signs users' tokens (HS256); at least 32 bytes. This or jwks_url must be set."
    )
    jwt_secret_secondary: Secret | None = Field(
        None, description="Another secret whose tokens are good as well, while jwt_secret is being changed."
    )
    jwks_url: str | None = Field(
        None,
        description="URL of the identity provider's keys (JWK Set) with which users' tokens are signed (RS256, ES256,"
        " EdDSA); needs jwt_issuer and jwt_audience.",
    )
    jwt_issuer: str | None = Field(None, description="Issuer (iss) that tokens must have.")
    jwt_audience: str | None = Field(None, description="Audience (aud) that tokens must be for.")
    jwks_max_age: float = Field(300.0, gt=0, description="Seconds after which the keys are fetched again.")
    jwks_pause: float = Field(
        10.0, gt=0, description="Seconds between two fetches that tokens with an unknown key can cause."
    )
    ticket_secret: Secret = Field(
        description="Secret that signs tickets for live updates; at least 32 bytes, and another than jwt_secret."
    )
    ticket_secret_secondary: Secret | None = Field(
        None, description="Another secret whose tickets are good as well, while ticket_secret is being changed."
    )
    cors_origins: CommaList = Field((), description="Web origins whose pages may call the service, comma separated.")
    download_expires: int = Field(
        900, ge=1, le=MAX_PRESIGNED, description="Seconds that a link to download is good for."
    )

    @model_validator(mode="after")
    def _one_way_to_sign(self) -> Self:
        if (self.jwt_secret is None) == (self.jwks_url is None):
            raise ValueError("HAULYARD_JWT_SECRET or HAULYARD_JWKS_URL must be set, and not both")
        if self.jwks_url is None:
            return self
        # Without these, what the provider issued for any other service of anybody would be good here (RFC 8725, 3.9).
        if not self.jwt_issuer or not self.jwt_audience:
            raise ValueError("with HAULYARD_JWKS_URL, HAULYARD_JWT_ISSUER and HAULYARD_JWT_AUDIENCE must be set")
        parts = urlsplit(self.jwks_url)
        if not parts.hostname or parts.scheme not in (
            ("https", "http") if self.environment == "development" else ("https",)
        ):
            raise ValueError("HAULYARD_JWKS_URL must be an https URL")
        return self

    @model_validator(mode="after")
    def _secrets_differ(self) -> Self:
        tokens = {self.jwt_secret, self.jwt_secret_secondary} - {None}
        if tokens & {self.ticket_secret, self.ticket_secret_secondary}:
            raise ValueError("ticket_secret must not be the same as jwt_secret, nor the secondary ones")
        if self.jwt_secret_secondary is not None and self.jwt_secret is None:
            raise ValueError("jwt_secret_secondary is for use with jwt_secret")
        return self

    @property
    def ticket_secrets(self) -> tuple[str, str | None]:
        """What signs tickets, and what else is good."""
        return self.ticket_secret.get_secret_value(), _value(self.ticket_secret_secondary)

    @property
    def jwt_secrets(self) -> tuple[str | None, str | None]:
        """What signs users' tokens, and what else is good."""
        return _value(self.jwt_secret), _value(self.jwt_secret_secondary)


def _value(secret: Secret | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


S = TypeVar("S", bound=ServiceSettings)


class SettingsError(Exception):
    """The environment does not make valid settings; the message names each variable and what is wrong with it."""


def load_settings(kind: type[S]) -> S:
    """Read settings of type ``kind`` from the environment.

    Raises:
        SettingsError: a variable is missing or has a wrong value.
    """
    try:
        return kind()
    except ValidationError as error:
        lines = [
            _line(problem["loc"], problem["msg"]) for problem in error.errors(include_input=False, include_url=False)
        ]
        raise SettingsError("the settings are not valid:\n" + "\n".join(lines)) from None
    except UnreadableSourceError as error:  # a variable that holds a list or an object, and is no JSON
        raise SettingsError(f"the settings are not valid:\n  {error}") from None


def _line(where: tuple[int | str, ...], message: str) -> str:
    """Say what is wrong with a variable, or with several together."""
    message = message.removeprefix("Value error, ")
    return f"  HAULYARD_{'_'.join(str(step) for step in where).upper()}: {message}" if where else f"  {message}"


def load_settings_or_exit(kind: type[S]) -> S:
    """Read settings; print what is wrong and exit with status 2 if they are not valid."""
    try:
        return load_settings(kind)
    except SettingsError as error:
        print(error, file=sys.stderr)  # noqa: T201 - logging is configured by the settings that are missing
        sys.exit(2)
