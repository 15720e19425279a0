"""Prometheus' own programs, to run our rules by: those of the machine, or the distribution's, fetched once."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from haulyard_devstack import DevstackError, apt

CACHE = Path(os.environ.get("HAULYARD_CACHE") or Path(__file__).parents[2] / ".haulyard/cache").absolute()
_PACKAGES = ("prometheus", "prometheus-alertmanager")
_PROGRAMS = ("prometheus", "promtool", "amtool")


async def programs() -> dict[str, str]:
    """Return the paths of `prometheus`, `promtool` and `amtool`; 30 MB are fetched the first time, without root.

    The test is skipped where they cannot be had.
    """
    installed = {name: shutil.which(name) for name in _PROGRAMS}
    if all(installed.values()):
        return {name: str(path) for name, path in installed.items()}
    try:
        root = await apt.unpacked(
            CACHE / "prometheus",
            _PACKAGES,
            pick=_only_themselves,
            check=_check,
            about="monitoring: fetching Prometheus' packages (about 30 MB, once)",
        )
    except DevstackError as error:
        pytest.skip(f"ALERTS AND DASHBOARDS ARE NOT CHECKED: Prometheus' programs cannot be had here ({error})")
    return {name: str(root / "usr/bin" / name) for name in _PROGRAMS}


def _only_themselves(packages: Sequence[str]) -> list[str]:
    """Their dependencies are fonts and scripts of the web page."""
    return [name for name in packages if name in _PACKAGES]


def _check(root: Path) -> None:
    missing = [name for name in _PROGRAMS if not (root / "usr/bin" / name).exists()]
    if missing:
        raise DevstackError(f"not in the packages: {', '.join(missing)}")
