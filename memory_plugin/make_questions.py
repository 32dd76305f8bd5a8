"""A first set of questions about memories, made from them without a language model.  Pure, and the same every time.

Three kinds:

* ``sentence``: a sentence that sets its memory apart, with most of its words taken away (a paraphrase by deletion):
  stop words, the rarest of the others, since people rarely remember those, and some at random.
* ``paraphrase``: the same, with other words for most of those that are left, where such are known.  A question in the
  memory's own words says nothing of what a lexical index misses, one in other words too little of what it finds: half
  of each ranks configurations as real questions do (docs/choosing.md).
* ``identifier``: "what mentions ZX-4471-B", for words whose form is rare and that few memories hold.

They are no questions that anybody would ask.  They tell a configuration that loses memories from one that does not, and
are meant to be edited.
"""

from __future__ import annotations

import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from memory_plugin.dataset import Expected, Question
from memory_plugin.errors import InvalidInputError
from memory_plugin.fuse import Distinct
from memory_plugin.lexical import STOP_WORDS, Language, identifiers, terms, words
from memory_plugin.types import Namespace, Record

OtherWords: TypeAlias = Callable[[str, str], str | None]
"""Called with a data subject and a lower-case word: another word of that subject's memories for it, or None."""

KINDS = ("sentence", "paraphrase", "identifier")
SEED = 20240607
IDENTIFIERS = 0.3
"""Share of identifier questions, where there are enough."""

_PARAGRAPH = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*+#>|]|\d+[.)])\s)")
_SENTENCE = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[^\W\d_a-z]|[\"'(\[]|\d)|(?<=[。！？])")
_LONGEST, _SHORTEST = 400, 30
_LEAST_WORDS = 6
_LETTERS = 0.8
_ALIKE = 0.6
_RAREST = 1 / 4
_KEPT = 4, 8
_CHANGED = 2 / 3
_SHORTEST_NAME, _LONGEST_NAME = 4, 40
_MEMORIES = 3


@dataclass(frozen=True, slots=True)
class _Subject:
    """What is known of a data subject's memories.

    Args:
        frequency: In how many memories each term is.
        postings: Which those are.
        sentences: How often each sentence is, in words only.
        holders: Which memories hold each identifier, lower-cased.
        memories: How many there are.
    """

    frequency: Counter[str]
    postings: Mapping[str, Sequence[int]]
    sentences: Counter[str]
    holders: Mapping[str, Sequence[int]]
    memories: int

    def rarity(self, term: str) -> float:
        """Inverse document frequency, as BM25 counts it."""
        found = self.frequency.get(term, 0)
        return math.log1p((self.memories - found + 0.5) / (found + 0.5))


def make_questions(
    records: Iterable[Record],
    count: int = 50,
    *,
    seed: int = SEED,
    language: Language = "english",
    other_words: OtherWords | None = None,
) -> list[Question]:
    """Questions about memories, each with the memory that answers it.

    Args:
        records: All memories of the namespaces that are to be asked, since what is rare depends on the others.
        count: How many to make; fewer where the memories do not give as many.
        seed: Another one makes others.
        language: Of the store's lexical index.
        other_words: Other words for those of a sentence; see ``memory_plugin.evaluate.OtherWords``.

    Returns:
        Of all kinds, in random order; the type names the kind.

    Raises:
        InvalidInputError: There is nothing that a question could be made of.
    """
    kept = [record for record in records if record.text.strip()]
    choose = random.Random(seed)  # noqa: S311 - the same every time is the point
    order = sorted(range(len(kept)), key=lambda place: kept[place].id)
    choose.shuffle(order)
    spaces: dict[str, list[int]] = {}
    for place in order:
        spaces.setdefault(kept[place].namespace[0], []).append(place)
    known = {name: _subject(kept, places, language) for name, places in spaces.items()}
    named = list(_identifier_questions(kept, order, known, round(count * IDENTIFIERS)))
    told = list(_sentence_questions(kept, order, known, count - len(named), choose, language, other_words))
    found = named + told
    if not found:
        raise InvalidInputError(
            "no question can be made of these memories: they hold no sentence or identifier that sets one apart"
        )
    choose.shuffle(found)
    return found


def _subject(kept: Sequence[Record], places: Sequence[int], language: Language) -> _Subject:
    postings: dict[str, list[int]] = {}
    holders: dict[str, list[int]] = {}
    sentences: Counter[str] = Counter()
    for place in places:
        for term in set(terms(kept[place].passage, language)):
            postings.setdefault(term, []).append(place)
        for word in {word.lower() for word in identifiers(kept[place].text)}:
            holders.setdefault(word, []).append(place)
        sentences.update({_plain(one) for one in _sentences(kept[place].text)})
    frequency = Counter({term: len(found) for term, found in postings.items()})
    return _Subject(frequency, postings, sentences, holders, len(places))


def _plain(sentence: str) -> str:
    return " ".join(words(sentence.lower()))


def _sentences(text: str) -> Iterator[str]:
    """Sentences that say something: long enough, mostly letters, not a heading that ends with a colon."""
    for part in (one for paragraph in _PARAGRAPH.split(text) for one in _SENTENCE.split(paragraph)):
        sentence = " ".join(part.split())
        letters = sum(one.isalpha() or one.isspace() for one in sentence)
        if (
            _SHORTEST <= len(sentence) <= _LONGEST
            and letters >= _LETTERS * len(sentence)
            and not sentence.endswith(":")
        ):
            yield sentence


