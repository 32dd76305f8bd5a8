"""Key-encryption keys: what wraps the subjects' keys (docs/sealed-format.md, section 2)."""

from __future__ import annotations

import binascii
import os
from collections.abc import Callable
from typing import Final, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from memory_plugin.crypto.encoding import to_text
from memory_plugin.crypto.keys import KEY_BYTES, Secret, hkdf
from memory_plugin.errors import ConfigurationError, InvalidInputError, KeyServiceError

_NONCE_BYTES: Final = 12
_ID_INFO: Final = b"memory-plugin/v1/kek-id"
_USE_INFO: Final = b"memory-plugin/v1/kek-use/"
_HOW_TO_MAKE_ONE: Final = (
    "make one with: python -c 'import base64, os; print(base64.b64encode(os.urandom(32)).decode())'"
)


class Kek(Protocol):
    """Wraps keys.  Implementations may raise anything; the key ring maps it to ``KeyServiceError``."""

    @property
    def id(self) -> str:
        """Names the key; no secret.  Another key has another id."""

    def wrap(self, material: bytes, context: bytes, /) -> bytes:
        """Encrypt key material, bound to the context."""

    def unwrap(self, wrapped: bytes, context: bytes, /) -> bytes:
        """What was wrapped under the same key and context; raise otherwise."""


class LocalKek(Secret):
    """A key-encryption key that this process holds: AES-256-GCM with a random nonce; a ``Kek``.

    Args:
        key: 32 random bytes.

    Raises:
        InvalidInputError: The key has another length.
    """

    __slots__ = ("_cipher", "_id", "_key")

    def __init__(self, key: bytes) -> None:
        self._id = "?"
        if len(key) != KEY_BYTES:
            raise InvalidInputError(f"a key-encryption key has 32 bytes, not {len(key)}")
        self._id = hkdf(key, _ID_INFO)[:8].hex()
        self._key = bytes(key)
        self._cipher = AESGCM(self._key)

    @classmethod
    def generate(cls) -> LocalKek:
        """A fresh random one."""
        return cls(os.urandom(KEY_BYTES))

    @classmethod
    def from_environment(cls, variable: str = "MEMORY_PLUGIN_KEK") -> LocalKek:
        """Read the key from an environment variable: base64 of 32 bytes, either alphabet.

        Raises:
            ConfigurationError: The variable is missing, or holds something else.
        """
        text = os.environ.get(variable, "").strip()
        if not text:
            raise ConfigurationError(f"{variable} is not set; {_HOW_TO_MAKE_ONE}")
        kek = cls._of_text(text)
        if kek is None:
            del text  # out of the reach of tracebacks that show local variables
            raise ConfigurationError(f"{variable} is not the base64 of 32 bytes; {_HOW_TO_MAKE_ONE}")
        return kek

    @classmethod
    def _of_text(cls, text: str) -> LocalKek | None:
        try:
            key = binascii.a2b_base64(text.replace("-", "+").replace("_", "/"), strict_mode=True)
        except ValueError:
            return None
        return cls(key) if len(key) == KEY_BYTES else None

    def __repr__(self) -> str:
        return f"<LocalKek {self._id}>"

    @property
    def id(self) -> str:
        """16 hex digits, from which the key cannot be computed."""
        return self._id

    def wrap(self, material: bytes, context: bytes, /) -> bytes:
        """A random nonce and the ciphertext."""
        nonce = os.urandom(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, material, context)

    def unwrap(self, wrapped: bytes, context: bytes, /) -> bytes:
        """What was wrapped under the same key and context.

        Raises:
            KeyServiceError: It was not.
        """
        try:
            return self._cipher.decrypt(wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:], context)
        except (InvalidTag, ValueError):
            raise KeyServiceError(
                f"a wrapped key does not open under KEK {self._id}: it was changed, "
                "or moved from where it was wrapped; restore the keys from a backup",
                provider="kek",
            ) from None

    def derive(self, use: str, /) -> bytes:
        """32 bytes for a use of their own beside wrapping; this key does not follow from them."""
        return hkdf(self._key, _USE_INFO + use.encode())

    def to_text(self) -> str:
        """The key in base64: for a key ring that keeps its own KEK, and nothing else."""
        return to_text(self._key)


class CallbackKek:
    """A key-encryption key in a service that wraps for us; a ``Kek``.

    Args:
        wrap: Key material and context to wrapped bytes, e.g. a KMS ``encrypt`` with the context as
            associated data or encryption context.
        unwrap: Wrapped bytes and context back.  It must fail where the context differs.
        key_id: Names the service's key.
    """

    __slots__ = ("_id", "_unwrap", "_wrap")

    def __init__(
        self, wrap: Callable[[bytes, bytes], bytes], unwrap: Callable[[bytes, bytes], bytes], key_id: str
    ) -> None:
        self._wrap = wrap
        self._unwrap = unwrap
        self._id = key_id

    def __repr__(self) -> str:
        return f"<CallbackKek {self._id}>"

    @property
    def id(self) -> str:
        """As given."""
        return self._id

    def wrap(self, material: bytes, context: bytes, /) -> bytes:
        """Ask the service.

        Raises:
            KeyServiceError: It failed; its exception is the cause.
        """
        try:
            return self._wrap(material, context)
        except Exception as error:  # noqa: BLE001 -- a callback may raise anything
            failure = error
        del material  # out of the reach of tracebacks that show local variables
        raise self._failed(failure) from failure

    def unwrap(self, wrapped: bytes, context: bytes, /) -> bytes:
        """Ask the service.

        Raises:
            KeyServiceError: It failed; its exception is the cause.
        """
        try:
            return self._unwrap(wrapped, context)
        except Exception as error:  # noqa: BLE001 -- a callback may raise anything
            failure = error
        raise self._failed(failure) from failure

    def _failed(self, failure: Exception) -> KeyServiceError:
        # The frames of the cause hold what it was asked to wrap.
        failure.with_traceback(None)
        return KeyServiceError(f"{self._id}: {type(failure).__name__}: {failure}", provider=self._id)
