"""Signatures of webhooks (Standard Webhooks specification, "Signature scheme": symmetric, version 1)."""

import base64
import hashlib
import hmac

_PREFIX = "whsec_"


def signing_key(secret: str) -> bytes:
    """Return the key of a secret: what follows ``whsec_`` is Base64, anything else is taken as it is.

    Raises:
        binascii.Error: what follows ``whsec_`` is not Base64.
    """
    if secret.startswith(_PREFIX):
        return base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    return secret.encode()


def sign(key: bytes, *, message_id: str, timestamp: int, body: bytes) -> str:
    """Return the ``webhook-signature`` of a message.

    Args:
        key: see `signing_key`.
        message_id: the ``webhook-id``.
        timestamp: the ``webhook-timestamp``, in Unix seconds.
        body: exactly the bytes that are sent.
    """
    signed = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
    return "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
