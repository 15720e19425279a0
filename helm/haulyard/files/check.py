"""Asks whether an installation serves: what `helm test` runs. Addresses are the arguments; says what is wrong."""

import sys
from http.client import HTTPConnection
from urllib.parse import urlsplit

_PATIENCE = 10.0


def _status(base: str, path: str) -> tuple[int, str]:
    address = urlsplit(base)
    connection = HTTPConnection(address.hostname or "", address.port or 80, timeout=_PATIENCE)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read(2000).decode("utf-8", "replace")
    finally:
        connection.close()


def main(gateway: str, notifier: str) -> int:
    """Return the exit status: 0 if all is as it should be."""
    wanted = [
        (gateway, "/health/ready", 200),
        (gateway, "/v1/jobs", 401),  # who shows no token is asked for one
        (notifier, "/health/ready", 200),
        (notifier, "/v1/jobs/job_01ARZ3NDEKTSV4RRFFQ69G5FAV/events", 401),
    ]
    wrong = 0
    for base, path, expected in wanted:
        status: int | None
        try:
            status, body = _status(base, path)
        except OSError as error:
            status, body = None, repr(error)
        good = status == expected
        wrong += not good
        print(f"{'ok' if good else 'WRONG'}: {base}{path}: {status}{'' if good else f', not {expected}: {body}'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
