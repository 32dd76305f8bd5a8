"""What stands where a store was, in an object that was pickled or read back from JSON.

A store holds keys and an open database, and a filter may quote what is remembered: neither is written out.  Of a
filter only that there was one is kept, so that an object does not come back seeing more than it did.
"""

from __future__ import annotations

from typing import Any, Self

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

    Whoever inherits takes the store as its first argument, ``filter=`` where it has one, and what ``_settings`` gives
    as keyword arguments.
    """

    _store: Any
    _filter: Any
    narrowed: bool

    def _settings(self) -> dict[str, Any]:
        """JSON values of all arguments but the store and the filter."""
        raise NotImplementedError

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
        given = {name: value for name, value in {**data, **changes}.items() if name != "class_name"}
        narrowed = given.pop("narrowed", False)
        made = cls(Detached(cls.__name__), **given)  # type: ignore[call-arg]
        made.narrowed = narrowed
        return made if store is None else made.attach(store, filter=filter)

    def __reduce__(self) -> tuple[Any, ...]:
        return _read_back, (type(self), {**self._settings(), "narrowed": self.narrowed})

    def __copy__(self) -> Self:
        made = type(self).from_dict({**self._settings(), "narrowed": False})
        return made.attach(self._store, filter=self._filter)

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self.__copy__()  # over the same store: there is no second one


def _read_back(kind: type[Attachable], data: dict[str, Any]) -> Attachable:
    return kind.from_dict(data)


def spelled(namespace: NamespacesLike | list[list[str]]) -> tuple[Namespace, ...]:
    """Namespaces in one form, also after JSON, which knows no tuples.

    Raises:
        InvalidInputError: They are none.
    """
    if isinstance(namespace, list):
        return namespaces([tuple(one) if isinstance(one, list) else one for one in namespace])
    return namespaces(namespace)
