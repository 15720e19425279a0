"""Ceph's programs, unpacked from the distribution's packages."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from haulyard_devstack import apt
from haulyard_devstack.errors import DevstackError

_WANTED = ("radosgw", "ceph-mon", "ceph-osd")
_PROGRAMS = ("ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
_KEPT_PREFIXES = ("ceph", "lib", "radosgw")


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
        found = apt.library_folders(self.root)
        with_private = [*found, *(path / "ceph" for path in found if (path / "ceph").is_dir())]
        return {"LD_LIBRARY_PATH": ":".join(str(path) for path in with_private), "CEPH_ARGS": ""}


def needed(packages: Sequence[str]) -> list[str]:
    """Pick the packages to fetch out of those that would be installed.

    Recommended tools for disks, Python modules and the like come along as dependencies of the packages, but the
    programs that are run here need none of them.
    """
    return [name for name in packages if name.startswith(_KEPT_PREFIXES)]


async def obtain(cache: Path) -> CephPrograms:
    """Return the unpacked programs, fetching them first if no complete copy is in the cache."""

    def check(root: Path) -> None:
        for name in _PROGRAMS:
            CephPrograms(root).program(name)

    return CephPrograms(
        await apt.unpacked(
            cache / "ceph", _WANTED, pick=needed, check=check, about="s3: fetching Ceph's packages (about 70 MB, once)"
        )
    )
