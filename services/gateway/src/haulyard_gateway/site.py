"""The page at ``/``: the files that Vite made of ``web/``, if they are there.

The files are read once, when the application is made: only what was found then has an address, so no path of a request
ever reaches the file system.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any
from urllib.parse import urlsplit

from litestar import MediaType, Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from haulyard_chassis.problems import NotFoundError
from haulyard_gateway.settings import GatewaySettings

_INDEX = "index.html"
_FOREVER = "public, max-age=31536000, immutable"
"""For files that have a hash of their content in their name."""

_MEDIA_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
"""By the ending of the name; browsers refuse scripts and styles of any other type."""

_NOT_BUILT = """<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Haulyard</title><link rel="icon" href="data:,"></head>
<body><main>
<h1>Haulyard</h1>
<p>The API runs; <a href="/docs">/docs</a> describes it.</p>
<p>The page that belongs here is not built: that takes Node.js 20.19 or newer. Install it, run <code>make web</code>,
and start the gateway again.</p>
</main></body>
</html>
"""


@dataclass(frozen=True, slots=True)
class _Asset:
    content: bytes
    media_type: str


def site_root() -> Traversable:
    """Return where the built page is, if it is built."""
    return resources.files("haulyard_gateway") / "static"


def site_routes(settings: GatewaySettings, root: Traversable) -> Sequence[HTTPRouteHandler]:
    """Return the routes of the page.

    Args:
        settings: say where the page may connect to.
        root: the directory that Vite wrote.
    """
    assets = _read_assets(root / "assets")
    page = root / _INDEX
    index = page.read_bytes() if page.is_file() else None
    headers = {"Content-Security-Policy": content_security_policy(settings), "Cache-Control": "no-cache"}
    etag = f'"{hashlib.sha256(index or b"").hexdigest()[:32]}"'

    @get("/", include_in_schema=False, sync_to_thread=False)
    def home(request: Request[Any, Any, Any]) -> Response[bytes | str]:
        """Return the page, or say that it is not built."""
        if index is None:
            return Response(_NOT_BUILT, media_type=MediaType.HTML, headers=headers)
        if request.headers.get("if-none-match") in (etag, f"W/{etag}"):
            return Response(b"", status_code=304, headers={**headers, "ETag": etag})
        return Response(index, media_type=MediaType.HTML, headers={**headers, "ETag": etag})

    @get("/assets/{name:str}", include_in_schema=False, sync_to_thread=False)
    def asset(name: FromPath[str]) -> Response[bytes]:
        """Return a file of the page."""
        found = assets.get(name)
        if found is None:
            raise NotFoundError("There is no such file.")
        return Response(found.content, media_type=found.media_type, headers={"Cache-Control": _FOREVER})

    return [home, asset]


def content_security_policy(settings: GatewaySettings) -> str:
    """Return what the page may do (Content Security Policy Level 3): its own code, and talk to our three addresses."""
    notifier = _origin(settings.public_notifier_url)
    store = _origin(settings.s3_public_endpoint or settings.s3_endpoint)
    connections = dict.fromkeys(("'self'", notifier, f"ws{notifier.removeprefix('http')}", store))
    directives: Mapping[str, str] = {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": " ".join(connections),
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in directives.items())


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _read_assets(folder: Traversable) -> dict[str, _Asset]:
    if not folder.is_dir():
        return {}
    return {
        file.name: _Asset(file.read_bytes(), _MEDIA_TYPES.get(file.name.rpartition(".")[2], "application/octet-stream"))
        for file in folder.iterdir()
        if file.is_file()
    }
