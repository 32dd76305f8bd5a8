"""What users give by name: files as documents, questions in files, models by their names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from memory_plugin import dataset, registry
from memory_plugin import questions as files
from memory_plugin.dataset import Question
from memory_plugin.errors import ConfigurationError, InvalidInputError
from memory_plugin.protocols import AnyEmbedder, Embedder
from memory_plugin.types import Document, Metadata

Questions: TypeAlias = "str | os.PathLike[str] | Iterable[Question]"
"""Questions about the store with what answers them: a file that ``memory-plugin eval --make-questions`` begins, the
directory of an evaluation set that was added to the store, or a list."""

MARKDOWN_SUFFIXES = (".md", ".markdown", ".mdx")


def model_of(embedder: AnyEmbedder | str, *, allow_network: bool = True) -> Embedder:
    """An embedder as users may name it.

    Raises:
        NetworkForbiddenError: It leaves the machine, or does not tell, and ``allow_network`` is False.
        ConfigurationError: It is none.
    """
    find: Callable[..., Embedder] = registry.embedder if isinstance(embedder, str) else registry.adapted
    made = find(embedder, allow_network=allow_network)
    if not hasattr(made, "embed") or not hasattr(made, "identity"):
        raise ConfigurationError(f"{type(embedder).__name__} is no embedder: it has no embed, or no identity")
    return made


def read_questions(questions: Questions | None) -> Sequence[Question]:
    """Questions as they may be given: a file, a directory with an evaluation set, or a list.

    Raises:
        InvalidInputError: There are none, or they cannot be read.
    """
    if questions is None:
        return ()
    if isinstance(questions, str | os.PathLike):
        path = Path(questions)
        return dataset.read(path).questions if path.is_dir() else files.read_questions(path)
    listed = list(questions)
    if not listed or not all(isinstance(one, Question) for one in listed):
        raise InvalidInputError("questions are a file, the directory of an evaluation set, or a list of Question")
    return listed


def read_file(
    path: object, source: str | None, time: datetime | None, metadata: Metadata | None, limit: int
) -> Document:
    """A text file as a document: its path names it, its date is when it was written.

    Raises:
        InvalidInputError: There is no such file, it is too large, or it is not UTF-8 text.
    """
    if not isinstance(path, str | os.PathLike) or "\x00" in os.fspath(path):
        raise InvalidInputError(f"add_file takes the path of a file, not {path!r:.80}")
    path = Path(path)
    try:
        found = path.stat()
        if found.st_size > limit:
            raise InvalidInputError(f"{path} is {found.st_size:,} bytes long; at most {limit:,} are accepted")
        text = path.read_bytes().decode("utf-8-sig")
        modified = None if time is not None else datetime.fromtimestamp(found.st_mtime, UTC)
    except InvalidInputError:
        raise
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"{path} is not UTF-8 text (byte {error.start}): convert it to text first") from error
    except OSError as error:
        raise InvalidInputError(f"{path} cannot be read: {error.strerror or error}") from error
    except (OverflowError, ValueError) as error:
        raise InvalidInputError(f"{path} was written at a time that no calendar has: give time=") from error
    if "\x00" in text:
        raise InvalidInputError(f"{path} holds NUL bytes: it is no text")
    return Document(
        text=text,
        source=source if source is not None else path.as_posix(),
        time=time,
        metadata=metadata if metadata is not None else {},
        markdown=path.suffix.lower() in MARKDOWN_SUFFIXES,
        modified=modified,
    )
