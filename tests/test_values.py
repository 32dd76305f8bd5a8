"""JSON kept beside a text: whole, sealed, written and deleted with it, found by name and by no search."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from memory_plugin import (
    DecryptionError,
    Document,
    InvalidInputError,
    MemoryStore,
    Message,
    Settings,
    any_of,
    eq,
    not_,
    or_,
)
from memory_plugin.engine.entries import MAX_VALUE_DEPTH
from memory_plugin.testing.doubles import HashEmbedder
from memory_plugin.types import Filter, Json, Record
from tests.conftest import Driver, Opener

VALUES: list[Json] = [
    {"type": "function_call", "arguments": '{"city": "Oslo"}', "nested": [{"a": None}, True, 1, 1.5]},
    {},
    [],
    "",
    "plain text",
    0,
    False,
    -1.5,
    2**70,
    [None],
    {"ü": "日本語 \N{SNOWMAN} \u0000"},
]


def value_of(records: tuple[Record, ...]) -> Json:
    assert records[-1].kind == "value"
    return records[-1].value


def test_values_come_back_as_they_were(store: Driver) -> None:
    for number, value in enumerate(VALUES):
        message = Message("user", "hello", id=f"m{number}", value=value)
        store.add([Document("whales sing", source=f"d{number}", value=value), message], "alice")
    names = [f"{letter}{number}" for number in range(len(VALUES)) for letter in "dm"]
    found = store.get_sources([*names, "absent"], "alice")
    assert list(found) == names
    for name, (text, kept) in found.items():
        value = VALUES[int(name[1:])]
        words = "whales sing" if name[0] == "d" else "hello"
        assert (text.text, text.value, text.chunks) == (words, None, 2)
        assert (kept.value, type(kept.value)) == (value, type(value))
        assert (kept.index, kept.chunks, kept.document) == (1, 2, text.document)
        assert store.get(kept.id, "alice") == kept
    assert store.verify().ok


def test_it_has_what_its_document_has(store: Driver) -> None:
    message = Message("user", "hello", name="Ann", id="m", metadata={"topic": "sea"}, local_only=True, value={"a": [1]})
    store.add(message, ("alice", "s1"))
    text, kept = store.get_sources(["m"], ("alice", "s1"))["m"]
    assert (kept.kind, kept.text) == ("value", '{"a":[1]}')
    assert (kept.role, kept.name, kept.metadata, kept.local_only) == ("user", "Ann", {"topic": "sea"}, True)
    assert (kept.time, kept.namespace, kept.source) == (text.time, ("alice", "s1"), "m")
    assert store.count("alice", filter=eq("topic", "sea")) == 2
    assert store.facet("topic", "alice") == {"sea": 2}
    assert store.facet("$kind", "alice") == {"message": 1, "value": 1}


def test_no_search_finds_it(open_store: Opener) -> None:
    embedder = HashEmbedder()
    store = open_store(embedder=embedder)
    store.add(
        [Document(f"whales sing {n}", source=f"{n}", value={"secret": f"walrus {n}"}) for n in range(20)], "alice"
    )
    assert not any("walrus" in text for text in embedder.texts)
    for query in ("walrus", "secret walrus 3", "whales"):
        for legs in ("hybrid", "dense", "lexical"):
            for hit in store.search(query, "alice", limit=50, legs=legs, neighbours=2):
                assert {one.kind for one in (hit.record, *hit.before, *hit.after)} == {"document"}
    assert "walrus" not in store.context("secret walrus", "alice", neighbours=1).text
    assert not store.search("walrus", "alice", filter=eq("$kind", "value"))


def test_text_and_value_are_one_document(store: Driver) -> None:
    first = store.add(Document("whales", source="a", value=1), "alice")
    assert (first.documents, first.written, len(first.ids)) == (1, 2, 2)
    again = store.add(Document("whales", source="a", value=1), "alice")
    assert (again.unchanged, again.written, again.ids) == (1, 0, first.ids)
    other = store.add(Document("whales", source="a", value=2), "alice")
    assert (other.replaced, store.count("alice")) == (1, 2)
    assert value_of(store.get_sources(["a"], "alice")["a"]) == 2
    store.add(Document("whales", source="a"), "alice")
    assert [one.kind for one in store.get_sources(["a"], "alice")["a"]] == ["document"]
    store.add(Document("whales", source="a", value=True), "alice")  # not what 1 was
    assert value_of(store.get_sources(["a"], "alice")["a"]) is True
    assert store.delete("alice", source="a") == 2
    assert store.get_sources(["a"], "alice") == {}
    assert store.count("alice") == 0


def test_what_had_none_stays_what_it_was() -> None:
    """An id of before there were values: adding the same again must write nothing."""
    from memory_plugin.engine.entries import entries

    (entry,) = entries(Document("whales", source="a"), Settings())
    assert entry.revision(256) == '["whales",null,null,null,{},false,256,false,null,null]'
    (entry,) = entries("whales", Settings())
    assert entry.identity() == ("content", '["document",null,null,null,"whales"]')


def test_a_value_alone_needs_no_text_and_no_model(open_store: Opener) -> None:
    embedder = HashEmbedder()
    store = open_store(embedder=embedder)
    before = len(embedder.texts)
    store.add([Document("", source=f"{n}", value={"n": n}) for n in range(300)], "alice")
    store.add(Message("tool", " \n", id="call", value=[1]), "alice")
    assert len(embedder.texts) == before
    found = store.get_sources([f"{n}" for n in range(300)], "alice")
    assert [value_of(found[f"{n}"])["n"] for n in range(300)] == list(range(300))  # type: ignore[index, call-overload]
    (call,) = store.get_sources(["call"], "alice")["call"]
    assert (call.kind, call.role, call.index, call.chunks, call.value) == ("value", "tool", 0, 1, [1])
    assert not store.search("anything", "alice")
    assert store.add(Document("", source="7", value={"n": 7}), "alice").unchanged == 1
    assert store.verify().ok
    # Without a name the content is the identity, and the value is part of it.
    assert store.add([Document("", value=1), Document("", value=2), Document("", value=1)], "bob").written == 2


def test_a_long_document_has_its_value_last(open_store: Opener) -> None:
    settings = Settings(staging=3, batch=2, chunk_tokens=32)
    store = open_store(settings=settings)
    text = " ".join(f"word{n} sentence number {n}." for n in range(80))
    for value, words in ((1, text), (2, text), (2, "changed " + text), (3, "short"), (4, text)):
        store.add(Document(words, source="book", value=value), "alice")
        records = store.get_sources(["book"], "alice")["book"]
        assert [one.index for one in records] == list(range(len(records)))
        assert {one.chunks for one in records} == {len(records)}
        assert [one.kind for one in records].count("value") == 1
        assert value_of(records) == value
        assert "".join(one.text for one in records[:-1]).replace(" ", "") == words.replace(" ", "")
        assert store.count("alice") == len(records)
    assert len(records) > settings.staging
    assert store.add(Document(text, source="book", value=4), "alice").unchanged == 1
    best = store.search(records[-2].text, "alice", neighbours=2, limit=1)[0]
    assert all(one.kind == "document" for one in (*best.before, best.record, *best.after))
    page = store.list("alice", limit=500).records
    assert page == records  # in time order, chunks in order, the value last
    assert store.verify().ok


KINDS: list[tuple[Filter, int, bool]] = [
    (eq("$kind", "value"), 3, True),
    (not_(eq("$kind", "value")), 5, True),
    (any_of("$kind", ["value", "image"]), 3, True),
    (any_of("$kind", ["value", "document", "message"]), 8, True),
    (any_of("$kind", ["document", "message"]), 5, True),
    (not_(any_of("$kind", ["document", "message"])), 3, True),
    (any_of("$kind", ["value", "message"]), 5, False),
    (eq("$kind", "document"), 3, False),
    (not_(eq("$kind", "document")), 5, False),
    (not_(not_(eq("$kind", "message"))), 2, False),
    (not_(or_(eq("$kind", "value"), eq("$kind", "message"))), 3, False),
    (eq("$kind", "image"), 0, True),
    (any_of("$kind", []), 0, True),
    (any_of("$kind", [None, 1, "none"]), 0, True),
]


def test_filters_of_kinds(store: Driver) -> None:
    store.add([Document("one", value=1), Document("two", value=2), "three"], "alice")
    store.add([Message("user", "four", value=3), Message("user", "five")], "alice")
    opened = _count_openings(store)
    for filter_, number, exact in KINDS:
        opened.clear()
        assert store.count("alice", filter=filter_) == number, filter_
        assert (opened == []) == exact, filter_
        assert len(store.list("alice", filter=filter_).records) == number, filter_
        assert sum(store.facet("$kind", "alice", filter=filter_).values()) == number, filter_
        assert len(store.search("one two three four five", "alice", filter=filter_)) <= number, filter_
    assert len(store.search("one two three four five", "alice", filter=not_(eq("$kind", "value")))) == 5
    assert store.delete("alice", filter=eq("$kind", "value")) == 3
    assert store.delete("alice", filter=eq("$kind", "document")) == 3
    assert store.count("alice") == 2


def _count_openings(store: Driver) -> list[str]:
    engine = (store.store._opened if store._runner else store.store._verbs).engine
    opened: list[str] = []
    scroll = engine.index.scroll

    async def counted(*args: Any, **kwargs: Any) -> Any:
        opened.append("scroll")
        return await scroll(*args, **kwargs)

    engine.index.scroll = counted
    return opened


# ── by name ───────────────────────────────────────────────────────────────────────────────────────


def test_names_are_of_one_namespace(store: Driver) -> None:
    for namespace in (("alice",), ("alice", "s1"), ("alice", "s1", "deep"), ("bob",)):
        store.add(Document(f"of {namespace}", source="a", value=list(namespace)), namespace)
    for namespace in (("alice",), ("alice", "s1"), ("bob",)):
        assert value_of(store.get_sources(["a"], namespace)["a"]) == list(namespace)
    assert store.get_sources(["a"], ("alice", "s2")) == {}
    assert store.get_sources(["a"], "carol") == {}
    assert store.delete(("alice",), source=["a"]) == 2
    assert store.get_sources(["a"], "alice") == {}
    assert value_of(store.get_sources(["a"], ("alice", "s1"))["a"]) == ["alice", "s1"]


def test_many_names_in_one_request(store: Driver) -> None:
    store.add([Document(f"number {n}", source=f"{n}", value=n) for n in range(50)], "alice")
    opened = _count_openings(store)
    names = [f"{n}" for n in range(49, -1, -1)] + ["absent"] * 3
    found = store.get_sources(names, "alice")
    assert opened == ["scroll"]
    assert list(found) == names[:50]
    assert store.get_sources([], "alice") == {}
    assert store.delete("alice", source=["1", "2", "absent", "1"]) == 4
    assert store.delete("alice", source=[]) == 0
    assert store.count("alice") == 96
    assert store.get_sources(["1", "2", "3"], "alice").keys() == {"3"}


def test_what_is_left_of_a_document_is_returned(store: Driver) -> None:
    (text, kept) = store.add(Document("whales", source="a", value=1), "alice").ids
    store.delete("alice", [text])
    assert [one.id for one in store.get_sources(["a"], "alice")["a"]] == [kept]


def test_names_that_are_none_are_refused(store: Driver) -> None:
    store.add("something", "alice")
    bad: list[Any] = [5, [1], [None], ["a", "\ud800"], ["x" * 4097], {"a": 1}.items()]
    for one in bad:
        with pytest.raises(InvalidInputError):
            store.get_sources(one, "alice")
        with pytest.raises(InvalidInputError):
            store.delete("alice", source=one)
    for one in ("a", None):
        with pytest.raises(InvalidInputError):
            store.get_sources(one, "alice")
    assert store.count("alice") == 1


def test_a_replacement_is_seen_whole(tmp_path: Path) -> None:
    """Readers beside a writer: a text and a value are always of one revision, and never missing."""
    with MemoryStore.open(
        tmp_path / "memory", embedder=HashEmbedder(), reranker=None, late=None, keyring=tmp_path / "keys.json"
    ) as store:
        store.add(Document("revision 0", source="a", value=0), "alice")
        stop = threading.Event()
        torn: list[object] = []
        reads = 0

        def read() -> None:
            nonlocal reads
            while not stop.is_set():
                records = store.get_sources(["a"], "alice").get("a", ())
                reads += 1
                if [one.kind for one in records] != ["document", "value"] or (
                    records[0].text != f"revision {records[1].value}"
                ):
                    torn.append(records)

        readers = [threading.Thread(target=read) for _ in range(2)]
        for one in readers:
            one.start()
        for number in range(1, 60):
            store.add(Document(f"revision {number}", source="a", value=number), "alice")
        stop.set()
        for one in readers:
            one.join()
        assert not torn
        assert reads > 60


# ── what is refused ───────────────────────────────────────────────────────────────────────────────


def nested(depth: int) -> Json:
    value: Json = []
    for _ in range(depth - 1):
        value = [value]
    return value


BAD: list[Any] = [
    float("nan"),
    [float("inf")],
    {"a": "\ud800"},
    {1: "a"},
    {"a": {2: "b"}},
    object(),
    {"a": {1, 2}},
    b"bytes",
    "x" * 1001,
    nested(MAX_VALUE_DEPTH + 1),
    nested(5000),
]


def test_values_that_cannot_be_kept(open_store: Opener) -> None:
    store = open_store(settings=Settings(max_text_bytes=1000))
    for value in BAD:
        for item in (Document("text", value=value), Message("user", "text", value=value), Document("", value=value)):
            with pytest.raises(InvalidInputError, match="value") as error:
                store.add(["first", item], "alice")
            assert "\ud800" not in str(error.value)
    assert store.count("alice") == 0


def test_one_that_just_fits(open_store: Opener) -> None:
    store = open_store(settings=Settings(max_text_bytes=1000))
    store.add(Document("", source="a", value="x" * 998), "alice")
    store.add(Document("", source="b", value=nested(MAX_VALUE_DEPTH)), "alice")
    found = store.get_sources(["a", "b"], "alice")
    assert (value_of(found["a"]), value_of(found["b"])) == ("x" * 998, nested(MAX_VALUE_DEPTH))


def test_nothing_at_all_is_refused(store: Driver) -> None:
    for item in (Document(""), Message("user", " "), Document("", vector=[1.0] * 64, value=1)):
        with pytest.raises(InvalidInputError, match="empty"):
            store.add(item, "alice")
    assert store.count("alice") == 0


def test_what_was_given_may_change_afterwards(store: Driver) -> None:
    value: dict[str, Json] = {"a": [1]}
    store.add(Document("text", source="a", value=value), "alice")
    value["a"] = None
    assert value_of(store.get_sources(["a"], "alice")["a"]) == {"a": [1]}
    assert "walrus" not in repr(Document("", value="walrus")) + repr(Message("user", "", value="walrus"))


# ── beside the other verbs ────────────────────────────────────────────────────────────────────────


def test_questions_are_made_of_texts_alone(open_store: Opener) -> None:
    from memory_plugin.evaluate.own import listed
    from memory_plugin.train.mine import _everything

    store = open_store()
    if store._runner is None:
        store.add([Document("whales sing", source="a", value="walrus"), Document("", value="walrus")], "alice")
        assert [one.text for one in listed(store.store, ("alice",))] == ["whales sing"]
        assert [one.text for one in _everything(store.store, "alice")] == ["whales sing"]


@pytest.mark.parametrize("vectors", ["rotated", "sealed", "plain"])
def test_a_migration_leaves_values_alone(open_store: Opener, vectors: Any) -> None:
    new = HashEmbedder(revision="2")
    store = open_store(settings=Settings(vectors=vectors))
    store.add([Document(f"whales sing {n}", source=f"{n}", value=f"walrus {n}") for n in range(30)], "alice")
    store.add(Document("", source="alone", value="walrus"), "alice")
    before = store.get_sources([*map(str, range(30)), "alone"], "alice")
    assert store.migrate(new, force=True).embedded == 30
    store.finish()
    assert store.get_sources([*map(str, range(30)), "alone"], "alice") == before
    assert not any("walrus" in text for text in new.texts)
    assert store.verify().ok
    assert store.search("whales sing 3", "alice")[0].record.source == "3"


def test_rotation_and_forgetting_take_values(store: Driver) -> None:
    store.add([Document("whales", source="a", value=1), Document("", source="b", value=2)], "alice")
    store.add(Document("rivers", source="a", value=3), "bob")
    assert store.rotate("alice").resealed == 3
    assert value_of(store.get_sources(["b"], "alice")["b"]) == 2
    assert store.verify().ok
    assert store.forget("alice").memories == 3
    assert store.get_sources(["a", "b"], "alice") == {}
    assert value_of(store.get_sources(["a"], "bob")["a"]) == 3
    assert store.verify().ok


def test_values_count_for_no_passage(open_store: Opener) -> None:
    """The lexical leg's average length is that of passages: scores are what they are without values."""
    scores = []
    for name, value in (("with", "word " * 200), ("without", None)):
        store = open_store(name)
        store.add([Document(f"whales sing {n}", value=value) for n in range(5)], "alice")
        scores.append([hit.stages["lexical"].score for hit in store.search("whales 3", "alice", rerank="none")])
    assert scores[0] == scores[1]


