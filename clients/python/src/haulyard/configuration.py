"""Where the server is and who is asking: arguments, else the environment, else what ``haulyard login`` has stored."""

import os
import stat
import sys
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from haulyard.errors import ConfigurationError

URL = "HAULYARD_URL"
TOKEN = "HAULYARD_TOKEN"  # noqa: S105 - the name of a variable
CONFIG = "HAULYARD_CONFIG"

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, kw_only=True)
class Configuration:
    """An address and a token."""

    url: str
    """Base URL of the API, without a slash at the end."""
    token: str

    def __repr__(self) -> str:
        return f"Configuration(url={self.url!r}, token=…)"

    @property
    def is_exposed(self) -> bool:
        """Whether the token would travel a network unencrypted."""
        parts = urlsplit(self.url)
        return parts.scheme == "http" and parts.hostname not in _LOOPBACK


def config_path(env: Mapping[str, str] = os.environ) -> Path:
    """Return where the configuration file is: ``HAULYARD_CONFIG``, else the place that the system has for such."""
    if given := env.get(CONFIG):
        return Path(given)
    if sys.platform == "win32":
        folder = Path(env.get("APPDATA") or Path.home() / "AppData" / "Roaming")
    else:
        folder = Path(env.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return folder / "haulyard" / "config.toml"


def load_configuration(
    *, url: str | None = None, token: str | None = None, env: Mapping[str, str] = os.environ, path: Path | None = None
) -> Configuration:
    """Return the configuration: what is given wins over the environment, and that over the file.

    A token from the file is used with the file's address only: it is not for another server to see.

    Raises:
        ConfigurationError: something is missing or not valid; the message says what.
    """
    url = url or env.get(URL)
    token = token or env.get(TOKEN)
    path = path or config_path(env)
    if not (url and token):
        stored = _read(path)
        stored_url = stored.get("url")
        url = url or stored_url
        if not token and url is not None and stored_url is not None and checked_url(url) == checked_url(stored_url):
            token = stored.get("token")
    if not url:
        raise ConfigurationError(f"No server is known: set {URL}, or run `haulyard login`.")
    if not token:
        raise ConfigurationError(f"No token for {url}: set {TOKEN}, or run `haulyard login`.")
    return Configuration(url=checked_url(url), token=checked_token(token))


def save_configuration(configuration: Configuration, path: Path) -> None:
    """Write the configuration file, readable for its owner only, all or nothing.

    Raises:
        ConfigurationError: it cannot be written.
    """
    text = f'url = "{configuration.url}"\ntoken = "{configuration.token}"\n'
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A temporary file of this kind is readable for its owner only from the start.
        with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            file.write(text)
        Path(file.name).chmod(stat.S_IRUSR | stat.S_IWUSR)
        Path(file.name).replace(path)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}.") from error


def checked_url(url: str) -> str:
    """Return a base URL without its last slash.

    Raises:
        ConfigurationError: it is none.
    """
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid or parts.query or parts.fragment or parts.username is not None or not _is_plain(url):
        raise ConfigurationError(f"{url!r} is no address of a server; that is like https://haulyard.example.com")
    return url.rstrip("/")


def checked_token(token: str) -> str:
    """Return a token without white space around it.

    Raises:
        ConfigurationError: it cannot travel in a header.
    """
    token = token.strip()
    if not token or not _is_plain(token):
        raise ConfigurationError("The token has characters that no token has; was it copied whole?")
    return token


def _is_plain(text: str) -> bool:
    """Whether it is visible ASCII that needs no escaping, neither in a header nor in the configuration file."""
    return all("!" <= character <= "~" and character not in '"\\' for character in text)


def _read(path: Path) -> dict[str, str]:
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}.") from error
    return {key: value for key, value in content.items() if isinstance(value, str)}
