"""The four servers in containers, for machines with an engine: ``HAULYARD_TEST_INFRA=containers``.

A server whose address is set in the environment is used as it is, and none is started for it. Images are chosen by
``HAULYARD_TEST_<NATS|POSTGRES|VALKEY|S3>_IMAGE``; that of S3 has to take VersityGW's arguments and variables.
"""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import ExecWaitStrategy, HttpWaitStrategy, LogMessageWaitStrategy
from testcontainers.core.waiting_utils import WaitStrategy

_READY = 60  # seconds, without those that pulling an image takes
_S3_KEYS = ("HAULYARD_S3_ACCESS_KEY", "HAULYARD_S3_SECRET_KEY", "HAULYARD_S3_REGION")
_REGION = "us-east-1"


@contextmanager
def running_containers() -> Iterator[dict[str, str]]:
    """Start the servers that have no address yet and yield the variables that tell a service where all four are."""
    start: dict[str, Callable[[ExitStack], dict[str, str]]] = {
        "HAULYARD_NATS_URL": _start_nats,
        "HAULYARD_POSTGRES_DSN": _start_postgres,
        "HAULYARD_REDIS_URL": _start_valkey,
        "HAULYARD_S3_ENDPOINT": _start_s3,
    }
    given = {name: os.environ[name] for name in start if os.environ.get(name)}
    if "HAULYARD_S3_ENDPOINT" in given:
        given |= {name: os.environ[name] for name in _S3_KEYS if os.environ.get(name)}
    with ExitStack() as stack:
        found = {"HAULYARD_S3_REGION": _REGION} | given
        for name in [name for name in start if name not in given]:
            found |= start[name](stack)
        yield found


def _start_nats(stack: ExitStack) -> dict[str, str]:
    password = secrets.token_hex(16)
    # Copied, not mounted: the engine may be on another machine.
    config = f"""\
http: 8222
max_payload: 8MB
authorization {{ user: haulyard, password: "{password}" }}
jetstream {{ store_dir: /tmp/nats, sync_interval: always }}
"""
    container = (
        _container("NATS", "nats:2", HttpWaitStrategy(8222, "/healthz?js-enabled-only=true"))
        .with_copy_into_container(config.encode(), "/etc/nats/test.conf")
        .with_command("-c /etc/nats/test.conf")
        .with_exposed_ports(4222, 8222)
    )
    stack.enter_context(container)
    return {"HAULYARD_NATS_URL": f"nats://haulyard:{password}@{_address(container, 4222)}"}


def _start_postgres(stack: ExitStack) -> dict[str, str]:
    password = secrets.token_hex(16)
    # The server that creates the database listens on no TCP port; the one that answers there is the one to stay.
    ready = ExecWaitStrategy(["pg_isready", "--host=127.0.0.1", "--username=postgres"])
    container = (
        _container("POSTGRES", "postgres:18", ready)
        .with_env("POSTGRES_PASSWORD", password)
        .with_env("POSTGRES_DB", "haulyard")
        .with_command("postgres -c max_connections=200")
        .with_exposed_ports(5432)
    )
    stack.enter_context(container)
    return {"HAULYARD_POSTGRES_DSN": f"postgresql://postgres:{password}@{_address(container, 5432)}/haulyard"}


def _start_valkey(stack: ExitStack) -> dict[str, str]:
    password = secrets.token_hex(16)
    container = (
        _container("VALKEY", "valkey/valkey:9", LogMessageWaitStrategy("Ready to accept connections"))
        .with_command(f"valkey-server --appendonly yes --requirepass {password}")
        .with_exposed_ports(6379)
    )
    stack.enter_context(container)
    return {"HAULYARD_REDIS_URL": f"redis://:{password}@{_address(container, 6379)}/0"}


def _start_s3(stack: ExitStack) -> dict[str, str]:
    password = secrets.token_hex(16)
    # It answers, if only to say that we may not.
    ready = HttpWaitStrategy(7070).for_status_code_matching(lambda status: status > 0)
    container = (
        _container("S3", "versity/versitygw:latest", ready)
        .with_env("ROOT_ACCESS_KEY", "haulyard")
        .with_env("ROOT_SECRET_KEY", password)
        .with_command("posix /tmp")
        .with_exposed_ports(7070)
    )
    stack.enter_context(container)
    return {
        "HAULYARD_S3_ENDPOINT": f"http://{_address(container, 7070)}",
        "HAULYARD_S3_ACCESS_KEY": "haulyard",
        "HAULYARD_S3_SECRET_KEY": password,
    }


def _container(kind: str, image: str, ready: WaitStrategy) -> DockerContainer:
    """Return a container that has started once it is ready; if it never is, the error quotes its log."""
    chosen = os.environ.get(f"HAULYARD_TEST_{kind}_IMAGE") or image
    return DockerContainer(chosen).waiting_for(ready.with_startup_timeout(_READY).with_poll_interval(0.2))


def _address(container: DockerContainer, port: int) -> str:
    return f"{container.get_container_host_ip()}:{container.get_exposed_port(port)}"
