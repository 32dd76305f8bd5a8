"""What one data subject's keys do: the two implementations of ``Sealer``.

Keys come newest first.  The first seals, each opens what names it, and the last one (the oldest) gives
terms, tags, ids and the rotation: they stay what they are while a new key takes over the texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Final

import numpy as np
from numpy.typing import NDArray

from memory_plugin.crypto import envelope, terms
from memory_plugin.crypto.encoding import from_text, to_text
from memory_plugin.crypto.keys import Mac, PublicKey, Secret
from memory_plugin.crypto.terms import TermHash
from memory_plugin.crypto.vectors import Rotation
from memory_plugin.errors import (
    ConfigurationError,
    DecryptionError,
    SealError,
    UnknownKeyError,
    UnsealedPayloadError,
)
from memory_plugin.protocols import Sealer, SubjectKey
from memory_plugin.types import Matrix, PointId

_TEXT: Final = "plain:"
_BYTES: Final = "plain64:"


def sealer(store_id: str, subject: str, keys: Sequence[SubjectKey]) -> Sealer:
    """The sealer that fits the keys: ``PlaintextSealer`` for those of PLAINTEXT, else ``SubjectSealer``.

    Args:
        store_id: The store's id; envelopes open in no other.
        subject: Blind tag of the data subject.
        keys: As the key ring gave them, newest first.

    Raises:
        UnknownKeyError: There are no keys: never made, or destroyed.
    """
    if keys and isinstance(keys[0], PublicKey):
        return PlaintextSealer(subject)
    return SubjectSealer(store_id, subject, keys)


class _Index(Secret):
    """Terms, tags, ids: the same computation under a secret key or the public one."""

    __slots__ = ("_filters", "_ids", "_subject", "_terms")

    def __init__(self, subject: str, key: SubjectKey) -> None:
        self._subject = subject
        self._terms = TermHash(key.derive("term"))
        self._filters = Mac(key.derive("filter"), "sha256")
        self._ids = Mac(key.derive("id"), "sha256")

    @property
    def subject(self) -> str:
        """The subject's blind tag."""
        return self._subject

    def term_ids(self, terms: Sequence[str], /) -> NDArray[np.uint32]:
        """Keyed ids of lexical terms, shape (terms,).

        Raises:
            InvalidInputError: Something is no text.
        """
        return self._terms.ids(terms)

    def tag(self, label: str, /, *values: str) -> str:
        """A keyed 64 bit tag of values under a label, as 16 hex digits."""
        return terms.tag(self._filters, label, *values)

    def point_id(self, *parts: str) -> PointId:
        """A keyed UUID of the parts."""
        return terms.point_id(self._ids, *parts)


