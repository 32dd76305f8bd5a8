"""Documents and messages into passages that fit a model's window, with exact offsets.  Pure.

The splitting is semantic-text-splitter's: paragraphs, then sentences, then words; for Markdown by
sections and blocks, so that a code block that fits stays whole.  Ours is what each passage carries along: the
speaker and day of a message, the heading path of a section.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from semantic_text_splitter import MarkdownSplitter, TextSplitter

from memory_plugin.ids import date_words
from memory_plugin.types import Chunk

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

SPECIAL_TOKENS = 2
CHARACTERS_PER_TOKEN = 16
"""A passage is never longer than this times its tokens: a tokenizer may take a megabyte as one unknown word."""
CONTEXT_SHARE = 4
"""A context takes at most one part in four of the window."""


# As Markdown counts lines; str.splitlines() would also break at form feeds and U+2028.
_LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+")

# Blocks only: what is inside a line does not matter to headings, and takes longest.


@cache
def _markdown() -> MarkdownIt:
    """The parser of blocks; loaded when the first Markdown is cut."""
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").disable("inline")


# No text of people's: the splitter takes time quadratic in these, so they are split as plain text.
_TOO_DEEP = re.compile(r"(?:>[ \t]?){100}|`{1000}|^[ \t]{200,}[-+*\d]", re.MULTILINE)


class Pieces(Protocol):
    """A model's tokenizer: how long a text is for it, and the object that a splitter measures with."""

    tokenizer: Any

    def count(self, text: str, /) -> int:
        """Word pieces of the text, special ones included."""


def message_context(name: str | None, role: str, time: datetime | None) -> str:
    """What is embedded before a message: "Ana, 7 May 2023: "."""
    who = " ".join((name or role).split())
    return f"{who}, {date_words(time)}: " if time is not None else f"{who}: "


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
    sections = list(_sections(headings, spans))
    contexts = [fit(section.line, pieces, reserve) for section in sections]
    # A heading alone answers nothing: it is left out where a passage under it carries all of it.
    carried = {
        heading
        for section, context in zip(sections, contexts, strict=True)
        if section.alone is None and context == section.line
        for heading in section.path
    }
    kept = [place for place, section in enumerate(sections) if section.alone not in carried]
    return [
        Chunk(text[slice(*spans[place])], *spans[place], index, contexts[place]) for index, place in enumerate(kept)
    ]


def fit(context: str, pieces: Pieces, max_tokens: int) -> str:
    """The context, shortened from its front until it has at most that many word pieces."""
    while context and pieces.count(context) - SPECIAL_TOKENS > max_tokens:
        context = context[len(context) // 4 + 1 :].lstrip()
    return context


def _spans(text: str, context: str, pieces: Pieces, max_tokens: int, *, markdown: bool) -> list[tuple[int, int]]:
    """Offsets of the passages; white space between them belongs to none."""
    room = max_tokens - (pieces.count(context) if context else SPECIAL_TOKENS)
    longest = CHARACTERS_PER_TOKEN * max_tokens
    spans: list[tuple[int, int]] = []
    for start, end in _split(text, pieces, room, markdown=markdown):
        # The splitter leaves out a piece that marks the beginning and stands for no character, as some tokenizers have.
        if end - start <= longest and _fits(text[start:end], pieces, room):
            spans.append((start, end))
        else:
            for begin in range(start, end, longest):
                spans.extend(_halved(text, begin, min(begin + longest, end), pieces, room))
    return spans


def _halved(text: str, start: int, end: int, pieces: Pieces, room: int) -> Iterator[tuple[int, int]]:
    # The end of a word that was too long for the tokenizer may be one that it takes to pieces.
    start, end = end - len(text[start:end].lstrip()), start + len(text[start:end].rstrip())
    if end - start > 1 and pieces.count(text[start:end]) - SPECIAL_TOKENS > room:
        middle = (start + end) // 2
        yield from _halved(text, start, middle, pieces, room)
        yield from _halved(text, middle, end, pieces, room)
    elif start < end:
        yield start, end


def _fits(text: str, pieces: Pieces, room: int) -> bool:
    # Word pieces of ASCII are at least one character each, but for one that may mark the beginning.
    if len(text.strip()) < room and text.isascii():
        return True
    return pieces.count(text) - SPECIAL_TOKENS <= room


def _split(text: str, pieces: Pieces, room: int, *, markdown: bool) -> list[tuple[int, int]]:
    start, end = len(text) - len(text.lstrip()), len(text.rstrip())
    if end - start <= 64 * room and _fits(text, pieces, room):
        return [(start, end)]
    make: Callable[..., Any] = MarkdownSplitter if markdown and not _TOO_DEEP.search(text) else TextSplitter
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
    tokens = _markdown().parse(text)
    found = []
    for opening, inline in itertools.pairwise(tokens):
        if opening.type == "heading_open" and opening.map:
            first, last = opening.map
            title = " ".join(inline.content.split())
            found.append(_Heading(lines[first], lines[min(last, len(lines) - 1)], int(opening.tag[1]), title))
    return found


class _Section(NamedTuple):
    """Where a passage is: the headings above it, outermost first, and the one that it is no more than a part of."""

    path: tuple[_Heading, ...]
    alone: _Heading | None

    @property
    def line(self) -> str:
        """The titles as a line: "Guide > Install"."""
        titles = " > ".join(one.title for one in self.path if one.title)
        return f"{titles}\n" if titles else ""


def _sections(headings: Sequence[_Heading], spans: Sequence[tuple[int, int]]) -> Iterator[_Section]:
    """The section of each passage; both are in order."""
    path: tuple[_Heading, ...] = ()
    place = 0
    for start, end in spans:
        while place < len(headings) and headings[place].end <= start:
            heading = headings[place]
            path = (*(one for one in path if one.level < heading.level), heading)
            place += 1
        own = headings[place] if place < len(headings) and headings[place].start <= start else None
        above = path if own is None else tuple(one for one in path if one.level < own.level)
        yield _Section(above, own if own is not None and end <= own.end else None)
