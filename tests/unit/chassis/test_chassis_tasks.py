import asyncio

from haulyard_chassis.tasks import cancel_and_wait


async def test_a_task_that_loses_a_cancellation_is_told_again() -> None:
    lost = 0

    async def stubborn() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1
                if lost > 1:
                    raise

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    await cancel_and_wait(task)
    assert task.cancelled()
    assert lost == 2


async def test_tasks_that_have_ended_and_that_end_with_an_error_are_no_trouble() -> None:
    async def fails() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("while ending") from None

    ended = asyncio.create_task(asyncio.sleep(0))
    await ended
    failing = asyncio.create_task(fails())
    await asyncio.sleep(0)
    await cancel_and_wait(ended, failing)
    assert isinstance(failing.exception(), ValueError)
