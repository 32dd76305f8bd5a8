"""Byte strings and texts, both ways without ambiguity (docs/sealed-format.md, sections 1 and 3)."""

from __future__ import annotations

import struct

import pybase64

from memory_plugin.errors import InvalidInputError

_LENGTH = struct.Struct(">I")


def u32(number: int) -> bytes:
    """Four bytes, big endian."""
    return _LENGTH.pack(number)


def utf8(text: str) -> bytes:
    """UTF-8 without normalisation; lone surrogates pass, so that different texts have different bytes.

    Raises:
        InvalidInputError: It is no text.
    """
    try:
        return text.encode("utf-8", "surrogatepass")
    except AttributeError:
        raise InvalidInputError(f"expected a text, not {type(text).__name__}") from None


def frame(*parts: bytes) -> bytes:
    """Counted and length-prefixed, hence injective: different lists never give the same bytes."""
    return u32(len(parts)) + framed(*parts)


def framed(*parts: bytes) -> bytes:
    """Each part behind its length: what ``frame`` puts behind the count."""
    return b"".join([piece for part in parts for piece in (_LENGTH.pack(len(part)), part)])


def to_text(data: bytes) -> str:
    """Standard base64 in one line."""
    return pybase64.b64encode_as_string(data)


def from_text(text: str) -> bytes | None:
    """What ``to_text`` gave exactly this text for; None where there is no such thing.

    Strict decoding still lets the unused bits of the last group through, by which one envelope would
    have several texts: so that group is encoded again and compared.
    """
    try:
        data = pybase64.b64decode(text, validate=True)
    except ValueError:  # binascii.Error, or not ASCII
        return None
    last = data[len(data) - len(data) % 3 :]
    return data if text.endswith(to_text(last)) else None
