"""A key that no repr, log, traceback or pickle shows."""

from __future__ import annotations

from typing import Any, NoReturn


class Secret:
    """Holds a key; ``reveal`` is the one way to it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    @classmethod
    def of(cls, given: str | Secret | None) -> Secret | None:
        """A key as a caller gave it; an empty one is none."""
        if isinstance(given, Secret) or given is None:
            return given
        return cls(given.strip()) if given.strip() else None

    def reveal(self) -> str:
        """The key.  Use it inside an expression: a local variable shows in tracebacks with locals."""
        return self._text

    def within(self, *texts: str) -> bool:
        """Whether any of the texts holds the key."""
        return any(self._text in text for text in texts)

    def hide(self, text: str) -> str:
        """The text with the key taken out."""
        return text.replace(self._text, "[key]")

    def __repr__(self) -> str:
        return "Secret()"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not pickled: make the provider anew in the other process")

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self
