"""What stands where a store was, in an object that was pickled or read back from JSON.

A store holds keys and an open database, and a filter may quote what is remembered: neither is written out.  Of a
filter only that there was one is kept, so that an object does not come back seeing more than it did.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeAlias
from weakref import WeakKeyDictionary

from memory_plugin import AsyncMemoryStore, ConfigurationError, MemoryStore
from memory_plugin.ids import NamespacesLike, namespaces
from memory_plugin.types import Namespace

AnyStore: TypeAlias = MemoryStore | AsyncMemoryStore
Legs: TypeAlias = Literal["hybrid", "dense", "lexical", "learned"]
Rerank: TypeAlias = Literal["none", "late", "full"]

FILTERS = 1024
"""Filters of a store that have names."""


class Detached:
    """No store: whatever is asked of it says how to give its owner one.

    Args:
        owner: Name of the class that it is in.
    """

    def __init__(self, owner: str) -> None:
        self._owner = owner

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise ConfigurationError(
            f"this {self._owner} was read back without its store, which is never written out: "
            f"call .attach(store), or {self._owner}.from_dict(data, store=store)"
        )

    def __repr__(self) -> str:
        return "Detached()"


class Links:
    """Stores of this process by random names, with the filters that objects over them have.

    LlamaIndex writes the state of a workflow out and reads it back whenever a saved context is run again: an object
    in it finds its store by such a name, as long as the store lives.  In another process the name says nothing.
    """

    def __init__(self) -> None:
        self._names: WeakKeyDictionary[Any, OrderedDict[Any, str]] = WeakKeyDictionary()
        self._guard = threading.Lock()

    def name(self, store: Any, filter: Any) -> str | None:
        """The name of a store with a filter; None for no store, or a filter that cannot be told from others."""
        if isinstance(store, Detached) or not isinstance(filter, Hashable):
            return None
        with self._guard:
            known = self._names.setdefault(store, OrderedDict())
            name = known.setdefault(filter, secrets.token_hex(16))
            known.move_to_end(filter)
            while len(known) > FILTERS:
                known.popitem(last=False)
            return name

    def find(self, name: object) -> tuple[Any, Any] | None:
        """The store and the filter of that name."""
        with self._guard:
            for store, known in self._names.items():
                for filter_, one in known.items():
                    if one == name:
                        return store, filter_
        return None

    def clear(self) -> None:
        """Forget all names, as a new process does not have them."""
        with self._guard:
            self._names.clear()


links = Links()


class Attachable:
    """An object over a store, that goes through JSON and pickle without it.

    Whoever inherits takes the store as its first argument, ``filter=`` where it has one, and the other ``arguments`` by
    their names, as which it has them too.
    """

    arguments: ClassVar[tuple[str, ...]] = ()

    if TYPE_CHECKING:
        _store: Any
        _filter: Any
        narrowed: bool

    def _connect(self) -> None:
        """Make again what was made of the store and the filter."""

    def attach(self, store: Any, *, filter: Any = None) -> Self:
        """Give an object that was read back its store, and its filter where it had one.

        Raises:
            ConfigurationError: It had a filter, and none is given.
        """
        if self.narrowed and filter is None:
            raise ConfigurationError(
                f"this {type(self).__name__} had a filter, which is never written out: give it again, filter=…"
            )
        self._store, self._filter, self.narrowed = store, filter, filter is not None
        self._connect()
        return self

    def to_dict(self, **_: Any) -> dict[str, Any]:
        """How it is set: nothing of the store and the filter but a random name that only this process knows."""
        own = {name: getattr(self, name) for name in self.arguments}
        link = links.name(self._store, self._filter)
        return {**own, "narrowed": self.narrowed, "link": link, "class_name": type(self).__name__}

    @classmethod
    def from_dict(cls, data: dict[str, Any], *, store: Any = None, filter: Any = None, **changes: Any) -> Self:
        """Read back what ``to_dict`` wrote.

        Args:
            data: From ``to_dict``.
            store: The store that it worked on; by default the very one, where it is still open in this process.
                Without one, every use is a ``ConfigurationError`` until ``attach``.
            filter: The filter that it had.
            **changes: In place of what is in ``data``.

        Raises:
            ConfigurationError: It had a filter, and a store is given without one.
        """
        given = {**data, **changes}
        made = cls(  # type: ignore[call-arg]
            Detached(cls.__name__), **{name: given[name] for name in cls.arguments if name in given}
        )
        made.narrowed = bool(given.get("narrowed"))
        if store is not None:
            return made.attach(store, filter=filter)
        linked = links.find(given.get("link"))
        return made if linked is None else made.attach(linked[0], filter=linked[1])

    def __reduce__(self) -> tuple[Any, ...]:
        return _read_back, (type(self), self.to_dict())

    def __copy__(self) -> Self:
        return type(self).from_dict(self.to_dict(), store=self._store, filter=self._filter)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.__copy__()  # over the same store: there is no second one


def _read_back(kind: type[Attachable], data: dict[str, Any]) -> Attachable:
    return kind.from_dict(data)


def spelled(namespace: NamespacesLike | Sequence[Sequence[str]]) -> tuple[Namespace, ...]:
    """Namespaces in one form, also after JSON, which knows no tuples.

    Raises:
        InvalidInputError: They are none.
    """
    if isinstance(namespace, str | tuple) and not (namespace and isinstance(namespace[0], tuple)):
        return namespaces(namespace)
    return namespaces([one if isinstance(one, str) else tuple(one) for one in namespace])
