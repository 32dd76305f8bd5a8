"""What an adapter needs that is not installed, said in one line with the command that installs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from memory_plugin import MissingExtraError


@contextmanager
def needs(extra: str, what: str) -> Iterator[None]:
    """Import a framework inside; one that is not installed is said with the extra that brings it.

    Args:
        extra: The extra of this package.
        what: The adapter, as users call it.

    Raises:
        MissingExtraError: The framework, or something that it needs itself, is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingExtraError(what, extra) from error
