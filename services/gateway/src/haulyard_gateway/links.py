"""The addresses that answers hold."""

from urllib.parse import quote


class Links:
    """Addresses of the API and of the notifier, as clients reach them.

    Args:
        api: base URL of the gateway.
        notifier: http(s) base URL of the notifier.
    """

    def __init__(self, *, api: str, notifier: str) -> None:
        self._api = api
        self._notifier = notifier

    def status(self, job_id: str) -> str:
        """Where to ask how a job is."""
        return f"{self._api}/v1/jobs/{job_id}/status"

    def jobs(self) -> str:
        """Where a user's jobs are listed."""
        return f"{self._api}/v1/jobs"

    def initiate(self) -> str:
        """Where to ask for an archive."""
        return f"{self._api}/v1/download/initiate"

    def files(self) -> str:
        """Where files are listed."""
        return f"{self._api}/v1/files"

    def dead_letters(self) -> str:
        """Where messages that were given up are listed."""
        return f"{self._api}/v1/admin/dead-letters"

    def erasure(self, erasure_id: str) -> str:
        """Where to ask how far an erasure is."""
        return f"{self._api}/v1/users/me/data/erasures/{erasure_id}"

    def file(self, file_id: int) -> str:
        """Where to ask for a file of the catalogue."""
        return f"{self._api}/v1/files/{file_id}"

    def archive(self, job_id: str, ticket: str) -> str:
        """Where a job's archive is, before it is built and after."""
        return f"{self._api}/v1/jobs/{job_id}/archive?ticket={quote(ticket)}"

    def websocket(self, job_id: str, ticket: str) -> str:
        """Where to follow a job over WebSocket: ``http`` becomes ``ws``, ``https`` becomes ``wss``."""
        return f"ws{self._notifier.removeprefix('http')}/ws/jobs/{job_id}?ticket={quote(ticket)}"

    def events(self, job_id: str, ticket: str) -> str:
        """Where to follow a job over server-sent events."""
        return f"{self._notifier}/v1/jobs/{job_id}/events?ticket={quote(ticket)}"
