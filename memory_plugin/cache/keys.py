"""Names and envelopes of a cache: keyed, so that its file tells nothing about texts, and bound to their place."""

from __future__ import annotations

import os
from typing import Final, TypeAlias

from memory_plugin.crypto import envelope, terms
from memory_plugin.crypto.kek import LocalKek
from memory_plugin.crypto.keyring import FileKeyRing
from memory_plugin.crypto.keys import KEY_ID_BYTES, Mac, RootKey, Secret
from memory_plugin.errors import InvalidInputError, UnknownKeyError, UnsealedPayloadError
from memory_plugin.protocols import SubjectKey
from memory_plugin.types import PointId

CacheKey: TypeAlias = "LocalKek | bytes | str | os.PathLike[str]"
"""What a cache's entries are sealed under: a key that this process holds, 32 bytes, or the path of a key file."""

STORE: Final = "embedding-cache"
FIELD: Final = "embedding"


class Box(Secret):
    """What a cache's key does.

    Args:
        key: Names come from its "id" sub-key, envelopes from "record".
    """

    __slots__ = ("_key_id", "_names", "_records")

    def __init__(self, key: SubjectKey) -> None:
        self._key_id = key.id
        self._names = Mac(key.derive("id"), "sha256")
        self._records = Mac(key.derive("record"), "sha512")

    def name(self, *parts: str) -> PointId:
        """A keyed UUID of the parts."""
        return terms.point_id(self._names, *parts)

    def seal(self, name: PointId, data: bytes) -> bytes:
        """An envelope that opens under this name only."""
        return envelope.seal(self._records, self._key_id, self._place(name), data)

    def open(self, name: PointId, sealed: object) -> bytes:
        """What was sealed under this name.

        Raises:
            SealError: It is no envelope, was changed or moved, or another key made it.
        """
        if not isinstance(sealed, bytes):
            raise UnsealedPayloadError(f"entry {name} of the cache is no bytes")
        parts = envelope.unpack(sealed)
        if parts.key_id != self._key_id:
            raise UnknownKeyError(f"entry {name} of the cache names key {parts.key_id.hex()}")
        return envelope.open_sealed(self._records, parts, self._place(name))

    @staticmethod
    def _place(name: PointId) -> envelope.Place:
        return envelope.Place(STORE, "", name, FIELD)


def box(key: CacheKey) -> Box:
    """What a cache's key does, wherever it is.

    Raises:
        InvalidInputError: It is none, or has not 32 bytes.
        KeyServiceError: The key file cannot be read, or is a store's.
    """
    if isinstance(key, bytes):
        key = LocalKek(key)
    if isinstance(key, LocalKek):
        return Box(RootKey(key.derive(f"{STORE}/id")[:KEY_ID_BYTES], key.derive(STORE)))
    if isinstance(key, str | os.PathLike):
        return Box(FileKeyRing(key, store_id=STORE).keys("", create=True)[0])
    raise InvalidInputError(
        f"a cache's key is a LocalKek, 32 bytes, or the path of a key file, not {type(key).__name__}"
    )
