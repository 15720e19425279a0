"""What every handler is given: one object, because the framework resolves each dependency in a task of its own."""

from dataclasses import dataclass

from litestar.di import NamedDependency
from litestar.params import SkipValidation

from haulyard_chassis.identity import Purpose, Tickets
from haulyard_chassis.jwks import make_tickets
from haulyard_contracts import Topology
from haulyard_gateway.links import Links
from haulyard_gateway.ports import Ports
from haulyard_gateway.settings import GatewaySettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The gateway's settings, and what it works with."""

    settings: GatewaySettings
    ports: Ports
    topology: Topology
    links: Links
    tickets: Tickets

    def archive_url(self, job_id: str, user_id: str) -> str:
        """Return a link to a job's archive, with a ticket in it."""
        ttl = self.settings.archive_ticket_ttl
        return self.links.archive(job_id, self.tickets.issue(job_id, user_id, ttl_seconds=ttl, purpose=Purpose.ARCHIVE))


def make_context(settings: GatewaySettings, ports: Ports) -> Context:
    """Return the context that settings and ports make."""
    return Context(
        settings=settings,
        ports=ports,
        topology=Topology(settings.namespace),
        links=Links(api=settings.public_api_url, notifier=settings.public_notifier_url),
        tickets=make_tickets(settings),
    )


Given = NamedDependency[SkipValidation[Context]]
"""The annotation of a handler's ``context``."""
