"""Keyed ids of lexical terms, tags of values, ids of points (docs/sealed-format.md, sections 4 to 7)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from memory_plugin.crypto.encoding import frame, utf8
from memory_plugin.crypto.keys import Mac, Secret
from memory_plugin.errors import InvalidInputError
from memory_plugin.protocols import SubjectKey
from memory_plugin.types import PointId

_PERSON: Final = b"mp-term1"
_TAG_BYTES: Final = 8
_SUBJECT_TAG_BYTES: Final = 16
_ID_BYTES: Final = 16


class TermHash(Secret):
    """Maps terms to 32 bit ids under a key (keyed BLAKE2s, RFC 7693).

    Args:
        key: The term sub-key, 32 bytes.
    """

    __slots__ = ("_state",)

    def __init__(self, key: bytes) -> None:
        self._state = hashlib.blake2s(key=key, person=_PERSON)

    def ids(self, terms: Sequence[str]) -> NDArray[np.uint32]:
        """One id a term, in order, shape (terms,).

        Raises:
            InvalidInputError: Something is no text, or ``terms`` is itself one text.
        """
        if isinstance(terms, str):
            raise InvalidInputError("give a list of terms, not one text")
        fresh = self._state.copy
        digests = []
        for term in terms:
            state = fresh()
            state.update(utf8(term))
            digests.append(state.digest())
        # The first 4 of each 32 bytes: every eighth number.
        return np.frombuffer(b"".join(digests), dtype="<u4")[::8].astype(np.uint32)


def tag(filters: Mac, label: str, *values: str) -> str:
    """A 64 bit tag of values under a label, as 16 hex digits; equal values have equal tags.

    Args:
        filters: HMAC-SHA256 keyed with the filter sub-key.
        label: What the values are, e.g. the name of a metadata field.
        values: One or more.
    """
    return filters.of(frame(b"tag", utf8(label), *map(utf8, values)))[:_TAG_BYTES].hex()


def subject_tag(store_key: SubjectKey, name: str) -> str:
    """The blind tag of a data subject, as 32 hex digits.

    Args:
        store_key: The store's oldest key: the last one of those that the key ring has for "".
        name: The subject's name; it is not normalised.
    """
    filters = Mac(store_key.derive("filter"), "sha256")
    return filters.of(frame(b"subject", utf8(name)))[:_SUBJECT_TAG_BYTES].hex()


def point_id(ids: Mac, *parts: str) -> PointId:
    """A UUID of version 8 (RFC 9562) that only the key's owner can compute from the parts.

    Args:
        ids: HMAC-SHA256 keyed with the id sub-key.
        parts: What the point is; their order and borders count.
    """
    digest = bytearray(ids.of(frame(*map(utf8, parts)))[:_ID_BYTES])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
