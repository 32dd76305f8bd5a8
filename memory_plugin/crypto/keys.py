"""Objects that hold secrets, and what they derive (docs/sealed-format.md, section 2).

Nothing here shows a key: not in ``repr``, not pickled, not copied, not in the local variables of a
traceback.  What is used often is kept as a keyed hash state, which cannot be read back at all.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from typing import Final, NoReturn

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from memory_plugin.errors import ConfigurationError, InvalidInputError, UnknownKeyError
from memory_plugin.protocols import SubjectKey

KEY_BYTES: Final = 32
KEY_ID_BYTES: Final = 4
INDEX_PURPOSES: Final = ("term", "filter", "vector", "id")
"""Purposes whose sub-keys outlive a key rotation, in the order in which a retired key keeps them."""
PURPOSES: Final = ("record", *INDEX_PURPOSES)
_LABEL: Final = b"memory-plugin/v1/"


def hkdf(key: bytes, info: bytes) -> bytes:
    """HKDF-SHA256 (RFC 5869) without salt, 32 bytes."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(key)


class Secret:
    """Refuses every way by which a key leaves its object unasked."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __getstate__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds a key and cannot be pickled or copied")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        self.__getstate__()


class RootKey(Secret):
    """One version of a subject's key; a ``SubjectKey``.

    Args:
        key_id: Four bytes.
        root: The 32 random bytes that sub-keys are derived from.

    Raises:
        InvalidInputError: One of them has another length.
    """

    __slots__ = ("_id", "_root")

    def __init__(self, key_id: bytes, root: bytes) -> None:
        self._id = key_id
        if len(key_id) != KEY_ID_BYTES or len(root) != KEY_BYTES:
            raise InvalidInputError("a key id has 4 bytes and a subject key 32")
        self._root = root

    def __repr__(self) -> str:
        return f"<RootKey {self._id.hex()}>"

    @property
    def id(self) -> bytes:
        """Four bytes that name the key in an envelope."""
        return self._id

    def derive(self, purpose: str, /) -> bytes:
        """The 32 byte sub-key of a purpose.

        Raises:
            InvalidInputError: There is no such purpose.
        """
        return hkdf(self._root, _LABEL + _known(purpose).encode())

    def material(self) -> bytes:
        """The subject key itself, 32 bytes: for a key ring to wrap, and nothing else."""
        return self._root


class RetiredKey(Secret):
    """What is left of a subject's oldest key after a rotation: its index sub-keys; a ``SubjectKey``.

    Args:
        key_id: Four bytes.
        material: The sub-keys of ``INDEX_PURPOSES`` in that order, 128 bytes.

    Raises:
        InvalidInputError: One of them has another length.
    """

    __slots__ = ("_id", "_material")

    def __init__(self, key_id: bytes, material: bytes) -> None:
        self._id = key_id
        if len(key_id) != KEY_ID_BYTES or len(material) != KEY_BYTES * len(INDEX_PURPOSES):
            raise InvalidInputError("a key id has 4 bytes and a retired key 128")
        self._material = material

    @classmethod
    def of(cls, key: RootKey) -> RetiredKey:
        """Keep a key's index sub-keys only."""
        return cls(key.id, b"".join(key.derive(purpose) for purpose in INDEX_PURPOSES))

    def __repr__(self) -> str:
        return f"<RetiredKey {self._id.hex()}>"

    @property
    def id(self) -> bytes:
        """Four bytes that named the key in envelopes."""
        return self._id

    def derive(self, purpose: str, /) -> bytes:
        """The 32 byte sub-key of an index purpose.

        Raises:
            UnknownKeyError: The purpose is "record": nothing that this key sealed can be opened.
            InvalidInputError: There is no such purpose.
        """
        if _known(purpose) == "record":
            raise UnknownKeyError(f"key {self._id.hex()} was retired: it opens nothing any more")
        at = INDEX_PURPOSES.index(purpose) * KEY_BYTES
        return self._material[at : at + KEY_BYTES]

    def material(self) -> bytes:
        """All four sub-keys, 128 bytes: for a key ring to wrap, and nothing else."""
        return self._material


class PublicKey:
    """The key that everybody knows: what a PLAINTEXT store computes ids, tags and terms with."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<PublicKey>"

    @property
    def id(self) -> bytes:
        """Four zero bytes."""
        return bytes(KEY_ID_BYTES)

    def derive(self, purpose: str, /) -> bytes:
        """The SHA-256 of the purpose's name.

        Raises:
            ConfigurationError: The purpose is "record": a public key seals nothing.
            InvalidInputError: There is no such purpose.
        """
        if _known(purpose) == "record":
            raise ConfigurationError("a PLAINTEXT key ring has no key to seal with: give the store a key ring")
        return hashlib.sha256(_LABEL + b"public/" + purpose.encode()).digest()


class _Plaintext:
    """The type of ``PLAINTEXT``."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "PLAINTEXT"

    def __reduce__(self) -> str:
        """Stay the one object, also when copied."""
        return "PLAINTEXT"

    @property
    def location(self) -> str:
        """Nowhere."""
        return "nowhere: PLAINTEXT, everything is stored readable"

    def keys(self, subject: str, /, *, create: bool) -> Sequence[SubjectKey]:
        """The public key, whoever asks."""
        del subject, create
        return (PublicKey(),)

    def destroy(self, subject: str, /) -> int:
        """Nothing was protected, so nothing is destroyed."""
        del subject
        return 0


PLAINTEXT: Final = _Plaintext()
"""The explicit word, in place of a key ring, for a store whose contents anybody may read."""


class Mac(Secret):
    """A keyed HMAC whose key cannot be read back.

    Args:
        key: 32 bytes.
        digest: "sha256" or "sha512".
    """

    __slots__ = ("_state",)

    def __init__(self, key: bytes, digest: str) -> None:
        self._state = hmac.new(key, digestmod=digest)

    def of(self, data: bytes) -> bytes:
        """The authentication code of the data."""
        state = self._state.copy()
        state.update(data)
        return state.digest()


def _known(purpose: str) -> str:
    if purpose not in PURPOSES:
        raise InvalidInputError(f"no such purpose of a key: {purpose!r}; there are {', '.join(PURPOSES)}")
    return purpose
