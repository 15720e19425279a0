"""How an endpoint says in OpenAPI what it reads and answers, problems included, and which scopes it needs."""

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
    Parameter,
    RequestBody,
    Schema,
)

from haulyard_chassis.problems import MEDIA_TYPE, FieldError, ForbiddenError, Problem, ProblemError, UnauthorizedError
from haulyard_gateway.auth import OWN_COUNT, SCHEME_NAME, SCOPES
from haulyard_gateway.errors import RateLimitedError

_JSON = "application/json"
_FIRST_ERROR = 400
_TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"

HEADERS = {
    "Location": "Where to ask how what was created is.",
    "Retry-After": "Seconds after which to ask again.",
    "Cache-Control": "Who may keep it: nobody (`no-store`), or you, if you ask whether it is still true (`no-cache`).",
    "ETag": "Names this state of the job, or this archive; send it as `If-None-Match`, or `If-Range`.",
    "Accept-Ranges": "Ranges of bytes can be asked for.",
    "Content-Range": "Which bytes these are, and of how many.",
    "Link": "`rel=next`: the next page; `rel=successor-version`: what takes this endpoint's place.",
    "Content-Disposition": "A name for the file.",
    "Deprecation": "Since when the endpoint is deprecated (RFC 9745).",
    "Sunset": "When the endpoint goes (RFC 8594).",
    "Warning": "Something was away and the answer was made without it, or the endpoint is deprecated.",
    "WWW-Authenticate": "How to authenticate.",
    "Allow": "The methods that there are.",
    "RateLimit-Policy": "The limits: requests in 60 seconds, running jobs (draft-ietf-httpapi-ratelimit-headers).",
    "RateLimit": "What is left of the limits, and seconds until all of it is.",
}
_LIMITS = ("RateLimit-Policy", "RateLimit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A problem that an endpoint may answer with, and an example of what it then says."""

    kind: type[ProblemError]
    detail: str
    pointers: tuple[tuple[str, str], ...] = ()
    """For faults of the body: pairs of place and detail."""
    parameter: str | None = None
    """For faults of a parameter: its name."""
    headers: tuple[str, ...] = ()

    def example(self, instance: str) -> Example:
        """Return the example."""
        errors = [FieldError(pointer=place, detail=detail) for place, detail in self.pointers]
        if self.parameter:
            errors.append(FieldError(parameter=self.parameter, detail=self.detail.partition(": ")[2]))
        return Example(
            summary=self.kind.title,
            value=Problem(
                type=f"/problems/{self.kind.slug}",
                title=self.kind.title,
                status=self.kind.status,
                detail=self.detail,
                instance=instance,
                trace_id=_TRACE_ID,
                errors=tuple(errors),
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an endpoint answers when all is well."""

    example: Any = None
    """None: the answer has no body."""
    headers: tuple[str, ...] = ()
    description: str | None = None
    schema: Schema | None = None
    """Where the handler's type does not say it."""
    media_type: str = _JSON
    """Of the body that has this schema."""


_EVERYWHERE = (
    Fault(
        kind=UnauthorizedError,
        detail="The request is not authenticated: Signature has expired.",
        headers=("WWW-Authenticate",),
    ),
    Fault(kind=ForbiddenError, detail="The token does not grant jobs:write.", headers=("WWW-Authenticate", *_LIMITS)),
    Fault(
        kind=RateLimitedError,
        detail="There were too many requests; the next one is served in 1 s.",
        headers=("Retry-After", *_LIMITS),
    ),
    Fault(kind=ProblemError, detail="The error was logged; trying again may help."),
)


def json_body(schema: Schema, *, description: str, examples: Mapping[str, Any]) -> RequestBody:
    """Return the description of a body that the endpoint reads by itself, so as to tell all that is wrong with it."""
    media = OpenAPIMediaType(schema=schema, examples={name: Example(value=value) for name, value in examples.items()})
    return RequestBody(content={_JSON: media}, description=description, required=True)


def query(name: str, description: str, schema: Schema, *, example: Any = None) -> Parameter:
    """Return the description of a parameter that the endpoint reads from the query by itself."""
    return _parameter(name, "query", description, schema, example)


def header(name: str, description: str, schema: Schema, *, example: Any = None) -> Parameter:
    """Return the description of a header that the endpoint reads by itself."""
    return _parameter(name, "header", description, schema, example)


def _parameter(name: str, place: str, description: str, schema: Schema, example: Any) -> Parameter:
    examples = None if example is None else {"example": Example(value=example)}
    return Parameter(name=name, param_in=place, description=description, schema=schema, examples=examples)


def documented(
    *,
    operation_id: str,
    summary: str,
    description: str,
    tag: str,
    path: str,
    scopes: Sequence[str],
    answers: Mapping[int, Answer],
    faults: Sequence[Fault] = (),
    body: RequestBody | None = None,
    parameters: Sequence[Parameter] = (),
    deprecated: bool = False,
    own_count: bool = False,
) -> dict[str, Any]:
    """Return the keyword arguments that document a handler and say what it needs.

    Args:
        operation_id: unique; generated clients name a function after it.
        summary: one line.
        description: the rest, in Markdown.
        tag: under which the endpoint is listed.
        path: an example of the path, for examples of problems.
        scopes: that a token must grant, all of them.
        answers: what may be answered when all is well, by status; the first is the handler's own.
        faults: the problems that may be answered, besides those that every endpoint has.
        body: what the endpoint reads.
        parameters: of query and headers, which the endpoint reads by itself.
        deprecated: whether it goes.
        own_count: the handler counts its requests by itself.
    """
    by_status: dict[int, list[Fault]] = {}
    for fault in (*faults, *_EVERYWHERE):
        by_status.setdefault(fault.kind.status, []).append(fault)
    own_status, *others = answers

    @dataclass
    class Documented(Operation):
        def __post_init__(self) -> None:
            if body is not None:
                self.request_body = body
            if parameters:
                self.parameters = [*(self.parameters or []), *parameters]
            # Without its answer to invalid path parameters, which are plain 404s here.
            self.responses = {
                status: response
                for status, response in (self.responses or {}).items()
                if int(status) < _FIRST_ERROR or int(status) in by_status
            }
            for status, response in self.responses.items():
                if isinstance(response, OpenAPIResponse):
                    _finish(response, answers.get(int(status)), by_status.get(int(status), ()))

    return {
        "operation_id": operation_id,
        "summary": summary,
        "description": f"{description}\n\nNeeds {' and '.join(f'`{scope}`' for scope in scopes)}.",
        "tags": [tag],
        "deprecated": deprecated,
        "security": [{SCHEME_NAME: list(scopes)}],
        "opt": {SCOPES: tuple(scopes), OWN_COUNT: own_count},
        "response_description": _description(answers[own_status]),
        "operation_class": Documented,
        "responses": {
            **{status: _answer_spec(answers[status]) for status in others},
            **{status: _problem_spec(group, path) for status, group in by_status.items()},
        },
    }


def _description(answer: Answer) -> str:
    return answer.description or type(answer.example).__doc__ or ""


def _answer_spec(answer: Answer) -> ResponseSpec:
    return ResponseSpec(
        data_container=None if answer.example is None else type(answer.example),
        generate_examples=False,
        description=_description(answer),
    )


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


def _finish(response: OpenAPIResponse, answer: Answer | None, group: Sequence[Fault]) -> None:
    names = sorted({name for fault in group for name in fault.headers})
    if answer is not None:
        names = [*answer.headers, *_LIMITS]
        if answer.schema is not None:
            response.content = {answer.media_type: OpenAPIMediaType(schema=answer.schema)}
        elif answer.example is None:
            response.content = None
        for media in (response.content or {}).values() if answer.example is not None else ():
            media.examples = {"example": Example(value=answer.example)}
    for name in names:
        response.headers = {
            **(response.headers or {}),
            name: OpenAPIHeader(schema=Schema(type=OpenAPIType.STRING), description=HEADERS[name]),
        }
