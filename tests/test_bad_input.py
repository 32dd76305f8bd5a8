"""What people, models and disks get wrong: a typed error that says what to do, and nothing written."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from memory_plugin import (
    ConfigurationError,
    Document,
    EmbeddingError,
    IndexUnavailableError,
    InvalidInputError,
    KeyServiceError,
    ManifestMismatchError,
    MemoryNotFoundError,
    MemoryPluginError,
    MemoryStore,
    Message,
    RerankError,
    SealError,
    Settings,
    and_,
    any_of,
    eq,
    not_,
    or_,
    range_,
    time_range,
)
from memory_plugin.conditions import And, AnyOf, HasVector, Not, Range, TimeRange
from memory_plugin.rerankers.late_interaction import MaxSim
from memory_plugin.testing.doubles import HashEmbedder
from memory_plugin.types import Embeddings
from tests.conftest import Driver, Opener

SURROGATE = "half \ud83d of a pair"


def files(path: Path) -> dict[str, bytes]:
    """Every file below, by its name."""
    return {str(file.relative_to(path)): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MemoryStore]:
    """A store that holds something, and that no refused call may change in a single byte."""
    path = tmp_path_factory.mktemp("kept")
    with MemoryStore.open(
        path / "m",
        embedder=HashEmbedder(),
        reranker=None,
        late=None,
        keyring=path / "k.json",
        settings=Settings(filterable=("topic",)),
    ) as store:
        store.add("a memory that stays", "alice", source="s", metadata={"topic": "x"})
        before = files(path)
        yield store
        after = files(path)
        assert after.keys() == before.keys()
        assert [name for name in after if after[name] != before[name]] == []


class Odd:
    """No value of any kind."""

    def __repr__(self) -> str:
        return "odd"


DEEP: dict[str, Any] = {}
for _ in range(20_000):
    DEEP = {"a": DEEP}
NESTED: Any = eq("a", 1)
for _ in range(3_000):
    NESTED = Not(NESTED)

ADDS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "empty": (("", "alice"), {}),
    "white space": ((" \n\t\u3000\u2028", "alice"), {}),
    "zero width": (("\u200b\u200d\ufeff\u2060", "alice"), {}),
    "surrogate": ((SURROGATE, "alice"), {}),
    "surrogate source": (("x", "alice"), {"source": SURROGATE}),
    "surrogate key": (("x", "alice"), {"metadata": {SURROGATE: 1}}),
    "surrogate value": (("x", "alice"), {"metadata": {"a": [{"b": SURROGATE}]}}),
    "surrogate role": ((Message(SURROGATE, "x"), "alice"), {}),
    "surrogate name": ((Message("user", "x", name=SURROGATE), "alice"), {}),
    "surrogate id": ((Message("user", "x", id=SURROGATE), "alice"), {}),
    "surrogate namespace": (("x", ("alice", SURROGATE)), {}),
    "the second of two": ((["fine", SURROGATE], "alice"), {}),
    "nan": (("x", "alice"), {"metadata": {"a": float("nan")}}),
    "inf": (("x", "alice"), {"metadata": {"a": [float("inf")]}}),
    "object": (("x", "alice"), {"metadata": {"a": Odd()}}),
    "bytes": (("x", "alice"), {"metadata": {"a": b"x"}}),
    "set": (("x", "alice"), {"metadata": {"a": {1}}}),
    "number key": (("x", "alice"), {"metadata": {"a": {1: 2}}}),
    "deep": (("x", "alice"), {"metadata": DEEP}),
    "too much metadata": (("x", "alice"), {"metadata": {"a": "y" * 300_000}}),
    "metadata list": (("x", "alice"), {"metadata": [("a", 1)]}),
    "own metadata": ((Document("x", metadata=7), "alice"), {}),  # type: ignore[arg-type]
    "naive time": (("x", "alice"), {"time": datetime(2024, 1, 1)}),
    "text time": (("x", "alice"), {"time": "2024-01-01"}),
    "zero time": ((Document("x", time=0), "alice"), {}),  # type: ignore[arg-type]
    "before the year 1": (("x", "alice"), {"time": datetime.min.replace(tzinfo=timezone(timedelta(hours=5)))}),
    "after 9999": (("x", "alice"), {"time": datetime.max.replace(tzinfo=timezone(-timedelta(hours=5)))}),
    "bad timestamp": (({"role": "user", "content": "x", "time": "soon"}, "alice"), {}),
    "no content": (({"role": "user"}, "alice"), {}),
    "content None": (({"role": "assistant", "content": None}, "alice"), {}),
    "role None": (({"role": None, "content": "x"}, "alice"), {}),
    "number": ((7, "alice"), {}),
    "None": ((None, "alice"), {}),
    "text bytes": ((b"x", "alice"), {}),
    "document of bytes": ((Document(b"x"), "alice"), {}),  # type: ignore[arg-type]
    "list of lists": (([["x"]], "alice"), {}),
    "source number": (("x", "alice"), {"source": 7}),
    "source empty": (("x", "alice"), {"source": ""}),
    "source of two": ((["x", "y"], "alice"), {"source": "z"}),
    "source too long": (("x", "alice"), {"source": "z" * 5_000}),
    "markdown list": (("x", "alice"), {"markdown": []}),
    "document markdown": ((Document("x", markdown=Odd()), "alice"), {}),  # type: ignore[arg-type]
    "namespace of numbers": (("x", (1, 2)), {}),
    "too deep a namespace": (("x", ("alice",) * 17), {}),
}


@pytest.mark.parametrize("case", ADDS)
def test_add_refuses_what_it_cannot_keep(kept: MemoryStore, case: str) -> None:
    arguments, options = ADDS[case]
    with pytest.raises(InvalidInputError) as caught:
        kept.add(*arguments, **options)
    assert len(str(caught.value)) < 500
    assert kept.count("alice") == 1


READS: dict[str, Callable[[Any], object]] = {
    "query empty": lambda s: s.search("", "alice"),
    "query blank": lambda s: s.search(" \n", "alice"),
    "query zero width": lambda s: s.search("\u200b", "alice"),
    "query surrogate": lambda s: s.search(SURROGATE, "alice"),
    "query number": lambda s: s.search(7, "alice"),
    "query too long": lambda s: s.search("x" * 70_000, "alice"),
    "limit zero": lambda s: s.search("x", "alice", limit=0),
    "limit text": lambda s: s.search("x", "alice", limit="3"),
    "limit float": lambda s: s.search("x", "alice", limit=1.5),
    "limit True": lambda s: s.search("x", "alice", limit=True),
    "limit None": lambda s: s.list("alice", limit=None),
    "legs": lambda s: s.search("x", "alice", legs=["dense"]),
    "rerank": lambda s: s.search("x", "alice", rerank=None),
    "per_document": lambda s: s.search("x", "alice", per_document="1"),
    "neighbours": lambda s: s.search("x", "alice", neighbours=-1),
    "many neighbours": lambda s: s.search("x", "alice", neighbours=10**9),
    "filter dict": lambda s: s.search("x", "alice", filter={"topic": "x"}),
    "filter text": lambda s: s.count("alice", filter="topic"),
    "filter number": lambda s: s.list("alice", filter=7),
    "filter of a list": lambda s: s.facet("topic", "alice", filter=And([eq("a", 1)])),  # type: ignore[arg-type]
    "filter of None": lambda s: s.count("alice", filter=and_(None)),  # type: ignore[arg-type]
    "filter nested": lambda s: s.count("nobody", filter=NESTED),
    "filter surrogate": lambda s: s.count("alice", filter=AnyOf("topic", (SURROGATE,))),
    "filter field surrogate": lambda s: s.count("alice", filter=AnyOf(SURROGATE, ("x",))),
    "filter field number": lambda s: s.count("alice", filter=AnyOf(7, ("x",))),  # type: ignore[arg-type]
    "filter value": lambda s: s.count("alice", filter=AnyOf("topic", (Odd(),))),  # type: ignore[arg-type]
    "filter values": lambda s: s.count("alice", filter=AnyOf("topic", "x")),  # type: ignore[arg-type]
    "filter own field": lambda s: s.count("nobody", filter=eq("$nothing", 1)),
    "filter nan": lambda s: s.count("alice", filter=Range("stars", gte=float("nan"))),
    "filter bound": lambda s: s.count("alice", filter=Range("stars", gte="1")),  # type: ignore[arg-type]
    "filter naive": lambda s: s.count("alice", filter=TimeRange(datetime(2024, 1, 1))),
    "filter since": lambda s: s.count("alice", filter=time_range("2024")),  # type: ignore[arg-type]
    "filter vector": lambda s: s.count("alice", filter=not_(HasVector("d_x"))),
    "any_of number": lambda s: s.count("alice", filter=any_of("topic", 7)),  # type: ignore[arg-type]
    "eq object": lambda s: s.count("alice", filter=eq("topic", Odd())),  # type: ignore[arg-type]
    "range text": lambda s: s.count("alice", filter=or_(range_("stars", lt="9"))),  # type: ignore[arg-type]
    "after number": lambda s: s.list("alice", after=7),
    "after surrogate": lambda s: s.list("alice", after=SURROGATE),
    "after infinite": lambda s: s.list("alice", after=cursor('[Infinity, "a", 1, "b"]')),
    "after nan": lambda s: s.list("alice", after=cursor('[NaN, "a", 1, "b"]')),
    "after short": lambda s: s.list("alice", after=cursor("[1]")),
    "after nested": lambda s: s.list("alice", after=cursor("[" * 100_000)),
    "after object": lambda s: s.list("nobody", after=cursor("{}")),
    "facet field": lambda s: s.facet(7, "alice"),
    "facet surrogate": lambda s: s.facet(SURROGATE, "alice"),
    "facet own field": lambda s: s.facet("$nothing", "nobody"),
    "facet limit": lambda s: s.facet("topic", "alice", limit="all"),
    "max_tokens": lambda s: s.context("x", "alice", max_tokens="100"),
    "encoding": lambda s: s.context("x", "alice", encoding=["o200k_base"]),
    "delete number": lambda s: s.delete("alice", 7),
    "delete numbers": lambda s: s.delete("alice", [7]),
    "delete lists": lambda s: s.delete("alice", [["x"]]),
    "delete source": lambda s: s.delete("alice", source=7),
    "delete surrogate": lambda s: s.delete("alice", source=SURROGATE),
    "delete filter": lambda s: s.delete("alice", filter={}),
    "delete nothing": lambda s: s.delete("alice"),
    "forget a part": lambda s: s.forget(("alice", "s")),
    "file number": lambda s: s.add_file(7, "alice"),
    "file NUL": lambda s: s.add_file("a\x00b", "alice"),
    "file missing": lambda s: s.add_file("no/such/file.txt", "alice"),
    "file directory": lambda s: s.add_file(Path(), "alice"),
    "file surrogate": lambda s: s.add_file(SURROGATE, "alice"),
}


def cursor(text: str) -> str:
    import base64

    return base64.urlsafe_b64encode(text.encode()).decode()


@pytest.mark.parametrize("case", READS)
def test_every_other_verb_too(kept: MemoryStore, case: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        READS[case](kept)
    assert len(str(caught.value)) < 500
    assert kept.count("alice") == 1


@pytest.mark.parametrize(
    "point", ["", "x", 7, None, b"x", ["x"], "x" * 10**6, SURROGATE, "00000000-0000-0000-0000-000000000000"]
)
def test_get_finds_nothing_under_what_is_no_id(kept: Any, point: Any) -> None:
    with pytest.raises(MemoryNotFoundError):
        kept.get(point, "alice")
    if isinstance(point, str):
        assert kept.delete("alice", point) == 0
        assert kept.delete("alice", [point, point]) == 0


def test_what_is_strange_but_text_comes_back_as_it_was(store: Driver) -> None:
    texts = [
        "a\x00b",
        "שלום \u202eעולם\u202c",
        "e\u0301" * 50,
        "🦊\u200d👩‍👩‍👧",
        "\u0627\u0644\u0633\u0644\u0627\u0645",
        "z" + "\u0300" * 500,
    ]
    ids = store.add(
        texts, ("alice", "\x00", "\u202e"), metadata={"\x00": "\x00", "🦊": ["\u202e", {"a\x00": None}]}
    ).ids
    for text, point in zip(texts, ids, strict=True):
        record = store.get(point, "alice")
        assert (record.text, record.namespace) == (text, ("alice", "\x00", "\u202e"))
        assert record.metadata == {"\x00": "\x00", "🦊": ["\u202e", {"a\x00": None}]}
    assert {record.text for record in store.list(("alice", "\x00")).records} == set(texts)
    assert store.context("a b", ("alice", "\x00")).text


def test_metadata_is_kept_as_it_will_be_read(store: Driver) -> None:
    """A tuple is a list, whether Qdrant filters by tags or the memory is opened."""
    store.add("of two topics", "bob", metadata={"topic": ("p", "q"), "other": ("p", "q")})
    for field in ("topic", "other"):
        assert store.count("bob", filter=eq(field, "p")) == 1
        assert store.facet(field, "bob") == {"p": 1, "q": 1}
    assert store.verify().ok


def test_absurd_dates_are_kept_in_order(store: Driver) -> None:
    last = datetime.max.replace(tzinfo=UTC)
    times = [datetime.min.replace(tzinfo=UTC), datetime(1, 1, 2, tzinfo=UTC), datetime(1969, 12, 31, tzinfo=UTC)]
    times += [last - timedelta(microseconds=n) for n in (3, 2, 1, 0)]
    for time in times:
        store.add(f"at {time.isoformat()}", "bob", time=time)
    for newest_first in (False, True):
        seen: list[datetime] = []
        after = None
        while True:
            page = store.list("bob", limit=1, after=after, newest_first=newest_first)
            seen += [record.time for record in page.records]
            after = page.next
            if after is None:
                break
        assert seen == sorted(times, reverse=newest_first)
    assert store.count("bob", filter=time_range(last - timedelta(microseconds=1))) == 2
    assert len(store.search("at", "bob", legs="dense")) >= 1


class Constant:
    """Embeds nothing, fast."""

    def __init__(self, answer: Callable[[Sequence[str]], Any] | None = None) -> None:
        self.identity = HashEmbedder().identity
        self._answer = answer
        self.broken = False
        self.tokenizer = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
        self.tokenizer.pre_tokenizer = Whitespace()

    def count(self, text: str, /) -> int:
        return len(self.tokenizer.encode(text, add_special_tokens=False).ids) + 2

    def embed(self, texts: Sequence[str], /, *, input_type: str) -> Any:
        if self.broken and self._answer is not None:
            return self._answer(texts)
        vectors = np.zeros((len(texts), 64), np.float32)
        vectors[:, 0] = 1
        return Embeddings(vectors)


@pytest.mark.slow
def test_ten_megabytes_are_cut_exactly(tmp_path: Path) -> None:
    line = "Пример {}: достопримечательности 🦊, a book, непревзойдённое самосовершенствование that nobody will read.\n"
    text = "".join(line.format(n) for n in range(72_000))
    assert 10 * 2**20 < len(text.encode()) < 16 * 2**20
    settings = Settings(chunk_tokens=4_096, batch=512, staging=4_096, max_text_bytes=len(text.encode()))
    with MemoryStore.open(
        tmp_path / "m", embedder=Constant(), reranker=None, late=None, keyring=tmp_path / "k.json", settings=settings
    ) as store:
        with pytest.raises(InvalidInputError, match="at most"):
            store.add(text + "x", "alice")
        added = store.add(text, "alice", source="book")
        records = store.list("alice", limit=10_000).records
        assert len(records) == added.written == len(added.ids) > 100
        assert all(text[record.start : record.end] == record.text for record in records)
        gaps = [text[one.end : two.start] for one, two in itertools.pairwise(records)]
        assert all(not gap.strip() for gap in gaps)
        assert records[0].start == 0
        assert not text[records[-1].end :].strip()


# ── providers ─────────────────────────────────────────────────────────────────────────────────────


def fail(texts: Sequence[str]) -> Any:
    raise ConnectionResetError("the embedder's service hung up")


def stop(texts: Sequence[str]) -> Any:
    raise StopIteration


def row(*values: float) -> list[float]:
    return [*values, *([0.0] * (64 - len(values)))]


ANSWERS: dict[str, Callable[[Sequence[str]], Any]] = {
    "wrong dimension": lambda texts: [[1.0, 0.0]] * len(texts),
    "one too few": lambda texts: [row(1)] * (len(texts) - 1),
    "one too many": lambda texts: [row(1)] * (len(texts) + 1),
    "ragged": lambda texts: [row(1), [1.0]][: len(texts)] if len(texts) > 1 else [[[1.0], 2.0]],
    "nan": lambda texts: [row(float("nan"))] * len(texts),
    "inf": lambda texts: [row(float("inf"))] * len(texts),
    "beyond float32": lambda texts: [row(1e300)] * len(texts),
    "zeros": lambda texts: [row()] * len(texts),
    "flat": lambda texts: row(1),
    "None": lambda texts: None,
    "words": lambda texts: [["x"] * 64] * len(texts),
    "embeddings of a list": lambda texts: Embeddings([["x"] * 64] * len(texts)),  # type: ignore[arg-type]
    "embeddings of None": lambda texts: Embeddings(None),  # type: ignore[arg-type]
    "too few tokens": lambda texts: Embeddings(np.ones((len(texts), 64), np.float32), tokens=()),
    "raises": fail,
    "stops": stop,
}


@pytest.mark.parametrize("case", ANSWERS)
def test_an_embedder_that_is_broken(open_store: Opener, case: str) -> None:
    embedder = Constant(ANSWERS[case])
    store = open_store(embedder=embedder)
    store.add("a memory that stays", "alice")
    embedder.broken = True
    with pytest.raises(EmbeddingError, match="testing:hashed-words"):
        store.add(["x", "y"], "alice")
    with pytest.raises(EmbeddingError, match="testing:hashed-words"):
        store.search("x", "alice")
    assert store.count("alice") == 1
    embedder.broken = False
    assert store.add("x", "alice").written == 1


def test_a_list_of_lists_is_as_good_as_an_array(open_store: Opener) -> None:
    embedder = Constant(lambda texts: [row(3, 4)] * len(texts))
    embedder.broken = True
    store = open_store(embedder=embedder)
    store.add(["x", "y"], "alice")
    assert store.search("x", "alice", legs="dense")[0].stages["dense"].score == pytest.approx(1, abs=1e-3)


class Judge:
    """Says what it is told."""

    model = "testing:judge"

    def __init__(self, answer: Callable[[Sequence[str]], Any]) -> None:
        self._answer = answer

    def rerank(self, query: str, texts: Sequence[str], /) -> Any:
        return self._answer(texts)


SCORES: dict[str, Callable[[Sequence[str]], Any]] = {
    "too few": lambda texts: [1.0] * (len(texts) - 1),
    "too many": lambda texts: [1.0] * (len(texts) + 1),
    "nan": lambda texts: [float("nan")] * len(texts),
    "pairs": lambda texts: [(1.0, 2.0)] * len(texts),
    "words": lambda texts: ["good"] * len(texts),
    "None": lambda texts: None,
    "raises": fail,
    "stops": stop,
}


@pytest.mark.parametrize("case", SCORES)
def test_a_reranker_that_is_broken(open_store: Opener, case: str) -> None:
    strict = open_store("strict", reranker=Judge(SCORES[case]))
    strict.add("a memory that stays", "alice")
    with pytest.raises(RerankError, match="testing:judge"):
        strict.search("memory", "alice")
    kept = open_store("kept", reranker=Judge(SCORES[case]), settings=Settings(on_rerank_error="keep_fused"))
    kept.add("a memory that stays", "alice")
    assert kept.search("memory", "alice").rerank == "failed"


class Late(MaxSim):
    """Late interaction that breaks where it is told to."""

    broken = ""

    def tokens(self, texts: Sequence[str], /) -> Any:
        return [] if self.broken == "tokens" else super().tokens(texts)

    def score(self, query: Any, passages: Sequence[bytes], /) -> Any:
        return fail(()) if self.broken == "score" else super().score(query, passages)


def test_late_interaction_that_is_broken(open_store: Opener) -> None:
    late = Late()
    store = open_store(late=late)
    store.add("a memory that stays", "alice")
    late.broken = "tokens"
    with pytest.raises(EmbeddingError):
        store.add("another", "alice")
    with pytest.raises(RerankError):
        store.search("memory", "alice")
    late.broken = "score"
    with pytest.raises(RerankError, match="hung up"):
        store.search("memory", "alice")
    assert store.count("alice") == 1


# ── opening ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "parts",
    [
        *({"embedder": 7}, {"embedder": None}, {"reranker": 7}, {"late": 7}, {"keyring": 7}, {"settings": {}}),
        *({"embedder": "no-such"}, {"reranker": "no-such"}, {"late": "no-such"}, {"settings": 7}),
    ],
    ids=repr,
)
def test_parts_of_a_wrong_kind(open_store: Opener, tmp_path: Path, parts: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        open_store(**parts)
    assert files(tmp_path) == {}


@pytest.mark.parametrize("location", [7, None, "", "a\x00b", b"x"])
def test_places_of_a_wrong_kind(location: Any) -> None:
    with pytest.raises(InvalidInputError):
        MemoryStore.open(location, embedder=HashEmbedder(), reranker=None, late=None)


@pytest.mark.parametrize(
    "wrong",
    [
        *(
            {"batch": "x"},
            {"candidates": 1.5},
            {"filterable": "topic"},
            {"filterable": (7,)},
            {"filterable": (SURROGATE,)},
        ),
        *({"rrf_k": "x"}, {"half_life_days": "x"}, {"half_life_days": float("nan")}, {"chunk_tokens": None}),
        *({"vectors": ["rotated"]}, {"late_interaction": "yes"}, {"duplicate_similarity": "x"}, {"batch": True}),
    ],
    ids=repr,
)
def test_settings_of_a_wrong_kind(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Settings(**wrong)


def test_a_place_that_is_a_file(open_store: Opener, tmp_path: Path) -> None:
    (tmp_path / "memory").write_text("a file", encoding="utf-8")
    with pytest.raises(IndexUnavailableError, match="Choose a directory"):
        open_store()
    assert files(tmp_path).keys() <= {"memory", "keys/memory.json.lock"}
    (tmp_path / "memory").unlink()
    open_store().add("the key file of the failed opening is not in the way", "alice")


def test_a_place_below_a_file(open_store: Opener, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file", encoding="utf-8")
    with pytest.raises(IndexUnavailableError):
        open_store("file/memory", keyring=tmp_path / "k.json")
    with pytest.raises(KeyServiceError):
        open_store("other", keyring=tmp_path / "file" / "k.json")
    open_store("third", keyring=tmp_path / "k.json").add("x", "alice")


def test_parents_are_made(open_store: Opener) -> None:
    assert open_store("no/such/parent/memory").add("x", "alice").written == 1


@contextmanager
def powerless(path: Path) -> Iterator[None]:
    """Without the right to write there, also for root."""
    if os.geteuid() != 0:
        path.chmod(0o500)
        try:
            yield
        finally:
            path.chmod(0o700)
        return
    owner = 65_534
    places = [path, *path.rglob("*"), *[parent for parent in path.parents if parent.stat().st_mode & 0o001 == 0]]
    modes = {place: place.stat().st_mode for place in places}
    for place in places:
        place.chmod(0o755 if place.is_dir() else 0o644)
    os.seteuid(owner)
    try:
        yield
    finally:
        os.seteuid(0)
        for place, mode in modes.items():
            place.chmod(mode)


@pytest.mark.skipif(sys.platform != "linux", reason="seteuid and modes as on Linux")
def test_directories_that_cannot_be_written(open_store: Opener, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir()
    (tmp_path / "free").mkdir()
    (tmp_path / "free").chmod(0o777)
    with powerless(tmp_path / "locked"), pytest.raises(IndexUnavailableError, match="can write to"):
        open_store("locked/memory", keyring=tmp_path / "free" / "k.json")
    assert not (tmp_path / "free" / "k.json").exists()
    with powerless(tmp_path / "locked"), pytest.raises(KeyServiceError, match="locked"):
        open_store("memory", keyring=tmp_path / "locked" / "k.json")
    store = open_store("locked/memory")
    store.add("x", "alice")
    store.close()
    with powerless(tmp_path / "locked" / "memory"), pytest.raises(MemoryPluginError):
        open_store("locked/memory")
    assert open_store("locked/memory").count("alice") == 1


@pytest.fixture
def closed(open_store: Opener) -> Path:
    """The directory of a store with a memory."""
    store = open_store()
    store.add("a memory that stays", "alice")
    store.close()
    return store.path


def corrupt(key_file: Path, kind: str) -> None:
    text = key_file.read_bytes()
    key_file.write_bytes(
        {
            "empty": b"",
            "half": text[: len(text) // 2],
            "no JSON": b"\xff\xfe",
            "other JSON": b"[]",
            "nested": b"[" * 100_000,
            "a key changed": text.replace(b'"wrapped": "', b'"wrapped": "AAAA', 1),
        }[kind]
    )
    key_file.chmod(0o600)


@pytest.mark.parametrize("kind", ["empty", "half", "no JSON", "other JSON", "nested", "a key changed"])
def test_a_corrupt_key_file(open_store: Opener, closed: Path, tmp_path: Path, kind: str) -> None:
    key_file = tmp_path / "keys" / "memory.json"
    good = key_file.read_bytes()
    corrupt(key_file, kind)
    before = files(tmp_path / "keys")
    with pytest.raises((KeyServiceError, SealError)) as caught:
        open_store()
    assert "backup" in str(caught.value)
    assert files(tmp_path / "keys") == before
    key_file.write_bytes(good)
    assert open_store().count("alice") == 1


def test_a_key_file_open_to_others(open_store: Opener, closed: Path, tmp_path: Path) -> None:
    (tmp_path / "keys" / "memory.json").chmod(0o644)
    with pytest.raises(KeyServiceError, match="chmod 600"):
        open_store()


def edited(manifest: dict[str, Any], kind: str) -> Any:  # noqa: C901 - one line a case
    inner = manifest["manifest"]
    match kind:
        case "vectors plain":
            inner["settings"]["vectors"] = "plain"
        case "not sealed":
            inner["sealed"] = False
        case "other store":
            inner["store"] = "../" * 20 + "etc/passwd"
        case "store a number":
            inner["store"] = 7
        case "no proof":
            del inner["proof"]
        case "proof a word":
            inner["proof"] = "proof"
        case "other format":
            inner["format"] = 99
        case "no settings":
            del inner["settings"]
        case "settings a list":
            inner["settings"] = ["vectors"]
        case "other active":
            inner["active"] = "0" * 12
        case "spaces a list":
            inner["spaces"] = []
        case "one key more":
            inner["more"] = 1
        case "no layout":
            del manifest["layout"]
        case "dimension a word":
            manifest["layout"]["dense"] = dict.fromkeys(manifest["layout"]["dense"], "64")
        case "inner a list":
            manifest["manifest"] = [1]
        case "a list":
            return [1]
    return manifest


EDITS = (
    *("vectors plain", "not sealed", "other store", "store a number", "no proof", "proof a word", "other format"),
    *("no settings", "settings a list", "other active", "spaces a list", "one key more", "no layout"),
    *("dimension a word", "inner a list", "a list"),
)


@pytest.mark.parametrize("kind", EDITS)
def test_an_edited_manifest(open_store: Opener, closed: Path, kind: str) -> None:
    path = closed / "manifest.json"
    good = path.read_bytes()
    path.write_text(json.dumps(edited(json.loads(good), kind)), encoding="utf-8")
    bad = path.read_bytes()
    with pytest.raises((ManifestMismatchError, SealError, KeyServiceError)) as caught:
        open_store()
    assert len(str(caught.value)) > 30
    assert path.read_bytes() == bad
    path.write_bytes(good)
    assert open_store().count("alice") == 1


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b"null", b'{"index_format": 1}'])
def test_a_corrupt_manifest(open_store: Opener, closed: Path, data: bytes) -> None:
    (closed / "manifest.json").write_bytes(data)
    with pytest.raises(ManifestMismatchError, match="manifest"):
        open_store()


def test_a_shard_that_is_gone(open_store: Opener, closed: Path) -> None:
    shutil.rmtree(closed / "shard")
    with pytest.raises(IndexUnavailableError, match="backup"):
        open_store()
