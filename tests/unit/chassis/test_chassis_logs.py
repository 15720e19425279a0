"""Nothing that is logged holds a secret, in whatever way it came there; the audit log is always written."""

import json
import logging
import re
import secrets
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from haulyard_chassis.identity import Tickets, mint_token
from haulyard_chassis.logs import audit, configure_logging, get_logger
from haulyard_chassis.redaction import HIDDEN, redact, redact_text
from haulyard_chassis.settings import ServiceSettings

pytestmark = pytest.mark.usefixtures("logging_as_before")

SECRET = "s3cr3t-" + secrets.token_hex(16)
TOKEN = mint_token("j" * 32, "alice")
TICKET = Tickets("t" * 32).issue("job_1", "alice", ttl_seconds=60)
SIGNATURE = secrets.token_hex(32)
PRESIGNED = (
    "https://store.example/bucket/a.zip?X-Amz-Algorithm=AWS4-HMAC-SHA256"
    f"&X-Amz-Credential=AKIA{SIGNATURE[:16]}%2F20261124&X-Amz-Security-Token={SIGNATURE}&X-Amz-Signature={SIGNATURE}"
)


def settings(log_format: str, log_level: str = "info") -> ServiceSettings:
    return ServiceSettings.model_validate(
        {
            "nats_url": f"nats://u:{SECRET}@127.0.0.1:4222",
            "postgres_dsn": f"postgresql://u:{SECRET}@127.0.0.1/h",
            "redis_url": f"redis://:{SECRET}@127.0.0.1:6379/0",
            "s3_endpoint": "http://127.0.0.1:9000",
            "s3_access_key": SECRET,
            "s3_secret_key": SECRET,
            "log_format": log_format,
            "log_level": log_level,
        }
    )


TEXTS = [
    f"Authorization: Bearer {TOKEN}",
    f"Authorization: {SECRET}",
    f"Authorization: Basic {SECRET}",
    f"authorization=bearer {TOKEN}",
    f"Basic {SIGNATURE}",
    f"{{'Authorization': 'Bearer {TOKEN}', 'Cookie': 'a'}}",
    f"the token {TOKEN} was refused",
    f"GET /v1/jobs/job_1/events?ticket={TICKET} 200",
    f"wss://live.example/ws/jobs/job_1?last_event_id=1&ticket={TICKET}",
    f"https://x.example/?next=%2Fevents%3Fticket%3D{TICKET}",
    PRESIGNED,
    PRESIGNED.upper(),
    PRESIGNED.replace("&", "%26").replace("=", "%3D"),
    f"AWS4-HMAC-SHA256 Credential={SIGNATURE}/20261124, SignedHeaders=host, Signature={SIGNATURE}",
    f"connect nats://haulyard:{SECRET}@127.0.0.1:4222 failed",
    f"redis://:{SECRET}@127.0.0.1/0",
    f'{{"password": "{SECRET}", "secret":"{SECRET}"}}',
    f"client_secret={SECRET}&grant_type=x",
    f"access_token={TOKEN};",
    f"signed with whsec_{SIGNATURE}",
]
GIVEN = (SECRET, TOKEN, TICKET, SIGNATURE, TOKEN.rpartition(".")[2], TICKET.rpartition(".")[2])


def leaks(output: str) -> list[str]:
    return [secret for secret in GIVEN if secret.lower() in output.lower()]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_loses_its_secret(text: str) -> None:
    assert leaks(text), "the test itself"
    assert not leaks(redact_text(text))
    assert HIDDEN in redact_text(text)
    assert redact_text(redact_text(text)) == redact_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "job accepted",
        "https://api.example/v1/jobs/job_01KC8ZB0J0W8G3R5Q2T7V9X4YZ/status?wait=25&limit=2",
        "haulyard.events.v1.job_1.progress",
        "s3://haulyard-archives/2026/11/job_1.zip",
        "nats://127.0.0.1:4222",
        "TimeoutError('no answer within 15 s')",
        "the token is for another audience",
        "a ticket is no bearer token",
        "12:30:45 basic checks of the store: ok",
    ],
)
def test_all_else_stays_as_it_is(text: str) -> None:
    assert redact_text(text) == text


