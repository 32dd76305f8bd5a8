"""How the conformance tests of ``langgraph_store.py`` reach a store, and the values that they keep in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any, Literal, Protocol, TypeAlias

from anyio.from_thread import BlockingPortal

from memory_plugin.adapters.extras import needs

with needs("langgraph", "a LangGraph store's tests"):
    from langgraph.store.base import BaseStore, Item, Op, SearchItem, TTLConfig

Way: TypeAlias = Literal["blocking", "on a loop"]
Namespace: TypeAlias = tuple[str, ...]

NOTES = ("memories", "notes")
"""The namespace of tests that need only one."""

SHAPES: dict[str, dict[str, Any]] = {
    "empty": {},
    "text": {"text": "I like tea."},
    "empty text": {"text": ""},
    "spaces": {"text": " \t\n"},
    "numbers": {"whole": 7, "zero": 0, "minus": -1, "large": 2**60, "part": 0.1, "tiny": 5e-324, "huge": 1.7e308},
    "a float that is whole": {"n": 1.0},
    "truth": {"yes": True, "no": False, "nothing": None},
    "lists": {"empty": [], "mixed": [1, "a", None, True, 2.5, [], {}], "nested": [[1, [2, [3]]]]},
    "nested": {"a": {"b": {"c": {"d": ["e", {"f": "g"}]}}}},
    "unicode": {"naïve": "Ω ≈ 東京", "שלום": "🎉 👩‍👩‍👧", "rtl": "\u202eabc", "combining": "e\u0301"},
    "control characters": {"text": 'a\nb\tc\r\x01 "quoted" \\ back'},
    "odd keys": {"": "an empty key", "a.b": 1, "$eq": 2, "a[0]": 3, "*": 4, "'; DROP TABLE store; --": 5, "key": "k"},
    "their own names": {"value": {"value": 1}, "namespace": ["x"], "created_at": "never", "score": 1, "text": "t"},
}
"""JSON objects of every kind, by what is special about them."""

KEYS = (
    *("", " ", "key", "Key", "a.b", "a/b", "a:b", "*", "$", "'; DROP TABLE store; --", "with space", "\n"),
    *("naïve", "東京", "🎉", "e\u0301", "é", "x" * 1000, "0", "None", "../up"),
)
"""Keys that differ, and must stay so."""


class OpenStore(Protocol):
    """Makes an empty store."""

    def __call__(self, *, ttl: TTLConfig | None = None, fields: list[str] | None = None) -> BaseStore:
        """An empty store with that configuration; ``fields`` as in LangGraph's ``IndexConfig``."""


class Calls:
    """A store whose methods are called in one way: its own, or their async twins on an event loop.

    Args:
        store: The store.
        way: "blocking" or "on a loop".
        portal: The loop, in a thread of its own.
    """

    def __init__(self, store: BaseStore, way: Way, portal: BlockingPortal) -> None:
        self.store = store
        self.way = way
        self.portal = portal

    def _call(self, name: str, *given: Any, **named: Any) -> Any:
        if self.way == "blocking":
            return getattr(self.store, name)(*given, **named)
        method = getattr(self.store, f"a{name}")
        return self.portal.call(lambda: method(*given, **named))

    def batch(self, ops: Sequence[Op]) -> list[Any]:
        """Of any operations; results in their order."""
        found: list[Any] = self._call("batch", ops)
        return found

    def get(self, namespace: Namespace, key: str, **named: Any) -> Item | None:
        """One item, or None."""
        found: Item | None = self._call("get", namespace, key, **named)
        return found

    def value(self, namespace: Namespace, key: str) -> Any:
        """An item's value; None where there is none."""
        found = self.get(namespace, key)
        return None if found is None else found.value

    def at(self, namespace: Namespace, key: str, **named: Any) -> Item:
        """One item that is there."""
        found = self.get(namespace, key, **named)
        assert found is not None
        return found

    def put(self, namespace: Namespace, key: str, value: Any, *given: Any, **named: Any) -> None:
        """Keep an item."""
        assert self._call("put", namespace, key, value, *given, **named) is None

    def delete(self, namespace: Namespace, key: str) -> None:
        """Delete an item."""
        assert self._call("delete", namespace, key) is None

    def search(self, prefix: Namespace, **named: Any) -> list[SearchItem]:
        """Items under a prefix."""
        found: list[SearchItem] = self._call("search", prefix, **named)
        assert all(isinstance(item, SearchItem) for item in found)
        return found

    def keys(self, prefix: Namespace, **named: Any) -> list[str]:
        """Keys of what a search returns, sorted."""
        return sorted(item.key for item in self.search(prefix, **named))

    def namespaces(self, **named: Any) -> list[Namespace]:
        """What ``list_namespaces`` returns."""
        found: list[Namespace] = self._call("list_namespaces", **named)
        return found

    def together(self, work: Sequence[Callable[[Calls], Any]]) -> list[Any]:
        """Do all at the same time, each in a thread of its own; on a loop, the calls meet there as tasks."""
        with ThreadPoolExecutor(len(work)) as threads:
            return [future.result() for future in [threads.submit(one, self) for one in work]]


def moments(item: Item) -> tuple[datetime, datetime]:
    """When it was made and last changed."""
    return item.created_at, item.updated_at
