"""Haulyard's own services as child processes, and the environment that makes them one development installation."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from haulyard_devstack.ports import LOOPBACK
from haulyard_devstack.remembered import Remembered

GATEWAY = "gateway"
NOTIFIER = "notifier"


@dataclass(frozen=True, kw_only=True)
class ServiceSpec:
    """One service to run. It listens on `HAULYARD_HTTP_PORT` and answers 200 at its health path when it is ready."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables for this service only; they win over everything else but its address."""
    prefer_port: int | None = None
    """A port that people know, taken if it is free."""
    health_path: str = "/health/ready"
    ready_timeout: float = 60.0


def default_services(bin_dir: Path | None = None) -> list[ServiceSpec]:
    """Return Haulyard's services, whose commands are installed beside our own Python."""
    folder = bin_dir or Path(sys.executable).parent

    def service(name: str, command: str, prefer_port: int | None = None) -> ServiceSpec:
        return ServiceSpec(name=name, argv=[str(folder / f"haulyard-{command}")], prefer_port=prefer_port)

    return [
        service(GATEWAY, "gateway", 8080),
        service("orchestrator", "orchestrator"),
        service("archiver-1", "archiver"),
        service("archiver-2", "archiver"),
        service(NOTIFIER, "notifier", 8081),
    ]


def choose_ports(specs: Sequence[ServiceSpec], kept: Remembered) -> dict[str, int]:
    """Return a port for every service: its last one, its preferred one, or any other that is free."""
    return {
        spec.name: kept.port(spec.name, prefer=[] if spec.prefer_port is None else [spec.prefer_port]) for spec in specs
    }


def development_environment(env: Mapping[str, str], kept: Remembered, ports: Mapping[str, int]) -> dict[str, str]:
    """Return what the services are told beyond the addresses of the infrastructure. What `env` already says wins.

    Args:
        env: The user's environment.
        kept: Where the generated secrets live, so that tokens stay good over restarts.
        ports: The port of each service.
    """
    computed = {
        "HAULYARD_ENVIRONMENT": "development",
        "HAULYARD_JWT_SECRET": kept.secret("jwt"),
        "HAULYARD_TICKET_SECRET": kept.secret("ticket"),
        "HAULYARD_LOG_FORMAT": "console",
    }
    for name, variable in ((GATEWAY, "HAULYARD_PUBLIC_API_URL"), (NOTIFIER, "HAULYARD_PUBLIC_NOTIFIER_URL")):
        if name in ports:
            computed[variable] = f"http://{LOOPBACK}:{ports[name]}"
    if GATEWAY in ports:
        # The gateway's page listens to the notifier and uploads to the store, which are other origins.
        computed["HAULYARD_CORS_ORIGINS"] = env.get("HAULYARD_PUBLIC_API_URL") or computed["HAULYARD_PUBLIC_API_URL"]
    return computed | {name: env[name] for name in computed if env.get(name)}
