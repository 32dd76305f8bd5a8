"""Vectors that a killed change left in the segments: the engine does not open a shard that has others than it is told.

Only under the lock, and what removes only while the shard is closed.  A segment's directory, as qdrant-edge 0.9 makes
it: ``segment.json`` names its vectors, ``vector_storage-<name>`` and ``vector_index-<name>`` hold them.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from memory_plugin.index.edge_files import write_durably

_KINDS = ("vector_data", "sparse_vector_data")
_FOLDERS = ("vector_storage-", "vector_index-")


def _segments(shard: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    for state in sorted((shard / "segments").glob("*/segment.json")):
        try:
            described = json.loads(state.read_bytes())
        except ValueError:
            continue  # the engine will say what it thinks of it
        if isinstance(described, dict) and isinstance(described.get("config"), dict):
            yield state, described


def vectors(shard: Path) -> set[str]:
    """The names of the vectors that any segment has."""
    return {name for _, state in _segments(shard) for kind in _KINDS for name in state["config"].get(kind, {})}


def quantized(shard: Path) -> dict[str, bool]:
    """By dense vector: whether any segment keeps it quantized."""
    found: dict[str, bool] = {}
    for _, state in _segments(shard):
        for name, settings in state["config"].get("vector_data", {}).items():
            found[name] = found.get(name, False) or bool(settings.get("quantization_config"))
    return found


def remove_unknown(shard: Path, known: Collection[str]) -> None:
    """Remove all vectors but the known from the segments, and the folders of vectors that a segment does not name."""
    for file, state in _segments(shard):
        config = state["config"]
        kept = {kind: {k: v for k, v in config.get(kind, {}).items() if k in known} for kind in _KINDS}
        if any(len(kept[kind]) < len(config.get(kind, {})) for kind in _KINDS):
            # First the state: a segment that names a vector without a folder does not open.
            write_durably(file, json.dumps(state | {"config": config | kept}))
        named = {name for kind in _KINDS for name in kept[kind]}
        for folder in list(file.parent.iterdir()):
            prefix = next((prefix for prefix in _FOLDERS if folder.name.startswith(prefix)), None)
            if prefix is not None and folder.name.removeprefix(prefix) not in named and folder.is_dir():
                shutil.rmtree(folder)
