"""AWS Signature Version 4 of requests to the store.

A few lines of our own, because a request to a store nearby costs little more than its signature: the key of a day is
derived once a day, and what is known to be canonical is not made so again. Tests compare it with a library's.

Source: AWS Identity and Access Management User Guide, "Create a signed AWS API request".
"""

import hmac
import re
from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256

from haulyard_chassis.store_wire import query_of

UNSIGNED = "UNSIGNED-PAYLOAD"
"""Stands for the digest of a body that is not known yet."""

_SPACES = re.compile(" +")
_TIME = "%Y%m%dT%H%M%SZ"


class Signer:
    """Signs with one pair of keys for one region."""

    def __init__(self, access_key: str, secret_key: str, region: str) -> None:
        self._access_key = access_key
        self._secret_key = secret_key
        self._region = region
        self._day = ("", b"")
        """The last day that was signed on, as ``YYYYMMDD``, and its key."""

    def signed(
        self, method: str, path: str, query: str, headers: Mapping[str, str], *, digest: str, now: datetime
    ) -> dict[str, str]:
        """Return the headers to send: those given, all signed, and those that make the signature.

        Args:
            method: in capitals.
            path: encoded, as it is sent.
            query: encoded as it is sent, and sorted.
            headers: with ``Host``.
            digest: SHA-256 of the body in hexadecimal digits, or `UNSIGNED`.
            now: the time, in UTC.
        """
        time = now.strftime(_TIME)
        sent = {**headers, "x-amz-content-sha256": digest, "x-amz-date": time}
        ordered = sorted((name.lower(), _SPACES.sub(" ", value).strip()) for name, value in sent.items())
        names = ";".join([name for name, _ in ordered])
        lines = "".join([f"{name}:{value}\n" for name, value in ordered])
        signature = self._signature(f"{method}\n{path}\n{query}\n{lines}\n{names}\n{digest}", time)
        sent["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self._access_key}/{self._scope(time)}, SignedHeaders={names}, "
            f"Signature={signature}"
        )
        return sent

    def presigned(
        self, method: str, host: str, path: str, query: Mapping[str, str], *, expires: int, now: datetime
    ) -> str:
        """Return the query, encoded, of a link that lets anyone do this for a while.

        Source: Amazon S3 API Reference, "Authenticating Requests: Using Query Parameters".

        Args:
            method: in capitals.
            host: with the port, as it is in the link.
            path: encoded.
            query: what else it asks for.
            expires: seconds that the link is good for.
            now: the time, in UTC.
        """
        time = now.strftime(_TIME)
        asked = {
            **query,
            "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
            "X-Amz-Credential": f"{self._access_key}/{self._scope(time)}",
            "X-Amz-Date": time,
            "X-Amz-Expires": str(expires),
            "X-Amz-SignedHeaders": "host",
        }
        encoded = query_of(asked)
        request = f"{method}\n{path}\n{encoded}\nhost:{host}\n\nhost\n{UNSIGNED}"
        return f"{encoded}&X-Amz-Signature={self._signature(request, time)}"

    def _scope(self, time: str) -> str:
        return f"{time[:8]}/{self._region}/s3/aws4_request"

    def _signature(self, request: str, time: str) -> str:
        to_sign = f"AWS4-HMAC-SHA256\n{time}\n{self._scope(time)}\n{sha256(request.encode()).hexdigest()}"
        return hmac.digest(self._key(time[:8]), to_sign.encode(), "sha256").hex()

    def _key(self, day: str) -> bytes:
        known, key = self._day
        if known != day:
            key = f"AWS4{self._secret_key}".encode()
            for step in (day, self._region, "s3", "aws4_request"):
                key = hmac.digest(key, step.encode(), "sha256")
            self._day = (day, key)
        return key
