"""An embedder that remembers, sealed in a file, what its model made of a text."""

from memory_plugin.cache.embedder import CacheCounts, CachedEmbedder
from memory_plugin.cache.keys import CacheKey

__all__ = ["CacheCounts", "CacheKey", "CachedEmbedder"]
