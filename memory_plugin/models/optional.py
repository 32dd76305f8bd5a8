"""Packages that only some providers need."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from memory_plugin.errors import MissingExtraError


def require(module: str, *, what: str, extra: str) -> None:
    """See that a package is installed, without importing it.

    Raises:
        MissingExtraError: It is not.
    """
    try:
        found = importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # a parent is missing, or what stands in its place is no module
        found = False
    if not found:
        raise MissingExtraError(what, extra)


def load(module: str, *, what: str, extra: str) -> Any:
    """Import a package.

    Raises:
        MissingExtraError: It, or something that it needs, is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingExtraError(what, extra) from error
