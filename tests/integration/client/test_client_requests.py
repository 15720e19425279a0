"""Requests that fail, and what the client does about it."""

import asyncio
import socket
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from haulyard import (
    AsyncClient,
    Client,
    ConnectionFailedError,
    InvalidRequestError,
    RetryPolicy,
    Timeouts,
    TooManyRequestsError,
    UnauthorizedError,
    UnavailableError,
    UnexpectedAnswerError,
)
from support.client_double import JOB, Double, cut, problem

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def answering(status: int, slug: str, **headers: str) -> Handler:
    async def handle(request: web.Request) -> web.StreamResponse:
        return problem(status, slug, headers={name.replace("_", "-"): value for name, value in headers.items()})

    return handle


async def cutting(request: web.Request) -> web.StreamResponse:
    cut(request)
    return web.Response()


async def accepted_and_cut(request: web.Request) -> web.StreamResponse:
    """The worst case: the server has done it, and its answer is lost."""
    await request.read()
    cut(request)
    return web.Response()


async def test_a_job_is_asked_for_until_there_is_an_answer_and_always_with_the_same_key(
    client: AsyncClient, double: Double
) -> None:
    double.next.extend([accepted_and_cut, answering(503, "unavailable", Retry_After="0")])
    job = await client.initiate([1, 2])
    assert (job.job_id, job.total_files) == (JOB, 2)
    assert double.asked["initiate"] == 3
    assert len(double.keys) == 3
    assert len(set(double.keys)) == 1
    await client.initiate([1, 2])
    assert len(set(double.keys)) == 2
    await client.initiate([1, 2], idempotency_key="mine")
    assert double.keys[-1] == "mine"


async def test_three_tries_are_all(client: AsyncClient, double: Double) -> None:
    double.next.extend([answering(500, "internal")] * 3)
    with pytest.raises(UnavailableError, match="It is internal"):
        await client.status(JOB)
    assert double.asked["status"] == 3
    double.next.extend([cutting] * 100)
    with pytest.raises(ConnectionFailedError):
        await client.initiate([1])
    assert double.asked["initiate"] == 3
    with pytest.raises(ConnectionFailedError):
        await client.status(JOB)
    # The library under us repeats each try of a question once, unseen (RFC 9112 section 9.3.1 allows that).
    assert 3 < double.asked["status"] <= 9


@pytest.mark.parametrize(
    ("status", "kind"), [(400, InvalidRequestError), (401, UnauthorizedError), (429, TooManyRequestsError)]
)
async def test_what_trying_again_does_not_change_is_not_tried_again(
    client: AsyncClient, double: Double, status: int, kind: type[Exception]
) -> None:
    double.next.append(answering(status, "so"))
    with pytest.raises(kind):
        await client.initiate([1])
    assert double.asked["initiate"] == 1


async def test_a_limit_is_waited_for_as_long_as_the_server_says(client: AsyncClient, double: Double) -> None:
    double.next.append(answering(429, "too-many-requests", Retry_After="1"))
    loop = asyncio.get_running_loop()
    began = loop.time()
    await client.status(JOB)
    assert loop.time() - began >= 1
    double.next.append(answering(429, "too-many-requests", Retry_After="3600"))
    with pytest.raises(TooManyRequestsError) as caught:
        await client.status(JOB)
    assert caught.value.retry_after == 3600


async def test_a_server_that_says_nothing_is_left(double: Double) -> None:
    never = asyncio.Event()

    async def silent(request: web.Request) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    double.next.append(silent)
    async with AsyncClient(
        double.url, "t", retries=RetryPolicy(first_delay=0.01), timeouts=Timeouts(read=0.2)
    ) as client:
        assert (await client.status(JOB)).job_id == JOB
    never.set()
    assert double.asked["status"] == 2


async def test_the_token_is_not_taken_elsewhere(client: AsyncClient, double: Double) -> None:
    async def elsewhere(request: web.Request) -> web.StreamResponse:
        return web.Response(status=307, headers={"Location": "http://evil.example/"})

    double.next.append(elsewhere)
    with pytest.raises(UnexpectedAnswerError, match="evil"):
        await client.status(JOB)


async def test_what_is_not_this_api_is_said_to_be_not(client: AsyncClient, double: Double) -> None:
    async def page(request: web.Request) -> web.StreamResponse:
        return web.Response(text="<h1>Welcome</h1>", content_type="text/html")

    double.next.append(page)
    with pytest.raises(UnexpectedAnswerError):
        await client.status(JOB)


async def test_nobody_at_the_address_is_an_error_of_ours() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with AsyncClient(url, "t", retries=RetryPolicy(first_delay=0.01)) as client:
            with pytest.raises(ConnectionFailedError, match="cannot be reached"):
                await client.status(JOB)


async def test_the_synchronous_client_works_beside_a_running_loop(double: Double) -> None:
    def use() -> list[str]:
        with Client(double.url, "token", retries=RetryPolicy(first_delay=0.01)) as client:
            assert client.status(JOB).status == "queued"
            job = client.initiate([1])
            told = []
            for update in client.watch(job):
                told.append(str(update.status))
                break  # leaving it early closes the connection
            assert client.status(JOB).job_id == JOB
            return told

    assert await asyncio.to_thread(use) == ["queued"]
