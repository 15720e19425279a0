"""What a running stack writes down about itself for `down` and `status`."""

from pathlib import Path

import msgspec

from haulyard_devstack.identity import ProcessIdentity, own_identity

_FILE = "state.json"


class StackState(msgspec.Struct):
    """Who runs the stack, and where its parts answer."""

    supervisor: ProcessIdentity
    infrastructure: dict[str, str] = {}
    """Addresses without secrets."""
    services: dict[str, str] = {}
    """Health URLs."""

    @classmethod
    def of_this_process(cls) -> "StackState":
        """Return a state that names ourselves and no addresses yet."""
        return cls(supervisor=own_identity())

    @classmethod
    def load(cls, root: Path) -> "StackState | None":
        """Read the state under a data directory; None if there is none or it cannot be read."""
        try:
            return msgspec.json.decode((root / _FILE).read_bytes(), type=cls)
        except (OSError, msgspec.DecodeError):
            return None

    def save(self, root: Path) -> None:
        """Write the state under a data directory in one step."""
        fresh = root / f"{_FILE}.new"
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(self)))
        fresh.replace(root / _FILE)

    @staticmethod
    def remove(root: Path) -> None:
        """Forget the state of a stack that is stopped, unless the next stack has already written its own."""
        state = StackState.load(root)
        if state is None or state.supervisor == own_identity() or not state.supervisor.is_running():
            (root / _FILE).unlink(missing_ok=True)
