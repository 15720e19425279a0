"""The load test of the original requirement, as a locustfile: ``make load`` runs it; by itself it is no program.

Artillery's scenario: ten people a second ask for an archive of two files, think for two seconds, and look at its
status. Says on its standard output which jobs there are, so that others can watch them.
"""

import json
import os
import random
import time
from pathlib import Path
from typing import Any

from locust import FastHttpUser, constant_pacing, events, task

FILE_IDS: list[int] = json.loads(os.environ["LOAD_FILE_IDS"])
HEADERS = {"Authorization": f"Bearer {os.environ['LOAD_TOKEN']}"}
RESULTS = Path(os.environ["LOAD_RESULTS"])
PACE = 3.0
"""Seconds from one of a person's requests for an archive to the next: with thirty people ten come a second."""
THINKING = 2.0

took: dict[str, list[float]] = {}
failures: list[str] = []


class Downloader(FastHttpUser):
    """Somebody who wants archives."""

    wait_time = constant_pacing(PACE)

    def on_start(self) -> None:
        """Come at a moment of one's own: locust starts all of a second at once, and they would stay together."""
        time.sleep(random.uniform(0, PACE))

    @task
    def workflow(self) -> None:
        """Ask for one, think, look how far it is."""
        body = {"file_ids": random.sample(FILE_IDS, 2)}
        with self.client.post("/v1/download/initiate", json=body, headers=HEADERS, name="initiate") as answer:
            if answer.status_code != 202:
                return
            job = answer.json()
        print("job", job["job_id"], job["websocket_url"], flush=True)
        time.sleep(THINKING)  # locust has made it one that lets the others go on
        self.client.get(f"/v1/jobs/{job['job_id']}/status", headers=HEADERS, name="status")


def note(name: str, response_time: float, exception: Exception | None, **_: Any) -> None:
    """Keep each time: locust itself rounds them."""
    took.setdefault(name, []).append(response_time)
    if exception is not None:
        failures.append(f"{name}: {exception!r}")


def tell(**_: Any) -> None:
    """Write them down at the end."""
    RESULTS.write_text(json.dumps({"milliseconds": took, "failures": failures}), "utf-8")


events.request.add_listener(note)  # type: ignore[no-untyped-call]  # locust's
events.quitting.add_listener(tell)  # type: ignore[no-untyped-call]
