"""All services as one installation, with settings that make tests quick."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from haulyard_devstack import Stack, running_stack
from haulyard_devstack.probes import http_ok
from haulyard_devstack.process import ManagedProcess
from haulyard_devstack.services import default_services


@asynccontextmanager
async def running_services(root: Path, installation: Mapping[str, str], **settings: str) -> AsyncIterator[Stack]:
    """Run gateway, two orchestrators, two archivers and notifier.

    Args:
        root: where they keep their logs.
        installation: addresses and names, as `support.installation.make_installation` returns them.
        settings: more of their environment.
    """
    own = {name: value for name, value in installation.items() if "PUBLIC" not in name}
    quick = {
        "HAULYARD_STALE_SECONDS": "5",
        "HAULYARD_RATE_LIMIT_PER_MINUTE": "0",  # tests poll faster than a user may
        "HAULYARD_MAX_JOBS_PER_USER": "0",
        **settings,
    }
    specs = [replace(spec, env={**own, **quick}, prefer_port=None) for spec in default_services()]
    # Replicas take turns with messages and may both finish the same job.
    specs += [replace(spec, name="orchestrator-2") for spec in specs if spec.name == "orchestrator"]
    async with running_stack(root, env=own, services=specs) as running:
        yield running


async def restart(stack: Stack, process: ManagedProcess) -> None:
    """Start a service again that was killed or stopped, as any supervisor does."""
    url = f"{stack.urls[process.name]}/health/ready"
    await process.start(lambda: http_ok(url), 60)
