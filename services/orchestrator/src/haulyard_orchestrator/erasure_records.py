"""The receipts of users who were forgotten (table ``erasures``): they hold nothing that names anybody."""

import msgspec

from haulyard_chassis.database import Connection


async def complete(connection: Connection, erasure_id: str, *, jobs: int, files: int, uploads: int) -> None:
    """Record that everything is gone, and how much the last try found; what is recorded already stays."""
    counts = msgspec.json.encode({"jobs": jobs, "files": files, "uploads": uploads}).decode()
    await connection.execute(
        "UPDATE erasures SET completed_at = now(), counts = $2::jsonb WHERE id = $1 AND completed_at IS NULL",
        erasure_id,
        counts,
    )
