from __future__ import annotations

import threading
import time
import unicodedata
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_plugin.lexical import STOP_WORDS, bm25_weights, fragmentation, terms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The rivers are flowing", ["river", "flow"]),
        ("PyThread_tss_is_created", ["pythread_tss_is_created", "py", "thread", "tss", "creat"]),
        ("os.path.join", ["os.path.join", "os", "path", "join"]),
        ("std::vector", ["std::vector", "std", "vector"]),
        ("a.b@example.org", ["a.b@example.org", "b", "exampl", "org"]),
        ("HTTPServer", ["httpserver", "http", "server"]),
        ("fooBar", ["foobar", "foo", "bar"]),
        ("ZX-4471-B", ["zx-4471-b", "zx", "4471", "b"]),
        ("utf8", ["utf8", "utf", "8"]),
        ("v1.2.3", ["v1.2.3", "v1", "v", "1", "2", "3"]),
        ("C++ and C#", ["c", "c"]),
        ("src/main/x86_64.c", ["src/main/x86_64.c", "x86_64", "src", "main", "x", "86", "64", "c"]),
        ("_private __init__ ___", ["_private", "__init__", "___", "privat", "init"]),
        ("Alice's don't O’Neill’s", ["alic", "o", "neill"]),
        ("Hello WORLD Straße", ["hello", "world", "straße"]),
        ("the of and", []),
        ("", []),
        ("… — !?", []),
        ("ﬁle ＦＵＬＬ ①", ["file", "full", "1"]),
        ("日本語 犬", ["日本", "本語", "犬"]),
        ("東京タワー2020年", ["東京", "京タ", "タワ", "ワー", "年", "2020"]),
        ("iPhoneを買った", ["iphon", "を買", "買っ", "った", "i", "phone"]),
        ("人々", ["人々"]),
        ("한국어", ["한국", "국어"]),
    ],
)
def test_terms_by_hand(text: str, expected: list[str]) -> None:
    got = terms(text)
    stopped = [word for word in expected if word not in STOP_WORDS]
    assert Counter(got) == Counter(stopped)


def test_wholes_come_first_then_words_both_in_order() -> None:
    assert terms("fooBar met os.path") == ["os.path", "foobar", "foo", "bar", "met", "os", "path"]


def test_without_a_language_words_stay_as_they_are() -> None:
    assert terms("The rivers are flowing", "none") == ["the", "rivers", "are", "flowing"]
    assert terms("readFiles", "none") == ["readfiles", "read", "files"]


@pytest.mark.parametrize(
    "identifier",
    [
        "PyThread_tss_is_created",
        "os.path.join",
        "ZX-4471-B",
        "_private",
        "__init__",
        "v1.2.3",
        "HTTPServer",
        "getHTTPCode2",
    ],
)
def test_an_identifier_is_found_whole_in_any_case_and_by_its_parts(identifier: str) -> None:
    found = set(terms(f"Call {identifier}, please."))
    assert set(terms(identifier)) <= found
    for written in (identifier.lower(), identifier.upper()):
        assert set(terms(written)[:1]) <= found
    for part in identifier.replace(".", " ").replace("-", " ").replace("_", " ").split():
        assert set(terms(part)) & found or part in STOP_WORDS


def test_a_camel_is_found_by_its_lower_case_plural() -> None:
    assert set(terms("iphones")) <= set(terms("my iPhone"))


ZERO_WIDTH = "\u00ad\u061c\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"


@given(st.text(max_size=30), st.data())
def test_unseen_characters_hide_nothing(text: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(text)))
    unseen = data.draw(st.sampled_from(ZERO_WIDTH))
    assert terms(text[:place] + unseen + text[place:]) == terms(text)


@pytest.mark.parametrize("text", ["cafe\u0301", "caf\u00e9", "cafe\u200b\u0301"])
def test_accents_count_however_they_are_written(text: str) -> None:
    assert terms(text) == terms("café") == ["café"]