async def test_readers_on_a_loop_see_a_replacement_whole(tmp_path: Path) -> None:
    from memory_plugin import AsyncMemoryStore

    async with AsyncMemoryStore.open(
        tmp_path / "memory", embedder=HashEmbedder(), reranker=None, late=None, keyring=tmp_path / "keys.json"
    ) as store:
        await store.add(Document("revision 0", source="a", value=0), "alice")

        async def write() -> None:
            for number in range(1, 30):
                await store.add(Document(f"revision {number}", source="a", value=number), "alice")

        writing = asyncio.create_task(write())
        while not writing.done():
            text, kept = (await store.get_sources(["a"], "alice"))["a"]
            assert text.text == f"revision {kept.value}"
        await writing


def test_a_value_that_was_given_vectors_is_refused(tmp_path: Path, open_store: Opener) -> None:
    """Somebody with write access makes it findable: the search fails rather than show what nobody embedded."""
    from dataclasses import replace

    from memory_plugin.flow import Blocking, run
    from memory_plugin.index.edge import EdgeIndex

    store = open_store()
    text, kept = store.add(Document("whales", source="a", value=1), "alice").ids
    store.close()
    index, io = EdgeIndex(store.path), Blocking()
    run(index.read_manifest(io))
    [one, value] = run(index.fetch(io, [text, kept], payload=True, vectors=True))
    payload = {key: item for key, item in value.payload.items() if key != "j"}
    run(index.upsert(io, [replace(value, payload=payload, vectors=one.vectors)]))
    run(index.close(io))
    store = open_store()
    with pytest.raises(DecryptionError, match="is a value"):
        store.search("whales", "alice")
    assert set(store.verify().failures) == {kept}


def test_a_filter_of_names_opens_hardly_more(open_store: Opener) -> None:
    """Who leaves out what the conversation holds already, every turn, pays for that alone."""
    store = open_store(reranker=None)
    store.add([Document(f"whales sing {n}", source=f"{n}") for n in range(200)], "alice")
    engine = (store.store._opened if store._runner else store.store._verbs).engine
    opened: list[int] = []
    fetch = engine.index.fetch

    async def counted(io: Any, ids: Any, **kwargs: Any) -> Any:
        opened.append(len(ids))
        return await fetch(io, ids, **kwargs)

    engine.index.fetch = counted
    for number, most in ((0, 10), (5, 20), (150, 200)):
        opened.clear()
        filter_ = not_(any_of("$source", [f"{n}" for n in range(number)]))
        found = store.search("whales sing", "alice", filter=filter_, limit=10)
        assert len(found) == 10
        assert all(int(hit.record.source) >= number for hit in found)
        assert sum(opened) <= most
