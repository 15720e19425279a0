"""What ends the demonstration early."""

from haulyard_devstack.errors import DevstackError


class DemoError(DevstackError):
    """The demonstration did not go as it should; the message says what differs or what did not answer."""
