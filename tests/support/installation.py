"""An installation of its own on servers that others use, too."""

import secrets
from urllib.parse import urlsplit, urlunsplit

import asyncpg


async def make_database(dsn: str, name: str) -> str:
    """Create an empty database beside the one of ``dsn`` and return its DSN."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(f'CREATE DATABASE "{name}"')
    finally:
        await connection.close()
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


async def make_installation(addresses: dict[str, str]) -> dict[str, str]:
    """Return settings of an installation of its own: fresh database, namespace and bucket names on shared servers."""
    unique = f"t{secrets.token_hex(6)}"
    return {
        **addresses,
        "HAULYARD_POSTGRES_DSN": await make_database(addresses["HAULYARD_POSTGRES_DSN"], unique),
        "HAULYARD_NAMESPACE": unique,
        "HAULYARD_ARCHIVE_BUCKET": f"{unique}-archives",
        "HAULYARD_FILES_BUCKET": f"{unique}-files",
        "HAULYARD_JWT_SECRET": secrets.token_hex(32),
        "HAULYARD_TICKET_SECRET": secrets.token_hex(32),
        "HAULYARD_PUBLIC_API_URL": "http://127.0.0.1:1",
        "HAULYARD_PUBLIC_NOTIFIER_URL": "http://127.0.0.1:2",
        "HAULYARD_ENVIRONMENT": "development",
        "HAULYARD_LOG_FORMAT": "console",
    }
