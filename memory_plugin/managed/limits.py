"""Texts into requests that a vendor takes: by number, by tokens, and what is too long for the model in parts.  Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from memory_plugin.errors import InvalidInputError
from memory_plugin.protocols import TokenCounter
from memory_plugin.types import Matrix

TooLong: TypeAlias = Literal["pool", "refuse"]
"""What is done with a text longer than the model reads: embedded in parts whose mean counts, or refused."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a model.

    Args:
        dimension: Of its vectors when no other is asked for; None: the vendor has to be asked.
        sizes: Other dimensions that it can be cut to; None: any smaller one.
        window: Tokens of one text that it reads; None: not known.
        texts: Texts in a request.
        tokens: Tokens of all texts in a request; None: as many as fit.
    """

    dimension: int | None = None
    sizes: tuple[int, ...] | None = ()
    window: int | None = None
    texts: int = 2048
    tokens: int | None = None

    def check_dimension(self, model: str, dimension: int) -> None:
        """Refuse a dimension that the model cannot give.

        Raises:
            InvalidInputError: It names those that it can.
        """
        if isinstance(dimension, bool) or not isinstance(dimension, int) or dimension < 1:
            raise InvalidInputError(f"dimension is a whole number from 1 on, not {dimension!r:.80}")
        if self.dimension is None or dimension == self.dimension:
            return
        if self.sizes is None:
            if dimension > self.dimension:
                raise InvalidInputError(f"{model} has vectors of at most {self.dimension} dimensions, not {dimension}")
        elif dimension not in self.sizes:
            known = ", ".join(map(str, sorted({self.dimension, *self.sizes})))
            raise InvalidInputError(f"{model} has vectors of {known} dimensions, not {dimension}")


class Ruler:
    """Measures texts in a model's tokens, or in no fewer.

    Args:
        count: Counts them, or estimates them from above.
        splitter: Makes an object whose ``chunks`` cuts a text into parts of at most so many tokens.
    """

    def __init__(self, count: TokenCounter, splitter: Callable[[int], Any]) -> None:
        self._count = count
        self._splitter = splitter

    def tokens(self, text: str) -> int:
        """How many tokens the text has at most; no tokenizer makes more of it than it has bytes."""
        return min(self._count(text), len(text.encode()))

    def fits(self, text: str, limit: int) -> bool:
        """Whether the text has at most so many tokens; short ones are not counted."""
        return len(text) * 4 <= limit or len(text.encode()) <= limit or self._count(text) <= limit

    def parts(self, text: str, limit: int) -> list[str]:
        """The text, cut where it is too long."""
        if self.fits(text, limit):
            return [text]
        found: list[str] = self._splitter(limit).chunks(text)
        return found or [text]


class Part(NamedTuple):
    """A text to send, or a part of one.

    Args:
        owner: Place of the text that it is of.
        text: What is sent.
        weight: Its length in tokens, at least 1.
    """

    owner: int
    text: str
    weight: int


def parts(
    texts: Sequence[str], ruler: Ruler, *, window: int | None, prefix: str, too_long: TooLong, unit: str = "texts"
) -> list[Part]:
    """What is to be sent for the texts, in order.

    Args:
        texts: As given.
        ruler: Measures them.
        window: Tokens that the model reads; None: not known, nothing is cut.
        prefix: Put before each.
        too_long: What is done with those that are longer.
        unit: What they are called in an error.

    Raises:
        InvalidInputError: One is longer than the window, and ``too_long`` is "refuse".
    """
    room = None if window is None else window - (ruler.tokens(prefix) if prefix else 0)
    if room is not None and room < 1:
        raise InvalidInputError(f"the prefix alone has more tokens than the {window} that the model reads")
    made: list[Part] = []
    for owner, text in enumerate(texts):
        cut = [text] if room is None else ruler.parts(text, room)
        if len(cut) == 1:
            made.append(Part(owner, prefix + cut[0], 1))
        elif too_long == "refuse":
            raise InvalidInputError(
                f"{unit}[{owner}] has some {ruler.tokens(text)} tokens, more than the {room} that the model reads: "
                "split it first, or choose too_long='pool'"
            )
        else:
            made += [Part(owner, prefix + part, max(ruler.tokens(part), 1)) for part in cut]
    return made


def batches(sent: Sequence[Part], ruler: Ruler, *, texts: int, tokens: int | None, beside: int = 0) -> list[list[Part]]:
    """Requests that hold all parts in order.

    Args:
        sent: What is to be sent.
        ruler: Measures it.
        texts: At most so many in one.
        tokens: At most so many tokens in one; a part that alone has more goes alone.
        beside: Tokens that are counted with each part.
    """
    sizes = [len(part.text.encode()) + beside for part in sent]
    if tokens is None or sum(sizes) <= tokens:
        sizes, tokens = [0] * len(sent), 1
    else:
        sizes = [ruler.tokens(part.text) + beside for part in sent]
    made: list[list[Part]] = []
    room = 0
    for part, size in zip(sent, sizes, strict=True):
        if not made or len(made[-1]) >= texts or size > room:
            made.append([])
            room = tokens
        made[-1].append(part)
        room -= size
    return made


def pooled(vectors: Matrix, sent: Sequence[Part], number: int) -> Matrix:
    """A unit vector for each text: of its parts' unit vectors the mean, weighted by their lengths.

    Args:
        vectors: Of the parts, shape (parts, dimension), none of them zero.
        sent: The parts, in order.
        number: How many texts there are.
    """
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    if len(sent) == number:
        return np.asarray(unit, dtype=np.float32)
    made = np.zeros((number, vectors.shape[1]), dtype=np.float64)
    for vector, part in zip(unit, sent, strict=True):
        made[part.owner] += part.weight * vector
    norms = np.linalg.norm(made, axis=1, keepdims=True)
    return np.asarray(made / np.where(norms == 0, 1, norms), dtype=np.float32)


def best(scores: Iterable[float], sent: Sequence[Part], number: int) -> list[float]:
    """A score for each text: the highest of its parts."""
    made = [-np.inf] * number
    for score, part in zip(scores, sent, strict=True):
        made[part.owner] = max(made[part.owner], score)
    return [float(score) for score in made]
