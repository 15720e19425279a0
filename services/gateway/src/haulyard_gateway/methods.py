"""``OPTIONS`` of the paths that have several endpoints: the framework would list the methods of only one of them."""

from litestar import HttpMethod, Request, Response, route
from litestar.datastructures import State


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
    methods = request.app.route_handler_method_map[request.scope["path_template"]]
    return Response(None, headers={"Allow": ", ".join(sorted(methods))})
