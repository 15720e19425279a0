"""What every embedded S3 server has in common, whichever software it is."""

from haulyard_devstack.ports import LOOPBACK
from haulyard_devstack.server import Server

REGION = "us-east-1"


class S3Endpoint(Server):
    """An object store with one key of our own making."""

    name = "s3"

    @property
    def address(self) -> str:
        """The S3 endpoint."""
        return f"http://{LOOPBACK}:{self._port}"

    def environment(self) -> dict[str, str]:
        """Return the endpoint, the keys and the region."""
        return {
            "HAULYARD_S3_ENDPOINT": self.address,
            "HAULYARD_S3_ACCESS_KEY": self.kept.secret("access-key", 10),
            "HAULYARD_S3_SECRET_KEY": self.kept.secret("secret-key", 20),
            "HAULYARD_S3_REGION": REGION,
        }
