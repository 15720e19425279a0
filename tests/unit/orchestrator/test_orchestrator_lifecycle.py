import re
from itertools import product

import pytest

from haulyard_chassis.database import migrations
from haulyard_contracts import TERMINAL, JobStatus
from haulyard_orchestrator.lifecycle import TRANSITIONS, IllegalTransitionError, Step, next_status


@pytest.mark.parametrize(("status", "action"), list(product(JobStatus, Step)))
def test_every_pair_is_in_the_table_or_an_error(status: JobStatus, action: Step) -> None:
    expected = TRANSITIONS.get((status, action))
    if expected is None:
        with pytest.raises(IllegalTransitionError, match=f"{status} cannot {action}"):
            next_status(status, action)
    else:
        assert next_status(status, action) is expected


def test_a_job_that_is_over_only_expires() -> None:
    after = {(status, action) for status, action in TRANSITIONS if status in TERMINAL}
    assert after == {(status, Step.EXPIRE) for status in TERMINAL - {JobStatus.EXPIRED}}


def test_the_database_has_the_same_table() -> None:
    sql = "".join(migration.sql for migration in migrations())
    (block,) = re.findall(r"INSERT INTO job_transitions \(from_status, to_status\) VALUES(.*?);", sql, re.DOTALL)
    in_database = set(re.findall(r"\('(\w+)', '(\w+)'\)", block))
    in_code = {(str(before), str(after)) for (before, _), after in TRANSITIONS.items() if before is not after}
    assert in_database == in_code
