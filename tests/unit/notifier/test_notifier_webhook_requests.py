"""What a webhook is sent: bodies and signatures."""

import base64
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from haulyard_chassis.settings import SettingsError, load_settings
from haulyard_contracts import ErrorCode, EventType, Failure, JobEvent, JobStatus, Progress
from haulyard_notifier.settings import NotifierSettings
from haulyard_notifier.webhooks.payload import archive_name, body_to_send, stored_payload
from haulyard_notifier.webhooks.signature import sign, signing_key

AT = datetime(2025, 12, 12, 10, 2, tzinfo=UTC)

SPEC_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def event(kind: EventType, **more: Any) -> JobEvent:
    return JobEvent(
        job_id="job_1",
        sequence=9,
        type=kind,
        status=JobStatus(kind.value),
        progress=Progress(current=1, total=1, percentage=100),
        timestamp=AT,
        **more,
    )


def test_a_completed_body_gets_its_link_when_it_is_sent() -> None:
    stored = stored_payload(event(EventType.COMPLETED, filename="ü\0.zip", size_bytes=7, failed_files=(70001,)))
    assert "link" not in stored
    assert "\0" not in stored
    assert archive_name(stored) == "ü\0.zip"
    assert msgspec.json.decode(body_to_send(stored, download_url="https://store/link")) == {
        "type": "job.completed",
        "job_id": "job_1",
        "status": "completed",
        "download_url": "https://store/link",
        "size_bytes": 7,
        "filename": "ü\0.zip",
        "failed_files": [70001],
        "timestamp": "2025-12-12T10:02:00Z",
    }


def test_a_completed_body_without_archive_says_so() -> None:
    stored = stored_payload(event(EventType.COMPLETED))
    assert msgspec.json.decode(body_to_send(stored, download_url=None))["download_url"] is None


def test_a_failed_body_has_the_error() -> None:
    failure = Failure(code=ErrorCode.STORE_UNAVAILABLE, message="no answer")
    assert msgspec.json.decode(
        body_to_send(stored_payload(event(EventType.FAILED, error=failure)), download_url=None)
    ) == {
        "type": "job.failed",
        "job_id": "job_1",
        "status": "failed",
        "error": {"code": "STORE_UNAVAILABLE", "message": "no answer"},
        "timestamp": "2025-12-12T10:02:00Z",
    }


def test_the_signature_is_that_of_the_specifications_example() -> None:
    signature = sign(
        signing_key(SPEC_SECRET),
        message_id="msg_p5jXN8AQM9LWM0D4loKWxJek",
        timestamp=1614265330,
        body=b'{"test": 2432232314}',
    )
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_a_secret_without_prefix_is_taken_as_it_is() -> None:
    assert signing_key("plain text") == b"plain text"
    assert signing_key("whsec_" + base64.b64encode(b"key").decode()) == b"key"


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    values = {
        "NATS_URL": "nats://localhost",
        "POSTGRES_DSN": "postgresql://localhost/x",
        "REDIS_URL": "redis://localhost",
        "S3_ENDPOINT": "http://localhost",
        "S3_ACCESS_KEY": "a",
        "S3_SECRET_KEY": "b",
        "JWT_SECRET": "j" * 32,
        "TICKET_SECRET": "t" * 32,
    }
    for name, value in values.items():
        monkeypatch.setenv(f"HAULYARD_{name}", value)
    return monkeypatch


def test_settings_have_the_documented_defaults(environment: pytest.MonkeyPatch) -> None:
    settings = load_settings(NotifierSettings)
    assert (settings.download_expires, settings.max_updates_per_second, settings.heartbeat) == (900, 5.0, 15.0)
    assert settings.webhook_secret is None
    assert settings.cors_origins == ()


def test_origins_are_comma_separated(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HAULYARD_CORS_ORIGINS", "https://a.example, https://b.example")
    assert load_settings(NotifierSettings).cors_origins == ("https://a.example", "https://b.example")


def test_both_secrets_must_differ(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("HAULYARD_TICKET_SECRET", "j" * 32)
    with pytest.raises(SettingsError, match="same"):
        load_settings(NotifierSettings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JWT_SECRET", "short"),
        ("TICKET_SECRET", "x" * 31),
        ("WEBHOOK_SECRET", "whsec_*"),
        ("WEBHOOK_SECRET", "whsec_"),
        ("WEBHOOK_SECRET", ""),
        ("HEARTBEAT", "0"),
    ],
)
def test_wrong_settings_are_named(environment: pytest.MonkeyPatch, name: str, value: str) -> None:
    environment.setenv(f"HAULYARD_{name}", value)
    with pytest.raises(SettingsError, match=name):
        load_settings(NotifierSettings)
