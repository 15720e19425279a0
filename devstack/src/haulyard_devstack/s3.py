"""Which S3 server this machine can run: Ceph from the distribution's packages, else a container, else none."""

import hashlib
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping

from haulyard_devstack import probes, tool
from haulyard_devstack.ceph import CephServer
from haulyard_devstack.ceph_config import CephOptions
from haulyard_devstack.errors import DevstackError
from haulyard_devstack.ports import LOOPBACK
from haulyard_devstack.process import Command
from haulyard_devstack.s3_endpoint import S3Endpoint
from haulyard_devstack.server import Place, Server

DEFAULT_IMAGE = "versity/versitygw:latest"
DEFAULT_IMAGE_ARGS = "posix /data"
DEFAULT_IMAGE_PORT = "7070"

_HELP = (
    "no S3 server can be started here: there is no apt-get to fetch Ceph with, and no container engine answers. "
    "Point HAULYARD_S3_ENDPOINT (with HAULYARD_S3_ACCESS_KEY and HAULYARD_S3_SECRET_KEY) at one"
)


def s3_server(place: Place, env: Mapping[str, str]) -> Server:
    """Choose the server. `HAULYARD_S3_IMAGE` asks for a container even where Ceph could be had.

    Raises:
        DevstackError: There is no way to run one; the message says what to set instead.
    """
    if not env.get("HAULYARD_S3_IMAGE") and shutil.which("apt-get") and shutil.which("dpkg-deb"):
        return CephServer(place, ceph_options(env))
    engine = find_engine()
    if engine is None:
        raise DevstackError(_HELP)
    return ContainerS3(place, engine, env)


def ceph_options(env: Mapping[str, str]) -> CephOptions:
    """Read `HAULYARD_CEPH_OSD_BYTES` and `HAULYARD_CEPH_DAY_SECONDS`."""
    day = env.get("HAULYARD_CEPH_DAY_SECONDS", "")
    return CephOptions(
        osd_bytes=int(env.get("HAULYARD_CEPH_OSD_BYTES") or CephOptions.osd_bytes),
        lifecycle_day_seconds=int(day) if day else None,
    )


def find_engine() -> str | None:
    """Return a container engine's client whose engine answers."""
    for name in ("docker", "podman"):
        client = shutil.which(name)
        if client and subprocess.run([client, "info"], capture_output=True, timeout=20, check=False).returncode == 0:
            return client
    return None


class ContainerS3(S3Endpoint):
    """An S3 server in a container.

    `HAULYARD_S3_IMAGE`, `HAULYARD_S3_IMAGE_ARGS` and `HAULYARD_S3_IMAGE_PORT` choose the image, its arguments and its
    port. The keys are passed under the names that VersityGW (`ROOT_…`) and MinIO (`MINIO_…`) know.
    """

    def __init__(self, place: Place, engine: str, env: Mapping[str, str]) -> None:
        super().__init__(place)
        self._engine = engine
        self._image = env.get("HAULYARD_S3_IMAGE") or DEFAULT_IMAGE
        self._args = shlex.split(env.get("HAULYARD_S3_IMAGE_ARGS") or DEFAULT_IMAGE_ARGS)
        self._inner_port = int(env.get("HAULYARD_S3_IMAGE_PORT") or DEFAULT_IMAGE_PORT)
        self._container = "haulyard-s3-" + hashlib.sha256(str(place.root).encode()).hexdigest()[:12]

    def run_argv(self) -> list[str]:
        """Return the command that runs the container in the foreground; the keys are named, their values inherited."""
        keys = [word for name in self._key_variables() for word in ("--env", name)]
        return [
            *(self._engine, "run", "--rm", "--name", self._container, *keys),
            *("--publish", f"{LOOPBACK}:{self._port}:{self._inner_port}"),
            *("--volume", f"{self._container}:/data", self._image, *self._args),
        ]

    async def kill(self) -> None:
        """Kill the container, not only the client that watches it."""
        await self._remove()
        await super().kill()

    async def _start(self) -> None:
        # A container that outlived its client is gone by now: a start begins with `_stop`.
        self._port = self.kept.port("s3")
        await self._run(
            Command(
                name=self.name,
                argv=self.run_argv(),
                log_file=self.place.log_file(self.name),
                pid_file=self.place.pid_file(self.name),
                env=self._key_variables(),
                stop_signal=signal.SIGTERM,
            ),
            self._answers,
            timeout=300.0,  # the image may have to be pulled
        )

    async def _stop(self) -> None:
        await super()._stop()
        await self._remove()

    async def _remove(self) -> None:
        await tool.run(["sh", "-c", f"{shlex.quote(self._engine)} rm --force {self._container} || true"])

    async def _answers(self) -> bool:
        return await probes.http_status(f"{self.address}/") > 0  # any answer, also "access denied", means it listens

    def _key_variables(self) -> dict[str, str]:
        keys = self.environment()
        access, secret = keys["HAULYARD_S3_ACCESS_KEY"], keys["HAULYARD_S3_SECRET_KEY"]
        return {
            "ROOT_ACCESS_KEY": access,
            "ROOT_SECRET_KEY": secret,
            "MINIO_ROOT_USER": access,
            "MINIO_ROOT_PASSWORD": secret,
        }
