"""Makes ``docs/asyncapi.json`` from the contracts: every subject, message and schema (AsyncAPI 3.0)."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import msgspec

from haulyard_contracts import (
    EventType,
    JobControl,
    JobEvent,
    JobRequested,
    JobStatus,
    PartDone,
    PartFailed,
    PartTask,
    PrepareDone,
    PrepareTask,
    Progress,
    StreamSpec,
    Topology,
    UserErasure,
    cloud_event_headers,
    encode,
)

_TOPOLOGY = Topology()
_PUBLIC = "public"
_INTERNAL = "internal"

_EXAMPLE = JobEvent(
    job_id="job_01KC8ZB0J0W8G3R5Q2T7V9X4YZ",
    sequence=7,
    type=EventType.PROGRESS,
    status=JobStatus.PROCESSING,
    progress=Progress(current=1, total=3, percentage=33, bytes_current=5_242_880, bytes_total=12_582_912),
    timestamp=datetime(2025, 12, 12, 10, 1, tzinfo=UTC),
)

_PARAMETERS = {
    "job_id": {"description": "The job's id; `*` for all jobs."},
    "type": {"description": "What happened.", "enum": [kind.value for kind in EventType]},
    "priority": {"description": "1 to 10; 10 is served first."},
    "action": {"description": "What is wanted of the job.", "enum": ["cancel", "delete"]},
    "erasure_id": {"description": "The receipt's id."},
    "kind": {"description": "What the task is for."},
    "generation": {"description": "Counts the plans of the job."},
    "number": {"description": "Of the part, or of the preparation."},
}


def asyncapi_document() -> str:
    """Return the document as JSON text."""
    messages: dict[str, type[msgspec.Struct]] = {
        kind.__name__: kind
        for kind in (
            *(JobEvent, JobRequested, JobControl, UserErasure),
            *(PartTask, PrepareTask, PartDone, PartFailed, PrepareDone),
        )
    }
    _, schemas = msgspec.json.schema_components(messages.values(), ref_template="#/components/schemas/{name}")
    _drop_discriminators(schemas)
    document = {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Haulyard",
            "version": version("haulyard-contracts"),
            "description": "What Haulyard says and hears on NATS JetStream. `jobEvents` is for everybody who may"
            " subscribe: events only ever gain fields. The other channels are between Haulyard's own services.",
            "license": {"name": "Apache-2.0"},
            "tags": [{"name": _PUBLIC}, {"name": _INTERNAL}],
        },
        "defaultContentType": "application/json",
        "servers": {"nats": {"host": "localhost:4222", "protocol": "nats", "description": "HAULYARD_NATS_URL"}},
        "channels": _channels(),
        "operations": {
            "sendJobEvents": _operation("send", "jobEvents", "Tell what happened to a job."),
            "receiveJobRequests": _operation("receive", "jobRequests", "Take a request for an archive."),
            "receiveJobControls": _operation("receive", "jobControls", "Take a wish about a job."),
            "receiveUserErasures": _operation("receive", "userErasures", "Take a user's wish to be forgotten."),
            "sendTasks": _operation("send", "tasks", "Have a part made."),
            "receiveResults": _operation("receive", "results", "Take in what became of a task."),
        },
        "components": {
            "messages": {name: _message(name, kind) for name, kind in messages.items()},
            "schemas": schemas,
        },
    }
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _drop_discriminators(schema: Any) -> None:
    """Leave out what OpenAPI has for tagged unions and AsyncAPI has not; the tags are constants of each variant."""
    if isinstance(schema, dict):
        schema.pop("discriminator", None)
    for part in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        _drop_discriminators(part)


def _channels() -> dict[str, Any]:
    ns = _TOPOLOGY.namespace
    return {
        "jobEvents": _channel(
            f"{ns}.events.v1.{{job_id}}.{{type}}",
            _TOPOLOGY.events,
            [JobEvent],
            f"What happened to jobs, as CloudEvents 1.0 in binary mode. Subscribe to `{ns}.events.v1.*.*`, or to one"
            f" job or one type of event, with a consumer of the stream `{_TOPOLOGY.events.name}` or without.",
            tag=_PUBLIC,
        ),
        "jobRequests": _channel(
            f"{ns}.jobs.requested.{{priority}}.{{job_id}}", _TOPOLOGY.jobs, [JobRequested], "Requests for archives."
        ),
        "jobControls": _channel(
            f"{ns}.jobs.control.{{job_id}}.{{action}}", _TOPOLOGY.jobs, [JobControl], "Wishes about jobs."
        ),
        "userErasures": _channel(
            f"{ns}.jobs.erase.{{erasure_id}}", _TOPOLOGY.jobs, [UserErasure], "Wishes to be forgotten."
        ),
        "tasks": _channel(
            f"{ns}.tasks.{{priority}}.{{kind}}.{{job_id}}.{{generation}}.{{number}}",
            _TOPOLOGY.tasks,
            [PartTask, PrepareTask],
            "Work for archivers.",
        ),
        "results": _channel(
            f"{ns}.results.{{job_id}}", _TOPOLOGY.results, [PartDone, PartFailed, PrepareDone], "What became of tasks."
        ),
    }


def _channel(
    address: str,
    stream: StreamSpec,
    messages: Sequence[type[msgspec.Struct]],
    description: str,
    *,
    tag: str = _INTERNAL,
) -> dict[str, Any]:
    names = [part[1:-1] for part in address.split(".") if part.startswith("{")]
    return {
        "address": address,
        "description": description,
        "messages": {kind.__name__: {"$ref": f"#/components/messages/{kind.__name__}"} for kind in messages},
        "parameters": {name: _PARAMETERS[name] for name in names},
        "tags": [{"name": tag}],
        "x-jetstream": {"stream": stream.name, "retention": stream.retention.value, "max_age_seconds": stream.max_age},
    }


def _operation(action: str, channel: str, summary: str) -> dict[str, Any]:
    return {"action": action, "channel": {"$ref": f"#/channels/{channel}"}, "summary": summary}


def _message(name: str, kind: type[msgspec.Struct]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "name": name,
        "summary": (kind.__doc__ or name).split("\n")[0],
        "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{name}"},
    }
    if kind is JobEvent:
        headers = cloud_event_headers(_EXAMPLE, source="/haulyard")
        described["headers"] = {
            "type": "object",
            "description": "The attributes of the CloudEvent, and the trace (W3C `traceparent`) that it belongs to.",
            "required": list(headers),
            "properties": {each: {"type": "string", "examples": [value]} for each, value in headers.items()}
            | {"traceparent": {"type": "string"}},
        }
        described["examples"] = [{"headers": headers, "payload": json.loads(encode(_EXAMPLE))}]
    return described
