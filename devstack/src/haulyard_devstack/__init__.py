"""The embedded infrastructure of one machine: NATS, PostgreSQL, Valkey and S3 without Docker and without root.

`Infra` starts the four servers as child processes; `running_stack` starts Haulyard's services on top of them.
"""

from haulyard_devstack.errors import DevstackError, LockedError, StartError
from haulyard_devstack.infra import Infra
from haulyard_devstack.services import ServiceSpec
from haulyard_devstack.stack import Stack, running_stack

__all__ = ["DevstackError", "Infra", "LockedError", "ServiceSpec", "Stack", "StartError", "running_stack"]
