"""Every verb, both ways: on the real embedded engine, with real sealing."""

from __future__ import annotations

import asyncio
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from memory_plugin import (
    PLAINTEXT,
    AsyncMemoryStore,
    ConfigurationError,
    Document,
    InvalidInputError,
    KeyServiceError,
    ManifestMismatchError,
    MemoryNotFoundError,
    MemoryStore,
    Message,
    RerankError,
    Settings,
    StoreClosedError,
    and_,
    any_of,
    eq,
    not_,
    or_,
    range_,
    time_range,
)
from memory_plugin.filters import where
from memory_plugin.testing.doubles import AsyncHashEmbedder, FailingReranker, HashEmbedder
from tests.conftest import Driver, Opener

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)


# ── add ───────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_added_is_found_with_its_scores_at_every_stage(store: Driver) -> None:
    store.add("Alice moved to Lisbon in May.", "alice")
    store.add("The handbook says that lunch is at noon.", "alice")
    hits = store.search("Where did Alice move?", "alice", limit=1)
    assert [hit.text for hit in hits] == ["Alice moved to Lisbon in May."]
    assert set(hits[0].stages) == {"dense", "lexical", "fused", "rerank"}
    assert all(stage.rank >= 1 for stage in hits[0].stages.values())
    assert hits.rerank == "applied"
    assert {"embed", "index", "open", "rerank", "total"} <= set(hits.seconds)


def test_adding_twice_changes_nothing(store: Driver) -> None:
    first = store.add(["one thing", "another thing"], "alice", metadata={"a": 1})
    again = store.add(["one thing", "another thing"], "alice", metadata={"a": 1})
    assert (first.written, again.written, again.unchanged) == (2, 0, 2)
    assert first.ids == again.ids
    assert store.count("alice") == 2


def test_the_same_text_of_two_people_is_two_memories(store: Driver) -> None:
    first, second = store.add("I like tea.", "alice"), store.add("I like tea.", "bob")
    assert set(first.ids).isdisjoint(second.ids)
    assert store.count("alice") == store.count("bob") == 1


def test_a_changed_document_replaces_its_chunks(store: Driver) -> None:
    long = "\n\n".join(f"Paragraph {n} about whales. " + "They swim far and wide. " * 30 for n in range(12))
    first = store.add(long, "alice", source="whales.txt")
    assert first.written > 3
    second = store.add("Whales are mammals.", "alice", source="whales.txt")
    assert (second.written, second.replaced) == (1, 1)
    assert [record.text for record in store.list("alice").records] == ["Whales are mammals."]
    assert store.add("Whales are mammals.", "alice", source="whales.txt").unchanged == 1
    third = store.add(long, "alice", source="whales.txt")
    assert third.ids == first.ids
    assert store.count("alice") == len(first.ids)


