"""The page at ``/``, with and without a build of it."""

from pathlib import Path

import pytest
from litestar import Litestar
from litestar.testing import TestClient

from haulyard_chassis.problems import EXCEPTION_HANDLERS
from haulyard_gateway.settings import GatewaySettings
from haulyard_gateway.site import content_security_policy, site_routes

INDEX = b"<!doctype html><title>Haulyard</title>"


@pytest.fixture
def built(tmp_path: Path) -> Path:
    (tmp_path / "secret.txt").write_text("not for anybody")
    root = tmp_path / "static"
    (root / "assets").mkdir(parents=True)
    (root / "index.html").write_bytes(INDEX)
    (root / "assets/index-abc.js").write_text("run()")
    (root / "assets/index-abc.css").write_text("a {}")
    (root / "assets/icon-abc.svg").write_text("<svg/>")
    (root / "assets/model.bin").write_bytes(b"\0")
    return root


def client(settings: GatewaySettings, root: Path) -> TestClient[Litestar]:
    app = Litestar(site_routes(settings, root), openapi_config=None, exception_handlers=EXCEPTION_HANDLERS)
    return TestClient(app, raise_server_exceptions=False)


def test_the_page_is_asked_for_again_and_again_but_sent_once(settings: GatewaySettings, built: Path) -> None:
    with client(settings, built) as browser:
        first = browser.get("/")
        assert first.content == INDEX
        assert first.headers["content-type"] == "text/html; charset=utf-8"
        assert first.headers["cache-control"] == "no-cache"
        again = browser.get("/", headers={"If-None-Match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["content-security-policy"] == first.headers["content-security-policy"]
        assert browser.get("/", headers={"If-None-Match": '"another"'}).status_code == 200


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("index-abc.js", "text/javascript; charset=utf-8"),
        ("index-abc.css", "text/css; charset=utf-8"),
        ("icon-abc.svg", "image/svg+xml"),
        ("model.bin", "application/octet-stream"),
    ],
)
def test_files_with_a_hash_in_their_name_are_kept_for_ever(
    settings: GatewaySettings, built: Path, name: str, media_type: str
) -> None:
    with client(settings, built) as browser:
        answer = browser.get(f"/assets/{name}")
    assert answer.content == (built / "assets" / name).read_bytes()
    assert answer.headers["content-type"] == media_type
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../index.html",
        "/assets/%2e%2e/%2e%2e/secret.txt",
        "/assets/..%2f..%2fsecret.txt",
        "/assets/..%5c..%5csecret.txt",
        "/assets/%00",
        "/assets/",
        "/index.html",
        "/static/index.html",
    ],
)
def test_nothing_but_what_was_built_has_an_address(settings: GatewaySettings, built: Path, path: str) -> None:
    with client(settings, built) as browser:
        answer = browser.get(path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


def test_without_a_build_the_page_says_how_to_get_one(settings: GatewaySettings, tmp_path: Path) -> None:
    with client(settings, tmp_path / "never-built") as browser:
        answer = browser.get("/")
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert "make web" in answer.text
        assert browser.get("/assets/index-abc.js").status_code == 404


def test_the_page_may_talk_to_our_three_addresses_only(settings: GatewaySettings) -> None:
    policy = dict(part.split(" ", 1) for part in content_security_policy(settings).split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert policy["connect-src"].split() == [
        "'self'",
        "https://live.example.com",
        "wss://live.example.com",
        "http://nowhere",
    ]
    public = settings.model_copy(update={"s3_public_endpoint": "https://s3.example.com:9000/path"})
    assert "https://s3.example.com:9000" in content_security_policy(public).replace(";", "").split()
