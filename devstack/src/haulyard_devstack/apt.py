"""Programs from the distribution's packages, without installing anything.

The packages are downloaded with apt's own signature and hash checks into a cache directory and unpacked there. Apt's
state is private: the machine's package lists may be missing, too old, or not ours to refresh. What the machine already
has installed (the C library, for a start) is used from there.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from haulyard_devstack import tool
from haulyard_devstack.errors import DevstackError

log = logging.getLogger(__name__)

_APT_CONF = """\
Dir::State "{state}/state";
Dir::State::status "/var/lib/dpkg/status";
Dir::Cache "{state}/cache";
APT::Sandbox::User "root";
APT::Get::AllowUnauthenticated "false";
Acquire::Languages "none";
Acquire::Retries "3";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"""


def library_folders(root: Path) -> list[Path]:
    """Return where an unpacked tree has its libraries, for `LD_LIBRARY_PATH`."""
    return [*root.glob("usr/lib/*-linux-gnu*"), *root.glob("lib/*-linux-gnu*")]


def to_install(simulation: str) -> list[str]:
    """Return the packages that `apt-get install --simulate` says it would install."""
    return [line.split()[1] for line in simulation.splitlines() if line.startswith("Inst ")]


async def unpacked(
    home: Path,
    wanted: Sequence[str],
    *,
    pick: Callable[[Sequence[str]], list[str]] = list,
    check: Callable[[Path], None],
    about: str,
) -> Path:
    """Return the root of the unpacked packages, fetching them first if no complete copy is there.

    Several processes may ask at once: one fetches, the others wait. A fetch that was killed is taken up again by the
    next one; nothing counts until the marker is written.

    Args:
        home: The directory of this set of packages.
        wanted: Their names.
        pick: Chooses among these and their dependencies what has to be fetched.
        check: Raises `DevstackError` when something is missing in what was unpacked.
        about: What to tell the user before it is fetched.

    Raises:
        DevstackError: They cannot be had here.
    """
    root, marker = _places(home)
    if marker.exists():
        return root
    async with _exclusive(home / "lock"):
        if not marker.exists():
            log.info("%s into %s", about, home)
            packages = await _fetch(home, root, wanted, pick)
            check(root)
            shutil.rmtree(home / "debs")
            shutil.rmtree(home / "apt")
            marker.write_bytes(msgspec.json.encode({"packages": packages}))
    return root


def _places(home: Path) -> tuple[Path, Path]:
    home.mkdir(parents=True, exist_ok=True)
    return home / "root", home / "complete.json"


async def _fetch(
    home: Path, root: Path, wanted: Sequence[str], pick: Callable[[Sequence[str]], list[str]]
) -> list[str]:
    log_file = home / "fetch.log"
    apt = _private_apt(home)
    try:
        await tool.run([*apt, "update"], log_file=log_file)
    except DevstackError as error:
        # One unreachable source among many is an error to apt; the next step tells whether it matters.
        log.warning("%s", error)
    simulation = await tool.run(
        [*apt, "install", "--simulate", "--no-install-recommends", *wanted], env={"LC_ALL": "C"}, log_file=log_file
    )
    packages = pick(to_install(simulation))
    debs = home / "debs"
    debs.mkdir(exist_ok=True)
    if packages:
        # Files that are already there with the right hash are not fetched again.
        await tool.run([*apt, "download", *packages], cwd=debs, log_file=log_file)
    fresh = home / "root.new"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    for deb in sorted(debs.glob("*.deb")):
        if deb.name.split("_")[0] in packages:  # an older attempt may have left others
            await tool.run(["dpkg-deb", "--extract", str(deb), str(fresh)], log_file=log_file)
    _drop_privileged_bits(fresh)
    shutil.rmtree(root, ignore_errors=True)
    fresh.rename(root)
    return packages


def _private_apt(home: Path) -> list[str]:
    state = home / "apt"
    for folder in ("state/lists/partial", "cache/archives/partial"):
        (state / folder).mkdir(parents=True, exist_ok=True)
    config = state / "apt.conf"
    config.write_text(_APT_CONF.format(state=state))
    return ["apt-get", "-q", "-c", str(config)]


def _drop_privileged_bits(tree: Path) -> None:
    """Nothing unpacked here may run with more rights than its caller, whatever its package says."""
    for path in _files(tree):
        mode = path.stat().st_mode
        if mode & 0o6000:
            path.chmod(mode & 0o777)


def _files(tree: Path) -> Iterator[Path]:
    directories: Iterable[tuple[str, list[str], list[str]]] = os.walk(tree)
    for directory, _, names in directories:
        for name in names:
            path = Path(directory, name)
            if not path.is_symlink():
                yield path


@contextlib.asynccontextmanager
async def _exclusive(path: Path) -> AsyncIterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                await asyncio.sleep(0.2)
        yield
    finally:
        os.close(descriptor)