def test_a_long_document_is_staged_and_shown_whole(open_store: Opener) -> None:
    store = open_store(settings=Settings(staging=4, batch=4, chunk_tokens=32))
    text = " ".join(f"Sentence number {n} is about the topic of turtles." for n in range(60))
    first = store.add(text, "alice", source="t")
    assert first.written > 8
    assert store.count("alice") == first.written
    records = store.list("alice").records
    assert [record.index for record in records] == list(range(first.written))
    assert {record.chunks for record in records} == {first.written}
    shorter = store.add(text[: len(text) // 2], "alice", source="t")
    assert store.count("alice") == shorter.written < first.written
    assert store.add(text[: len(text) // 2], "alice", source="t").unchanged == 1
    assert store.verify().ok


def test_of_two_texts_under_one_source_in_one_call_the_last_counts(store: Driver) -> None:
    added = store.add([Document("old", source="x"), Document("new", source="x")], "alice")
    assert [record.text for record in store.list("alice").records] == ["new"]
    assert added.documents == 2
    assert added.ids[0] == added.ids[1]


def test_messages_keep_role_name_and_time_and_these_are_searchable(store: Driver) -> None:
    store.add(
        [
            Message("user", "I adopted a dog.", name="Ana", time=datetime(2023, 5, 7, 9, tzinfo=UTC)),
            {"role": "assistant", "content": "What is its name?", "timestamp": "2023-05-07T09:01:00+00:00"},
            {"role": "user", "content": [{"type": "text", "text": "Rex."}, {"type": "image_url", "image_url": {}}]},
        ],
        ("alice", "session-1"),
    )
    hit = store.search("Ana May 2023", "alice", limit=1)[0]
    assert hit.record.passage == "Ana, 7 May 2023: I adopted a dog."
    assert (hit.record.role, hit.record.name, hit.record.kind) == ("user", "Ana", "message")
    assert {record.text for record in store.list("alice").records} == {"I adopted a dog.", "What is its name?", "Rex."}


def test_a_file_is_named_by_its_path(store: Driver, tmp_path: Path) -> None:
    path = tmp_path / "handbook.md"
    path.write_text("# Handbook\n\n## Travel\n\nTrains are booked early.\n", encoding="utf-8")
    store.add_file(path, "acme")
    assert store.add_file(path, "acme").unchanged == 1
    os.utime(path, (0, 0))  # a copy, a checkout: not another text
    assert store.add_file(path, "acme").unchanged == 1
    path.write_text("# Handbook\n\n## Travel\n\nTrains are booked late.\n", encoding="utf-8")
    assert store.add_file(path, "acme").replaced == 1
    hit = store.search("when are trains booked", "acme")[0]
    assert hit.record.source == path.as_posix()
    assert "late" in hit.text
    assert path.read_text(encoding="utf-8")[hit.record.start : hit.record.end] == hit.text


def test_progress_counts_documents(store: Driver) -> None:
    seen: list[tuple[int, int]] = []
    store.add([f"text {n}" for n in range(130)], "alice", progress=lambda done, of: seen.append((done, of)))
    assert seen[-1] == (130, 130)
    assert len(seen) >= 2


def test_adding_nothing_does_nothing(store: Driver) -> None:
    assert store.add([], "alice").documents == 0


# ── search ────────────────────────────────────────────────────────────────────────────────────────


def test_several_namespaces_in_one_search(store: Driver) -> None:
    store.add("Alice lives in Lisbon.", "alice")
    store.add("The Lisbon office opens at nine.", "acme")
    store.add("Bob hates Lisbon.", "bob")
    found = {hit.record.namespace[0] for hit in store.search("Lisbon", ["alice", "acme"])}
    assert found == {"alice", "acme"}


def test_a_namespace_holds_those_below_it_and_no_other(store: Driver) -> None:
    store.add("in session one", ("alice", "s1"))
    store.add("in session two", ("alice", "s2"))
    store.add("deeper", ("alice", "s1", "x"))
    assert store.count("alice") == 3
    assert store.count(("alice", "s1")) == 2
    assert {hit.text for hit in store.search("session", ("alice", "s2"))} == {"in session two"}
    assert len(store.search("session", ["alice", ("alice", "s1")])) == 3


def test_a_rare_identifier_is_found_by_the_lexical_leg(store: Driver) -> None:
    store.add([f"Invoice number {n} was paid on time by the customer." for n in range(40)], "acme")
    store.add("Remember ZX-4471-B when you call.", "acme")
    assert store.search("ZX-4471-B", "acme", limit=1)[0].text.startswith("Remember ZX-4471-B")


@pytest.mark.parametrize("legs", ["dense", "lexical", "hybrid"])
def test_each_leg_alone(store: Driver, legs: str) -> None:
    store.add(["whales swim", "birds fly"], "alice")
    hit = store.search("whales swim", "alice", legs=legs, rerank="none", limit=1)[0]
    expected = {"dense", "lexical"} if legs == "hybrid" else {legs}
    assert set(hit.stages) == expected | {"fused"}
    assert hit.text == "whales swim"


def test_a_query_of_stop_words_still_searches(store: Driver) -> None:
    store.add("to be or not to be", "alice")
    assert store.search("to be", "alice")
    assert list(store.search("to be", "alice", legs="lexical")) == []


def test_an_unknown_namespace_is_empty(store: Driver) -> None:
    assert list(store.search("anything", "nobody")) == []
    assert store.count("nobody") == 0
    assert store.list("nobody").records == ()
    assert store.facet("topic", "nobody") == {}
    assert store.delete("nobody", everything=True) == 0


def test_near_duplicates_are_dropped(store: Driver) -> None:
    store.add("The cat sat on the mat today.", "alice", source="a")
    store.add("The cat sat on the mat, today!", "alice", source="b")
    assert len(store.search("cat mat", "alice")) == 1
    assert {hit.record.source for hit in store.search("cat mat", "alice", duplicates=True)} == {"a", "b"}
    with pytest.raises(InvalidInputError, match="duplicates is True or False"):
        store.search("cat mat", "alice", duplicates=1)


def test_one_hit_a_document(store: Driver) -> None:
    text = "\n\n".join("Turtles are slow. " * 60 for _ in range(4))
    store.add(text, "alice", source="a")
    store.add("Turtles again.", "alice", source="b")
    hits = store.search("turtles", "alice", per_document=1)
    assert {hit.record.source for hit in hits} == {"a", "b"}
    assert len(hits) == 2


def test_neighbours_come_along(store: Driver) -> None:
    text = " ".join(f"Fact number{n} is that item{n} costs {n} euros and is rather heavy to carry." for n in range(80))
    store.add(text, "alice", source="facts")
    hit = store.search("item40", "alice", limit=1, neighbours=1)[0]
    assert [one.index for one in (*hit.before, hit.record, *hit.after)] == [
        hit.record.index - 1,
        hit.record.index,
        hit.record.index + 1,
    ]
    citation = store.context("item40", "alice", neighbours=1, limit=1).citations[0]
    assert (citation.start, citation.end) == (hit.before[0].start, hit.after[0].end)


def test_a_failing_reranker_raises_or_keeps_the_order(open_store: Opener) -> None:
    strict = open_store("strict", reranker=FailingReranker())
    strict.add("a memory", "alice")
    with pytest.raises(RerankError, match="did not answer") as caught:
        strict.search("memory", "alice")
    assert isinstance(caught.value.__cause__, TimeoutError)
    kept = open_store("kept", reranker=FailingReranker(), settings=Settings(on_rerank_error="keep_fused"))
    kept.add("a memory", "alice")
    results = kept.search("memory", "alice")
    assert (len(results), results.rerank) == (1, "failed")


def test_age_lowers_the_score(open_store: Opener) -> None:
    store = open_store(settings=Settings(half_life_days=30), reranker=None)
    now = datetime.now(UTC)
    store.add("the door code is 1111", "alice", time=now - timedelta(days=300))
    store.add("the door code is 2222", "alice", time=now)
    assert store.search("door code", "alice")[0].text.endswith("2222")


# ── context ───────────────────────────────────────────────────────────────────────────────────────


def test_context_packs_and_cites(store: Driver) -> None:
    store.add([f"Note {n}: the ferry to island {n} leaves at {n}." for n in range(30)], "alice")
    context = store.context("ferry island", "alice", max_tokens=120)
    assert 0 < context.tokens <= 120
    assert [citation.number for citation in context.citations] == list(range(1, len(context.hits) + 1))
    assert all(f"[{citation.number}]" in context.text for citation in context.citations)
    assert str(context) == context.text
    assert context.dropped > 0


def test_context_of_nothing_is_empty(store: Driver) -> None:
    context = store.context("anything", "nobody")
    assert (context.text, context.tokens, context.citations) == ("", 0, ())


# ── filters, list, facet ──────────────────────────────────────────────────────────────────────────


@pytest.fixture
def library(store: Driver) -> Driver:
    for n in range(30):
        store.add(
            f"book {n} about {'whales' if n % 2 else 'birds'}",
            "alice",
            time=NOON + timedelta(hours=7 * n),
            metadata={
                "topic": "whales" if n % 2 else "birds",
                "stars": n % 5,
                "year": 1990 + n,
                "tags": [f"t{n % 3}", "all"],
            },
        )
    return store


FILTERS: list[tuple[Any, int]] = [
    (eq("topic", "whales"), 15),
    (eq("topic", "fish"), 0),
    (any_of("stars", [0, 4]), 12),
    (any_of("stars", [True]), 0),
    (range_("year", gte=2000, lt=2010), 10),
    (eq("tags", "t1"), 10),
    (and_(eq("topic", "whales"), range_("stars", gte=3)), 6),
    (or_(eq("topic", "birds"), eq("year", 1991)), 16),
    (not_(eq("topic", "birds")), 15),
    (not_(range_("year", gte=2000)), 10),
    (and_(), 30),
    (or_(), 0),
    (time_range(NOON + timedelta(hours=70)), 20),
    (time_range(NOON, NOON + timedelta(days=1)), 4),
    (not_(time_range(NOON, NOON + timedelta(days=1))), 26),
    (time_range(datetime(2024, 3, 2, tzinfo=UTC), datetime(2024, 3, 3, tzinfo=UTC)), 4),
    (eq("$kind", "document"), 30),
    (eq("$role", "user"), 0),
]


@pytest.mark.parametrize(("filter_", "expected"), FILTERS)
def test_filters_agree_in_count_list_and_search(library: Driver, filter_: Any, expected: int) -> None:
    assert library.count("alice", filter=filter_) == expected
    assert len(library.list("alice", filter=filter_).records) == expected
    assert len(library.search("book about", "alice", filter=filter_, limit=50)) == expected


def test_a_search_for_what_hardly_any_memory_satisfies_opens_each_about_once(open_store: Opener) -> None:
    """It digs deeper until it is through, and does not begin again when it is."""
    asked: list[str] = []

    def rare(record: Any) -> bool:
        asked.append(record.text)
        return bool(record.text == "Note 700 about boats.")

    store = open_store()
    store.add([f"Note {n} about boats." for n in range(800)], "alice")
    assert [hit.text for hit in store.search("boats", "alice", limit=5, filter=where(rare))] == [
        "Note 700 about boats."
    ]
    assert len(set(asked)) == 800
    assert len(asked) < 2 * 800


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("limit", [1, 7, 30, 100])
def test_pages_cover_everything_once_in_time_order(library: Driver, limit: int, newest_first: bool) -> None:
    seen = []
    after = None
    while True:
        page = library.list("alice", limit=limit, after=after, newest_first=newest_first)
        seen += page.records
        after = page.next
        if after is None:
            break
    times = [record.time for record in seen]
    assert len({record.id for record in seen}) == len(seen) == 30
    assert times == sorted(times, reverse=newest_first)


def test_days_may_be_sealed(open_store: Opener) -> None:
    store = open_store(settings=Settings(time_index=None))
    for n in range(9):
        store.add(f"entry {n}", "alice", time=NOON + timedelta(days=n))
    assert [record.text for record in store.list("alice", limit=4).records] == [f"entry {n}" for n in range(4)]
    assert store.count("alice", filter=time_range(NOON + timedelta(days=5))) == 4


def test_a_forged_cursor_is_refused(library: Driver) -> None:
    with pytest.raises(InvalidInputError, match="after"):
        library.list("alice", after="not a cursor")


def test_facets_of_declared_and_other_fields(library: Driver) -> None:
    assert library.facet("topic", "alice") == {"birds": 15, "whales": 15}
    assert library.facet("stars", "alice", filter=eq("topic", "whales")) == dict.fromkeys(range(5), 3)
    assert library.facet("tags", "alice") == {"all": 30, "t0": 10, "t1": 10, "t2": 10}
    assert library.facet("stars", "alice", filter=range_("year", lt=1995)) == dict.fromkeys(range(5), 1)
    assert library.facet("nothing", "alice") == {}


# ── get, delete, forget ───────────────────────────────────────────────────────────────────────────


def test_get_knows_its_namespace(store: Driver) -> None:
    [point] = store.add("a secret", ("alice", "s1")).ids
    assert store.get(point, "alice").text == store.get(point, ("alice", "s1")).text == "a secret"
    for stranger in ("bob", ("alice", "s2")):
        with pytest.raises(MemoryNotFoundError):
            store.get(point, stranger)
    with pytest.raises(MemoryNotFoundError):
        store.get("../../etc/passwd", "alice")


def test_delete_by_ids_source_filter_and_everything(store: Driver) -> None:
    [first] = store.add("one", "alice").ids
    store.add("two", "alice", source="two.txt")
    store.add("three", "alice", metadata={"topic": "x"})
    store.add("four", "alice", metadata={"year": 4})
    store.add("five", ("alice", "s1"))
    store.add("six", "bob")
    assert store.delete("bob", [first]) == 0
    assert store.delete("alice", first) == 1
    assert store.delete("alice", source="two.txt") == 1
    assert store.delete("alice", filter=eq("topic", "x")) == 1
    assert store.delete("alice", filter=range_("year", gte=4)) == 1
    assert [record.text for record in store.list("alice").records] == ["five"]
    assert store.delete(("alice", "s1"), everything=True) == 1
    assert (store.count("alice"), store.count("bob")) == (0, 1)


@pytest.mark.parametrize("arguments", [{}, {"source": "x", "everything": True}])
def test_delete_needs_exactly_one_way_to_say_which(store: Driver, arguments: dict[str, Any]) -> None:
    store.add("a memory", "alice")
    with pytest.raises(InvalidInputError, match="exactly one"):
        store.delete("alice", **arguments)
    assert store.count("alice") == 1


def test_forget_destroys_the_key_and_says_what_remains(store: Driver) -> None:
    store.add(["one", "two"], "alice")
    store.add("three", "bob")
    report = store.forget("alice")
    assert (report.memories, report.keys) == (2, 1)
    assert report.gone
    assert any("Rotated" in line for line in report.remains)
    assert (store.count("alice"), store.count("bob")) == (0, 1)
    assert store.search("three", "bob")[0].text == "three"
    store.add("a new life", "alice")
    assert store.search("life", "alice")[0].text == "a new life"
    assert store.verify().ok


def test_forget_is_for_whole_subjects(store: Driver) -> None:
    with pytest.raises(InvalidInputError, match="whole data subject"):
        store.forget(("alice", "s1"))
    assert store.forget("nobody").memories == 0


def test_rotate_seals_everything_under_a_new_key(open_store: Opener, tmp_path: Path) -> None:
    store = open_store(settings=Settings(batch=4))
    store.add([f"memory number {n}" for n in range(11)], "alice")
    store.add("of bob", "bob")
    before = {record.id: record for record in store.list("alice").records}
    done = store.rotate("alice")
    assert (done.resealed, done.keys) == (11, 1)
    assert {record.id: record for record in store.list("alice").records} == before
    assert store.search("memory number 7", "alice", legs="lexical")[0].text == "memory number 7"
    assert store.search("memory number 7", "alice", legs="dense")[0].text == "memory number 7"
    assert store.add("memory number 3", "alice").unchanged == 1
    store.add("after", "alice")
    again = store.rotate("alice")
    assert (again.resealed, again.keys) == (12, 1)
    assert store.verify().ok
    assert store.rotate("nobody").resealed == 0
    with pytest.raises(InvalidInputError, match="whole data subject"):
        store.rotate(("alice", "s1"))


def test_a_plaintext_store_has_no_key_to_rotate(open_store: Opener) -> None:
    store = open_store(keyring=PLAINTEXT)
    with pytest.raises(ConfigurationError, match="no keys"):
        store.rotate("alice")


def test_a_rotation_that_was_cut_off_is_finished_by_the_next(open_store: Opener, tmp_path: Path) -> None:
    store = open_store()
    store.add(["one", "two"], "alice")
    engine = store.store._verbs.engine if isinstance(store.store, MemoryStore) else store.store._opened.engine
    (subject,) = engine._sealers
    keyring: Any = engine.keyring
    keyring.rotate(subject)  # and the process dies
    store.add("three, under the new key", "alice")
    assert len(keyring.keys(subject, create=False)) == 2
    done = store.rotate("alice")
    assert (done.resealed, done.keys) == (2, 1)
    assert len(store.search("one two three", "alice")) == 3
    assert store.verify().ok


# ── the store itself ──────────────────────────────────────────────────────────────────────────────


def test_a_store_is_there_after_reopening(open_store: Opener) -> None:
    first = open_store()
    first.add("remember me", "alice")
    first.close()
    assert open_store().search("remember", "alice")[0].text == "remember me"


def test_after_close_every_verb_says_so(store: Driver) -> None:
    store.close()
    store.close()
    with pytest.raises(StoreClosedError, match="open it again"):
        store.search("x", "alice")


def test_another_model_of_the_same_dimension_is_refused_with_both_shown(open_store: Opener) -> None:
    open_store().close()
    with pytest.raises(ManifestMismatchError) as caught:
        open_store(embedder=HashEmbedder(revision="2"))
    assert "revision" in str(caught.value)
    assert "←" in str(caught.value)
    open_store()  # and it can still be opened with its own


def test_settings_that_shape_what_is_written_come_from_the_store(open_store: Opener) -> None:
    open_store(settings=Settings(filterable=("topic",), chunk_tokens=64)).close()
    with pytest.raises(ManifestMismatchError, match="filterable"):
        open_store(settings=Settings(filterable=("other",)))
    store = open_store()
    assert store.describe()["settings"]["chunk_tokens"] == 64


def test_passages_longer_than_the_models_window_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="at most 256"):
        MemoryStore.open(tmp_path / "m", keyring=tmp_path / "k.json", settings=Settings(chunk_tokens=300))
    assert not (tmp_path / "m").exists()


def test_keys_of_another_store_or_none_are_refused(open_store: Opener, tmp_path: Path) -> None:
    open_store("one").close()
    open_store("two").close()
    with pytest.raises(KeyServiceError):
        open_store("one", keyring=tmp_path / "keys" / "two.json")
    with pytest.raises(KeyServiceError):
        open_store("one", keyring=tmp_path / "keys" / "missing.json")
    with pytest.raises(ManifestMismatchError, match="encrypted"):
        open_store("one", keyring=PLAINTEXT)


def test_plaintext_is_an_explicit_word_and_stays_what_it_is(open_store: Opener) -> None:
    store = open_store(keyring=PLAINTEXT)
    store.add("readable", "alice")
    assert store.search("readable", "alice")[0].text == "readable"
    assert "PLAINTEXT" in str(store.describe()["protection"])
    report = store.forget("alice")
    assert report.memories == 1
    store.close()
    with pytest.raises(ManifestMismatchError, match="PLAINTEXT"):
        open_store()


@pytest.mark.parametrize("vectors", ["rotated", "sealed", "plain"])
def test_every_vector_mode_finds_the_same(open_store: Opener, vectors: Any) -> None:
    store = open_store(settings=Settings(vectors=vectors), reranker=None, embedder=HashEmbedder(512))
    texts = [f"memory {n} about {word}" for n, word in enumerate(["whales", "birds", "trains", "soup", "rivers"] * 8)]
    store.add(texts, "alice")
    store.add(texts[:3], ("alice", "s1"))
    store.add("whales of bob", "bob")
    found = [hit.text for hit in store.search("whales soup", "alice", legs="dense", limit=16)]
    assert all("whales" in text or "soup" in text for text in found[:8])
    assert "whales of bob" not in found
    assert len(store.search("memory", ("alice", "s1"), legs="dense")) == 3
    store.delete("alice", filter=eq("$kind", "document"))
    assert list(store.search("whales", "alice")) == []
    store.add("whales return", "alice")
    assert store.search("whales", "alice")[0].text == "whales return"
    assert store.verify().ok


def test_describe_tells_where_and_how(store: Driver, tmp_path: Path) -> None:
    store.add("one", "alice")
    told = store.describe()
    assert str(tmp_path / "memory") in told["data"]
    assert "keys" in told["keys"]
    assert (told["memories"], told["subjects"], told["sealed"]) == (1, 1, True)
    assert "obfuscation, not encryption" in str(told["protection"])


def test_the_blocking_store_works_inside_a_running_loop(tmp_path: Path) -> None:
    async def main() -> str:
        with MemoryStore.open(
            tmp_path / "m", embedder=HashEmbedder(), reranker=None, late=None, keyring=tmp_path / "k.json"
        ) as store:
            store.add("inside a loop", "alice")
            return store.search("loop", "alice")[0].text

    assert asyncio.run(main()) == "inside a loop"


def test_an_async_provider_needs_the_async_store(tmp_path: Path) -> None:
    parts: dict[str, Any] = {"reranker": None, "late": None, "keyring": tmp_path / "k.json"}
    with pytest.raises(ConfigurationError, match="use AsyncMemoryStore"):
        MemoryStore.open(tmp_path / "m", embedder=AsyncHashEmbedder(), **parts)

    async def main() -> int:
        async with AsyncMemoryStore.open(tmp_path / "m", embedder=AsyncHashEmbedder(), **parts) as store:
            await store.add("x", "alice")
            return await store.count("alice")

    assert asyncio.run(main()) == 1
