"""Logging: structlog to stdout, one event a line, with the ids that are bound to the current context.

The standard library's loggers (uvicorn, FastStream, nats) go through the same renderer. Message bodies, tokens and
presigned URLs are not logged, and what looks like a secret is taken out all the same (`haulyard_chassis.redaction`).

Beside the log there is the audit log: who asked for, got and deleted what. Its lines have ``"audit": true`` and come
whatever `log_level` is.
"""

import logging
import sys
from typing import Any

import structlog

from haulyard_chassis.redaction import redact
from haulyard_chassis.settings import ServiceSettings

_AUDIT = "audit"


def configure_logging(settings: ServiceSettings, *, service: str) -> None:
    """Set up logging for this process; call once, first."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    if settings.log_format == "json":
        render: structlog.typing.Processor = structlog.processors.JSONRenderer()
    else:
        render = structlog.dev.ConsoleRenderer(
            colors=sys.stdout.isatty(), pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
        )
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(), _without_colours],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            redact,
            render,
        ],
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "faststream"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    # Services say themselves when they are ready; a line for each request or message is what traces are for.
    logging.getLogger("uvicorn.error").setLevel("WARNING")
    logging.getLogger("uvicorn.access").setLevel("WARNING")
    logging.getLogger("uvicorn.error").addFilter(_is_no_handshake)
    logging.getLogger("faststream").setLevel("WARNING")
    logging.getLogger(_AUDIT).setLevel("INFO")
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(settings.log_level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    structlog.contextvars.bind_contextvars(service=service)
    if settings.sentry_dsn is not None:
        _report_errors(settings, service=service)


def _report_errors(settings: ServiceSettings, *, service: str) -> None:
    try:
        from haulyard_chassis.sentry import error_reports  # noqa: PLC0415 - an extra that few install
    except ModuleNotFoundError as error:
        get_logger(__name__).error("errors are not reported: install haulyard-chassis[sentry]", missing=error.name)
    else:
        logging.getLogger().addHandler(error_reports(settings, service=service))


def _is_no_handshake(record: logging.LogRecord) -> bool:
    """Leave out the lines about WebSocket handshakes: they show the whole URL, with the ticket in it."""
    return not str(record.msg).startswith('%s - "WebSocket')


def _without_colours(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Drop the second, coloured copy of the message that uvicorn adds."""
    event.pop("color_message", None)
    return event


def get_logger(name: str) -> structlog.typing.FilteringBoundLogger:
    """Return the logger of a module."""
    logger: structlog.typing.FilteringBoundLogger = structlog.get_logger(name)
    return logger


def audit(event: str, *, user_id: str, **fields: Any) -> None:
    """Note who did what, for whoever has to answer that later.

    Args:
        event: what was done, in the past tense: ``job requested``, ``archive link issued``, ``user erased``.
        user_id: who did it.
        fields: to what: ids, counts; never contents, links or tokens.
    """
    logger = structlog.wrap_logger(
        logging.getLogger(_AUDIT), wrapper_class=structlog.make_filtering_bound_logger(logging.INFO)
    )
    logger.info(event, audit=True, user_id=user_id, **fields)
