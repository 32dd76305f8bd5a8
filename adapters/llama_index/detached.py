"""What stands where a store was, in an object that was pickled or read back from JSON.

A store holds keys and an open database, and a filter may quote what is remembered: neither is written out.  Of a
filter only that there was one is kept, so that an object does not come back seeing more than it did.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

from memory_plugin import ConfigurationError
from memory_plugin.ids import NamespacesLike, namespaces
from memory_plugin.types import Namespace


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


class Attachable:
    """An object over a store, that goes through JSON and pickle without it.

    Whoever inherits takes the store as its first argument, ``filter=`` where it has one, and the other ``arguments`` by
    their names, of which ``to_dict`` gives the values.
    """

    arguments: ClassVar[tuple[str, ...]] = ()

    if TYPE_CHECKING:
        _store: Any
        _filter: Any
        narrowed: bool

        def to_dict(self, **kwargs: Any) -> dict[str, Any]:
            """JSON values of the arguments, and ``narrowed``."""

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

    @classmethod
    def from_dict(cls, data: dict[str, Any], *, store: Any = None, filter: Any = None, **changes: Any) -> Self:
        """Read back what ``to_dict`` wrote.

        Args:
            data: From ``to_dict``.
            store: The store that it worked on; without one, every use is a ``ConfigurationError`` until ``attach``.
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
        return made if store is None else made.attach(store, filter=filter)

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
