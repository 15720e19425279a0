"""The AsyncAPI document says what the contracts say; that it is not stale is checked by ``make check``."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from haulyard_contracts import EventType, JobAction, JobEvent, Topology, decode

DOCUMENT: dict[str, Any] = json.loads((Path(__file__).parents[3] / "docs" / "asyncapi.json").read_text("utf-8"))
CHANNELS: dict[str, Any] = DOCUMENT["channels"]


def references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if "$ref" in part:
            yield part["$ref"]
        for each in part.values():
            yield from references(each)
    elif isinstance(part, list):
        for each in part:
            yield from references(each)


def test_every_reference_leads_somewhere() -> None:
    for reference in references(DOCUMENT):
        found = DOCUMENT
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]


@pytest.mark.parametrize(
    ("channel", "subject"),
    [
        ("jobEvents", Topology().event("j", EventType.FAILED)),
        ("jobRequests", Topology().job_requested(5, "j")),
        ("jobControls", Topology().job_control("j", JobAction.CANCEL)),
        ("userErasures", Topology().user_erasure("e")),
        ("results", Topology().result("j")),
    ],
)
def test_a_channels_address_is_the_subject(channel: str, subject: str) -> None:
    pattern = re.sub(r"\\\{\w+\\\}", "[^.]+", re.escape(CHANNELS[channel]["address"]))
    assert re.fullmatch(pattern, subject)


def test_the_example_of_an_event_is_one() -> None:
    message = DOCUMENT["components"]["messages"]["JobEvent"]
    (example,) = message["examples"]
    assert decode(json.dumps(example["payload"]).encode(), JobEvent).type is EventType.PROGRESS
    schema = {"$ref": "#/components/schemas/JobEvent", "components": DOCUMENT["components"]}
    assert jsonschema_rs.is_valid(schema, example["payload"])
    assert not jsonschema_rs.is_valid(schema, example["payload"] | {"sequence": "7"})
    assert set(message["headers"]["required"]) == set(example["headers"])


def test_all_types_of_events_are_listed() -> None:
    assert CHANNELS["jobEvents"]["parameters"]["type"]["enum"] == [kind.value for kind in EventType]
