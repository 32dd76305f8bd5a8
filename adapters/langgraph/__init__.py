"""LangGraph: a ``BaseStore`` on a memory store, for ``compile(store=…)``, ``create_agent(store=…)`` and langmem."""

from __future__ import annotations

from memory_plugin.adapters.langgraph.store import LangGraphStore

__all__ = ["LangGraphStore"]
