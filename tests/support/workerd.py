"""The Worker in the runtime that Cloudflare runs it in, which comes from npm, once, at the version of the lock file."""

import errno
import json
import os
import shutil
import tomllib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from haulyard_devstack import DevstackError, tool
from haulyard_devstack.process import Command, ManagedProcess
from support.proxied import ROOT, cache, listens, replaced

WORKER = ROOT / "deploy/proxy/cloudflare"
_PACKAGE = ("package.json", "package-lock.json", ".npmrc")


async def runtime() -> Path:
    """Return `workerd`; 40 MB are fetched the first time. The test is skipped where it cannot be had."""
    place = _place()
    if not place.exists():
        if shutil.which("npm") is None:
            pytest.skip("THE CLOUDFLARE WORKER IS NOT TESTED: there is no npm to fetch its runtime with")
        try:
            await _fetch(place)
        except DevstackError as error:
            pytest.skip(f"THE CLOUDFLARE WORKER IS NOT TESTED: its runtime cannot be fetched ({error})")
    found = sorted(place.glob("node_modules/@cloudflare/workerd-*/bin/workerd"))
    if not found:
        pytest.skip("THE CLOUDFLARE WORKER IS NOT TESTED: there is no runtime for this kind of machine")
    return found[0]


def _place() -> Path:
    version = json.loads((WORKER / "package.json").read_text())["devDependencies"]["workerd"]
    return cache() / f"workerd-{version}"


async def _fetch(place: Path) -> None:
    """Install into a folder beside, so that nobody finds half of it."""
    unfinished = place.with_name(f"{place.name}.{os.getpid()}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    for name in _PACKAGE:
        shutil.copy(WORKER / name, unfinished)
    try:
        await tool.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=unfinished)
        try:
            unfinished.rename(place)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise  # else another test run was faster, and has the same
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


@asynccontextmanager
async def running_worker(
    folder: Path, port: int, *, origins: Mapping[str, str], changes: Mapping[str, str] | None = None
) -> AsyncIterator[str]:
    """Run the Worker, and yield its URL.

    Args:
        folder: takes its configuration and its log.
        port: on which it listens.
        origins: its variables.
        changes: lines of its source and what takes their place.
    """
    program = await runtime()
    _prepare(folder, port, origins, changes or {})
    process = ManagedProcess(
        Command(
            name="workerd",
            argv=[str(program), "serve", str(folder / "workerd.capnp")],
            log_file=folder / "workerd.log",
            pid_file=folder / "workerd.pid",
        )
    )
    await process.start(lambda: listens(port), 60.0)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await process.stop()


def _prepare(folder: Path, port: int, origins: Mapping[str, str], changes: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "worker.js").write_text(replaced((WORKER / "worker.js").read_text(), changes))
    (folder / "workerd.capnp").write_text(_configuration(port, origins))


def _configuration(port: int, origins: Mapping[str, str]) -> str:
    """Return what Cloudflare makes of wrangler.toml, with an origin on this machine."""
    date = tomllib.loads((WORKER / "wrangler.toml").read_text())["compatibility_date"]
    bindings = ", ".join(f"(name = {json.dumps(name)}, text = {json.dumps(url)})" for name, url in origins.items())
    return f"""\
using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "edge", worker = .edge),
    (name = "origin", network = (allow = ["private"])),
  ],
  sockets = [(name = "http", address = "127.0.0.1:{port}", http = (), service = "edge")],
);

const edge :Workerd.Worker = (
  modules = [(name = "worker.js", esModule = embed "worker.js")],
  compatibilityDate = "{date}",
  bindings = [{bindings}],
  globalOutbound = "origin",
);
"""
