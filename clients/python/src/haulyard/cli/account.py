"""`haulyard login` and `logout`: the address and the token in a file that only the user can read."""

import contextlib
import os
import sys

import click

from haulyard.cli.session import Session
from haulyard.client import AsyncClient
from haulyard.configuration import (
    URL,
    Configuration,
    checked_token,
    checked_url,
    config_path,
    save_configuration,
)
from haulyard.errors import ConfigurationError


async def login(session: Session) -> None:
    """Store the server's address and a token, after trying them.

    The token is asked for, or read from the standard input; it is no option, because others can see those.
    """
    url = session.url or os.environ.get(URL)
    if not url:
        if not sys.stdin.isatty():
            raise click.UsageError(f"Give --url, or set {URL}.")
        url = click.prompt("Server", err=True)
    token = click.prompt("Token", hide_input=True, err=True) if sys.stdin.isatty() else sys.stdin.readline()
    configuration = Configuration(url=checked_url(url), token=checked_token(token))
    if configuration.is_exposed:
        session.output.warn(f"{configuration.url} is not encrypted: everybody on the way can read the token")
    async with (
        AsyncClient(configuration.url, configuration.token) as client,
        contextlib.aclosing(client.jobs(limit=1)) as jobs,
    ):
        async for _ in jobs:
            break
    path = config_path()
    save_configuration(configuration, path)
    session.output.result({"url": configuration.url, "path": str(path)}, f"Logged in to {configuration.url}")


async def logout(session: Session) -> None:
    """Forget the address and the token."""
    path = config_path()
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be deleted: {error.strerror}.") from error
    session.output.note(f"{path} is gone; the token itself is good until it expires")
