"""``OPTIONS`` of the paths that have several endpoints: the framework would list the methods of only one of them."""

import re

from litestar import HttpMethod, Request, Response, route
from litestar.datastructures import State

_TYPE = re.compile(":[a-z]+(?=})")
"""Of a parameter in a path: the template of a request has only its name."""


@route(
    [
        "/admin/dead-letters",
        "/admin/dead-letters/{sequence:str}",
        "/files",
        "/files/{file_id:str}",
        "/jobs/{job_id:str}/archive",
        "/users/me/data",
    ],
    http_method=HttpMethod.OPTIONS,
    status_code=204,
    include_in_schema=False,
    sync_to_thread=False,
)
def options(request: Request[str, object, State]) -> Response[None]:
    """Tell which methods there are; preflight requests of browsers are answered before they come here."""
    template = request.scope["path_template"]
    methods = {
        method
        for path, found in request.app.route_handler_method_map.items()
        if _TYPE.sub("", path) == template
        for method in found
    }
    return Response(None, headers={"Allow": ", ".join(sorted(methods))})
