"""Ports and secrets that were chosen once and stay the same, so that addresses survive a restart."""

import os
import secrets
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import msgspec

from haulyard_devstack import ports


class _Content(msgspec.Struct):
    ports: dict[str, int] = {}
    secrets: dict[str, str] = {}


class Remembered:
    """A small JSON file, readable by its owner only."""

    def __init__(self, path: Path, *, free: Callable[[int], bool] = ports.is_free) -> None:
        self._path = path
        self._free = free
        try:
            self._content = msgspec.json.decode(path.read_bytes(), type=_Content)
        except FileNotFoundError:
            self._content = _Content()

    def port(self, name: str, *, prefer: Iterable[int] = (), taken: Collection[int] = ()) -> int:
        """Return the port of this name: the one of the last time if it is still free, else a newly chosen one."""
        known = self._content.ports
        others = {port for other, port in known.items() if other != name} | set(taken)
        wanted = [*([known[name]] if name in known else []), *prefer]
        chosen = ports.choose(wanted, others, free=self._free)
        if known.get(name) != chosen:
            known[name] = chosen
            self._save()
        return chosen

    def number(self, name: str, make: Callable[[], int]) -> int:
        """Return the number kept under this name, made at the first call."""
        if name not in self._content.ports:
            self._content.ports[name] = make()
            self._save()
        return self._content.ports[name]

    def secret(self, name: str, size: int = 24) -> str:
        """Return the secret of this name (hexadecimal: safe in URLs and config files), made at the first call."""
        if name not in self._content.secrets:
            self._content.secrets[name] = secrets.token_hex(size)
            self._save()
        return self._content.secrets[name]

    def _save(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self._path.with_suffix(".new")
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:  # noqa: PTH123
            file.write(msgspec.json.format(msgspec.json.encode(self._content)))
        fresh.replace(self._path)
