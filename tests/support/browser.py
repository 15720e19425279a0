"""Chromium for the tests of the page: the machine's own, else the distribution's package, unpacked, not installed."""

import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from playwright.async_api import Browser, async_playwright

from haulyard_devstack import DevstackError, apt

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "services/gateway/src/haulyard_gateway/static/index.html"
AXE = ROOT / "node_modules/axe-core/axe.min.js"

_INSTALLED = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_PACKAGES = ("chromium-headless-shell", "fonts-dejavu-core")
_UNUSED = ("libc6", "libgl1-mesa-dri", "libllvm", "x11-utils", "xdg-utils")
"""Dependencies that a browser without a screen does without; the C library is always there."""
_PROGRAM = "usr/lib/chromium/chromium-headless-shell"
"""The one in `usr/bin` is a script that starts this one from where it is when it is installed."""
_FLAGS = (
    "--no-sandbox",  # user namespaces, which the sandbox needs, are closed to root and in many containers
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)


class NoBrowserError(Exception):
    """There is no Chromium and none can be had; the message says why."""


@dataclass(frozen=True, slots=True)
class Chromium:
    """A Chromium that can be started."""

    program: str
    env: dict[str, str] = field(default_factory=dict)


async def find_chromium() -> Chromium:
    """Return a Chromium, fetching one if there is none.

    Raises:
        NoBrowserError
    """
    if given := os.environ.get("HAULYARD_CHROMIUM"):
        return Chromium(given)
    for name in _INSTALLED:
        if program := shutil.which(name):
            return Chromium(program)
    if shutil.which("apt-get") is None:
        raise NoBrowserError("no Chromium is installed, and there is no apt to fetch it with (set HAULYARD_CHROMIUM)")
    home = Path(os.environ.get("HAULYARD_CACHE") or ROOT / ".haulyard/cache") / "chromium"
    try:
        root = await apt.unpacked(
            home, _PACKAGES, pick=_needed, check=_check, about="fetching Chromium's packages (once)"
        )
    except DevstackError as error:
        raise NoBrowserError(f"no Chromium is installed, and its package cannot be had: {error}") from error
    return _unpacked(root)


def _needed(packages: Sequence[str]) -> list[str]:
    return [name for name in packages if not name.startswith(_UNUSED)]


def _check(root: Path) -> None:
    if not _program(root).exists():
        raise DevstackError(f"{_program(root)} is missing")


def _program(root: Path) -> Path:
    return root / _PROGRAM


def _unpacked(root: Path) -> Chromium:
    fonts = root / "fonts.conf"
    fonts.write_text(
        f"<fontconfig><dir>{root}/usr/share/fonts</dir><dir>/usr/share/fonts</dir>"
        f"<cachedir>{root}/var/cache/fontconfig</cachedir></fontconfig>"
    )
    libraries = ":".join(str(folder) for folder in apt.library_folders(root))
    return Chromium(str(_program(root)), {"LD_LIBRARY_PATH": libraries, "FONTCONFIG_FILE": str(fonts)})


@asynccontextmanager
async def running_browser() -> AsyncIterator[Browser]:
    """Start Chromium, and stop it at the end.

    Raises:
        NoBrowserError
    """
    chromium = await find_chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium.program, args=list(_FLAGS), env={**os.environ, **chromium.env}
        )
        try:
            yield browser
        finally:
            await browser.close()
