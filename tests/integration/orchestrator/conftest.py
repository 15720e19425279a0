"""The world of the orchestrator's tests: real servers, and no loops but the test's own."""

import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from haulyard_chassis.broker import Publisher, connect_broker, ensure_topology
from haulyard_chassis.database import connect_database, migrate
from haulyard_chassis.egress import LOOPBACK, check_url
from haulyard_chassis.job_state import JobCache, connect_cache
from haulyard_chassis.origin import Origin, origin_session
from haulyard_chassis.store import ObjectStore
from haulyard_chassis.store_profile import probe
from haulyard_contracts import Topology
from haulyard_orchestrator.dispatch import Window
from haulyard_orchestrator.jobs import Jobs
from haulyard_orchestrator.planner import Rules
from haulyard_orchestrator.preparing import Blocks
from haulyard_orchestrator.retry import RetryPolicy
from haulyard_orchestrator.settings import OrchestratorSettings
from haulyard_orchestrator.sources import Sources
from support.world import LIMITS, MIB, World


@pytest.fixture(scope="session")
def settings(infra_env: dict[str, str]) -> OrchestratorSettings:
    before = dict(os.environ)
    os.environ.update(infra_env)
    try:
        return OrchestratorSettings()
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="session")
async def world(settings: OrchestratorSettings) -> AsyncIterator[World]:
    topology = Topology(settings.namespace)
    async with AsyncExitStack() as stack:
        store = ObjectStore(settings)
        await store.open()
        stack.push_async_callback(store.close)
        for bucket in (settings.archive_bucket, settings.files_bucket):
            await store.ensure_bucket(bucket)
        pool = await connect_database(settings, name="test")
        stack.push_async_callback(pool.close)
        await migrate(pool)
        client = await connect_broker(settings, name="test")
        stack.push_async_callback(client.close)
        await ensure_topology(client, topology, replicas=1)
        redis = connect_cache(settings.redis_url.get_secret_value())
        stack.push_async_callback(redis.aclose)
        stream = client.jetstream(timeout=5)
        session = origin_session(LOOPBACK)
        stack.push_async_callback(session.close)
        origin = Origin(session)
        cache = JobCache(redis)
        rules = Rules(
            bucket=settings.archive_bucket,
            files_bucket=settings.files_bucket,
            limits=LIMITS,
            retry=RetryPolicy(attempts=3, first_delay=0.001),
            keep=timedelta(days=7),
            store=await probe(store, settings.archive_bucket),
            window=Window(),
            blocks=Blocks(deflate=12 * MIB, digest=6 * MIB),
        )

        def make_jobs(**changes: Any) -> Jobs:
            return Jobs(
                pool=pool,
                store=store,
                publisher=Publisher(client),
                stream=stream,
                cache=cache,
                topology=topology,
                sources=Sources(
                    pool, store, origin, check_url=lambda url: check_url(url, networks=LOOPBACK), lookups=8
                ),
                rules=replace(rules, **changes),
            )

        yield World(
            jobs=make_jobs(),
            rules=rules,
            make_jobs=make_jobs,
            pool=pool,
            store=store,
            origin=origin,
            client=client,
            stream=stream,
            topology=topology,
            cache=cache,
            bucket=settings.archive_bucket,
            files_bucket=settings.files_bucket,
        )
