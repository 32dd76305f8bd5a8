"""Texts into requests that fit, and too long ones into parts."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from memory_plugin import tokens
from memory_plugin.errors import InvalidInputError
from memory_plugin.managed.limits import Facts, Part, Ruler, batches, best, parts, pooled
from memory_plugin.models.ruler import estimating_ruler, openai_ruler


class Words:
    """A tokenizer and a splitter of words."""

    name = "words"

    def __call__(self, text: str, /) -> int:
        return len(text.split())


class Cutter:
    def __init__(self, limit: int) -> None:
        self.limit = limit

    def chunks(self, text: str) -> list[str]:
        words = text.split()
        return [" ".join(words[start : start + self.limit]) for start in range(0, len(words), self.limit)]


RULER = Ruler(Words(), Cutter)


def sent(*texts: str) -> list[Part]:
    return [Part(place, text, 1) for place, text in enumerate(texts)]


# ── requests ──────────────────────────────────────────────────────────────────────────────────────


def test_a_request_holds_so_many_texts() -> None:
    made = batches(sent(*"abcdefg"), RULER, texts=3, tokens=None)
    assert ["".join(part.text for part in one) for one in made] == ["abc", "def", "g"]
    assert batches([], RULER, texts=3, tokens=10) == []


def test_a_request_holds_so_many_tokens() -> None:
    texts = ["one two three", "four five", "six", "seven eight nine ten eleven", "twelve", "a b c d e f g h i"]
    made = batches(sent(*texts), RULER, texts=10, tokens=6)
    assert [[part.owner for part in one] for one in made] == [[0, 1, 2], [3, 4], [5]]
    assert [sum(len(part.text.split()) for part in one) for one in made] == [6, 6, 9]  # the last is too long alone


def test_tokens_beside_each_text_count() -> None:
    made = batches(sent("alpha " * 9, "beta " * 9, "gamma " * 9), RULER, texts=10, tokens=25, beside=3)
    assert [[part.owner for part in one] for one in made] == [[0, 1], [2]]


def test_short_requests_are_not_counted() -> None:
    class Never:
        name = "never"

        def __call__(self, text: str, /) -> int:
            raise AssertionError("counted")

    ruler = Ruler(Never(), Cutter)
    assert len(batches(sent("a" * 50, "b" * 49), ruler, texts=10, tokens=99)) == 1
    assert ruler.fits("ü" * 25, 100)


# ── too long texts ────────────────────────────────────────────────────────────────────────────────

LONG = " ".join(f"word{number}" for number in range(10))


def test_a_long_text_is_cut_and_weighed_by_its_parts() -> None:
    made = parts(["short", LONG], RULER, window=4, prefix="", too_long="pool")
    assert [(part.owner, len(part.text.split()), part.weight) for part in made] == [
        (0, 1, 1), (1, 4, 4), (1, 4, 4), (1, 2, 2),
    ]  # fmt: skip
    assert " ".join(part.text for part in made[1:]) == LONG


def test_a_prefix_is_on_every_part_and_takes_its_room() -> None:
    made = parts([LONG], RULER, window=6, prefix="search document: ", too_long="pool")
    assert [len(part.text.split()) for part in made] == [6, 6, 4]
    assert all(part.text.startswith("search document: word") for part in made)
    with pytest.raises(InvalidInputError, match="prefix alone"):
        parts([LONG], RULER, window=2, prefix="search document: ", too_long="pool")


def test_a_long_text_is_refused_by_name() -> None:
    with pytest.raises(InvalidInputError, match=r"texts\[1\] has some 10 tokens, more than the 4 .* split it first"):
        parts(["short", LONG], RULER, window=4, prefix="", too_long="refuse")
    assert len(parts([LONG], RULER, window=None, prefix="", too_long="refuse")) == 1


def test_parts_are_pooled_by_their_length() -> None:
    pieces = [Part(0, "", 1), Part(1, "", 3), Part(1, "", 1), Part(2, "", 1)]
    vectors = np.array([[2, 0], [3, 0], [0, 5], [0, -1]], dtype=np.float32)
    made = pooled(vectors, pieces, 3)
    assert made.dtype == np.float32
    assert made == pytest.approx(np.array([[1, 0], [3 / np.sqrt(10), 1 / np.sqrt(10)], [0, -1]]), abs=1e-6)
    assert best([0.1, 0.9, 0.2, -4.0], pieces, 3) == [0.1, 0.9, -4.0]


@pytest.mark.parametrize("window", [64, 512, 8191])
def test_openai_texts_are_cut_by_their_own_tokens(window: int) -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8") * 4
    cut = openai_ruler().parts(text, window)
    count = tokens.counter(len, "cl100k_base")
    if not count.name.startswith("tiktoken"):
        pytest.skip("no tiktoken table on this machine to compare with")
    sizes = [count(part) for part in cut]
    assert max(sizes) <= window
    assert sum(sizes) / len(sizes) > 0.5 * window
    assert "".join("".join(cut).split()) == "".join(text.split())


def test_openai_texts_are_cut_right_where_no_table_is_on_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    expected = openai_ruler().parts(LONG * 300, 200)
    monkeypatch.setattr(tokens, "_table_directory", lambda encoding: None)
    tokens._tiktoken.cache_clear()
    try:
        assert openai_ruler().parts(LONG * 300, 200) == expected
        assert openai_ruler().tokens(LONG) >= 20
    finally:
        tokens._tiktoken.cache_clear()
    assert "transformers" not in sys.modules


@pytest.mark.parametrize("text", ["Wörter und Sätze. " * 900, "x" * 9000, "東京" * 3000, "🎉" * 2000, "a\n" * 5000])
def test_an_estimate_cuts_whatever_the_text_is(text: str) -> None:
    ruler = estimating_ruler()
    cut = ruler.parts(text, 512)
    assert len(cut) > 1
    assert max(map(ruler.tokens, cut)) <= 512
    assert "".join("".join(cut).split()) == "".join(text.split())


# ── dimensions ────────────────────────────────────────────────────────────────────────────────────


def test_dimensions_that_a_model_does_not_have_are_refused() -> None:
    Facts(1536, None).check_dimension("m", 7)
    Facts(None).check_dimension("m", 7)
    Facts(1024, (256, 512)).check_dimension("m", 256)
    Facts(1024, (256, 512)).check_dimension("m", 1024)
    with pytest.raises(InvalidInputError, match="m has vectors of 256, 512, 1024 dimensions, not 300"):
        Facts(1024, (256, 512)).check_dimension("m", 300)
    with pytest.raises(InvalidInputError, match="at most 1536 dimensions, not 1537"):
        Facts(1536, None).check_dimension("m", 1537)
    for wrong in (0, -1, 2.5, True, "256"):
        with pytest.raises(InvalidInputError, match="whole number"):
            Facts(1536, None).check_dimension("m", wrong)  # type: ignore[arg-type]
