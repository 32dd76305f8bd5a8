"""Two languages with a word each for the same: what a model of theirs has to learn, and cannot know."""

from __future__ import annotations

import json
import random
import string
from collections.abc import Sequence
from pathlib import Path

WORDS = [first + second for first in string.ascii_lowercase for second in "aeiou"][:96]
SPEECH = dict(zip(WORDS[:48], WORDS[48:], strict=True))
"""Each word of the users' language, and the word of the documents' that means the same."""


def pairs(count: int, seed: int) -> list[tuple[str, str]]:
    """Queries of four words in one language, and the passages that say the same in the other."""
    rng = random.Random(seed)
    made = [rng.sample(list(SPEECH), 4) for _ in range(count)]
    return [(" ".join(words), " ".join(SPEECH[word] for word in words)) for words in made]


def write(where: Path, given: Sequence[tuple[str, str]]) -> Path:
    """A file of pairs."""
    lines = (json.dumps({"query": query, "passage": passage}) for query, passage in given)
    where.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return where
