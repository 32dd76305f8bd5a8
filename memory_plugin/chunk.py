"""Documents and messages into passages that fit a model's window, with exact offsets.  Pure.

The splitting is semantic-text-splitter's: paragraphs, then sentences, then words; for Markdown by
sections and blocks, so that a code block that fits stays whole.  Ours is what each passage carries along: the
speaker and day of a message, the heading path of a section.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from markdown_it import MarkdownIt
from semantic_text_splitter import MarkdownSplitter, TextSplitter

from memory_plugin.types import Chunk

SPECIAL_TOKENS = 2
CHARACTERS_PER_TOKEN = 16
"""A passage is never longer than this times its tokens: a tokenizer may take a megabyte as one unknown word."""
CONTEXT_SHARE = 4
"""A context takes at most one part in four of the window."""


# As Markdown counts lines; str.splitlines() would also break at form feeds and U+2028.
_LINE = re.compile(r"[^\n]*\n|[^\n]+")


class Pieces(Protocol):
    """A model's tokenizer: how long a text is for it, and the object that a splitter measures with."""

    tokenizer: Any

    def count(self, text: str, /) -> int:
        """Word pieces of the text, special ones included."""


def message_context(name: str | None, role: str, time: datetime | None) -> str:
    """What is embedded before a message: "Ana, 7 May 2023: "."""
    who = " ".join((name or role).split())
    return f"{who}, {time:%-d %B %Y}: " if time is not None else f"{who}: "


def chunk_message(content: str, context: str, pieces: Pieces, *, max_tokens: int) -> list[Chunk]:
    """A message as passages, nearly always one; each carries the context.

    Args:
        content: What was said; not empty.
        context: See ``message_context``.
        pieces: The model's tokenizer.
        max_tokens: Longest passage, context and special tokens included.
    """
    context = fit(context, pieces, max_tokens // CONTEXT_SHARE)
    spans = _spans(content, context, pieces, max_tokens, markdown=False)
    return [Chunk(content[start:end], start, end, index, context) for index, (start, end) in enumerate(spans)]


def chunk_document(text: str, pieces: Pieces, *, max_tokens: int, markdown: bool) -> list[Chunk]:
    """A document as passages in order, without overlap; each carries the heading path above it.

    Args:
        text: The document; not empty.
        pieces: The model's tokenizer.
        max_tokens: Longest passage, context and special tokens included.
        markdown: Whether the text is Markdown.
    """
    headings = _headings(text) if markdown else []
    reserve = max_tokens // CONTEXT_SHARE if headings else 0
    spans = _spans(text, "", pieces, max_tokens - reserve, markdown=markdown)
    # A heading alone answers nothing, and the passages under it carry it.
    telling = [span for span in spans if not any(one.start <= span[0] and span[1] <= one.end for one in headings)]
    chunks = []
    for index, (start, end) in enumerate(telling or spans):
        context = _path(headings, start)
        if context:
            context = fit(context, pieces, reserve)
        chunks.append(Chunk(text[start:end], start, end, index, context))
    return chunks


def fit(context: str, pieces: Pieces, max_tokens: int) -> str:
    """The context, shortened from its front until it has at most that many word pieces."""
    while context and pieces.count(context) - SPECIAL_TOKENS > max_tokens:
        context = context[len(context) // 4 + 1 :].lstrip()
    return context


def _spans(text: str, context: str, pieces: Pieces, max_tokens: int, *, markdown: bool) -> list[tuple[int, int]]:
    """Offsets of the passages; white space between them belongs to none."""
    whole = _split(text, context, pieces, max_tokens, markdown=markdown)
    longest = CHARACTERS_PER_TOKEN * max_tokens
    return [
        (begin, min(begin + longest, end))
        for start, end in whole
        for begin in range(start, max(end, start + 1), longest)
    ]


def _split(text: str, context: str, pieces: Pieces, max_tokens: int, *, markdown: bool) -> list[tuple[int, int]]:
    start, end = len(text) - len(text.lstrip()), len(text.rstrip())
    # Word pieces are at least one character each: a short text needs no counting.
    room = max_tokens - (pieces.count(context) if context else SPECIAL_TOKENS)
    if end - start <= room or (end - start <= 64 * room and pieces.count(text) - SPECIAL_TOKENS <= room):
        return [(start, end)]
    make: Callable[..., Any] = MarkdownSplitter if markdown else TextSplitter
    splitter = make.from_huggingface_tokenizer(pieces.tokenizer, room)  # type: ignore[attr-defined]
    return [(offset, offset + len(part)) for offset, part in splitter.chunk_indices(text)]


class _Heading(NamedTuple):
    start: int
    end: int
    level: int
    title: str


def _headings(text: str) -> list[_Heading]:
    """Every heading outside code, in order."""
    lines = [0]
    for line in _LINE.findall(text):
        lines.append(lines[-1] + len(line))
    tokens = MarkdownIt("commonmark").parse(text)
    found = []
    for opening, inline in itertools.pairwise(tokens):
        if opening.type == "heading_open" and opening.map:
            first, last = opening.map
            title = " ".join(inline.content.split())
            found.append(_Heading(lines[first], lines[min(last, len(lines) - 1)], int(opening.tag[1]), title))
    return found


def _path(headings: list[_Heading], start: int) -> str:
    """Titles of the headings above an offset, outermost first, as a line: "Guide > Install"."""
    path: list[_Heading] = []
    for heading in headings:
        if heading.end > start:
            break
        path = [*(one for one in path if one.level < heading.level), heading]
    return " > ".join(one.title for one in path if one.title) + "\n" if path else ""