# ── sentences ─────────────────────────────────────────────────────────────────────────────────────


def _sentence_questions(
    kept: Sequence[Record],
    order: Sequence[int],
    known: Mapping[str, _Subject],
    count: int,
    choose: random.Random,
    language: Language,
    other_words: OtherWords | None,
) -> Iterator[Question]:
    """One a memory, and one a document as long as there are others."""
    distinct = Distinct(_ALIKE)
    asked: set[tuple[Namespace, str]] = set()
    made = 0
    for again in (False, True):
        for place in order:
            record = kept[place]
            document = record.namespace, record.document or record.id
            if made == count or (document in asked) != again:
                continue
            subject = known[record.namespace[0]]
            sentence = _telling(record, place, subject, language)
            query = sentence and _shortened(sentence, subject, choose, language)
            if sentence is None or not query or distinct.repeats(sentence):
                continue
            asked.add(document)
            made += 1
            kind = "sentence"
            if other_words is not None and made % 2 == 0:
                other = _in_other_words(query, record.namespace[0], other_words, choose)
                query, kind = (other, "paraphrase") if other != query else (query, kind)
            yield _question(f"{kind[0]}{made}", query, kind, record.namespace, [(record.source, sentence)])


def _telling(record: Record, place: int, subject: _Subject, language: Language) -> str | None:
    """The sentence of a memory that is furthest from all other memories; None where none is far enough."""
    best: tuple[float, str] | None = None
    for sentence in _sentences(record.text):
        found = set(terms(sentence, language))
        if len(found) < _LEAST_WORDS or subject.sentences[_plain(sentence)] > 1:
            continue
        weight = {term: subject.rarity(term) for term in found}
        shared: Counter[int] = Counter()
        for term in found:
            for other in subject.postings.get(term, ()):
                shared[other] += weight[term]  # type: ignore[assignment]  # a Counter adds any numbers
        shared.pop(place, None)
        alike = max(shared.values(), default=0) / sum(weight.values())
        if alike <= _ALIKE and (best is None or alike < best[0]):
            best = alike, sentence
    return best[1] if best else None


def _shortened(sentence: str, subject: _Subject, choose: random.Random, language: Language) -> str:
    """A paraphrase by deletion: some of the sentence's words, in their order."""
    content = [word for word in dict.fromkeys(words(sentence)) if _says_something(word)]
    rarity = {word: max((subject.rarity(term) for term in terms(word, language)), default=0.0) for word in content}
    by_rarity = sorted(content, key=lambda word: (-rarity[word], word))
    remembered = [word for word in content if word not in by_rarity[: round(len(content) * _RAREST)]]
    size = max(_KEPT[0], min(_KEPT[1], round(len(content) / 2)))
    kept = set(choose.sample(remembered, min(size, len(remembered))))
    return " ".join(word for word in remembered if word in kept) if len(kept) >= _KEPT[0] else ""


def _in_other_words(query: str, subject: str, other_words: OtherWords, choose: random.Random) -> str:
    """The query with other words for some of its own; names, which are no words for anything else, stay."""
    own = query.split(" ")
    others = {
        place: other for place, word in enumerate(own) if word.islower() and (other := other_words(subject, word))
    }
    changed = choose.sample(sorted(others), min(len(others), round(len(own) * _CHANGED)))
    return " ".join(others[place] if place in changed else word for place, word in enumerate(own))


def _says_something(word: str) -> bool:
    """Whether it is neither a stop word nor a contraction of such."""
    return word.lower() not in STOP_WORDS and not re.search(r"['’]|^_+$", word)


# ── identifiers ───────────────────────────────────────────────────────────────────────────────────


def _identifier_questions(
    kept: Sequence[Record], order: Sequence[int], known: Mapping[str, _Subject], count: int
) -> Iterator[Question]:
    """For identifiers that few memories hold, those all of them in answer."""
    asked: set[tuple[str, str]] = set()
    made = 0
    for place in order:
        if made == count:
            return
        record = kept[place]
        subject = known[record.namespace[0]]
        found = identifiers(record.text)
        few = [
            word
            for word in found
            if len(subject.holders[word.lower()]) <= _MEMORIES and 4 <= len(word) <= _LONGEST_NAME
        ]
        word = min(few, key=lambda one: (len(subject.holders[one.lower()]), -len(one), one), default=None)
        if word is None or (record.namespace[0], word.lower()) in asked:
            continue
        holders = [kept[other] for other in subject.holders[word.lower()]]
        if any(other.namespace != record.namespace for other in holders):
            continue  # what the namespace below it is asked for is not all of them
        asked.add((record.namespace[0], word.lower()))
        made += 1
        answers = [(other.source, word) for other in sorted(holders, key=lambda one: one.id)]
        yield _question(f"i{made}", f"what mentions {word}", "identifier", record.namespace, answers)


def _names_something(word: str) -> bool:
    """Whether it is more than a number that may be anything."""
    return _SHORTEST_NAME <= len(word) <= _LONGEST_NAME and any(one.isalpha() for one in word)


def _question(
    name: str, query: str, kind: str, namespace: Namespace, answers: Sequence[tuple[str | None, str]]
) -> Question:
    expected = tuple(dict.fromkeys(Expected(source=source, text=text) for source, text in answers))
    return Question(name, query, kind, namespace, {str(place): 1 for place in range(len(expected))}, expected)
