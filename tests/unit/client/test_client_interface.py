"""The synchronous client has what the asynchronous one has, and the models take what newer servers say."""

import inspect

import msgspec
import pytest

import haulyard
from haulyard import AsyncClient, Client, Job, JobStatus, RetryPolicy
from haulyard.cli.output import columns, printable, size_text

METHODS = [name for name in vars(AsyncClient) if not name.startswith("_")]


@pytest.mark.parametrize("name", METHODS)
def test_the_synchronous_client_has_each_method_with_the_same_parameters(name: str) -> None:
    ours = inspect.signature(getattr(Client, name)).parameters
    theirs = inspect.signature(getattr(AsyncClient, name)).parameters
    assert ours == theirs


def test_the_synchronous_client_has_nothing_more() -> None:
    assert {name for name in vars(Client) if not name.startswith("_")} == set(METHODS)
    assert inspect.signature(Client).parameters == inspect.signature(AsyncClient).parameters


def test_all_that_is_public_is_there() -> None:
    assert sorted(haulyard.__all__) == haulyard.__all__
    assert all(hasattr(haulyard, name) for name in haulyard.__all__)


def test_a_job_of_a_newer_server_is_understood() -> None:
    job = msgspec.json.decode(b'{"job_id": "job_1", "status": "sleeping", "dreams": []}', type=Job)
    assert job.status is JobStatus.UNKNOWN
    assert not job.status.is_over


def test_a_client_that_is_closed_says_so() -> None:
    client = Client("http://127.0.0.1:1", "token", retries=RetryPolicy(attempts=1))
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.status("job_1")


@pytest.mark.parametrize(
    ("size", "text"),
    [(None, "-"), (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_999, "1.0 MB"), (12_345_678, "12.3 MB")],
)
def test_sizes_are_for_people(size: int | None, text: str) -> None:
    assert size_text(size) == text


def test_names_do_nothing_to_a_terminal() -> None:
    assert printable("a\x1b[2Jb\u202ec") == "a\N{REPLACEMENT CHARACTER}[2Jb\N{REPLACEMENT CHARACTER}c"
    assert columns([("a", "bb"), ("aaa", "b")]) == ["a    bb", "aaa  b"]
