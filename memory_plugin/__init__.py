"""A memory for agents: encrypted at rest, measured, on embedded or served Qdrant.

from memory_plugin import MemoryStore

with MemoryStore.open("./memory") as store:
    store.add("Alice moved to Lisbon in May.", namespace="alice")
    print(store.context("Where does Alice live now?", namespace="alice"))
"""

from memory_plugin.async_store import AsyncMemoryStore
from memory_plugin.cache import CachedEmbedder
from memory_plugin.crypto.kek import CallbackKek, LocalKek
from memory_plugin.crypto.keyring import PLAINTEXT, FileKeyRing
from memory_plugin.engine.describe import Verified
from memory_plugin.engine.manage import Forgotten
from memory_plugin.engine.migration import Migration, MigrationProgress
from memory_plugin.engine.rotate import Rotated
from memory_plugin.errors import (
    ConfigurationError,
    DecryptionError,
    EmbeddingError,
    ForkedStoreError,
    IndexUnavailableError,
    InvalidInputError,
    KeyServiceError,
    ManifestMismatchError,
    MemoryNotFoundError,
    MemoryPluginError,
    MigrationError,
    MissingExtraError,
    ModelDriftError,
    NetworkForbiddenError,
    ProviderError,
    QuotaError,
    RerankError,
    SealError,
    StoreClosedError,
    StoreLockedError,
    TrainingError,
    UnknownKeyError,
    UnknownProviderError,
    UnsealedPayloadError,
    WrongKeyError,
)
from memory_plugin.filters import and_, any_of, eq, not_, or_, range_, time_range
from memory_plugin.settings import Settings
from memory_plugin.store import MemoryStore
from memory_plugin.types import (
    Added,
    Chunk,
    Citation,
    Context,
    Document,
    Embeddings,
    Hit,
    Message,
    ModelIdentity,
    Page,
    Record,
    Results,
    StageScore,
    TokenVectors,
    Usage,
)

__version__ = "0.1.0"

__all__ = [
    "PLAINTEXT",
    "Added",
    "AsyncMemoryStore",
    "CachedEmbedder",
    "CallbackKek",
    "Chunk",
    "Citation",
    "ConfigurationError",
    "Context",
    "DecryptionError",
    "Document",
    "EmbeddingError",
    "Embeddings",
    "FileKeyRing",
    "Forgotten",
    "ForkedStoreError",
    "Hit",
    "IndexUnavailableError",
    "InvalidInputError",
    "KeyServiceError",
    "LocalKek",
    "ManifestMismatchError",
    "MemoryNotFoundError",
    "MemoryPluginError",
    "MemoryStore",
    "Message",
    "Migration",
    "MigrationError",
    "MigrationProgress",
    "MissingExtraError",
    "ModelDriftError",
    "ModelIdentity",
    "NetworkForbiddenError",
    "Page",
    "ProviderError",
    "QuotaError",
    "Record",
    "RerankError",
    "Results",
    "Rotated",
    "SealError",
    "Settings",
    "StageScore",
    "StoreClosedError",
    "StoreLockedError",
    "TokenVectors",
    "TrainingError",
    "UnknownKeyError",
    "UnknownProviderError",
    "UnsealedPayloadError",
    "Usage",
    "Verified",
    "WrongKeyError",
    "and_",
    "any_of",
    "eq",
    "not_",
    "or_",
    "range_",
    "time_range",
]
