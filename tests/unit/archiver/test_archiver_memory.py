import asyncio
import random

import pytest

from haulyard_archiver.memory import Budget


async def test_no_more_is_lent_than_there_is_and_everybody_gets_a_turn() -> None:
    budget, held, most, served = Budget(100), 0, 0, 0
    order = random.Random(1)

    async def borrow(size: int) -> None:
        nonlocal held, most, served
        async with budget.lend(size):
            held += size
            most = max(most, held)
            for _ in range(order.randrange(4)):
                await asyncio.sleep(0)
            held -= size
            served += 1

    sizes = [order.randrange(1, 101) for _ in range(200)]
    await asyncio.gather(*(borrow(size) for size in sizes))
    assert (held, served) == (0, 200)
    assert 50 < most <= 100


async def test_what_is_larger_than_all_there_is_waits_until_it_is_alone() -> None:
    budget = Budget(10)
    events: list[str] = []

    async def borrow(name: str, size: int) -> None:
        async with budget.lend(size):
            events.append(f"{name} begins")
            await asyncio.sleep(0)
            events.append(f"{name} ends")

    await asyncio.gather(borrow("small", 1), borrow("huge", 1_000), borrow("next", 1))
    assert events == ["small begins", "small ends", "huge begins", "huge ends", "next begins", "next ends"]


@pytest.mark.parametrize("late", [False, True])
async def test_who_gives_up_waiting_takes_nothing_along(late: bool) -> None:  # noqa: FBT001
    budget = Budget(10)

    async def borrow() -> None:
        async with budget.lend(10):
            await asyncio.sleep(0)

    holder = asyncio.create_task(borrow())
    await asyncio.sleep(0)
    waiting = asyncio.create_task(borrow())
    await asyncio.sleep(0)
    if late:
        await holder  # the turn is granted, and the waiting task has not run since
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await holder
    await asyncio.wait_for(borrow(), 1)
