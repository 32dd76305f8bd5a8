"""What the lexical index counts: words, stems, identifiers whole and in parts; BM25 weights.  Pure.

A tokenizer that splits at ``_`` loses a third of the recall on identifiers; one that does not split
at all cannot find a part.  So an identifier counts as itself and as its parts.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Literal

import Stemmer

Language = Literal["english", "none"]

IDENTITY = "words-1"
"""Changes when the same text would give other terms; part of the lexical space's name."""

K1 = 1.2
B = 0.75

# Scripts without spaces between words: kana, ideographs, Hangul, Thai.
_SPACELESS = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\u0e00-\u0e7f"
_SPACELESS_WORD = re.compile(f"[{_SPACELESS}]")

# A word, or words joined by one of . - : / ' @ without a space: os.path.join, ZX-4471-B, a/b, it's.
_COMPOUND = re.compile(r"\w+(?:(?:[.\-/'’@]|::)\w+)*")
_WORD = re.compile(r"\w+")
# fooBar → foo Bar, HTTPServer → HTTP Server, utf8 → utf 8, snake_case → snake case
# A word of both kinds is cut at the border: iPhoneを → iPhone, を
_SCRIPTS = re.compile(f"[{_SPACELESS}]+|[^\\W{_SPACELESS}]+")
_PARTS = re.compile(r"[^\W\d_]+?(?=[A-Z][a-z]|(?<=[a-z])[A-Z]|\d|_|\b)|\d+|[^\W\d_]+")
# Normalising takes time quadratic in a row of combining marks; no script has more than a few.
_MARKS = re.compile(r"([^\w\s\x00-\x7f]{30})[^\w\s\x00-\x7f]+")
# Short numbers and years are whole words to any model.
_PLAIN_NUMBER = re.compile(r"\d\d?|1\d\d\d|20\d\d")

STOP_WORDS = frozenset(
    " ".join(
        (
            "a about after again all also am an and any are as at be because been before being between both but by",
            "can could d did do does doing don down during each few for from further get had has have having he her",
            "here hers herself him himself his how i if in into is it its itself just ll m me more most my myself no",
            "nor not now of off on once only or other our ours ourselves out over own re s same she should so some",
            "such t than that the their theirs them themselves then there these they this those through to too under",
            "until up us ve very was we were what when where which while who whom whose why will with would you your",
            "yours yourself yourselves",
        )
    ).split()
)

_local = threading.local()


def _stemmer() -> Callable[[list[str]], list[str]]:
    # A Snowball stemmer keeps state and must not be shared between threads.
    if not hasattr(_local, "stem"):
        _local.stem = Stemmer.Stemmer("english").stemWords
    stem: Callable[[list[str]], list[str]] = _local.stem
    return stem


def terms(text: str, language: Language = "english") -> list[str]:
    """The text's terms in order, repetitions included; empty for a text of stop words.

    A plain word gives its stem.  A compound or an identifier gives itself, lower-cased (or its stem, when
    it is all letters), and the stems of its parts.  Scripts without spaces give character pairs.
    """
    text = _normal(text)
    whole: list[str] = []
    words: list[str] = []
    for compound in _COMPOUND.findall(text):
        if compound.isascii() and compound.isalpha() and not _composite(compound):
            words.append(compound.lower())  # most words: there is nothing to take apart
            continue
        simple = _WORD.findall(compound)
        if len(simple) > 1 and not _elision(compound):
            whole.append(compound.lower())
        for word in simple:
            for run in _SCRIPTS.findall(word):
                if _SPACELESS_WORD.match(run):
                    whole.extend(_pairs(run))
                    continue
                parts = _PARTS.findall(run) if _composite(run) else [run]
                if parts != [run]:
                    # HTTPServer is asked for as httpserver, which is a word like others.
                    (words if run.isalpha() else whole).append(run.lower())
                words.extend(part.lower() for part in parts)
    if language == "none":
        return whole + words
    kept = [word for word in words if word not in STOP_WORDS]
    return whole + _stemmer()(kept)


_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u061c\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"))


def _normal(text: str) -> str:
    # The soft hyphen and zero-width characters would hide a word, or part an accent from its letter.
    return unicodedata.normalize("NFKC", _MARKS.sub(r"\1", text.translate(_INVISIBLE)))


def _elision(compound: str) -> bool:
    return "'" in compound or "’" in compound


def _composite(word: str) -> bool:
    return not word.isalpha() or not (word.islower() or word.isupper() or word.istitle())


def _pairs(word: str) -> list[str]:
    return [word] if len(word) < 2 else [word[i : i + 2] for i in range(len(word) - 1)]


def fragmentation(query: str) -> float:
    """Share of the query's content words that are identifier-like, from 0 to 1.

    Such a word has an inner ``_``, digit, dot or capital, or is a number that is neither short
    nor a year: its form is rare, and a model that reads word pieces sees only fragments of it.
    """
    compounds = [word for word in _COMPOUND.findall(_normal(query)) if word.lower() not in STOP_WORDS]
    if not compounds:
        return 0.0
    return sum(map(_rare, compounds)) / len(compounds)


def identifiers(text: str) -> list[str]:
    """The text's identifier-like words as they are written, in order, each once; see ``fragmentation``."""
    return [word for word in dict.fromkeys(_COMPOUND.findall(_normal(text))) if _rare(word)]


def words(text: str) -> list[str]:
    """The text's words as they are written, in order; a compound is one."""
    return _COMPOUND.findall(_normal(text))


def _rare(compound: str) -> bool:
    if _elision(compound) or _PLAIN_NUMBER.fullmatch(compound):
        return False
    words = _WORD.findall(compound)
    # long-term, and/or: words like others
    plain = not any(map(_composite, words)) and not re.search(r"[.@:]", compound)
    return not plain


def bm25_weights(counts: Mapping[str, int] | Counter[str], average_length: float) -> dict[str, float]:
    """The document's side of BM25: tf (k1 + 1) / (tf + k1 (1 - b + b length / average length)).

    Robertson and Zaragoza, "The Probabilistic Relevance Framework", 2009; Qdrant multiplies by IDF.
    """
    length = sum(counts.values())
    norm = K1 * (1 - B + B * length / max(average_length, 1.0))
    return {term: tf * (K1 + 1) / (tf + norm) for term, tf in counts.items()}
