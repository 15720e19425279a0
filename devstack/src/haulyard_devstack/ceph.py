"""Ceph's RADOS Gateway: a real S3 server (UploadPartCopy, CORS, lifecycle, signatures) on one machine."""

import asyncio
import json
import random
import shutil
import signal
import sys
import uuid

from haulyard_devstack import ceph_packages, mon_command, probes, tool
from haulyard_devstack.ceph_config import MESSENGER_PORTS, CephOptions, render_config, render_keyring
from haulyard_devstack.ceph_packages import CephPrograms
from haulyard_devstack.errors import DevstackError
from haulyard_devstack.ports import LOOPBACK, MESSENGER_RANGE
from haulyard_devstack.process import Command, Probe
from haulyard_devstack.s3_endpoint import S3Endpoint
from haulyard_devstack.server import Place

_USER = "haulyard"


class CephServer(S3Endpoint):
    """The object store: `ceph-mon`, `ceph-osd` and `radosgw`."""

    follow_logs = False  # hundreds of lines about a cluster's inner life, at every level

    def __init__(self, place: Place, options: CephOptions) -> None:
        super().__init__(place)
        self._options = options
        self._cluster = self.data / "cluster"
        self._config = self.data / "ceph.conf"

    async def _start(self) -> None:
        programs = await ceph_packages.obtain(self.place.cache)
        created = self.data / "created"
        if not created.exists():  # never made, or killed while it was being made
            await asyncio.to_thread(shutil.rmtree, self._cluster, ignore_errors=True)
        fresh = not self._cluster.exists()
        mon_port = self._write_config(programs)
        if fresh:
            await self._make_monitor(programs, mon_port)
        elif (self.data / "mon-port").read_text() != str(mon_port):
            await self._move_monitor(programs, mon_port)
        (self.data / "mon-port").write_text(str(mon_port))
        await self._daemon(
            programs,
            "ceph-mon",
            ["-i", "a", "--public-addr", f"{LOOPBACK}:{mon_port}"],
            lambda: self._mon_answers(programs),
        )
        if fresh:
            await self._make_osd(programs)
        # The gateway waits for the OSD by itself, so both can start at once.
        await asyncio.gather(
            self._daemon(programs, "ceph-osd", ["-i", "0"], _at_once),
            self._daemon(programs, "radosgw", ["-n", "client.rgw"], lambda: probes.http_ok(f"{self.address}/")),
        )
        if fresh:
            await self._make_user(programs)
            created.touch()

    def _write_config(self, programs: CephPrograms) -> int:
        self._port = self.kept.port("s3")
        mon_port = self.kept.port("mon")
        blocks = range(MESSENGER_RANGE.start, MESSENGER_RANGE.stop - MESSENGER_PORTS, MESSENGER_PORTS)
        fsid_file = self.data / "fsid"
        if not fsid_file.exists():
            fsid_file.write_text(str(uuid.uuid4()))
        self._config.write_text(
            render_config(
                programs=programs,
                data=self._cluster,
                fsid=fsid_file.read_text(),
                mon_port=mon_port,
                s3_port=self._port,
                messenger_base=self.kept.number("messenger", lambda: random.choice(blocks)),  # noqa: S311 -- a port
                options=self._options,
            )
        )
        return mon_port

    async def _make_monitor(self, programs: CephPrograms, mon_port: int) -> None:
        for folder in ("mon", "osd", "crash"):
            (self._cluster / folder).mkdir(mode=0o700, parents=True)
        keyring = self._cluster / "keyring"
        keyring.touch(mode=0o600)
        keyring.write_text(render_keyring())
        monmap = self._cluster / "monmap"
        fsid = (self.data / "fsid").read_text()
        address = f"[v1:{LOOPBACK}:{mon_port}]"
        await self._tool(
            programs, "monmaptool", "--create", "--clobber", "--fsid", fsid, "--addv", "a", address, str(monmap)
        )
        await self._tool(programs, "ceph-mon", "--mkfs", "-i", "a", "--monmap", str(monmap), "--keyring", str(keyring))

    async def _move_monitor(self, programs: CephPrograms, mon_port: int) -> None:
        """Tell the stopped monitor its new port: it believes its own records, not the configuration."""
        monmap = str(self._cluster / "monmap")
        await self._tool(programs, "ceph-mon", "-i", "a", "--extract-monmap", monmap)
        await self._tool(programs, "monmaptool", "--rm", "a", monmap)
        await self._tool(programs, "monmaptool", "--addv", "a", f"[v1:{LOOPBACK}:{mon_port}]", monmap)
        await self._tool(programs, "ceph-mon", "-i", "a", "--inject-monmap", monmap)

    async def _make_osd(self, programs: CephPrograms) -> None:
        osd_uuid = str(uuid.uuid4())
        await self._mon_command(
            programs,
            {"prefix": "osd new", "uuid": osd_uuid},
            {"prefix": "osd crush add-bucket", "name": "here", "type": "host"},
            {"prefix": "osd crush move", "name": "here", "args": ["root=default"]},
            {"prefix": "osd crush add", "id": 0, "weight": 1.0, "args": ["root=default", "host=here"]},
        )
        await self._tool(programs, "ceph-osd", "--mkfs", "-i", "0", "--osd-uuid", osd_uuid)

    async def _make_user(self, programs: CephPrograms) -> None:
        keys = self.environment()
        await self._tool(
            *(
                programs,
                "radosgw-admin",
                "user",
                "create",
                "--uid",
                _USER,
                "--display-name",
                _USER,
                "--max-buckets",
                "0",
            ),
            *("--access-key", keys["HAULYARD_S3_ACCESS_KEY"], "--secret-key", keys["HAULYARD_S3_SECRET_KEY"]),
            entity="client.admin",
        )

    async def _mon_answers(self, programs: CephPrograms) -> bool:
        try:
            await self._mon_command(programs, {"prefix": "mon stat"})
        except DevstackError:
            return False
        return True

    async def _mon_command(self, programs: CephPrograms, *commands: dict[str, object]) -> None:
        words = [json.dumps(command) for command in commands]
        script = [sys.executable, "-I", "-S", mon_command.__file__, str(self._config), *words]
        await tool.run(script, env=programs.environment(), log_file=self.place.log_file("ceph-tools"))

    async def _tool(self, programs: CephPrograms, name: str, *args: str, entity: str | None = None) -> None:
        who = [] if entity is None else ["-n", entity]
        environment = programs.environment() | {"CEPH_CONF": str(self._config)}
        await tool.run(
            [programs.program(name), *args, *who],
            env=environment,
            log_file=self.place.log_file("ceph-tools"),
        )

    async def _daemon(self, programs: CephPrograms, name: str, args: list[str], ready: Probe) -> None:
        await self._run(
            Command(
                name=name,
                argv=[programs.program(name), "-f", "-c", str(self._config), *args],
                log_file=self.place.log_file(name),
                pid_file=self.place.pid_file(name),
                env=programs.environment(),
                stop_signal=signal.SIGTERM,
                stop_grace=20.0,
            ),
            ready,
            timeout=180.0,
        )


async def _at_once() -> bool:
    return True
