"""What ``add`` is given, as documents and messages: files, directories, chat logs, standard input."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

from memory_plugin.cli.options import source_name
from memory_plugin.dataset import timestamp
from memory_plugin.engine.entries import message_of
from memory_plugin.engine.images import MAX_IMAGE_BYTES
from memory_plugin.engine.inputs import read_file
from memory_plugin.errors import InvalidInputError
from memory_plugin.types import Document, Message

Format: TypeAlias = Literal["auto", "text", "markdown", "chat", "image"]
Item: TypeAlias = Document | Message

STDIN = "-"
CHAT_SUFFIX = ".jsonl"
TEXT_NAMES = re.compile(
    r"""(.+\.(adoc|bib|c|cc|cfg|conf|cpp|cs|css|csv|diff|eml|go|h|hpp|html?|ics|ini|ipynb|java|jl|jsx?|jsonl?|kt|log|lua
        |markdown|mdx?|org|patch|php|pl|proto|pyi?|rb?|rs|rst|scala|sh|sql|srt|swift|tex|te?xt|toml|tsv|tsx?|vtt|vue|xml
        |ya?ml)
    |authors|changelog|contributing|dockerfile|license|makefile|notice|readme)""",
    re.IGNORECASE | re.VERBOSE,
)
"""What is taken from directories; a file that is named is taken whatever it is called."""
IMAGE_NAMES = re.compile(r".+\.(gif|jpe?g|png|webp)", re.IGNORECASE)
"""Likewise where images are asked for."""

_MESSAGE_KEYS = ("role", "content", "name", "time", "timestamp", "id", "metadata", "local_only")


@dataclass(frozen=True, slots=True)
class Found:
    """A file to add.

    Args:
        path: Where it is.
        named: Whether the caller named it: then it has to be usable, else it is skipped.
    """

    path: Path
    named: bool


@dataclass(frozen=True, slots=True)
class How:
    """What the caller says of everything given.

    Args:
        source: Name for the one file given, or None.
        time: When it was written, or None.
        format: How to read it.
        limit: Longest text in bytes.
        local_only: Whether no model outside this machine may see it.
    """

    source: str | None
    time: datetime | None
    format: Format
    limit: int
    local_only: bool = False


def scan(paths: Sequence[str], skipped: Counter[str], *, images: bool = False) -> list[Found]:
    """Files to add, each once, in order; directories are searched all the way down.

    Args:
        paths: As given; "-" is standard input.
        skipped: Counts what is left out, by reason.
        images: Take images from directories in place of texts.

    Raises:
        InvalidInputError: A path does not exist.
    """
    found: dict[str, Found] = {}
    for given in paths:
        path = Path(given)
        if given == STDIN or path.is_file():
            found[given] = Found(path, named=True)
        elif path.is_dir():
            for inside in _walk(path, skipped, images=images):
                found.setdefault(str(inside), Found(inside, named=False))
        elif path.exists():
            raise InvalidInputError(f"{given} is neither a file nor a directory")
        else:
            raise InvalidInputError(f"there is no file {given}")
    return list(found.values())


def _walk(top: Path, skipped: Counter[str], *, images: bool) -> Iterator[Path]:
    def unreadable(_error: OSError) -> None:
        skipped["unreadable"] += 1

    for place, directories, names in os.walk(top, onerror=unreadable):
        hidden = [name for name in directories if name.startswith(".")]
        skipped["hidden"] += len(hidden)
        directories[:] = sorted(set(directories) - set(hidden))
        for name in sorted(names):
            path = Path(place, name)
            reason = _reason(path, images=images)
            if reason is None:
                yield path
            else:
                skipped[reason] += 1


def _reason(path: Path, *, images: bool) -> str | None:
    """Why a file in a directory is left out."""
    if path.name.startswith("."):
        return "hidden"
    if path.is_symlink() or not path.is_file():
        return "no regular file"
    if not (IMAGE_NAMES if images else TEXT_NAMES).fullmatch(path.name):
        return "no image by its name" if images else "no text by its name"
    return None


def load(found: Found, how: How, skipped: Counter[str]) -> list[Item]:
    """The documents and messages of a file.

    Raises:
        InvalidInputError: A file that the caller named cannot be used.
    """
    try:
        return _read(found.path, how, skipped)
    except InvalidInputError:
        if found.named:
            raise
        skipped["not readable as text"] += 1
        return []


def load_image(found: Found, how: How) -> tuple[bytes | Path, str | None]:
    """An image and what it is called: its path, unless the caller said; nothing for standard input.

    Raises:
        InvalidInputError: Standard input is too long.
    """
    if str(found.path) != STDIN:
        return found.path, how.source or source_name(found.path)
    data = sys.stdin.buffer.read(MAX_IMAGE_BYTES + 1)
    if len(data) > MAX_IMAGE_BYTES:
        raise InvalidInputError(f"standard input is longer than {MAX_IMAGE_BYTES:,} bytes")
    return data, how.source


def _read(path: Path, how: How, skipped: Counter[str]) -> list[Item]:
    standard = str(path) == STDIN
    name = how.source or (None if standard else source_name(path))
    document = _stdin(how) if standard else read_file(path, name, how.time, None, how.limit)
    if how.format == "chat" or (how.format == "auto" and path.suffix.lower() == CHAT_SUFFIX):
        return list(_messages(document.text, name or "stdin", how, skipped))
    if not document.text.strip():
        if standard:
            raise InvalidInputError("standard input is empty: there is nothing to remember")
        skipped["empty"] += 1
        return []
    return [document if how.format == "auto" else replace(document, markdown=how.format == "markdown")]


def _stdin(how: How) -> Document:
    data = sys.stdin.buffer.read(how.limit + 1)
    if len(data) > how.limit:
        raise InvalidInputError(f"standard input is longer than {how.limit:,} bytes: add it as several")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInputError(f"standard input is not UTF-8 text (byte {error.start})") from error
    return Document(text, source=how.source, time=how.time)


def _messages(text: str, name: str, how: How, skipped: Counter[str]) -> Iterator[Message]:
    """Messages of a chat log: one object a line; a message without an id is named by its line."""
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            message = _message(json.loads(line))
        except (ValueError, RecursionError) as error:
            reason = str(error) if isinstance(error, InvalidInputError) else "it is no JSON"
            raise InvalidInputError(f"{name} line {number} is no chat message: {reason}") from None
        if not message.content.strip():
            skipped["messages without text"] += 1
            continue
        yield replace(message, id=message.id or f"{name}:{number}", time=message.time or how.time)


def _message(found: Any) -> Message:
    """A line of a chat log; keys that a message does not have become its metadata."""
    if not isinstance(found, Mapping):
        raise InvalidInputError("it is no object")
    known = {key: found[key] for key in _MESSAGE_KEYS if key in found}
    spoken, written = known.pop("time", None), known.pop("timestamp", None)
    when = written if spoken is None else spoken
    message = message_of({"role": None, **known, "content": known.get("content") or ""})
    if not isinstance(message.role, str) or not isinstance(message.content, str):
        raise InvalidInputError("it needs a role and a content that are text")
    time = timestamp(when)
    if when is not None and time is None:
        raise InvalidInputError(f"its time cannot be read: {when!r:.60}")
    identity = None if message.id is None else str(message.id)
    metadata = message.metadata if isinstance(message.metadata, Mapping) else {}
    more = {key: value for key, value in found.items() if key not in _MESSAGE_KEYS}
    return replace(message, id=identity, time=time, metadata={**more, **metadata})
