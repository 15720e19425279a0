"""Pages for people: the API's documentation, which needs no other host, and what each problem means."""

from functools import cache
from html import escape
from importlib import resources

from litestar import MediaType, Response, get
from litestar.openapi.plugins import SwaggerRenderPlugin
from litestar.params import FromPath

from haulyard_chassis.problems import NotFoundError, ProblemError
from haulyard_gateway.errors import problem_kinds

_ASSETS_PATH = "/docs/assets"
# Swagger UI's own files, from a package whose wheel holds them; nothing of its code is used.
_PACKAGE = "mkdocs_swagger_ui_tag"
_ASSETS = {
    "swagger-ui.css": ("stylesheets", "text/css"),
    "swagger-ui-bundle.js": ("javascripts", "text/javascript"),
    "swagger-ui-standalone-preset.js": ("javascripts", "text/javascript"),
}
_INTERNAL = "A fault of ours: it was logged under the trace id. Trying again may help."

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><link rel="icon" href="data:,">
<style>body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 42rem; margin: 3rem auto; padding: 0 1rem }}
code {{ background: #8882; padding: 0 .3em }}</style></head>
<body><main>
<h1>{title}</h1>
{content}
</main></body>
</html>
"""


@cache
def _asset(name: str) -> bytes:
    folder, _ = _ASSETS[name]
    return (resources.files(_PACKAGE) / "swagger-ui" / folder / name).read_bytes()


@get(f"{_ASSETS_PATH}/{{name:str}}", include_in_schema=False, sync_to_thread=True)
def asset(name: FromPath[str]) -> Response[bytes]:
    """Return a file of the documentation page."""
    if name not in _ASSETS:
        raise NotFoundError("There is no such file.")
    _, media_type = _ASSETS[name]
    return Response(_asset(name), media_type=media_type, headers={"Cache-Control": "public, max-age=86400"})


@get("/problems", include_in_schema=False, media_type=MediaType.HTML, sync_to_thread=False)
def problem_index() -> str:
    """List all kinds of problems."""
    items = "".join(
        f'<li>{kind.status} <a href="/problems/{kind.slug}">{escape(kind.title)}</a></li>' for kind in problem_kinds()
    )
    return _PAGE.format(title="Problems", content=f"<ul>{items}</ul>")


@get("/problems/{slug:str}", include_in_schema=False, media_type=MediaType.HTML, sync_to_thread=False)
def problem_page(slug: FromPath[str]) -> str:
    """Say what a kind of problem means."""
    kind = next((kind for kind in problem_kinds() if kind.slug == slug), None)
    if kind is None:
        raise NotFoundError("There is no such kind of problem.")
    return _PAGE.format(
        title=escape(kind.title),
        content=f"<p>{meaning(kind)}</p><p>Type <code>/problems/{kind.slug}</code>, HTTP status"
        f' <code>{kind.status}</code>.</p><p><a href="/problems">All problems</a> · <a href="/docs">The API</a></p>',
    )


def meaning(kind: type[ProblemError]) -> str:
    """Return what a kind of problem means, as HTML: its docstring, which marks code with double backquotes."""
    text = _INTERNAL if kind is ProblemError else " ".join((kind.__doc__ or kind.title).split())
    pieces = escape(text).split("``")
    return "".join(f"<code>{piece}</code>" if odd % 2 else piece for odd, piece in enumerate(pieces))


DOCS = SwaggerRenderPlugin(
    css_url=f"{_ASSETS_PATH}/swagger-ui.css",
    js_url=f"{_ASSETS_PATH}/swagger-ui-bundle.js",
    standalone_preset_js_url=f"{_ASSETS_PATH}/swagger-ui-standalone-preset.js",
    favicon='<link rel="icon" href="data:,">',
)
"""The page that shows the OpenAPI document; all its files are served from here."""

PAGES = [problem_index, problem_page, asset]
