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

UNSIGNED = "UNSIGNED-PAYLOAD"
"""Stands for the digest of a body that is not known yet."""

_SPACES = re.compile(" +")


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
        time = now.strftime("%Y%m%dT%H%M%SZ")
        sent = {**headers, "x-amz-content-sha256": digest, "x-amz-date": time}
        ordered = sorted((name.lower(), _SPACES.sub(" ", value).strip()) for name, value in sent.items())
        names = ";".join([name for name, _ in ordered])
        lines = "".join([f"{name}:{value}\n" for name, value in ordered])
        request = f"{method}\n{path}\n{query}\n{lines}\n{names}\n{digest}"
        scope = f"{time[:8]}/{self._region}/s3/aws4_request"
        to_sign = f"AWS4-HMAC-SHA256\n{time}\n{scope}\n{sha256(request.encode()).hexdigest()}"
        signature = hmac.digest(self._key(time[:8]), to_sign.encode(), "sha256").hex()
        sent["Authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self._access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        return sent

    def _key(self, day: str) -> bytes:
        known, key = self._day
        if known != day:
            key = f"AWS4{self._secret_key}".encode()
            for step in (day, self._region, "s3", "aws4_request"):
                key = hmac.digest(key, step.encode(), "sha256")
            self._day = (day, key)
        return key
