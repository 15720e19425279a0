"""Running PostgreSQL, which refuses to run as root, when we are root.

A user namespace is the better way: inside it the server is `nobody`, outside it is still us, so its files stay ours and
every directory we may enter is open to it. Where namespaces are not allowed (many containers), the server really
becomes another user, who then has to be able to reach the data directory and the binaries.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from haulyard_devstack.errors import DevstackError

_NOBODY = 65534


@dataclass(frozen=True)
class Disguise:
    """How to start a program that refuses root."""

    wrapper: tuple[str, ...] = ()
    user: int | None = None

    def hand_over(self, path: Path) -> None:
        """Give a directory tree to the user the program runs as, if it is not theirs already."""
        owner = os.geteuid() if self.user is None else self.user
        if path.stat().st_uid != owner:
            for directory, _, files in os.walk(path):
                for entry in (directory, *(os.path.join(directory, name) for name in files)):  # noqa: PTH118
                    os.chown(entry, owner, owner, follow_symlinks=False)


def find_disguise(binary: Path, data: Path) -> Disguise:
    """Return how to run `binary` on files in `data`: unchanged for an ordinary user, disguised for root.

    Raises:
        DevstackError: We are root, namespaces are not allowed, and another user could not reach the files.
    """
    if os.geteuid() != 0:
        return Disguise()
    unshare = shutil.which("unshare")
    if unshare is not None:
        wrapper = (unshare, "--user", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}", "--")
        if subprocess.run([*wrapper, str(binary), "--version"], capture_output=True, check=False).returncode == 0:
            return Disguise(wrapper=wrapper)
    return _other_user(binary, data)


def _other_user(binary: Path, data: Path) -> Disguise:
    for path in (binary, data):
        closed = [parent for parent in path.parents if not parent.stat().st_mode & 0o001]
        if closed:
            raise DevstackError(
                "PostgreSQL refuses to run as root, this machine allows no user namespaces, and user "
                f"{_NOBODY} cannot enter {closed[-1]} on the way to {path}. Run as an ordinary user, or move the "
                "project out of there, or set HAULYARD_POSTGRES_DSN to a server of your own."
            )
    return Disguise(user=_NOBODY)
