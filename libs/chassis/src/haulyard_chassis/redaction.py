"""Secrets are taken out of whatever is logged, as the last thing before it is written.

Nobody means to log a secret; libraries do it, in the text of an error that quotes a URL, a header, or a DSN. So values
are looked at by the names under which they are logged, and every text for what looks like a secret, tracebacks too.
"""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from structlog.typing import EventDict

HIDDEN = "[hidden]"

_MAX_DEPTH = 6
"""Levels of lists and objects that are looked into; what is deeper is hidden as a whole."""

_SECRET_NAMES = frozenset(
    {
        "authorization", "proxy_authorization", "bearer", "cookie", "set_cookie", "credentials", "jwt", "passwd",
        "password", "secret", "signature", "ticket", "token", "api_key", "access_key", "secret_key", "private_key",
        "idempotency_key", "webhook_signature", "x_amz_credential", "x_amz_security_token", "x_amz_signature",
    }
)  # fmt: skip
_SECRET_ENDINGS = ("_password", "_secret", "_secret_key", "_signature", "_ticket", "_token")

_NAMES_IN_TEXT = (
    r"x-amz-(?:signature|credential|security-token)|signature|credential|sig|ticket|access_token|refresh_token|"
    r"id_token|token|password|passwd|secret|client_secret|api_key|apikey"
)
_PATTERNS = tuple(
    (re.compile(pattern, re.IGNORECASE), replacement)
    for pattern, replacement in (
        # Authorization: Bearer …; without the header's name only what is longer than a word.
        (r"\b(authorization['\"]?\s*[:=]\s*['\"]?(?:(?:bearer|basic|digest|token)\s+)?+)[^\s'\"<>]+", rf"\1{HIDDEN}"),
        (r"\b((?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{20,}", rf"\1{HIDDEN}"),
        # name=value and name: "value", in queries (also when they are encoded once more), forms, dumps of objects.
        (rf"\b((?:{_NAMES_IN_TEXT})['\"]?\s*(?:=|%3D|:)\s*['\"]?)(?!\[hidden\])[^\s&'\",;<>)}}\]]+", rf"\1{HIDDEN}"),
        # A JWT wherever it stands.
        (r"\beyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]*\.?[A-Za-z0-9_-]*", HIDDEN),
        # The password of a URL: scheme://user:password@host.
        (r"(\b[a-z][a-z0-9+.-]*://[^\s:/@'\"]*:)[^\s/@'\"]+@", rf"\1{HIDDEN}@"),
        # The signing key of Standard Webhooks.
        (r"\bwhsec_[A-Za-z0-9+/=_-]+", HIDDEN),
    )
)


# Most of what is logged are ids, numbers and a few words. What lacks these marks cannot match any pattern.
_MARK = re.compile(r"[=:%\s]|eyj|whsec_", re.IGNORECASE)
_WORD = re.compile(
    r"authoriz|bearer|basic|sig|credential|security-token|ticket|token|passw|secret|api_?key|eyj|whsec_|://",
    re.IGNORECASE,
)


def redact_text(text: str) -> str:
    """Return ``text`` without what looks like a secret."""
    if not _MARK.search(text) or not _WORD.search(text):
        return text
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


@lru_cache(maxsize=1_000)
def _name(name: str) -> tuple[str, bool]:
    """Return a name as it may be shown, and whether what stands under it is a secret."""
    plain = name.lower().replace("-", "_")
    return redact_text(name), plain in _SECRET_NAMES or plain.endswith(_SECRET_ENDINGS)


def _redact(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return redact_text(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth >= _MAX_DEPTH:
        return HIDDEN
    if isinstance(value, Mapping):
        names = ((_name(str(name)), inner) for name, inner in value.items())
        return {
            shown: HIDDEN if is_secret and inner else _redact(inner, depth + 1) for (shown, is_secret), inner in names
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_redact(inner, depth + 1) for inner in value]
    # Whatever else the renderer would make a text of.
    return redact_text(value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value))


def redact(_: object, __: str, event: EventDict) -> EventDict:
    """Take secrets out of an event; a processor of structlog."""
    redacted: EventDict = _redact(event, 0)
    return redacted
