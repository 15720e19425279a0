"""A stranger reads the OpenAPI document and asks for all that it allows, and for much that it does not."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import uvicorn
from redis.asyncio import Redis

from haulyard_chassis.identity import USER_SCOPES, mint_token
from haulyard_chassis.job_state import JobCache, job_key
from haulyard_contracts import ArchiveLocation, JobDocument, JobStatus, Progress
from haulyard_gateway.app import create_app
from haulyard_gateway.openapi.shared import JOB

if TYPE_CHECKING:
    from haulyard_gateway.settings import GatewaySettings

SECONDS = 25
"""That fuzzing may take, after the examples and the edges of every schema."""
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
)


@asynccontextmanager
async def listening(settings: GatewaySettings) -> AsyncIterator[str]:
    """Run a gateway on a port of its own and yield its address."""
    sock = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(create_app(settings), http="httptools", ws="none", lifespan="on", log_config=None)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    async with asyncio.timeout(30):
        while not server.started:  # noqa: ASYNC110 - the server tells nobody
            await asyncio.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        server.should_exit = True
        await serving


@asynccontextmanager
async def finished_job(settings: GatewaySettings, job_id: str, user_id: str) -> AsyncIterator[None]:
    """Let the job of the examples be there, so that not all of them are told that it is not."""
    now = datetime.now(UTC)
    async with Redis.from_url(settings.redis_url.get_secret_value()) as redis:
        await JobCache(redis).put(
            JobDocument(
                job_id=job_id,
                user_id=user_id,
                status=JobStatus.COMPLETED,
                sequence=9,
                progress=Progress(current=0, total=0, percentage=0),
                files=(),
                created_at=now,
                updated_at=now,
                completed_at=now,
                expires_at=now + timedelta(days=7),
                archive=ArchiveLocation(bucket=settings.archive_bucket, key="x.zip"),
                size_bytes=22,
            )
        )
        yield
        await redis.delete(job_key(job_id))


@pytest.mark.timeout(150)
async def test_the_api_does_what_its_document_says(settings: GatewaySettings, tmp_path: Path) -> None:
    quick = settings.model_copy(update={"start_wait": 0.02, "max_waiting": 0})
    assert settings.jwt_secret is not None
    token = mint_token(settings.jwt_secret.get_secret_value(), "schemathesis", scopes=sorted(USER_SCOPES))
    async with finished_job(settings, JOB, "schemathesis"), listening(quick) as url:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "schemathesis.cli", "run", f"{url}/docs/openapi.json"),
            *("--header", f"Authorization: Bearer {token}"),
            *("--checks", ",".join(CHECKS)),
            *("--phases", "examples,coverage,fuzzing"),
            *("--include-path-regex", "^/v1/"),
            *("--max-time", str(SECONDS), "--continue-on-failure", "--no-shrink", "--warnings", "off"),
            *("--request-timeout", "10", "--suppress-health-check", "all"),
            cwd=tmp_path,
            env={**os.environ, "NO_COLOR": "1", "PYTHONWARNINGS": "default"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 0, output.decode()
