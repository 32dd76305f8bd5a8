"""Directories of model files: is it one, what does its configuration say, and which weights are in it."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import re
import tempfile
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from memory_plugin.errors import ConfigurationError, InvalidInputError

LARGE = 32 * 2**20
"""Files from this size on are hashed once for all processes: their hash is remembered in the user's cache."""

_REMEMBERED = 256
_SNAPSHOT = re.compile(r"models--(?P<name>[^/\\]+)[/\\]snapshots[/\\](?P<revision>[0-9a-f]{40})$")
_guard = threading.Lock()
_hashes: dict[str, str] = {}


def directory(model: str | os.PathLike[str]) -> Path | None:
    """The directory that a model is given by; None for the name of a model on a hub.

    Raises:
        InvalidInputError: It can only be a directory, and there is none.
    """
    text = os.fspath(model)
    place = Path(text).expanduser()
    if text and place.is_dir():
        return place.resolve()
    if not text or "\x00" in text:
        raise InvalidInputError(
            f"{text!r} names no model: give a directory, or a name such as 'BAAI/bge-small-en-v1.5'"
        )
    if place.is_absolute() or text.startswith((".", "~")) or text.count("/") > 1 or "\\" in text or place.is_file():
        raise InvalidInputError(f"there is no directory {text!r:.200} to read a model from")
    return None


def name_of(place: Path) -> str:
    """What to call the model in a directory: the directory's name, or that of a hub's model that it is a copy of."""
    copied = _SNAPSHOT.search(str(place))
    return copied["name"].replace("--", "/") if copied else place.name


def revision_of(place: Path) -> str | None:
    """The commit of a hub's model that a directory is a copy of, or None."""
    copied = _SNAPSHOT.search(str(place))
    return copied["revision"] if copied else None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; an empty one where there is no such file.

    Raises:
        ConfigurationError: It cannot be read, or holds no JSON object.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"cannot read {path}: {error}") from error
    if not isinstance(found, dict):
        raise ConfigurationError(f"{path} holds no JSON object")
    return found


def first(place: Path, names: Iterable[str]) -> Path | None:
    """The first of the files that is there."""
    return next((place / name for name in names if (place / name).is_file()), None)


# In an ONNX file, the entry "location" of a tensor's external data: key, then the length of the value in one byte.
_LOCATION = re.compile(rb"\n\x08location\x12([\x01-\x7f])", re.DOTALL)


def onnx_files(model: Path) -> list[Path]:
    """An ONNX model's file, and those beside it that hold its weights: the model names them.

    Raises:
        ConfigurationError: It cannot be read.
    """
    try:
        with model.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            named = {data[found.end() : found.end() + found[1][0]] for found in _LOCATION.finditer(data)}
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"cannot read the model file {model}: {error}") from error
    beside = [model.parent / os.fsdecode(name) for name in sorted(named)]
    return [model, *(path for path in beside if path.is_file())]


def fingerprint(paths: Iterable[Path], *settings: object) -> str:
    """The beginning of a SHA-256 over the content of files, in that order, and over settings: 16 hex digits.

    Raises:
        ConfigurationError: A file cannot be read.
    """
    whole = hashlib.sha256()
    for path in paths:
        whole.update(bytes.fromhex(_sha256(path)))
    whole.update(json.dumps(settings, sort_keys=True).encode())
    return whole.hexdigest()[:16]


def _sha256(path: Path) -> str:
    """The SHA-256 of a file, computed when it is new or was changed."""
    try:
        about = path.stat()
        # The change time cannot be set back, unlike the modification time.
        key = f"{path}|{about.st_size}|{about.st_mtime_ns}|{about.st_ctime_ns}|{about.st_ino}"
        with _guard:
            known = _hashes.get(key) or (_remembered().get(key) if about.st_size >= LARGE else None)
        if known is None:
            with path.open("rb") as file:
                known = hashlib.file_digest(file, "sha256").hexdigest()
            if about.st_size >= LARGE:
                _remember(key, known)
    except OSError as error:
        raise ConfigurationError(f"cannot read the model file {path}: {error.strerror}") from error
    with _guard:
        _hashes[key] = known
    return known


def _cache() -> Path:
    import platformdirs

    return Path(platformdirs.user_cache_dir("memory-plugin", appauthor=False)) / "weights.json"


def _remembered() -> Mapping[str, str]:
    try:
        found = json.loads(_cache().read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    pairs = found.items() if isinstance(found, dict) else ()
    return {key: value for key, value in pairs if isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value)}


def _remember(key: str, value: str) -> None:
    # Without it a file is hashed again by the next process: nothing is lost.
    with suppress(OSError), _guard:
        path = _cache()
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = dict(list(_remembered().items())[-_REMEMBERED + 1 :]) | {key: value}
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            json.dump(kept, file)
        Path(file.name).replace(path)
