from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from memory_plugin.chunk import (
    CHARACTERS_PER_TOKEN,
    CONTEXT_SHARE,
    SPECIAL_TOKENS,
    chunk_document,
    chunk_message,
    fit,
    message_context,
)
from memory_plugin.types import Chunk
from tests.wordpiece import pieces

PIECES = pieces()
PROSE = "The old house by the river was great. Alice moved there as they had all that she would want, and more. "


def check(text: str, chunks: list[Chunk], max_tokens: int) -> None:
    """What holds for every text."""
    assert chunks
    covered = [False] * len(text)
    last = 0
    for index, chunk in enumerate(chunks):
        assert text[chunk.start : chunk.end] == chunk.text
        assert chunk.index == index
        assert last <= chunk.start < chunk.end
        last = chunk.end
        covered[chunk.start : chunk.end] = [True] * (chunk.end - chunk.start)
        assert chunk.text.strip()
        assert PIECES.count(chunk.passage) <= max_tokens
        assert len(chunk.text) <= CHARACTERS_PER_TOKEN * max_tokens
    # What is in no chunk is white space, or a heading that a later passage carries whole.
    for line in _uncovered(text, covered):
        title = " ".join(line.strip("#=->* \t\r\n").split())
        assert not title or any(title in chunk.context for chunk in chunks), f"{title!r} is lost"


def _uncovered(text: str, covered: list[bool]) -> list[str]:
    left = "".join(" " if inside and sign not in "\r\n" else sign for sign, inside in zip(text, covered, strict=True))
    return [line for line in left.replace("\r", "\n").split("\n") if line.strip()]


alphabet = st.sampled_from([*"abz AZ09.,!?-_#>*`|[]()", "\n", "\n\n", "\r\n", "\r", "\t", "\f", "é", "日", "한", "😀"])
strange = st.sampled_from(["\u2028", "\u200b", "\u200d", "\u202e", "שלום", "\x00", "\x85", "\ud7a3" * 9, "e\u0301"])
words = st.sampled_from(
    ["river ", "the house. ", "x" * 120, "한국어 " * 20, "HTTPServer ", "1234567890 ", "\n# Old House\n"]
)
texts = st.lists(alphabet | strange | words, min_size=1, max_size=120).map("".join).filter(lambda text: text.strip())
windows = st.integers(32, 80)


@given(texts, windows)
@example("x" * (512 + 90), 32)
@example("한국어 " * 10, 32)
@example("a" + " " * 9_000 + "b", 32)
def test_a_plain_document_is_cut_exactly(text: str, max_tokens: int) -> None:
    chunks = chunk_document(text, PIECES, max_tokens=max_tokens, markdown=False)
    check(text, chunks, max_tokens)
    assert not any(chunk.context for chunk in chunks)


blocks = st.sampled_from(
    [
        "# Guide", "## Install", "### Old *house*", "#### " + "river " * 40, "# ", "Title\n=====", "Two\nlines\n-----",
        "> # Quoted", "- # Listed", "#hash", "    # indented", "```\n# not a heading\n```", "~~~\n## nor this", "text",
        PROSE, PROSE * 4, "- a\n- b\n  - c", "| a | b |\n|---|---|\n| c | d |", "***", "[link]: x", "<div>",
        "\x00# nul",
    ]
)  # fmt: skip
ends = st.sampled_from(["\n", "\n\n", "\r\n\r\n", "\r\r", "\n\f\n", "\u2028", ""])
documents = st.lists(st.tuples(blocks, ends).map("".join), min_size=1, max_size=12).map("".join)


@given(documents, windows)
@example("# A\ntext\n# B", 32)
@example("# Guide\u2028\x00# nul\nThe old house by the river was great, and more.\n", 32)
@example("a\r# b\r# c", 32)
@example("# " + "river " * 80 + "\n\n" + PROSE, 64)
@example("# A\n\n" + PROSE * 3 + "\n\n## B\n\n# C\n\n" + PROSE * 3, 40)
def test_a_markdown_document_loses_no_heading(text: str, max_tokens: int) -> None:
    if text.strip():
        check(text, chunk_document(text, PIECES, max_tokens=max_tokens, markdown=True), max_tokens)


@given(texts, windows)
def test_markdown_never_cuts_wrongly_whatever_the_text(text: str, max_tokens: int) -> None:
    check(text, chunk_document(text, PIECES, max_tokens=max_tokens, markdown=True), max_tokens)


@given(texts, st.none() | st.text(max_size=200), windows)
def test_a_message_carries_its_context_on_every_passage(text: str, name: str | None, max_tokens: int) -> None:
    context = message_context(name, "user", datetime(2023, 5, 7, tzinfo=UTC))
    chunks = chunk_message(text, context, PIECES, max_tokens=max_tokens)
    check(text, chunks, max_tokens)
    assert len({chunk.context for chunk in chunks}) == 1
    assert context.endswith(chunks[0].context)
    assert chunks[0].context.endswith("2023: ")


def contexts(text: str, max_tokens: int = 48) -> list[tuple[str, str]]:
    made = chunk_document(text, PIECES, max_tokens=max_tokens, markdown=True)
    return [(chunk.context, chunk.text.split("\n")[0][:12]) for chunk in made]


def test_passages_carry_the_path_of_headings_above_them() -> None:
    text = f"# Guide\n\n{PROSE}\n\n## Install\n\n{PROSE}\n\n{PROSE}\n\n# Error\n\n{PROSE}"
    assert contexts(text) == [
        ("", "# Guide"),
        ("Guide\n", "## Install"),
        ("Guide > Install\n", "The old hous"),
        ("", "# Error"),
    ]


