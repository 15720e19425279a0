"""How a message becomes bytes and back: JSON by msgspec, readable with any NATS client."""

from types import UnionType
from typing import Any, TypeVar, overload

import msgspec

M = TypeVar("M")


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The base of all that crosses a process border: immutable, named fields, defaults left out of the bytes.

    ``omit_defaults`` keeps old bytes equal when a field with a default is added.
    """


class UndecodableMessageError(ValueError):
    """The bytes are not a message of the type that was asked for.

    Trying again cannot help: the receiver moves the message to the dead stream.
    """


_encoder = msgspec.json.Encoder()
_decoders: dict[Any, msgspec.json.Decoder[Any]] = {}


def encode(message: msgspec.Struct) -> bytes:
    """Return the message as UTF-8 JSON."""
    return _encoder.encode(message)


@overload
def decode(data: bytes, kind: type[M]) -> M: ...


@overload
def decode(data: bytes, kind: UnionType) -> Any: ...


def decode(data: bytes, kind: Any) -> Any:
    """Return the message of type ``kind`` that ``data`` holds.

    Args:
        data: UTF-8 JSON.
        kind: a message type, or a union of tagged message types.

    Raises:
        UndecodableMessageError: the bytes are not JSON, or a field is missing or has the wrong type.
    """
    decoder = _decoders.get(kind)
    if decoder is None:
        decoder = _decoders[kind] = msgspec.json.Decoder(kind)
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UndecodableMessageError(f"not a {getattr(kind, '__name__', kind)}: {error}") from error
