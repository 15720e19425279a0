"""Fresh links to follow a job, for whoever may see it."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from haulyard_chassis.identity import Tickets

if TYPE_CHECKING:
    from litestar import Litestar
    from litestar.testing import AsyncTestClient

    from haulyard_gateway.settings import GatewaySettings
    from unit.gateway.conftest import World


async def test_the_links_hold_tickets_for_this_job(
    client: AsyncTestClient[Litestar], world: World, settings: GatewaySettings
) -> None:
    job = world.add_job()
    answer = await client.get(f"/v1/jobs/{job.job_id}/live")
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    tickets = Tickets(settings.ticket_secret.get_secret_value())
    for name, scheme, path in (
        ("websocket_url", "wss", f"/ws/jobs/{job.job_id}"),
        ("events_url", "https", f"/v1/jobs/{job.job_id}/events"),
    ):
        url = urlsplit(answer.json()[name])
        assert (url.scheme, url.netloc, url.path) == (scheme, "live.example.com", path)
        (ticket,) = parse_qs(url.query)["ticket"]
        assert tickets.verify(ticket, job.job_id) == "alice"


async def test_nobody_follows_anothers_job(client: AsyncTestClient[Litestar], world: World) -> None:
    job = world.add_job(user_id="bob")
    answer = await client.get(f"/v1/jobs/{job.job_id}/live")
    assert answer.status_code == 404
    assert "ticket" not in answer.text