@given(st.text(max_size=60))
def test_terms_are_what_the_query_side_gives_too(text: str) -> None:
    found = terms(text)
    assert all(found)
    assert found == terms(text)
    assert terms(unicodedata.normalize("NFC", text)) == found


@given(st.lists(st.sampled_from(("river", "HTTPServer", "a_b", "日本語", "the", "v1.2", "Alice's")), max_size=6))
def test_a_text_has_the_terms_of_its_words(words: list[str]) -> None:
    assert Counter(terms(" ".join(words))) == sum((Counter(terms(word)) for word in words), Counter())


def test_threads_do_not_disturb_each_other() -> None:
    text = "running rivers flowing quickly through HTTPServer gardens " * 20
    expected = terms(text)
    wrong: list[object] = []

    def read() -> None:
        wrong.extend(found for found in (terms(text) for _ in range(30)) if found != expected)

    threads = [threading.Thread(target=read) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


HOSTILE = {
    "one word": "a",
    "underscores": "_",
    "dots": "a.",
    "compound without an end": "a-a'",
    "capitals": "A",
    "camels": "aB",
    "digits": "1a",
    "ideographs": "漢",
    "marks": "\u0300\u0316",
    "joiners": "a\u200b",
    "colons": "a::",
    "blanks": " ",
}


@pytest.mark.parametrize("pattern", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_megabyte_takes_time_in_proportion(pattern: str) -> None:
    def seconds(size: int) -> float:
        text = "x" + pattern * (size // len(pattern))
        started = time.process_time()
        terms(text)
        fragmentation(text)
        return time.process_time() - started

    # Sixteen times the input: some 16 times the time if linear, 256 if quadratic.
    small, large = min(seconds(2**16) for _ in range(3)), seconds(2**20)
    assert large < 80 * max(small, 0.01)


@given(st.text(max_size=60))
def test_fragmentation_is_a_share(query: str) -> None:
    assert 0 <= fragmentation(query) <= 1


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", 0),
        ("what is the", 0),
        ("Where does Alice live now?", 0),
        ("What did Caroline do in May 2023?", 0),
        ("Who won 3 of 10 games in 1998?", 0),
        ("What's Melanie's job?", 0),
        ("PyThread_tss_is_created", 1),
        ("ZX-4471-B", 1),
        ("4471", 1),
        ("os.path.join", 1),
        ("HTTPServer utf8", 1),
        ("What does PyThread_tss_is_created return?", 1 / 2),
        ("ＨＴＴＰＳｅｒｖｅｒ", 1),
    ],
)
def test_identifiers_are_fragmented_and_plain_questions_are_not(query: str, expected: float) -> None:
    assert fragmentation(query) == expected


def test_bm25_by_hand() -> None:
    # k1 1.2, b 0.75, length 4, average 2: norm = 1.2 (0.25 + 0.75 · 4/2) = 2.1
    weights = bm25_weights(Counter({"river": 3, "flow": 1}), 2.0)
    assert weights == pytest.approx({"river": 3 * 2.2 / 5.1, "flow": 2.2 / 3.1})


def test_bm25_of_an_average_passage_that_has_a_term_once_is_one() -> None:
    assert bm25_weights(Counter({"a": 1, "b": 1}), 2.0) == pytest.approx({"a": 1.0, "b": 1.0})
    assert bm25_weights(Counter({"a": 1}), 0.0) == pytest.approx({"a": 1.0})
    assert bm25_weights({}, 5.0) == {}


@given(st.integers(1, 50), st.integers(1, 50), st.floats(1, 500))
def test_bm25_grows_with_the_count_and_never_beyond_its_limit(count: int, others: int, average: float) -> None:
    def weight(tf: int) -> float:
        return bm25_weights({"a": tf, "rest": others + 60 - tf}, average)["a"]

    assert 0 < weight(count) < weight(count + 1) < 2.2
