"""The envelope: pure functions of bytes; docs/sealed-format.md, section 3, is the specification.

    version 1 ‖ suite 1 ‖ key id 4 ‖ salt 24 ‖ commitment 32 ‖ AES-256-GCM ciphertext and tag

* Every envelope has a key of its own, made of the record sub-key, the header and the salt.
* The commitment comes from the same HMAC: an envelope opens under one key only, and a wrong key is
  told from a changed ciphertext.
* The associated data binds it to one field of one point of one subject in one store.
"""

from __future__ import annotations

import hmac
import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from memory_plugin.crypto.encoding import framed, u32, utf8
from memory_plugin.crypto.keys import KEY_ID_BYTES, Mac
from memory_plugin.errors import DecryptionError, InvalidInputError, UnsealedPayloadError, WrongKeyError

VERSION: Final = 1
SUITE: Final = 1
SCHEMA: Final = 1
"""Version of what is inside a sealed field."""
SALT_BYTES: Final = 24
COMMITMENT_BYTES: Final = 32
TAG_BYTES: Final = 16
HEADER_BYTES: Final = 2 + KEY_ID_BYTES
OVERHEAD: Final = HEADER_BYTES + SALT_BYTES + COMMITMENT_BYTES + TAG_BYTES
"""By how many bytes an envelope is longer than its padded plaintext: 78."""
BUCKET: Final = 64
MAX_PLAINTEXT: Final = 2**26
"""Bytes; far beyond what a payload should be."""

_PADME_ABOVE: Final = 1024
_LENGTH_BYTES: Final = 4
# A key encrypts once, so its nonce never has to differ from another.
_NONCE: Final = bytes(12)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an envelope belongs; it opens nowhere else.

    Args:
        store: The store's id.
        subject: Blind tag of the data subject.
        point: UUID in canonical form.
        field: Payload key.
        schema: Version of the sealed content.
    """

    store: str
    subject: str
    point: str
    field: str
    schema: int = SCHEMA


@dataclass(frozen=True, slots=True)
class Envelope:
    """An envelope's parts, none of them secret."""

    key_id: bytes
    salt: bytes
    commitment: bytes
    ciphertext: bytes


def pack(envelope: Envelope) -> bytes:
    """The parts in a row behind version and suite."""
    return header(envelope.key_id) + envelope.salt + envelope.commitment + envelope.ciphertext


def unpack(sealed: bytes) -> Envelope:
    """The parts of an envelope, none of them verified yet.

    Raises:
        UnsealedPayloadError: It does not begin as an envelope of this format does.
        DecryptionError: Its suite is unknown, or it is too short to hold anything.
    """
    if sealed[:1] != bytes([VERSION]):
        raise UnsealedPayloadError("not a sealed payload of format version 1")
    if len(sealed) < OVERHEAD + BUCKET:
        raise DecryptionError(f"a sealed payload was truncated to {len(sealed)} bytes")
    if sealed[1] != SUITE:
        raise DecryptionError(f"a sealed payload names suite {sealed[1]}; this version of the library knows suite 1")
    salt_end = HEADER_BYTES + SALT_BYTES
    body = salt_end + COMMITMENT_BYTES
    return Envelope(sealed[2:HEADER_BYTES], sealed[HEADER_BYTES:salt_end], sealed[salt_end:body], sealed[body:])


def seal(records: Mac, key_id: bytes, place: Place, plaintext: bytes, *, salt: bytes | None = None) -> bytes:
    """Make an envelope.

    Args:
        records: HMAC-SHA512 keyed with the record sub-key.
        key_id: Four bytes that name the subject key.
        place: Where it will be.
        plaintext: At most ``MAX_PLAINTEXT`` bytes.
        salt: 24 bytes for reproducing test vectors; else random.  Used twice, it breaks the encryption.

    Raises:
        InvalidInputError: The plaintext is too long.
    """
    if salt is None:
        salt = os.urandom(SALT_BYTES)
    padded = pad(plaintext)
    cipher, commitment = _keys(records, header(key_id) + salt)
    return pack(Envelope(key_id, salt, commitment, cipher.encrypt(_NONCE, padded, associated_data(key_id, place))))


def open_sealed(records: Mac, envelope: Envelope, place: Place) -> bytes:
    """What was sealed for exactly that place.

    Args:
        records: HMAC-SHA512 keyed with the record sub-key of the key that the envelope names.
        envelope: Its parts.
        place: Where it was found.

    Raises:
        WrongKeyError: It was made under another key, or its header, salt or commitment was changed.
        DecryptionError: It was changed otherwise, or belongs elsewhere.
    """
    key_id = envelope.key_id
    cipher, commitment = _keys(records, header(key_id) + envelope.salt)
    if not hmac.compare_digest(commitment, envelope.commitment):
        raise WrongKeyError(f"a sealed payload that names key {key_id.hex()} was made under another key, or changed")
    try:
        padded = cipher.decrypt(_NONCE, envelope.ciphertext, associated_data(key_id, place))
    except InvalidTag:
        raise DecryptionError(
            f"field {place.field!r} of point {place.point} was changed, or sealed for another place"
        ) from None
    return unpad(padded)


def header(key_id: bytes) -> bytes:
    """Version, suite and key id."""
    return bytes((VERSION, SUITE)) + key_id


def associated_data(key_id: bytes, place: Place) -> bytes:
    """Everything an envelope is bound to, framed."""
    return _owner(key_id, place.store, place.subject) + framed(utf8(place.point), utf8(place.field), u32(place.schema))


@lru_cache(maxsize=1024)
def _owner(key_id: bytes, store: str, subject: str) -> bytes:
    """The beginning of the frame of eight, which all envelopes of a key share."""
    return u32(8) + framed(bytes([VERSION]), bytes([SUITE]), key_id, utf8(store), utf8(subject))


def bucket(length: int) -> int:
    """The padded length, in bytes: the next multiple of 64 up to 1 KB, Padmé beyond (PoPETs 2019)."""
    step = BUCKET
    if length > _PADME_ABOVE:
        exponent = length.bit_length() - 1
        step = 1 << (exponent - exponent.bit_length())
    return -(-length // step) * step


def pad(plaintext: bytes) -> bytes:
    """The plaintext's length, the plaintext, and zeros up to its bucket.

    Raises:
        InvalidInputError: It is longer than ``MAX_PLAINTEXT``.
    """
    if len(plaintext) > MAX_PLAINTEXT:
        raise InvalidInputError(f"{len(plaintext)} bytes are too many to seal; at most {MAX_PLAINTEXT}")
    return (u32(len(plaintext)) + plaintext).ljust(bucket(_LENGTH_BYTES + len(plaintext)), b"\0")


def unpad(padded: bytes) -> bytes:
    """The plaintext that ``pad`` made exactly this of.

    Raises:
        DecryptionError: There is none.
    """
    end = _LENGTH_BYTES + int.from_bytes(padded[:_LENGTH_BYTES], "big")
    if bucket(end) != len(padded) or padded.count(0, end) != len(padded) - end:
        raise DecryptionError("a sealed payload is padded in a way that nothing is sealed with")
    return padded[_LENGTH_BYTES:end]


def _keys(records: Mac, data: bytes) -> tuple[AESGCM, bytes]:
    # The key's bytes live in this frame only, where nothing fails: no traceback can show them.
    derived = records.of(data)
    return AESGCM(derived[:32]), derived[32:]
