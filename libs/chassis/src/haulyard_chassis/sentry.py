"""Errors to Sentry, for those who want them there: what is logged as one becomes a report, and nothing else does.

None of Sentry's integrations is used: they would send requests with their headers, variables of every frame, and traces
a second time. A report has what the line in the log has, with secrets taken out as there, and the same trace id.
"""

import logging
import socket
import sys
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import sentry_sdk
from sentry_sdk.utils import event_from_exception, exc_info_from_error

from haulyard_chassis.redaction import redact
from haulyard_chassis.settings import ServiceSettings

_TAGS = ("trace_id", "request_id", "job_id", "service")
_INTERNAL = ("_record", "_from_structlog", "exc_info", "event", "level")


class ErrorReports(logging.Handler):
    """Sends what is logged as an error."""

    def __init__(self, client: sentry_sdk.Client) -> None:
        super().__init__(logging.ERROR)
        self._client = client

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a report to Sentry's own thread."""
        if not record.name.startswith("sentry_sdk"):  # else an error of Sentry's would be one more for it
            self._client.capture_event(self._event(record))

    def _event(self, record: logging.LogRecord) -> Any:
        told: Mapping[str, Any] = record.msg if isinstance(record.msg, dict) else {"event": record.getMessage()}
        error = told.get("exc_info") or record.exc_info
        if isinstance(error, BaseException):
            error = exc_info_from_error(error)
        elif error is True:  # the one that is being handled
            error = sys.exc_info()
        raised: Mapping[str, Any] = {}
        if isinstance(error, tuple) and error[1] is not None:
            raised, _ = event_from_exception(error, client_options=self._client.options)
        return {
            **raised,
            "level": record.levelname.lower(),
            "logger": record.name,
            "logentry": {"formatted": str(told["event"])},
            "tags": {name: told[name] for name in _TAGS if name in told},
            "extra": {name: value for name, value in told.items() if name not in (*_INTERNAL, *_TAGS)},
        }


def _redacted(event: Any, _: Any) -> Any:
    return redact(None, "", event)


def error_reports(settings: ServiceSettings, *, service: str, **more: Any) -> ErrorReports:
    """Return the handler for the root logger; ``more`` is handed to Sentry's client, for tests."""
    dsn = settings.sentry_dsn.get_secret_value() if settings.sentry_dsn is not None else None
    return ErrorReports(
        sentry_sdk.Client(
            dsn=dsn,
            environment=settings.environment,
            release=version("haulyard-chassis"),
            server_name=f"{service}@{socket.gethostname()}",
            default_integrations=False,
            auto_enabling_integrations=False,
            include_local_variables=False,
            max_breadcrumbs=0,
            before_send=_redacted,
            **more,
        )
    )
