"""Models that sentence-transformers loads, from a hub or from a directory, for embedding and for re-ranking."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from memory_plugin.errors import ConfigurationError, InvalidInputError
from memory_plugin.models import optional
from memory_plugin.models.files import directory, fingerprint, name_of, revision_of

EXTRA = "sentence-transformers"
PROVIDER = "sentence-transformers"

# What decides vectors, beside weights; "config.json" also of pooling and other modules.
_TOLD = frozenset(
    {
        "config.json",
        "modules.json",
        "sentence_bert_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
        "merges.txt",
        "vocab.json",
        "sentencepiece.bpe.model",
        "spiece.model",
        "tokenizer.model",
        "router_config.json",
    }
)
_SAFE, _PICKLED = ".safetensors", frozenset({".bin", ".pt", ".pth"})
# Other exports of the same weights, and what training leaves behind.
_ELSEWHERE = frozenset({"onnx", "openvino", "eval", "runs"})
_TRAINING = frozenset({"training_args.bin", "optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state.pth"})


@dataclass(frozen=True, slots=True)
class Choice:
    """Which model, and how it may be read.

    Args:
        name: On the hub, or of the directory.
        place: The directory, or None.
        revision: Which commit of a hub's model, as the caller wants it.
        local_files_only: Whether nothing may be fetched.
        device: "cpu", "cuda", "mps"; None for the best there is.
        cache_folder: Where what is fetched is kept.
        trust_remote_code: Whether code that comes with the model is run.
    """

    name: str
    place: Path | None
    revision: str | None
    local_files_only: bool
    device: str | None
    cache_folder: str | None
    trust_remote_code: bool

    @property
    def leaves_machine(self) -> bool:
        """Whether a hub may be asked for the model."""
        return self.place is None and not self.local_files_only


def choose(
    model: str | os.PathLike[str],
    *,
    revision: str | None,
    local_files_only: bool,
    device: str | None,
    cache_folder: str | os.PathLike[str] | None,
    trust_remote_code: bool,
) -> Choice:
    """The model of a name, or in a directory.

    Raises:
        InvalidInputError: There is no such directory, or a revision was given for one.
        MissingExtraError: sentence-transformers is not installed.
    """
    optional.require("sentence_transformers", what=f"{PROVIDER!r}", extra=EXTRA)
    place = directory(model)
    if place is not None and revision is not None:
        raise InvalidInputError("a directory holds one revision: leave revision out")
    name = name_of(place) if place is not None else os.fspath(model)
    cache = None if cache_folder is None else os.fspath(cache_folder)
    return Choice(name, place, revision, local_files_only, device, cache, trust_remote_code)


def load(kind: str, choice: Choice, **settings: Any) -> Any:
    """Have sentence-transformers read the model.

    Args:
        kind: Its class: "SentenceTransformer" or "CrossEncoder".
        choice: Which.
        settings: More for the class.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
        ConfigurationError: It cannot read the model.
    """
    library = optional.load("sentence_transformers", what=f"{PROVIDER!r}", extra=EXTRA)
    with _quiet():
        try:
            return getattr(library, kind)(
                str(choice.place or choice.name),
                device=choice.device,
                revision=choice.revision,
                # For a directory too: a hub would be asked for what is told of the model it was made from.
                local_files_only=choice.local_files_only or choice.place is not None,
                cache_folder=choice.cache_folder,
                trust_remote_code=choice.trust_remote_code,
                **settings,
            )
        except Exception as error:
            raise ConfigurationError(f"{PROVIDER} cannot load {choice.place or choice.name}: {error}") from error


class _quiet:  # noqa: N801, a context manager
    """No progress bar while weights are read: it would be written over the caller's output."""

    def __enter__(self) -> None:
        self._logging = optional.load("transformers.utils.logging", what=f"{PROVIDER!r}", extra=EXTRA)
        self._shown = self._logging.is_progress_bar_enabled()
        self._logging.disable_progress_bar()

    def __exit__(self, *_: object) -> None:
        if self._shown:
            self._logging.enable_progress_bar()


def files(place: Path) -> list[Path]:
    """The files of a directory that decide what its model makes, in order."""
    found = [
        path
        for path in sorted(place.rglob("*"))
        if path.is_file()
        and not {part.lower() for part in path.relative_to(place).parts[:-1]} & _ELSEWHERE
        and not any(part.startswith(".") for part in path.relative_to(place).parts)
    ]
    safe = {path.parent for path in found if path.suffix == _SAFE}
    return [
        path
        for path in found
        if path.name in _TOLD
        or path.suffix == _SAFE
        or (path.suffix in _PICKLED and path.name not in _TRAINING and path.parent not in safe)
    ]


def revision(choice: Choice, model: Any) -> str:
    """The commit of a hub's model, or a hash of a directory's files.

    Args:
        choice: Which.
        model: As loaded; not looked at for a directory.

    Raises:
        ConfigurationError: The directory holds no weights, or the commit cannot be told.
    """
    if choice.place is not None:
        found = files(choice.place)
        if not any(path.suffix == _SAFE or path.suffix in _PICKLED for path in found):
            raise ConfigurationError(f"{choice.place} holds no weights: model.safetensors or pytorch_model.bin")
        return fingerprint(found)
    commit = _cached_commit(choice) or getattr(getattr(model, "config", None), "_commit_hash", None)
    if not isinstance(commit, str):
        raise ConfigurationError(
            f"which commit of {choice.name} was loaded cannot be told: download it, and give its directory"
        )
    return commit


def _cached_commit(choice: Choice) -> str | None:
    """The commit whose files the hub's cache holds."""
    hub = optional.load("huggingface_hub", what=f"{PROVIDER!r}", extra=EXTRA)
    cache = choice.cache_folder or os.environ.get("SENTENCE_TRANSFORMERS_HOME")
    # sentence-transformers takes a bare name for one of its own.
    for name in (choice.name, f"sentence-transformers/{choice.name}", f"cross-encoder/{choice.name}"):
        for file in ("modules.json", "config.json"):
            if name.count("/") == 1:
                found = hub.try_to_load_from_cache(name, file, cache_dir=cache, revision=choice.revision)
                if isinstance(found, str):
                    return revision_of(Path(found).parent)
    return None


def prompts_of(model: Any) -> Mapping[str, object]:
    """What the model's own configuration wants before texts."""
    found = getattr(model, "prompts", None)
    return found if isinstance(found, Mapping) else {}


def tokenizer_of(model: Any) -> Any:
    """A copy of the model's tokenizer as ``tokenizers`` has them, or None where it is of another make."""
    theirs = getattr(model, "tokenizer", None)
    fast: Any = getattr(theirs, "backend_tokenizer", theirs)
    if not hasattr(fast, "to_str"):
        return None
    from tokenizers import Tokenizer

    return Tokenizer.from_str(fast.to_str())


def window_of(model: Any) -> int:
    """Word pieces that the model reads; a large number where it tells no limit."""
    told = getattr(model, "max_seq_length", None)
    return int(told) if isinstance(told, int | float) and 2 < told < 2**20 else 2**20
