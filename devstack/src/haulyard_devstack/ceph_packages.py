"""Getting Ceph's programs from the distribution's packages, without installing anything.

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
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

import msgspec

from haulyard_devstack import tool
from haulyard_devstack.errors import DevstackError

log = logging.getLogger(__name__)

_WANTED = ("radosgw", "ceph-mon", "ceph-osd")
_PROGRAMS = ("ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
_KEPT_PREFIXES = ("ceph", "lib", "radosgw")

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


class CephPrograms(msgspec.Struct, frozen=True):
    """Where an unpacked Ceph is."""

    root: Path

    def program(self, name: str) -> str:
        """Return the path of a program: the unpacked one, else the machine's own."""
        unpacked = self.root / "usr/bin" / name
        found = str(unpacked) if unpacked.exists() else shutil.which(name)
        if found is None:
            raise DevstackError(
                f"{name} is neither in {self.root} nor installed: remove {self.root.parent} to fetch it"
            )
        return found

    def library_dir(self, ending: str = "") -> Path:
        """Return a directory of libraries or plugins, unpacked or the machine's own."""
        for base in (self.root, Path("/")):
            for found in sorted(base.glob(f"usr/lib/*-linux-gnu*/{ending}")):
                if found.is_dir():
                    return found
        return self.root / "usr/lib" / ending

    def environment(self) -> dict[str, str]:
        """Return the variables the programs need to find their libraries."""
        found = [*self.root.glob("usr/lib/*-linux-gnu*"), *self.root.glob("lib/*-linux-gnu*")]
        with_private = [*found, *(path / "ceph" for path in found if (path / "ceph").is_dir())]
        return {"LD_LIBRARY_PATH": ":".join(str(path) for path in with_private), "CEPH_ARGS": ""}


def needed(simulation: str) -> list[str]:
    """Pick the packages to fetch out of what `apt-get install --simulate` says it would install.

    Recommended tools for disks, Python modules and the like come along as dependencies of the packages, but the
    programs that are run here need none of them.
    """
    names = [line.split()[1] for line in simulation.splitlines() if line.startswith("Inst ")]
    return [name for name in names if name.startswith(_KEPT_PREFIXES)]


async def obtain(cache: Path) -> CephPrograms:
    """Return the unpacked programs, fetching them first if no complete copy is in the cache.

    Several processes may ask at once: one fetches, the others wait. A fetch that was killed is taken up again by the
    next one; nothing counts until the marker is written.
    """
    home = cache / "ceph"
    home.mkdir(parents=True, exist_ok=True)
    programs = CephPrograms(home / "root")
    marker = home / "complete.json"
    if marker.exists():
        return programs
    async with _exclusive(home / "lock"):
        if not marker.exists():
            packages = await _fetch(home, programs.root)
            marker.write_bytes(msgspec.json.encode({"packages": packages}))
    return programs


async def _fetch(home: Path, root: Path) -> list[str]:
    log.info("s3: fetching Ceph's packages into %s (about 70 MB, once)", home)
    log_file = home / "fetch.log"
    apt = _private_apt(home)
    try:
        await tool.run([*apt, "update"], log_file=log_file)
    except DevstackError as error:
        # One unreachable source among many is an error to apt; the next step tells whether it matters.
        log.warning("s3: %s", error)
    simulation = await tool.run(
        [*apt, "install", "--simulate", "--no-install-recommends", *_WANTED], env={"LC_ALL": "C"}, log_file=log_file
    )
    packages = needed(simulation)
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
    for name in _PROGRAMS:
        CephPrograms(root).program(name)
    shutil.rmtree(debs)
    shutil.rmtree(home / "apt")
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