def test_a_heading_that_stands_alone_is_left_to_those_that_carry_it() -> None:
    long = PROSE * 2  # a heading and this do not fit together
    found = contexts(f"# Guide\n\n{long}\n\n## Install\n\n{long}", 40)
    assert "# Guide" not in [text for _, text in found]
    assert {context for context, _ in found} == {"Guide\n", "Guide > Install\n"}


def test_a_heading_under_which_there_is_nothing_is_kept() -> None:
    long = PROSE * 4
    found = [text for _, text in contexts(f"# Guide\n\n{long}\n\n# Nothing here", 40)]
    assert found[-1] == "# Nothing he"
    assert [chunk.text for chunk in chunk_document("# Alone", PIECES, max_tokens=32, markdown=True)] == ["# Alone"]


def test_headings_inside_code_are_code() -> None:
    code = "```sh\n# not a heading\nmake\n```"
    text = f"# Guide\n\n{code}\n\n{PROSE * 2}\n\n    # nor this\n\n{PROSE * 2}"
    assert {context for context, _ in contexts(text)} <= {"", "Guide\n"}


def test_a_code_block_that_fits_stays_whole() -> None:
    code = "```python\nfor river in the_house:\n\n    print(river)\n\n\nreturn old\n```"
    text = f"{PROSE}\n\n{code}\n\n{PROSE}"
    made = chunk_document(text, PIECES, max_tokens=64, markdown=True)
    assert len(made) > 1
    assert sum(code in chunk.text for chunk in made) == 1
    assert any(
        code not in chunk.text and "```" in chunk.text
        for chunk in chunk_document(text, PIECES, max_tokens=32, markdown=True)
    )


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_end_of_markdown_counts(end: str) -> None:
    text = end.join(["# Guide", "", PROSE, "", "Install", "-------", "", PROSE, "", PROSE])
    assert contexts(text)[-1][0] == "Guide > Install\n"


@pytest.mark.parametrize("sign", ["\f", "\u2028", "\x85", "\x0b"])
def test_no_other_sign_ends_a_line_of_markdown(sign: str) -> None:
    text = f"# Guide{sign}# still the title\n\n{PROSE * 2}\n\n# Error\n\n{PROSE * 3}"
    found = contexts(text)
    assert found[-1][0] == "Error\n"
    check(text, chunk_document(text, PIECES, max_tokens=48, markdown=True), 48)


def test_empty_headings_carry_nothing() -> None:
    assert {context for context, _ in contexts(f"#\n\n{PROSE * 3}")} == {""}


def test_a_context_is_shortened_from_its_front() -> None:
    path = "Guide > " * 40 + "Install\n"
    short = fit(path, PIECES, 12)
    assert path.endswith(short)
    assert "Install" in short
    assert 0 < PIECES.count(short) - SPECIAL_TOKENS <= 12
    assert fit("Guide\n", PIECES, 12) == "Guide\n"
    assert fit("Guide", PIECES, 0) == ""


def test_a_context_takes_a_part_of_the_window_only() -> None:
    made = chunk_message(PROSE * 9, "x " * 500 + ": ", PIECES, max_tokens=64)
    assert 0 < PIECES.count(made[0].context) - SPECIAL_TOKENS <= 64 // CONTEXT_SHARE


@pytest.mark.parametrize(
    ("name", "role", "time", "expected"),
    [
        ("Ana", "user", datetime(2023, 5, 7, tzinfo=UTC), "Ana, 7 May 2023: "),
        (None, "user", None, "user: "),
        ("", "tool", None, "tool: "),
        (" Ana\n Maria ", "user", None, "Ana Maria: "),
    ],
)
def test_the_context_of_a_message(name: str | None, role: str, time: datetime | None, expected: str) -> None:
    assert message_context(name, role, time) == expected


def test_a_short_text_is_one_chunk_without_the_blanks_around_it() -> None:
    (chunk,) = chunk_document(" \n The river \n", PIECES, max_tokens=32, markdown=False)
    assert (chunk.text, chunk.start, chunk.end) == ("The river", 3, 12)


class Greedy:
    """A tokenizer for which every character is more than a window."""

    tokenizer = PIECES.tokenizer

    def count(self, text: str, /) -> int:
        return SPECIAL_TOKENS + 99 * len(text)


def test_a_character_is_never_cut() -> None:
    made = chunk_document("x" * 600, Greedy(), max_tokens=32, markdown=False)
    assert "".join(chunk.text for chunk in made) == "x" * 600


HOSTILE: dict[str, Any] = {
    "one word": "x" * 2_000_000,
    "blanks": "a" + " " * 2**20 + "b",
    "brackets": "[" * 2**15,
    "images": "![" * 2**14,
    "emphasis": "*a_" * 2**13,
    "backticks": "`" * 2**16 + "a`b``",
    "quotes": ">" * 2**16,
    "nested lists": "".join(" " * 2 * depth + "- a\n" for depth in range(400)),
    "headings": "# a\n" * 2**13,
    "carriage returns": "# a\r" * 2**13,
    "ideographs": "漢" * 2**12,
    "zero width": "\u200b" * 2**18,
}


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("markdown", [False, True])
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_document_is_cut_like_any_other(text: str, markdown: bool) -> None:
    check(text, chunk_document(text, PIECES, max_tokens=256, markdown=markdown), 256)
