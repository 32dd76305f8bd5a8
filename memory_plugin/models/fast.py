"""fastembed's models, from its list or from a directory, for embedding and for re-ranking."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memory_plugin.errors import ConfigurationError, InvalidInputError
from memory_plugin.models import optional
from memory_plugin.models.files import directory, fingerprint, first, name_of, onnx_files, read_json
from memory_plugin.models.files import revision_of as hub_revision

EXTRA = "fastembed"
FILES = ("model_optimized.onnx", "model.onnx", "onnx/model.onnx", "model_quantized.onnx", "onnx/model_quantized.onnx")
POOLING = ("cls", "mean", "last_token", "disabled")

_guard = threading.Lock()


@dataclass(frozen=True, slots=True)
class Choice:
    """Which model, and where its files are.

    Args:
        name: As fastembed lists it, or of the directory.
        place: The directory of its files, or None where fastembed fetches and keeps them.
        listed: Whether fastembed knows the model.
    """

    name: str
    place: Path | None
    listed: bool

    @property
    def file(self) -> Path:
        """The ONNX file in the directory.

        Raises:
            ConfigurationError: There is none.
        """
        assert self.place is not None
        found = first(self.place, FILES)
        if found is None:
            raise ConfigurationError(f"{self.place} holds no ONNX model: one of {', '.join(FILES)}")
        return found


def choose(model: str, path: str | None) -> Choice:
    """The model of a name, or in a directory, or of a name with its files in a directory.

    Raises:
        InvalidInputError: There is no such directory.
        MissingExtraError: fastembed is not installed.
    """
    optional.require("fastembed", what="fastembed", extra=EXTRA)
    place = directory(model)
    if place is not None:
        return Choice(name_of(place), place, listed=False)
    where = directory(path) if path is not None else None
    if path is not None and where is None:
        raise InvalidInputError(f"there is no directory {path!r:.200} to read {model} from")
    return Choice(model, where, listed=True)


def pooling_of(place: Path, given: str | None) -> str:
    """How a directory's model pools its word pieces, as sentence-transformers' files tell it.

    Raises:
        InvalidInputError: What was given is no way to pool.
        ConfigurationError: Nothing was given, and the files do not tell.
    """
    if given is not None:
        if given not in POOLING:
            raise InvalidInputError(f"pooling is one of {', '.join(POOLING)}, not {given!r:.80}")
        return given
    told = read_json(place / "1_Pooling" / "config.json")
    for mode, keys in {
        "cls": ("cls", "pooling_mode_cls_token"),
        "mean": ("mean", "pooling_mode_mean_tokens"),
        "last_token": ("lasttoken", "pooling_mode_lasttoken"),
    }.items():
        if told.get("pooling_mode") == keys[0] or told.get(keys[1]) is True:
            return mode
    raise ConfigurationError(
        f"{place} does not tell how the model pools its word pieces: say pooling='cls', 'mean' or 'last_token', or"
        " 'disabled' where its output is one vector a text"
    )


def register(kind: Any, name: str, add: Callable[[], None]) -> None:
    """Make fastembed know a model of ours, once a process: its list is its class's."""
    with _guard:
        if name.lower() not in {one["model"].lower() for one in kind.list_supported_models()}:
            add()


def load(kind: Any, choice: Choice, registered: str, **settings: Any) -> Any:
    """Have fastembed read the model.

    Args:
        kind: TextEmbedding or TextCrossEncoder.
        choice: Which.
        registered: The name that fastembed knows it by.
        settings: As its class takes them.

    Raises:
        ConfigurationError: fastembed does not know it, or cannot read it.
    """
    if choice.place is not None:
        # Its own directory as the cache: fastembed would make one elsewhere.
        settings |= {"specific_model_path": str(choice.place), "cache_dir": str(choice.place)}
    try:
        return kind(registered, **settings)
    except Exception as error:
        raise ConfigurationError(
            f"fastembed cannot load {choice.name!r}: {error} (a directory is given by its path; the names are"
            f" fastembed.{kind.__name__}.list_supported_models())"
        ) from error


def revision(choice: Choice, model: Any, *settings: object) -> str:
    """The commit of a model from a hub, else a hash of its files.

    Raises:
        ConfigurationError: Where its files are cannot be told.
    """
    if choice.place is not None:
        return fingerprint(_existing(choice.place, onnx_files(choice.file)), *settings)
    place, file = getattr(model, "_model_dir", None), getattr(model.model_description, "model_file", "")
    if place is None:
        raise ConfigurationError(f"fastembed does not tell where the files of {choice.name} are: give them by path=")
    return hub_revision(Path(place)) or fingerprint(_existing(Path(place), [Path(place) / file]))


def _existing(place: Path, files: Sequence[Path]) -> list[Path]:
    return [*files, *(path for name in _BESIDE if (path := place / name).is_file())]


_BESIDE = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
