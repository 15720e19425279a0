"""What the endpoints answer, header by header, seen through HTTP with ports in memory."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from gateway_jobs import JOB, job
from litestar import Litestar
from litestar.testing import AsyncTestClient

from haulyard_chassis.broker import BrokerUnavailableError
from haulyard_chassis.identity import Tickets, mint_token
from haulyard_chassis.job_state import JobStateUnavailableError
