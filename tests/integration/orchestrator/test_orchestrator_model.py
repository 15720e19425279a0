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
from support.model_world import KINDS, USERS, Answer, Hands
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


class How(Enum):
    """What becomes of a task that an archiver takes."""

    RIGHT = auto()
    RESULT_IS_LATE = auto()
    """It is done, and its result comes another time."""
    DONE_TWICE = auto()
    """Its result comes, and then the task once more."""
    DONE_TWICE_AND_LATE = auto()
    DIED = auto()
    """It is done, and the archiver dies before it can say so."""
    BEGUN = auto()
    """The archiver is slow; others get the task meanwhile."""
    LOST = auto()
    """Its message is gone, and it was not done."""


class End(Enum):
    """How a job is ended from outside."""

    CANCEL = auto()
    DELETE = auto()
    EXPIRE = auto()
    TIME_OUT = auto()
    GIVE_UP = auto()


class Repair(Enum):
    """What happens again and again by itself."""

    DRIVE = auto()
    TELL = auto()
    SEND_DUE = auto()
    RECONCILE = auto()
    DROP_ARCHIVES = auto()
    REQUEST_AGAIN = auto()


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
            return asyncio.run_coroutine_threadsafe(_uncancelled(work), self.loop).result(PATIENCE)
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

    # Archivers

    @rule(count=st.integers(1, 6))
    def do_tasks(self, count: int) -> None:
        async def work() -> None:
            for _ in range(count):
                await self.do(How.RIGHT, 0)

        self.run(work())

    @rule(how=st.sampled_from(How), pick=PICK)
    def do_a_task(self, how: How, pick: int) -> None:
        self.run(self.do(how, pick))

    async def do(self, how: How, pick: int) -> None:
        """Take one of the tasks that there are, and do it or not."""
        hands = self.hands
        task = await hands.pick_task(pick)
        if task is None:
            return
        if how in (How.BEGUN, How.LOST):
            if how is How.LOST:
                await hands.world.take(task)
            elif task not in hands.held:
                hands.held.append(task)
            return
        if how is How.DIED and task in hands.held:
            return  # nobody would do it again, and tell whoever waits what has become of it
        answer = await hands.make(task)
        if how in (How.RIGHT, How.RESULT_IS_LATE):
            await hands.world.take(task)
            hands.held = [each for each in hands.held if each != task]
        if how in (How.RIGHT, How.DONE_TWICE):
            await hands.deliver(answer)
        elif how is not How.DIED:
            hands.answers.append(answer)

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

    # Sources, users, time and repairs

    @rule(pick=PICK, which=st.integers(0, 2), version=st.sampled_from([0, 1, 2, None]))
    def change_a_source(self, pick: int, which: int, version: int | None) -> None:
        """Replace it, bring it back, or delete it."""
        if (job := self.job(pick, deleted=True)) is not None:
            file_id = job.request.file_ids[which % len(job.request.file_ids)]
            self.run(self.hands.put_source(self.hands.place_of(file_id), version))

    @rule(end=st.sampled_from(End), pick=PICK)
    def end(self, end: End, pick: int) -> None:
        if (job := self.job(pick, deleted=end in (End.CANCEL, End.DELETE))) is not None:
            acts = {
                End.CANCEL: self.hands.cancel,
                End.DELETE: self.hands.delete,
                End.EXPIRE: self.hands.expire,
                End.TIME_OUT: self.hands.time_out,
                End.GIVE_UP: self.hands.refuse,
            }
            self.run(acts[end](job))

    @rule(repair=st.sampled_from(Repair), pick=PICK)
    def repair(self, repair: Repair, pick: int) -> None:
        hands, job = self.hands, self.job(pick, deleted=True)
        of_all = {
            Repair.SEND_DUE: hands.send_due,
            Repair.RECONCILE: hands.reconcile,
            Repair.DROP_ARCHIVES: hands.drop_archives,
        }
        of_a_job = {Repair.DRIVE: hands.drive, Repair.TELL: hands.tell, Repair.REQUEST_AGAIN: hands.accept_again}
        if repair in of_all:
            self.run(of_all[repair]())
        elif job is not None:
            self.run(of_a_job[repair](job))

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
        jobs = self.job(pick), self.job(other)  # not one that the first asks for: nobody knows of it yet
        acts = [self._act(first, pick, jobs[0]), self._act(second, other, jobs[1])]
        self.run(_all_of([act for act in acts if act is not None]))

    @rule(first=st.sampled_from(Act), second=st.sampled_from(Act), pick=PICK)
    def at_once_to_one_job(self, first: Act, second: Act, pick: int) -> None:
        self.at_once(first, second, pick, pick)

    def _act(self, act: Act, pick: int, job: JobModel | None) -> Coroutine[Any, Any, None] | None:
        hands = self.hands
        match act:
            case Act.DO_A_TASK:
                return self.do(How.RIGHT, pick)
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


async def _uncancelled(work: Coroutine[Any, Any, Any]) -> Any:
    """Nobody cancels us: if something inside was cancelled, that is a fault, and its place is to be seen."""
    try:
        return await work
    except asyncio.CancelledError as error:
        raise AssertionError("something was cancelled that nobody had cancelled") from error


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
    await check(Jobs, hands, examples=16)


@pytest.mark.timeout(300 + 20 * EXAMPLES)
async def test_jobs_do_what_the_model_allows_when_two_things_happen_at_once(hands: Hands) -> None:
    """Who is first is nobody's choice: an example that fails may have to be repeated until it fails again."""
    await check(Races, hands, examples=8)
