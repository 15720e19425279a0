"""Health: is the process alive (``/health/live``), can it serve (``/health/ready``); the same in every service."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import msgspec
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.datastructures import ResponseSpec

from haulyard_chassis.logs import get_logger

log = get_logger(__name__)

_TIMEOUT = 2.0

Check = Callable[[], Awaitable[object]]
"""Returns when the dependency answers, raises when it does not."""


class HealthReport(msgspec.Struct, frozen=True, kw_only=True):
    """What the health endpoints answer."""

    status: str
    """``ok`` or ``unavailable``."""
    checks: dict[str, str] = {}
    """Each dependency: ``ok`` or ``unavailable``."""


@dataclass
class Health:
    """The checks of one service.

    Args:
        required: without any one of these the service cannot serve.
        reported: these are shown, but the service serves without them.
        either: one of these is enough; without all of them the service cannot serve.
    """

    required: Mapping[str, Check]
    reported: Mapping[str, Check] = field(default_factory=dict)
    either: Mapping[str, Check] = field(default_factory=dict)

    async def report(self) -> tuple[bool, HealthReport]:
        """Run all checks at once; each may take two seconds."""
        every = {**self.required, **self.either, **self.reported}
        answers = await asyncio.gather(*(self._run(name, check) for name, check in every.items()))
        results = dict(zip(every, answers, strict=True))
        ready = all(results[name] == "ok" for name in self.required)
        ready = ready and (not self.either or any(results[name] == "ok" for name in self.either))
        return ready, HealthReport(status="ok" if ready else "unavailable", checks=results)

    async def _run(self, name: str, check: Check) -> str:
        try:
            async with asyncio.timeout(_TIMEOUT):
                await check()
        except Exception as error:  # noqa: BLE001 - whatever a driver raises, the dependency is not there
            # Drivers name hosts and users in their errors: those are for the log.
            log.warning("not healthy", check=name, error=repr(error))
            return "unavailable"
        return "ok"

    def litestar_routes(self) -> list[HTTPRouteHandler]:
        """Return the endpoints for a Litestar application."""

        @get("/health/live", tags=["Health"], summary="Is the process alive?", sync_to_thread=False)
        def live() -> HealthReport:
            return HealthReport(status="ok")

        unavailable = ResponseSpec(HealthReport, description="A dependency is away without which it cannot serve.")

        @get("/health/ready", tags=["Health"], summary="Can the service serve?", responses={503: unavailable})
        async def ready() -> Response[HealthReport]:
            is_ready, report = await self.report()
            return Response(report, status_code=200 if is_ready else 503)

        return [live, ready]
