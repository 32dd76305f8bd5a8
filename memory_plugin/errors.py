"""Every error that leaves this library.

    MemoryPluginError
    ├── ConfigurationError          the caller's fault; nothing was read or written
    │   ├── MissingExtraError       also an ImportError
    │   ├── UnknownProviderError
    │   ├── NetworkForbiddenError   a provider would leave the machine, and allow_network is False
    │   ├── ManifestMismatchError   the store was made with another model, format or key mode
    │   │   └── ModelDriftError     the model under the same name makes other vectors than it did
    │   ├── InvalidInputError       also a ValueError: a text, namespace, filter or vector that cannot be used
    │   └── StoreClosedError
    ├── ProviderError               the outside world; ``provider``, ``retryable``
    │   ├── EmbeddingError          ``request_id``, where the vendor gave one
    │   ├── RerankError             likewise
    │   ├── QuotaError              the account is out of credit or over its quota: waiting does not help
    │   ├── IndexUnavailableError
    │   │   ├── StoreLockedError    another process has the store open; ``pid``
    │   │   └── ForkedStoreError    the store was opened before a fork
    │   └── KeyServiceError
    ├── SealError                   confidentiality or integrity; never retryable
    │   ├── UnsealedPayloadError    plaintext where an envelope must be
    │   ├── DecryptionError         tampered, truncated, or moved from where it was sealed
    │   │   └── WrongKeyError       the envelope was made under another key
    │   └── UnknownKeyError         the key ring has no such key (never had, or it was destroyed)
    ├── MigrationError              a migration was refused or cannot go on; says why and what to do
    ├── TrainingError               fine-tuning made nothing better than what it started from; nothing was written
    └── MemoryNotFoundError         also a LookupError

Messages say what to do next.  Those of SealError carry ids only: never text, never key material.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class MemoryPluginError(Exception):
    """The root of the tree."""

    def __reduce__(self) -> tuple[Any, ...]:
        # The constructors below take more than a message: an error must still cross a process border.
        return _again, (type(self), self.args, self.__dict__)


def _again(kind: type[MemoryPluginError], args: tuple[object, ...], state: dict[str, Any]) -> MemoryPluginError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class ConfigurationError(MemoryPluginError):
    """The caller's fault, noticed before any I/O."""


class MissingExtraError(ConfigurationError, ImportError):
    """An optional dependency is not installed.

    Attributes:
        extra: Name of the extra that brings it.
    """

    def __init__(self, what: str, extra: str) -> None:
        """Name what needs which extra."""
        self.extra = extra
        super().__init__(f"{what} needs an optional package: pip install 'memory-plugin[{extra}]'")


class UnknownProviderError(ConfigurationError):
    """No provider of that name."""


class ManifestMismatchError(ConfigurationError):
    """The store was made with something else than what it is being opened with."""


class ModelDriftError(ManifestMismatchError):
    """A model makes other vectors than when its space was begun, under the same name."""


class NetworkForbiddenError(ConfigurationError):
    """A provider would leave the machine, and the store was opened with ``allow_network=False``."""


class InvalidInputError(ConfigurationError, ValueError):
    """A value that cannot be used; the message says why and what would do."""


class StoreClosedError(ConfigurationError):
    """The store was closed."""


class ProviderError(MemoryPluginError):
    """Something outside this library failed.

    Attributes:
        provider: What failed, e.g. "local:all-MiniLM-L6-v2" or "qdrant-edge".
        retryable: Whether the same call may succeed later.
        request_id: The vendor's name of the call, for its support; None where there is none.
    """

    def __init__(self, message: str, *, provider: str, retryable: bool = False, request_id: str | None = None) -> None:
        """Say what failed where."""
        self.provider = provider
        self.retryable = retryable
        self.request_id = request_id
        super().__init__(message)


class EmbeddingError(ProviderError):
    """An embedder failed or returned something that is not n vectors of its dimension."""


class RerankError(ProviderError):
    """A reranker failed or returned something that is not n scores."""


class QuotaError(ProviderError):
    """The vendor's account is out of credit or over its quota; unlike a rate limit, waiting does not help."""


class IndexUnavailableError(ProviderError):
    """Qdrant could not do what was asked."""


class StoreLockedError(IndexUnavailableError):
    """Another process has the embedded store open.

    Attributes:
        pid: Its process id, or None when it is not known.
    """

    def __init__(self, message: str, *, provider: str, pid: int | None = None) -> None:
        """Name the owner."""
        self.pid = pid
        super().__init__(message, provider=provider, retryable=True)


class ForkedStoreError(IndexUnavailableError):
    """An embedded store was used in a child that was forked after it was opened."""


class KeyServiceError(ProviderError):
    """Keys could not be read, wrapped or unwrapped."""


class SealError(MemoryPluginError):
    """A payload cannot be trusted or cannot be read."""


class UnsealedPayloadError(SealError):
    """Plaintext where an envelope must be."""


class DecryptionError(SealError):
    """An envelope was tampered with, truncated, or moved from where it was sealed."""


class WrongKeyError(DecryptionError):
    """An envelope was made under another key."""


class UnknownKeyError(SealError):
    """The key ring does not hold the key that an envelope names."""


class MigrationError(MemoryPluginError):
    """A change of model was refused, or cannot go on; the store serves as before."""


class TrainingError(MemoryPluginError):
    """Fine-tuning made nothing better than the model that it started from; nothing was written."""


class MemoryNotFoundError(MemoryPluginError, LookupError):
    """No memory of that id in that namespace."""


@contextmanager
def translate(to: type[ProviderError], *, provider: str) -> Iterator[None]:
    """Let only our tree escape: anything else that is raised inside becomes ``to``, its cause kept.

    Raises:
        ProviderError: Of the given type, with the original's type and message.
    """
    try:
        yield
    except MemoryPluginError:
        raise
    except Exception as error:
        raise to(f"{provider}: {type(error).__name__}: {error}", provider=provider) from error
