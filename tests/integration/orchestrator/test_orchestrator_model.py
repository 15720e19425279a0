"""Jobs against a model of them: requests, results, losses, duplicates, cancels and failures in every order.

Hypothesis chooses what happens, `support.model_world` lets it happen on real servers, and `support.model` says what
may be seen afterwards. ``HAULYARD_MODEL_EXAMPLES`` and ``HAULYARD_MODEL_STEPS`` make it look further: then the examples
are different ones each time.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Coroutine, Sequence
from enum import Enum, auto
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from pydantic import SecretStr

from haulyard_contracts import Compression, ErrorCode, OnMissing
from haulyard_orchestrator.settings import OrchestratorSettings
from support.model import JobModel
from support.model_world import KINDS, USERS, VERSIONS, Answer, Hands
from support.world import open_world

EXAMPLES = int(os.environ.get("HAULYARD_MODEL_EXAMPLES", "0"))
STEPS = int(os.environ.get("HAULYARD_MODEL_STEPS", "25"))
PATIENCE = 60.0
"""Seconds that one step may take."""

# Numbers that point into lists of which it is not known how long they will be: what is drawn must not depend on what
# the servers did, or the example could not be repeated.
PICK = st.integers(0, 11)
CODE = st.sampled_from([*ErrorCode, ErrorCode.UPLOAD_GONE, ErrorCode.UPLOAD_GONE, ErrorCode.CHECKSUM_MISMATCH])
"""More often what makes a job start over."""
PLACES = st.lists(st.sampled_from(range(len(KINDS))), min_size=1, max_size=3, unique=True)
USER = st.sampled_from(USERS)


@pytest.fixture(scope="module")
async def hands(settings: OrchestratorSettings) -> AsyncIterator[Hands]:
    """An installation that the model has for itself."""
    unique = f"m{secrets.token_hex(6)}"
    dsn = settings.postgres_dsn.get_secret_value()
    connection = await asyncpg.connect(dsn)
    await connection.execute(f'CREATE DATABASE "{unique}"')
    await connection.close()
    own = settings.model_copy(
        update={
            "namespace": unique,
            "postgres_dsn": SecretStr(urlunsplit(urlsplit(dsn)._replace(path=f"/{unique}"))),
            "archive_bucket": f"{unique}-archives",
            "files_bucket": f"{unique}-files",
        }
    )
    async with open_world(own) as world:
        yield await Hands.ready(world)


class Jobs(RuleBasedStateMachine):
    """Everything that can happen to jobs."""

    IS_SERIAL = True
    """One thing happens after the other."""

    def __init__(self, hands: Hands, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.hands = hands
        self.loop = loop
        self.is_broken = False
        self.run(hands.begin(is_serial=self.IS_SERIAL))

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do something in the loop of the servers' connections; we are in another thread."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE)
        except BaseException:
            self.is_broken = True
            raise

    def job(self, pick: int, *, deleted: bool = False) -> JobModel | None:
        """Return one of the jobs that there are."""
        jobs = [job for job in self.hands.jobs if deleted or not job.is_deleted]
        return jobs[pick % len(jobs)] if jobs else None

    # Requests

    @initialize(places=PLACES, user=USER)
    def first(self, places: list[int], user: str) -> None:
        self.request(places, user, 5, Compression.STORE, OnMissing.SKIP)

    @rule(
        places=PLACES,
        user=USER,
        priority=st.sampled_from([1, 5, 10]),
        compression=st.sampled_from(Compression),
        on_missing=st.sampled_from(OnMissing),
    )
    def request(
        self, places: list[int], user: str, priority: int, compression: Compression, on_missing: OnMissing
    ) -> None:
        request = self.hands.new_request(
            places, user=user, priority=priority, compression=compression, on_missing=on_missing
        )
        self.run(self.hands.accept(request))

    @rule(pick=PICK, user=USER)
    def request_the_same_files(self, pick: int, user: str) -> None:
        if (job := self.job(pick, deleted=True)) is not None:
            self.run(self.hands.accept(self.hands.same_again(job.request, user=user)))

    @rule(pick=PICK)
    def deliver_a_request_again(self, pick: int) -> None:
        if (job := self.job(pick)) is not None:
            self.run(self.hands.accept(job.request))

    @rule(pick=PICK)
    def give_a_request_up(self, pick: int) -> None:
        if (job := self.job(pick)) is not None:
            self.run(self.hands.refuse(job))

    # Archivers

    @rule(pick=PICK)
    def do_a_task(self, pick: int) -> None:
        self.run(self._do(pick, is_settled=True, is_delivered=True))

    @rule(pick=PICK, is_settled=st.booleans())
    def do_a_task_and_let_its_result_wait(self, *, pick: int, is_settled: bool) -> None:
        self.run(self._do(pick, is_settled=is_settled, is_delivered=False))

    @rule(pick=PICK)
    def do_a_task_that_is_delivered_again(self, pick: int) -> None:
        self.run(self._do(pick, is_settled=False, is_delivered=True))

    async def _do(self, pick: int, *, is_settled: bool, is_delivered: bool) -> None:
        task = await self.hands.pick_task(pick)
        if task is None:
            return
        answer = await self.hands.make(task)
        if is_settled:
            await self.hands.world.take(task)
            self.hands.held = [each for each in self.hands.held if each != task]
        if is_delivered:
            await self.hands.deliver(answer)
        else:
            self.hands.answers.append(answer)

    @rule(pick=PICK)
    def do_a_task_and_die(self, pick: int) -> None:
        async def work() -> None:
            task = await self.hands.pick_task(pick)
            if task is not None and task not in self.hands.held:
                await self.hands.make(task)

        self.run(work())

    @rule(pick=PICK)
    def begin_a_task(self, pick: int) -> None:
        async def work() -> None:
            task = await self.hands.pick_task(pick)
            if task is not None and task not in self.hands.held:
                self.hands.held.append(task)

        self.run(work())

    @rule(pick=PICK)
    def lose_a_task(self, pick: int) -> None:
        """Its message is gone, and it was not done."""

        async def work() -> None:
            task = await self.hands.pick_task(pick)
            if task is not None:
                await self.hands.world.take(task)

        self.run(work())

    @rule(count=st.integers(1, 6))
    def do_tasks(self, count: int) -> None:
        async def work() -> None:
            for _ in range(count):
                await self._do(0, is_settled=True, is_delivered=True)

        self.run(work())

    @rule(pick=PICK, code=CODE, names_file=st.booleans(), is_delivered=st.booleans(), is_held=st.booleans())
    def fail_a_task(self, *, pick: int, code: ErrorCode, names_file: bool, is_delivered: bool, is_held: bool) -> None:
        """And perhaps another archiver, who has been given up, is still at it."""

        async def work() -> None:
            task = await self.hands.pick_task(pick)
            if task is None:
                return
            if is_held and task not in self.hands.held:
                self.hands.held.append(task)
            answer = await self.hands.failure(task, code, names_file=names_file)
            await self.hands.world.take(task)
            if is_delivered:
                await self.hands.deliver(answer)
            else:
                self.hands.answers.append(answer)

        self.run(work())

    @rule(pick=PICK)
    def deliver_a_result(self, pick: int) -> None:
        """One that waits, or one that came before."""
        if self.hands.answers:
            answer: Answer = self.hands.answers[-1 - pick % len(self.hands.answers)]
            self.run(self.hands.deliver(answer))

    # Sources

    @rule(place=st.sampled_from(range(len(KINDS))), version=st.sampled_from(range(VERSIONS)))
    def replace_a_source(self, place: int, version: int) -> None:
        self.run(self.hands.put_source(place, version))

    @rule(place=st.sampled_from(range(len(KINDS))))
    def delete_a_source(self, place: int) -> None:
        self.run(self.hands.put_source(place, None))

    # Users, time and repairs

    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        if (job := self.job(pick, deleted=True)) is not None:
            self.run(self.hands.cancel(job))

    @rule(pick=PICK)
    def delete(self, pick: int) -> None:
        if (job := self.job(pick, deleted=True)) is not None:
            self.run(self.hands.delete(job))

    @rule(pick=PICK)
    def expire(self, pick: int) -> None:
        if (job := self.job(pick)) is not None:
            self.run(self.hands.expire(job))

    @rule()
    def drop_archives(self) -> None:
        self.run(self.hands.drop_archives())

    @rule(pick=PICK)
    def time_out(self, pick: int) -> None:
        if (job := self.job(pick)) is not None:
            self.run(self.hands.time_out(job))

    @rule(pick=PICK)
    def drive(self, pick: int) -> None:
        if (job := self.job(pick, deleted=True)) is not None:
            self.run(self.hands.drive(job))

    @rule(pick=PICK)
    def tell(self, pick: int) -> None:
        if (job := self.job(pick, deleted=True)) is not None:
            self.run(self.hands.tell(job))

    @rule()
    def send_due(self) -> None:
        self.run(self.hands.send_due())

    @rule()
    def reconcile(self) -> None:
        self.run(self.hands.reconcile())

    # What is checked

    @invariant()
    def what_is_seen_may_be(self) -> None:
        self.run(self.hands.look())

    def teardown(self) -> None:
        """When everything that is under way has arrived, all jobs are over and nothing is left of them."""
        if self.is_broken:
            return
        self.run(self.hands.settle())
        self.run(self.hands.check_end())


class Act(Enum):
    """What may happen at the same moment as something else."""

    DELIVER = auto()
    DELIVER_LAST = auto()
    DO_A_TASK = auto()
    REQUEST_THE_SAME = auto()
    CANCEL = auto()
    DELETE = auto()
    DRIVE = auto()
    SEND_DUE = auto()
    TIME_OUT = auto()
    DROP_ARCHIVES = auto()


class Races(Jobs):
    """Two things happen at the same moment, as when two orchestrators are at work."""

    IS_SERIAL = False

    @rule(first=st.sampled_from(Act), second=st.sampled_from(Act), pick=PICK, other=PICK)
    def at_once(self, first: Act, second: Act, pick: int, other: int) -> None:
        acts = [self._act(first, pick), self._act(second, other)]
        self.run(_all_of([act for act in acts if act is not None]))

    @rule(first=st.sampled_from(Act), second=st.sampled_from(Act), pick=PICK)
    def at_once_to_one_job(self, first: Act, second: Act, pick: int) -> None:
        self.at_once(first, second, pick, pick)

    def _act(self, act: Act, pick: int) -> Coroutine[Any, Any, None] | None:
        hands, job = self.hands, self.job(pick)
        match act:
            case Act.DO_A_TASK:
                return self._do(pick, is_settled=True, is_delivered=True)
            case Act.SEND_DUE:
                return hands.send_due()
            case Act.DROP_ARCHIVES:
                return hands.drop_archives()
            case Act.DELIVER | Act.DELIVER_LAST:
                place = pick % len(hands.answers) if act is Act.DELIVER and hands.answers else -1
                return hands.deliver(hands.answers[place]) if hands.answers else None
            case Act.REQUEST_THE_SAME if job is not None:
                return hands.accept(hands.same_again(job.request, user=job.request.user_id))
        to_a_job = {Act.CANCEL: hands.cancel, Act.DELETE: hands.delete, Act.DRIVE: hands.drive}
        return to_a_job.get(act, hands.time_out)(job) if job is not None else None


async def _all_of(acts: Sequence[Coroutine[Any, Any, None]]) -> None:
    done = await asyncio.gather(*acts, return_exceptions=True)
    for outcome in done:
        if outcome is not None:
            raise outcome


async def check(machine: type[Jobs], hands: Hands, *, examples: int) -> None:
    """Let a machine run, in another thread: it waits for what is done in this loop."""
    loop = asyncio.get_running_loop()

    class OfThisTest(machine):  # type: ignore[valid-type, misc]  # hypothesis takes a class, and makes its instances
        def __init__(self) -> None:
            super().__init__(hands, loop)

    profile = hypothesis_settings(
        max_examples=EXAMPLES or examples,
        stateful_step_count=STEPS,
        derandomize=not EXAMPLES,
        database=None,
        deadline=None,
        print_blob=True,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    await asyncio.to_thread(run_state_machine_as_test, OfThisTest, settings=profile)


@pytest.mark.timeout(300 + 20 * EXAMPLES)
async def test_jobs_do_what_the_model_allows_in_every_order(hands: Hands) -> None:
    await check(Jobs, hands, examples=25)


@pytest.mark.timeout(300 + 20 * EXAMPLES)
async def test_jobs_do_what_the_model_allows_when_two_things_happen_at_once(hands: Hands) -> None:
    """Who is first is nobody's choice: an example that fails may have to be repeated until it fails again."""
    await check(Races, hands, examples=15)
