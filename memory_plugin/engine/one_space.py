"""A search from beginning to end in one space, whatever a migration does meanwhile."""

from __future__ import annotations

from collections.abc import Iterable

from memory_plugin.engine.core import Engine, Model
from memory_plugin.engine.rank import DENSE
from memory_plugin.engine.request import Request
from memory_plugin.engine.search import search
from memory_plugin.engine.spaces import moved
from memory_plugin.errors import IndexUnavailableError, InvalidInputError
from memory_plugin.types import Hit, Results


async def search_active(engine: Engine, asked: Request) -> Results:
    """The memories that answer the query, by the model that is searched when it begins.

    The model is read once, so that a switch in the middle mixes nothing.  Only where its space was dropped meanwhile is
    the search made again, in the space that took its place.

    Raises:
        ManifestMismatchError: The store is searched by a model that this process does not have.
        MemoryPluginError: As ``search``.
    """
    while True:
        model = engine.active
        try:
            found = await search(engine, model, asked)
        except (IndexUnavailableError, InvalidInputError):
            if not await moved(engine, model):
                raise
        else:
            if await _held(engine, model, found):
                return found


async def _held(engine: Engine, model: Model, found: Iterable[Hit]) -> bool:
    """Whether the space was there to the end: where vectors are sealed, one that is gone looks like an empty one."""
    if engine.settings.vectors == "sealed" and not any(DENSE in hit.stages for hit in found):
        return not await moved(engine, model)
    return model.space in engine.manifest.spaces
