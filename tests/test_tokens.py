from __future__ import annotations

import base64
import hashlib
import inspect
import os
import string
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from memory_plugin import chunk, tokens
from memory_plugin.tokens import Estimate, Tiktoken, counter
from tests.wordpiece import WordPieces, pieces, tokenizer

ENCODINGS = ("o200k_base", "cl100k_base")

PROSE = (
    "Alice moved to Lisbon in the spring of 2019, after eleven years in Hamburg, because she wanted to live near the "
    "sea again. She rents a small flat on the third floor of an old house in Graça, from which one can see the river. "
    "On Saturdays she meets Bob at the market; they buy fish, bread and far too many oranges, and argue about books. "
    "Last winter the roof leaked, and the landlord did not answer her letters until her lawyer wrote to him as well. "
    "She says that she has never regretted it: the light alone, she tells everyone who asks, is worth the rent."
)


# ── the estimate, by hand ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "unseen"),
    [
        ("", 0),
        ("a plain sentence, with (signs).", 0),
        ("a 1", 1),  # the blank before a digit
        ("a ", 1),
        ("a  b", 2),
        ("a\tb", 1),
        ("a\nb", 1),
        ("a\r\nb", 2),
        ("Title HTTPServer", 4),  # T, T, P, S
        ("é", 2),
        ("日本", 6),
        ("😀", 4),
        ("\ud800", 1),
        ("\x00\x1f\x7f", 3),
        ("x" * 49, 0),
        ("x" * 50, 50),
    ],
)
def test_what_word_pieces_do_not_see(text: str, unseen: int) -> None:
    assert Estimate(lambda _: 0)(text) == -(-unseen * 5 // 4)


def test_a_margin_on_top_of_the_pieces() -> None:
    assert Estimate(lambda text: 4)("four pieces") == 5
    assert Estimate(lambda text: 5)("five pieces") == 7
    assert Estimate(lambda text: 9)("") == 0
    assert Estimate(pieces().count).name == "local word pieces × 1.25"


# Counted once with tiktoken's o200k_base; nothing is needed to check against these.
COUNTED = [
    (PROSE, 126), ("Hello, world!", 4), ("IMPORTANT FREEDOMS DECLARATION", 7), ("1 2 3 4 5 6 7 8 9", 17),
    ("日本語の文章です。", 6), ("def f(x):\n    return x ** 2\n", 11), ("😀👩‍💻🇩🇪", 10), ("a\tb\tc\td", 4),
]  # fmt: skip


@pytest.mark.parametrize(("text", "true"), COUNTED, ids=[text[:20] for text, _ in COUNTED])
def test_counts_that_were_taken_once_are_not_exceeded(text: str, true: int) -> None:
    assert Estimate(pieces().count)(text) >= true


# ── against the tables, where there are any ───────────────────────────────────────────────────────


@pytest.fixture(scope="module", params=ENCODINGS)
def table(request: pytest.FixtureRequest) -> Tiktoken:
    found = counter(pieces().count, request.param)
    if not isinstance(found, Tiktoken):
        pytest.skip(f"no table of {request.param} on this machine")
    return found


@pytest.fixture(scope="module", params=["the shipped vocabulary", "the commonest words of the table"])
def estimate(request: pytest.FixtureRequest, table: Tiktoken) -> Estimate:
    if request.param == "the shipped vocabulary":
        shipped = Tokenizer.from_file(str(Path(tokens.__file__).parent / "models" / "minilm" / "tokenizer.json"))
        shipped.no_truncation()
        shipped.no_padding()
        return Estimate(WordPieces(shipped).count)
    # As large as word piece models have, and as close to the table as words can be.
    words = set()
    for rank in range(30_000):
        word = table._encoding.decode_single_token_bytes(rank).decode(errors="replace").strip().lower()
        if word.isascii() and word.isalnum():
            words.add(word)
    return Estimate(WordPieces(tokenizer(sorted(words))).count)


def test_the_counted_ones_are_counted_right() -> None:
    found = counter(pieces().count)
    if not isinstance(found, Tiktoken):
        pytest.skip("no table of o200k_base on this machine")
    assert [found(text) for text, _ in COUNTED] == [true for _, true in COUNTED]


ascii_words = st.text(string.ascii_letters, min_size=1, max_size=15)
code = st.sampled_from(inspect.getsource(chunk).split("\n\n"))
mixed = st.lists(
    st.sampled_from(
        [" ", "  ", "\t", "\n", " \n", "\r\n", "A", "b", "Z", "7", "12345", "hello", "World", "NASA", "HTTPServer", "é",
         "日", "😀", ".", "'s", "'RE", ")", "//", "_", "<|endoftext|>", "\u200b", "\x00", "\u0301", "🏴\U000e0067"]
    ), max_size=60,
).map("".join)  # fmt: skip
anything = st.one_of(
    st.text(max_size=80),
    st.text(string.printable, max_size=80),
    mixed,
    code,
    st.lists(code, max_size=3).map("\n".join),
    st.binary(max_size=60).map(lambda data: base64.b64encode(data).decode()),
    st.binary(max_size=40).map(bytes.hex),
    st.lists(ascii_words, max_size=12).map(" ".join),
    st.lists(ascii_words.map(str.upper), max_size=12).map(" ".join),
    st.lists(st.integers(0, 10**12).map(str), max_size=12).map(" ".join),
    st.text("日本語中文한국어のは。、", max_size=40),
    st.text("😀👩💻🇩🇪\u200d\ufe0f", max_size=20),
    st.text(" \n\t\r\f\u2028\u3000", max_size=30),
    st.text("áèîõüçñßŁŠЖщ", max_size=40),
)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=anything)
@example(text=" ")
@example(text="IMPORTANT FREEDOMS")
@example(text="1 2 3 4 5 6 7 8 9")
def test_the_estimate_is_never_below_the_true_count(estimate: Estimate, table: Tiktoken, text: str) -> None:
    assert estimate(text) >= table(text)


