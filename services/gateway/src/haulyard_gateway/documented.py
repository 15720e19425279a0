"""How an endpoint says in OpenAPI what it reads and answers, problems included."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import (
    Example,
    OpenAPIHeader,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    RequestBody,
    Schema,
)

from haulyard_chassis.problems import MEDIA_TYPE, FieldError, Problem, ProblemError

_JSON = "application/json"
_FIRST_ERROR = 400
_TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"

HEADERS = {
    "Location": "Where to ask how what was created is.",
    "Retry-After": "Seconds after which to ask again.",
    "Cache-Control": "`no-store`: the answer is for the caller only, and soon old.",
    "Warning": "Something was away and the answer was made without it.",
    "WWW-Authenticate": "How to authenticate.",
    "Allow": "The methods that there are.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A problem that an endpoint may answer with, and an example of what it then says."""

    kind: type[ProblemError]
    detail: str
    pointers: tuple[tuple[str, str], ...] = ()
    """For faults of the input: pairs of place and detail."""
    headers: tuple[str, ...] = ()

    def example(self, instance: str) -> Example:
        """Return the example."""
        return Example(
            summary=self.kind.title,
            value=Problem(
                type=f"/problems/{self.kind.slug}",
                title=self.kind.title,
                status=self.kind.status,
                detail=self.detail,
                instance=instance,
                trace_id=_TRACE_ID,
                errors=tuple(FieldError(pointer=place, detail=detail) for place, detail in self.pointers),
            ),
        )


def json_body(schema: Schema, *, description: str, examples: Mapping[str, Any]) -> RequestBody:
    """Return the description of a body that the endpoint reads by itself, so as to tell all that is wrong with it."""
    media = OpenAPIMediaType(schema=schema, examples={name: Example(value=value) for name, value in examples.items()})
    return RequestBody(content={_JSON: media}, description=description, required=True)


def documented(
    *,
    operation_id: str,
    summary: str,
    description: str,
    tag: str,
    path: str,
    example: Any,
    headers: Sequence[str],
    faults: Sequence[Fault],
    body: RequestBody | None = None,
) -> dict[str, Any]:
    """Return the keyword arguments that document a handler.

    Args:
        operation_id: unique; generated clients name a function after it.
        summary: one line.
        description: the rest, in Markdown.
        tag: under which the endpoint is listed.
        path: an example of the path, for examples of problems.
        example: an example of the answer.
        headers: names of headers of the answer; those in `HEADERS`.
        faults: the problems that may be answered.
        body: what the endpoint reads.
    """
    by_status: dict[int, list[Fault]] = {}
    for fault in faults:
        by_status.setdefault(fault.kind.status, []).append(fault)

    @dataclass
    class Documented(Operation):
        def __post_init__(self) -> None:
            if body is not None:
                self.request_body = body
            # Without its answer to invalid path parameters, which are plain 404s here.
            self.responses = {
                status: response
                for status, response in (self.responses or {}).items()
                if int(status) < _FIRST_ERROR or int(status) in by_status
            }
            _finish(self.responses, example, headers, by_status)

    return {
        "operation_id": operation_id,
        "summary": summary,
        "description": description,
        "tags": [tag],
        "response_description": type(example).__doc__,
        "operation_class": Documented,
        "responses": {status: _problem_spec(group, path) for status, group in by_status.items()},
    }


def _problem_spec(group: Sequence[Fault], path: str) -> ResponseSpec:
    return ResponseSpec(
        data_container=Problem,
        generate_examples=False,
        description=" Or: ".join(dict.fromkeys(_meaning(fault.kind) for fault in group)),
        media_type=MEDIA_TYPE,
        examples=[fault.example(path) for fault in group],
    )


def _meaning(kind: type[ProblemError]) -> str:
    return " ".join((kind.__doc__ or kind.title).split())


def _finish(
    responses: Mapping[str, Any], example: Any, headers: Sequence[str], faults: Mapping[int, Sequence[Fault]]
) -> None:
    for status, response in responses.items():
        if not isinstance(response, OpenAPIResponse):
            continue
        group = faults.get(int(status))
        if group is None:
            names: Sequence[str] = headers
            for media in (response.content or {}).values():
                media.examples = {"example": Example(value=example)}
        else:
            names = sorted({name for fault in group for name in fault.headers})
        for name in names:
            response.headers = {
                **(response.headers or {}),
                name: OpenAPIHeader(schema=Schema(type=OpenAPIType.STRING), description=HEADERS[name]),
            }
