"""Reports to Sentry: errors and nothing else, with what the log has, and without secrets."""

import gzip
import json
import logging
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import structlog

from haulyard_chassis.logs import configure_logging, get_logger
from haulyard_chassis.sentry import ErrorReports
from haulyard_chassis.settings import ServiceSettings

pytestmark = pytest.mark.usefixtures("logging_as_before")

SECRET = "hunter2-and-more"


class Sink:
    """Takes envelopes, as Sentry does."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        sink = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers["Content-Encoding"] == "gzip":
                    body = gzip.decompress(body)
                lines = [line for line in body.splitlines() if line]
                items = zip(lines[1::2], lines[2::2], strict=True)  # after the envelope's own header
                sink.events += [json.loads(item) for head, item in items if b'"event"' in head]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.dsn = f"http://key@127.0.0.1:{self.server.server_port}/1"
        self._thread = threading.Thread(target=self.server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self._thread.join()
        self.server.server_close()


@pytest.fixture
def sink() -> Iterator[Sink]:
    running = Sink()
    yield running
    running.close()


def configure(dsn: str | None, monkeypatch: pytest.MonkeyPatch) -> list[ErrorReports]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    needed = {"nats_url": "n", "postgres_dsn": "p", "redis_url": "r", "s3_endpoint": "http://s"}
    settings: dict[str, Any] = {**needed, "s3_access_key": "k", "s3_secret_key": "s", "sentry_dsn": dsn}
    configure_logging(ServiceSettings(**settings), service="test")
    return [handler for handler in logging.getLogger().handlers if isinstance(handler, ErrorReports)]


def test_what_is_logged_as_an_error_is_reported(sink: Sink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sentry_sdk.transport.brotli", None)  # the sink reads gzip
    (handler,) = configure(sink.dsn, monkeypatch)
    log = get_logger("haulyard.test")
    structlog.contextvars.bind_contextvars(trace_id="a" * 32, job_id="job_1")
    log.warning("only a warning")
    try:
        int(f"postgresql://user:{SECRET}@host")
    except ValueError:
        log.exception("broke", part=3, password=SECRET)
    logging.getLogger("somebody").error("no use: token=%s", SECRET)
    handler._client.flush(timeout=30)
    handler._client.close()
    first, second = sink.events
    assert first["logentry"]["formatted"] == "broke"
    assert first["tags"] == {"trace_id": "a" * 32, "job_id": "job_1", "service": "test"}
    assert first["extra"]["part"] == 3
    (raised,) = first["exception"]["values"]
    assert raised["type"] == "ValueError"
    assert "postgresql://user:[hidden]@host" in raised["value"]
    assert not any("vars" in frame for frame in raised["stacktrace"]["frames"])
    assert second["logentry"]["formatted"] == "no use: token=[hidden]"
    assert SECRET not in json.dumps(sink.events)


def test_whoever_has_not_installed_it_is_told(
    sink: Sink, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)
    monkeypatch.delitem(sys.modules, "haulyard_chassis.sentry")
    assert configure(sink.dsn, monkeypatch) == []
    assert "install haulyard-chassis[sentry]" in capsys.readouterr().out


def test_without_an_address_nothing_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert configure(None, monkeypatch) == []