def test_prose_is_not_made_absurdly_expensive(estimate: Estimate, table: Tiktoken) -> None:
    assert table(PROSE) <= estimate(PROSE) < 2.2 * table(PROSE)


def test_control_words_count_as_text(table: Tiktoken) -> None:
    assert table("<|endoftext|>") > 1
    assert table.name.startswith("tiktoken:")


def test_a_table_is_loaded_once_and_by_any_thread(table: Tiktoken) -> None:
    encoding = table.name.removeprefix("tiktoken:")
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(counter(len, encoding))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(one is found[0] for one in found)


# ── where tables are looked for ───────────────────────────────────────────────────────────────────


def place(directory: Path, encoding: str) -> Path:
    address = f"https://openaipublic.blob.core.windows.net/encodings/{encoding}.tiktoken"
    return directory / hashlib.sha1(address.encode(), usedforsecurity=False).hexdigest()


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Nowhere to find a table but where a test puts one."""
    for name in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    return tmp_path


def test_without_a_table_the_local_tokenizer_counts(elsewhere: Path) -> None:
    found = counter(pieces().count, "no_such_encoding")
    assert isinstance(found, Estimate)
    assert found("the river") == 5


@pytest.mark.parametrize("variable", ["TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"])
def test_tables_are_found_where_tiktoken_caches_them(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, str(elsewhere))
    assert tokens._table_directory("acme_base") is None
    place(elsewhere, "acme_base").write_bytes(b"")
    assert tokens._table_directory("acme_base") == elsewhere


def test_tables_are_found_in_the_temporary_directory(elsewhere: Path) -> None:
    cache = elsewhere / "tmp" / "data-gym-cache"
    cache.mkdir(parents=True)
    place(cache, "acme_base").write_bytes(b"")
    assert tokens._table_directory("acme_base") == cache


def test_tables_are_found_where_llama_index_carries_them(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = elsewhere / "site" / "llama_index" / "core" / "_static" / "tiktoken_cache"
    cache.mkdir(parents=True)
    place(cache, "acme_base").write_bytes(b"")
    monkeypatch.delitem(sys.modules, "llama_index", raising=False)
    monkeypatch.setattr(sys, "path", [str(elsewhere / "site"), *sys.path])
    assert tokens._table_directory("acme_base") == cache


@pytest.mark.parametrize("before", [None, "somewhere"])
def test_loading_leaves_the_environment_as_it_was(
    table: Tiktoken, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    if before is None:
        monkeypatch.delenv("TIKTOKEN_CACHE_DIR", raising=False)
    else:
        monkeypatch.setenv("TIKTOKEN_CACHE_DIR", before)
    tokens._tiktoken.cache_clear()
    again = counter(len, table.name.removeprefix("tiktoken:"))
    assert again("Hello") == table("Hello")
    assert os.environ.get("TIKTOKEN_CACHE_DIR") == before


SMALL = """
import base64, os, sys
sys.modules["llama_index"] = None
import socket
def refuse(*_, **__): raise AssertionError("no network")
socket.socket.connect = refuse
from memory_plugin.tokens import Estimate, counter
made = counter(len, "o200k_base")
assert isinstance(made, Estimate), made
assert "tiktoken" not in sys.modules
"""


def test_without_a_table_nothing_is_downloaded_nor_loaded(tmp_path: Path) -> None:
    clean = {key: value for key, value in os.environ.items() if key not in ("TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR")}
    root = Path(tokens.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", SMALL],
        cwd=root, env={**clean, "TMPDIR": str(tmp_path), "PYTHONPATH": str(root)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