class SubjectSealer(_Index):
    """Seals and opens under a subject's keys.

    Args:
        store_id: The store's id; envelopes open in no other.
        subject: Blind tag of the data subject.
        keys: Newest first.

    Raises:
        UnknownKeyError: There are no keys, or the first one is retired.
        ConfigurationError: Two keys have the same id, or one is PLAINTEXT's.
    """

    __slots__ = ("_records", "_rotation", "_seals_with", "_store")

    def __init__(self, store_id: str, subject: str, keys: Sequence[SubjectKey]) -> None:
        if not keys:
            raise UnknownKeyError(f"subject {subject!r} has no key: never made, or destroyed")
        if len({key.id for key in keys}) != len(keys):
            raise ConfigurationError(f"two keys of subject {subject!r} have the same id")
        super().__init__(subject, keys[-1])
        self._store = store_id
        self._seals_with = keys[0].id
        self._rotation = Rotation(keys[-1].derive("vector"))
        self._records = {keys[0].id: Mac(keys[0].derive("record"), "sha512")}
        for key in keys[1:]:
            with suppress(UnknownKeyError):  # it is retired
                self._records[key.id] = Mac(key.derive("record"), "sha512")

    def seal(self, point: PointId, field: str, plaintext: bytes, /) -> str:
        """An envelope in base64, bound to the store, the subject, the point and the field.

        Raises:
            InvalidInputError: The plaintext is longer than 64 MiB.
        """
        key_id = self._seals_with
        place = envelope.Place(self._store, self._subject, point, field)
        return to_text(envelope.seal(self._records[key_id], key_id, place, plaintext))

    def open(self, point: PointId, field: str, sealed: object, /) -> bytes:
        """What was sealed for exactly that place.

        Raises:
            UnsealedPayloadError: It is no envelope.
            UnknownKeyError: It names a key that this subject does not have.
            WrongKeyError: It was made under another key.
            DecryptionError: It was changed, or moved from where it was sealed.
        """
        data = from_text(sealed) if isinstance(sealed, str) else None
        if data is None:
            raise UnsealedPayloadError(f"field {field!r} of point {point} is not sealed: refused")
        parts = envelope.unpack(data)
        records = self._records.get(parts.key_id)
        if records is None:
            raise UnknownKeyError(
                f"field {field!r} of point {point} names key {parts.key_id.hex()}, which subject {self._subject!r} "
                "does not have: destroyed, retired, or another store's"
            )
        return envelope.open_sealed(records, parts, envelope.Place(self._store, self._subject, point, field))

    def key_id(self, sealed: str, /) -> bytes:
        """The four byte id of the key that an envelope names; equal to ``newest`` when nothing has to be re-sealed.

        Raises:
            UnsealedPayloadError: It is no envelope.
            DecryptionError: It is truncated, or of an unknown suite.
        """
        return envelope.unpack(from_text(sealed) or b"").key_id

    @property
    def newest(self) -> bytes:
        """The four byte id of the key that seals."""
        return self._seals_with

    @property
    def rotating(self) -> bool:
        """Whether an older key still opens envelopes: a rotation has begun and is not finished."""
        return len(self._records) > 1

    def rotate(self, vectors: Matrix, /) -> Matrix:
        """Unit vectors, shape (n, dimension), under the subject's rotation; cosines do not change.

        Raises:
            InvalidInputError: It is not a matrix of at least one column.
        """
        return self._rotation.apply(vectors)

    def unrotate(self, vectors: Matrix, /) -> Matrix:
        """What ``rotate`` was given, up to float32 rounding.

        Raises:
            InvalidInputError: It is not a matrix of at least one column.
        """
        return self._rotation.undo(vectors)


class PlaintextSealer(_Index):
    """Seals nothing: texts stay readable behind a marker, hashes are public, vectors stay as they are.

    Args:
        subject: Tag of the data subject.
    """

    __slots__ = ()

    def __init__(self, subject: str) -> None:
        super().__init__(subject, PublicKey())

    def seal(self, point: PointId, field: str, plaintext: bytes, /) -> str:
        """The plaintext behind a marker, bound to nothing."""
        del point, field
        try:
            return _TEXT + plaintext.decode("utf-8")
        except UnicodeDecodeError:
            return _BYTES + to_text(plaintext)

    def open(self, point: PointId, field: str, sealed: object, /) -> bytes:
        """What stands behind the marker.

        Raises:
            UnknownKeyError: It is an envelope; this store has no keys.
            DecryptionError: It is neither an envelope nor what a PLAINTEXT store writes.
        """
        if isinstance(sealed, str):
            if sealed.startswith(_TEXT):
                return sealed[len(_TEXT) :].encode("utf-8", "surrogatepass")
            data = from_text(sealed.removeprefix(_BYTES))
            if data is not None and sealed.startswith(_BYTES):
                return data
            if data is not None and _is_envelope(data):
                raise UnknownKeyError(f"field {field!r} of point {point} is sealed: open the store with its key ring")
        raise DecryptionError(f"field {field!r} of point {point} was not written by a PLAINTEXT store")

    def rotate(self, vectors: Matrix, /) -> Matrix:
        """The vectors as they are."""
        return vectors

    def unrotate(self, vectors: Matrix, /) -> Matrix:
        """The vectors as they are."""
        return vectors


def _is_envelope(data: bytes) -> bool:
    try:
        envelope.unpack(data)
    except SealError:
        return False
    return True
