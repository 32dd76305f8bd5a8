"""Adapters for LlamaIndex; see docs/llama-index.md.

from memory_plugin.adapters.llama_index import MemoryRetriever

nodes = MemoryRetriever(store, "alice").retrieve("Where does she live?")
"""

from memory_plugin.adapters.extras import needs

with needs("llama-index", "the LlamaIndex adapter"):
    from memory_plugin.adapters.llama_index.block import MemoryBlock
    from memory_plugin.adapters.llama_index.embedding import MemoryEmbedding
    from memory_plugin.adapters.llama_index.memory import ChatMemory
    from memory_plugin.adapters.llama_index.reranker import MemoryReranker
    from memory_plugin.adapters.llama_index.retriever import MemoryRetriever
    from memory_plugin.adapters.llama_index.vector_store import MemoryVectorStore

__all__ = ["ChatMemory", "MemoryBlock", "MemoryEmbedding", "MemoryReranker", "MemoryRetriever", "MemoryVectorStore"]
