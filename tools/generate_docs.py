"""Writes the pages of ``docs/`` that come from the code: ``make docs``. With ``--check`` only says what is stale."""

import json
import sys
from collections.abc import Callable

import msgspec
from asyncapi_document import asyncapi_document
from generated import ROOT, is_check, refresh
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from haulyard_archiver.settings import ArchiverSettings
from haulyard_chassis.settings import MIN_SECRET, ServiceSettings
from haulyard_gateway.app import create_app
from haulyard_gateway.settings import GatewaySettings
from haulyard_notifier.settings import NotifierSettings
from haulyard_orchestrator.lifecycle import TRANSITIONS
from haulyard_orchestrator.settings import OrchestratorSettings

DOCS = ROOT / "docs"
NOTE = "<!-- Made by `make docs`; do not edit. -->"


def configuration() -> str:
    """Return the page of all settings."""
    shared = ServiceSettings.model_fields
    sections = [("All services", shared)]
    for name, kind in (
        ("Gateway", GatewaySettings),
        ("Orchestrator", OrchestratorSettings),
        ("Archiver", ArchiverSettings),
        ("Notifier", NotifierSettings),
    ):
        sections.append((name, {key: field for key, field in kind.model_fields.items() if key not in shared}))
    lines = [
        "# Configuration",
        "",
        NOTE,
        "",
        "Every service reads its settings from the environment before it connects to anything; what is missing or",
        "wrong is named, and the service does not start. A setting without a default must be set. Sizes are bytes,",
        "times are seconds.",
    ]
    for title, fields in sections:
        lines += ["", f"## {title}", "", "| variable | default | |", "|---|---|---|"]
        lines += [
            f"| `HAULYARD_{key.upper()}` | {_default(field)} | {_cell(field.description or '')} |"
            for key, field in fields.items()
        ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "must be set"
    default = ",".join(field.default) if isinstance(field.default, tuple) else field.default
    return "" if default in (None, "") else f"`{default}`"


def lifecycle() -> str:
    """Return the page of the state machine."""
    arrows = sorted(
        f"    {before} --> {after}: {action}" for (before, action), after in TRANSITIONS.items() if before is not after
    )
    return "\n".join(
        [
            "# The life of a job",
            "",
            NOTE,
            "",
            "```mermaid",
            "stateDiagram-v2",
            "    [*] --> queued",
            *arrows,
            "```",
            "",
            "The table is `haulyard_orchestrator.lifecycle`; PostgreSQL has the same and refuses everything else.",
            "",
        ]
    )


def openapi() -> str:
    """Return the OpenAPI document that a gateway serves, for those who have none at hand."""
    needed = {name: "-" for name, field in GatewaySettings.model_fields.items() if field.is_required()}
    settings = GatewaySettings.model_validate(
        needed
        | {
            "public_api_url": "https://api.example.com",
            "public_notifier_url": "https://live.example.com",
            "jwt_secret": "j" * MIN_SECRET,
            "ticket_secret": "t" * MIN_SECRET,
        }
    )
    document = create_app(settings).openapi_schema.to_schema()
    # The framework keeps paths in sets: their order is another in each process.
    document["paths"] = dict(sorted(document["paths"].items()))
    return json.dumps(document, indent=1, ensure_ascii=False, default=_plain) + "\n"


def _plain(value: object) -> object:
    """Return a value of an example as the API writes it."""
    return msgspec.to_builtins(value)


PAGES: dict[str, Callable[[], str]] = {
    "configuration.md": configuration,
    "lifecycle.md": lifecycle,
    "openapi.json": openapi,
    "asyncapi.json": asyncapi_document,
}


def main() -> int:
    """Write the pages, or check them."""
    check = is_check(__doc__)
    _, stale = refresh(((DOCS / name, make()) for name, make in PAGES.items()), check=check)
    if stale and check:
        print("run `make docs`")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