@pytest.mark.parametrize(
    "name",
    [
        "token",
        "Authorization",
        "ticket",
        "jwt_secret",
        "TICKET_SECRET",
        "set-cookie",
        "refresh_token",
        "X-Amz-Signature",
        "webhook-signature",
        "password",
        "s3_secret_key",
        "redis_password",
    ],
)
def test_a_value_is_hidden_by_its_name(name: str) -> None:
    event = redact(None, "info", {"event": "x", name: "plain", "in": {name: ["plain"], "list": [{name: b"plain"}]}})
    assert "plain" not in repr(event)


def test_what_has_no_secret_keeps_its_type() -> None:
    event = {"event": "x", "n": 1, "f": 0.5, "none": None, "yes": True, "list": [1, "a"], "bytes": b"ab", "key": "a/b"}
    assert redact(None, "info", dict(event)) == event | {"bytes": "ab"}


@given(
    st.recursive(
        st.none() | st.integers() | st.text() | st.binary(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_nothing_that_is_logged_breaks_the_log(value: Any) -> None:
    json.dumps(redact(None, "info", {"event": "x", "value": value}))


def fail(text: str) -> None:
    raise ValueError(text)


class Quotes:
    """A thing whose text tells too much."""

    def __repr__(self) -> str:
        return f"<Quotes {PRESIGNED}>"


def log_in_every_way() -> None:
    ours, theirs = get_logger("ours"), logging.getLogger("theirs")
    for text in TEXTS:
        ours.info(text)
        ours.warning("failed", error=text, deep={"a": [text, {"b": (text,)}]}, raw=text.encode())
        theirs.warning(text)
        theirs.warning("%s and %r", text, {"x": text})
        theirs.warning("with more", extra={"url": text})
        try:
            fail(text)
        except ValueError:
            ours.error("unhandled", exc_info=True)
            theirs.exception("unhandled")
    ours.info("an object", thing=Quotes(), token=TOKEN, headers={"authorization": f"Bearer {TOKEN}"})
    with structlog.contextvars.bound_contextvars(url=PRESIGNED):
        ours.info("bound")
    audit("job requested", user_id="alice", link=PRESIGNED, ticket=TICKET)


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_nothing_in_the_log_is_a_secret(capsys: pytest.CaptureFixture[str], log_format: str) -> None:
    given_settings = settings(log_format, "debug")
    configure_logging(given_settings, service="test")
    log_in_every_way()
    get_logger("ours").info("starting", settings=given_settings, also=given_settings.model_dump())
    output = "".join(capsys.readouterr())
    assert len(output.splitlines()) > 100
    assert not leaks(output)
    if log_format == "json":
        assert all(json.loads(line)["service"] == "test" for line in output.splitlines())


def test_the_traceback_of_an_error_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    for log_format in ("json", "console"):
        configure_logging(settings(log_format), service="test")
        try:
            fail("something else")
        except ValueError:
            get_logger("ours").error("unhandled", exc_info=True)
        output = "".join(capsys.readouterr())
        assert re.search(r"Traceback.*test_chassis_logs.*ValueError: something else", output, re.DOTALL)


@pytest.mark.parametrize("log_level", ["debug", "info", "warning", "error"])
def test_the_audit_log_is_written_at_every_level(capsys: pytest.CaptureFixture[str], log_level: str) -> None:
    configure_logging(settings("json", log_level), service="gateway")
    audit("archive link issued", user_id="alice", job_id="job_1")
    line = json.loads("".join(capsys.readouterr()))
    assert line.pop("timestamp")
    assert line == {
        "event": "archive link issued",
        "audit": True,
        "user_id": "alice",
        "job_id": "job_1",
        "level": "info",
        "service": "gateway",
    }
