"""What all commands have in common: their options, the client, and running in an event loop."""

import asyncio
import functools
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec

import click

from haulyard.cli.output import Output
from haulyard.client import AsyncClient

P = ParamSpec("P")


@dataclass(frozen=True, kw_only=True)
class Session:
    """One run of a command."""

    url: str | None
    output: Output

    def client(self) -> AsyncClient:
        """Return a client of the server that is meant; it is the caller's to close."""
        return AsyncClient(self.url)


def command(
    group: click.Group, name: str, **settings: Any
) -> Callable[[Callable[Concatenate[Session, P], Coroutine[Any, Any, None]]], click.Command]:
    """Make a coroutine a command of a group, with the options that all have."""

    def decorate(function: Callable[Concatenate[Session, P], Coroutine[Any, Any, None]]) -> click.Command:
        @functools.wraps(function)
        def run(*args: P.args, url: str | None, as_json: bool, quiet: bool, **kwargs: P.kwargs) -> None:  # type: ignore[valid-type] # PEP 612 has no keywords beside P
            session = Session(url=url, output=Output(as_json=as_json, quiet=quiet))
            asyncio.run(function(session, *args, **kwargs))

        wrapped: Any = run
        for option in (
            click.option("-q", "--quiet", is_flag=True, help="Show nothing but results and errors."),
            click.option("--json", "as_json", is_flag=True, help="Show results as JSON, one value a line."),
            click.option("--url", metavar="URL", help="The server, instead of HAULYARD_URL."),
        ):
            wrapped = option(wrapped)
        return group.command(name, **settings)(wrapped)

    return decorate
