"""While the record is away an event is kept in hand, and handed back only when the service stops."""

import asyncio
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from haulyard_chassis.consume import RetryLater
from haulyard_contracts import EventType, JobEvent, JobStatus, Progress
from haulyard_notifier.webhooks import intake
from haulyard_notifier.webhooks.intake import WebhookIntake

EVENT = JobEvent(
    job_id="job_1",
    sequence=9,
    type=EventType.COMPLETED,
    status=JobStatus.COMPLETED,
    progress=Progress(current=1, total=1, percentage=100),
    timestamp=datetime(2026, 1, 1, tzinfo=UTC),
)


class Record:
    """Is away for the first ``failures`` times."""

    def __init__(self, failures: int, *, is_new: bool = True) -> None:
        self.failures = failures
        self.is_new = is_new
        self.asked = asyncio.Event()
        self.added: list[str] = []

    async def add(self, delivery_id: str, **_: Any) -> bool:
        self.asked.set()
        if self.failures:
            self.failures -= 1
            raise ConnectionRefusedError
        self.added.append(delivery_id)
        return self.is_new


@pytest.mark.parametrize("is_new", [True, False])
async def test_only_what_is_new_wakes_the_sender(*, is_new: bool) -> None:
    record, woken = Record(0, is_new=is_new), asyncio.Event()
    await WebhookIntake(cast("Any", record), woken.set).handle(EVENT)
    assert record.added == ["job_1:9"]
    assert woken.is_set() == is_new


async def test_an_outage_of_the_record_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "_PAUSE", 0.001)
    record = Record(3)
    await asyncio.wait_for(WebhookIntake(cast("Any", record), lambda: None).handle(EVENT), 5)
    assert record.added == ["job_1:9"]


async def test_a_stopping_service_hands_the_event_back() -> None:
    record = Record(1_000)
    found = WebhookIntake(cast("Any", record), lambda: None)
    handling = asyncio.create_task(found.handle(EVENT))
    await record.asked.wait()
    found.stop()
    with pytest.raises(RetryLater):
        await asyncio.wait_for(handling, 5)
