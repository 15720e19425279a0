"""The four servers in containers, for machines with an engine: ``HAULYARD_TEST_INFRA=containers``.

Images are chosen by ``HAULYARD_TEST_<NATS|POSTGRES|VALKEY|S3>_IMAGE``.
"""

import os
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from testcontainers.core.container import DockerContainer

_READY = 60.0
_S3_PORT = 7070


def _image(kind: str, default: str) -> str:
    return os.environ.get(f"HAULYARD_TEST_{kind}_IMAGE", default)


def _wait(answers: Callable[[], bool], name: str) -> None:
    deadline = time.monotonic() + _READY
    while not answers():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{name} did not answer within {_READY} s")
        time.sleep(0.2)


def _http_answers(url: str) -> Callable[[], bool]:
    def ask() -> bool:
        try:
            urllib.request.urlopen(url, timeout=2).close()
        except urllib.error.HTTPError:
            return True  # it answers, if only to say that we may not
        except OSError:
            return False
        return True

    return ask


@contextmanager
def running_containers() -> Iterator[dict[str, str]]:
    """Start the four servers and yield the variables that tell a service where they are."""
    password = secrets.token_hex(16)
    with ExitStack() as stack:
        config = stack.enter_context(_nats_config())
        nats = stack.enter_context(
            DockerContainer(_image("NATS", "nats:2"))
            .with_volume_mapping(str(config), "/etc/nats/test.conf", "ro")
            .with_command("-c /etc/nats/test.conf")
            .with_exposed_ports(4222, 8222)
        )
        postgres = stack.enter_context(
            DockerContainer(_image("POSTGRES", "postgres:18"))
            .with_env("POSTGRES_PASSWORD", password)
            .with_env("POSTGRES_DB", "haulyard")
            .with_exposed_ports(5432)
        )
        valkey = stack.enter_context(
            DockerContainer(_image("VALKEY", "valkey/valkey:9"))
            .with_command(f"valkey-server --appendonly yes --requirepass {password}")
            .with_exposed_ports(6379)
        )
        s3 = stack.enter_context(
            DockerContainer(_image("S3", "versity/versitygw"))
            .with_env("ROOT_ACCESS_KEY", "haulyard")
            .with_env("ROOT_SECRET_KEY", password)
            .with_command("posix /tmp")
            .with_exposed_ports(_S3_PORT)
        )
        host = nats.get_container_host_ip()
        endpoint = f"http://{host}:{s3.get_exposed_port(_S3_PORT)}"
        _wait(_http_answers(f"http://{host}:{nats.get_exposed_port(8222)}/healthz?js-enabled-only=true"), "nats")
        _wait(_http_answers(endpoint), "s3")
        ready = "database system is ready to accept connections"
        _wait(lambda: sum(stream.decode().count(ready) for stream in postgres.get_logs()) > 1, "postgres")
        yield {
            "HAULYARD_NATS_URL": f"nats://{host}:{nats.get_exposed_port(4222)}",
            "HAULYARD_POSTGRES_DSN": f"postgresql://postgres:{password}@{host}:{postgres.get_exposed_port(5432)}/haulyard",
            "HAULYARD_REDIS_URL": f"redis://:{password}@{host}:{valkey.get_exposed_port(6379)}/0",
            "HAULYARD_S3_ENDPOINT": endpoint,
            "HAULYARD_S3_ACCESS_KEY": "haulyard",
            "HAULYARD_S3_SECRET_KEY": password,
            "HAULYARD_S3_REGION": "us-east-1",
        }


@contextmanager
def _nats_config() -> Iterator[Path]:

    with TemporaryDirectory() as folder:
        path = Path(folder) / "test.conf"
        path.write_text(
            "http: 8222\nmax_payload: 8MB\njetstream { store_dir: /tmp/nats, sync_interval: always }\n", "utf-8"
        )
        path.chmod(0o644)
        Path(folder).chmod(0o755)
        yield path
