"""Adding again: what is the same, what is replaced, what is another memory; and what a reader sees meanwhile."""

from __future__ import annotations

import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from memory_plugin import Document, EmbeddingError, MemoryStore, Message, Settings
from memory_plugin.testing.doubles import HashEmbedder
from memory_plugin.types import Embeddings
from tests.conftest import Driver, Opener

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
SMALL = Settings(chunk_tokens=32, staging=4, batch=2)
LONG = " ".join(f"Sentence number {n} is about the topic of turtles." for n in range(60))


def test_other_metadata_replaces_the_memory(store: Driver) -> None:
    first = store.add("tea at five", "alice", metadata={"topic": "tea"})
    second = store.add("tea at five", "alice", metadata={"topic": "time"})
    assert (second.written, second.replaced, store.count("alice")) == (1, 1, 1)
    assert first.ids != second.ids
    assert store.facet("topic", "alice") == {"time": 1}
    assert store.add("tea at five", "alice", metadata={"topic": "time"}).unchanged == 1


def test_the_same_words_at_another_time_are_another_memory(store: Driver) -> None:
    """Unless they have a name: a document of another date replaces the one before it."""
    store.add("I am well", "alice", time=NOON)
    assert store.add("I am well", "alice", time=NOON).unchanged == 1
    assert store.add("I am well", "alice", time=NOON + timedelta(days=1)).replaced == 0
    assert store.add("I am well", "alice").replaced == 0
    assert store.count("alice") == 3
    store.add("minutes", "bob", source="m", time=NOON)
    assert store.add("minutes", "bob", source="m", time=NOON + timedelta(days=1)).replaced == 1
    assert [record.time for record in store.list("bob").records] == [NOON + timedelta(days=1)]


def test_an_edited_message_replaces_the_one_of_its_id(store: Driver) -> None:
    store.add([Message("user", "helo", id="1"), Message("user", "bye", id="2")], ("alice", "s"))
    assert store.add(Message("user", "hello", id="1"), ("alice", "s")).replaced == 1
    assert sorted(record.text for record in store.list("alice").records) == ["bye", "hello"]
    assert store.add(Message("user", "hello", id="1"), ("alice", "t")).replaced == 0
    assert store.count("alice") == 3


def test_messages_of_two_people_with_the_same_words_are_two(store: Driver) -> None:
    store.add(
        [Message("user", "yes", name="Ana"), Message("user", "yes", name="Ben"), Message("assistant", "yes")], "a"
    )
    assert store.count("a") == 3


@pytest.mark.parametrize("staging", [4, 1_000])
def test_a_deleted_chunk_comes_back(open_store: Opener, staging: int) -> None:
    store = open_store(settings=Settings(chunk_tokens=32, staging=staging, batch=2))
    first = store.add(LONG, "alice", source="t")
    gone = [first.ids[0], first.ids[len(first.ids) // 2], first.ids[-1]]
    assert store.delete("alice", gone) == 3
    again = store.add(LONG, "alice", source="t")
    assert again.ids == first.ids
    assert [record.id for record in store.list("alice", limit=1_000).records] == list(first.ids)
    assert store.add(LONG, "alice", source="t").unchanged == 1
    assert store.verify().ok


class Failing(HashEmbedder):
    """Fails from the n-th call on."""

    calls_left = 10**9

    def embed(self, texts: Any, /, *, input_type: Any) -> Embeddings:
        self.calls_left -= 1
        if self.calls_left < 0:
            raise ConnectionResetError("the service hung up")
        return super().embed(texts, input_type=input_type)


def test_a_completion_that_fails_loses_nothing_that_was_there(open_store: Opener) -> None:
    embedder = Failing()
    store = open_store(settings=SMALL, embedder=embedder)
    ids = store.add(LONG, "alice", source="t").ids
    store.delete("alice", list(ids[-6:]))
    embedder.calls_left = 1
    with pytest.raises(EmbeddingError):
        store.add(LONG, "alice", source="t")
    assert {record.id for record in store.list("alice", limit=1_000).records} == set(ids[:-6])
    embedder.calls_left = 10**9
    assert store.add(LONG, "alice", source="t").ids == ids
    assert store.verify().ok


def test_duplicates_inside_one_call_are_one_memory(store: Driver) -> None:
    added = store.add(["same", "other", "same", Document("same")], "alice")
    assert (added.documents, added.written, store.count("alice")) == (4, 2, 2)
    assert added.ids[0] == added.ids[2] == added.ids[3]


def test_one_document_in_two_namespaces_of_a_subject_is_two(store: Driver) -> None:
    store.add("the plan", ("alice", "a"), source="plan")
    assert store.add("the plan", ("alice", "b"), source="plan").written == 1
    assert (store.count("alice"), store.count(("alice", "a"))) == (2, 1)
    assert store.delete(("alice", "a"), source="plan") == 1
    assert store.count(("alice", "b")) == 1
    assert store.delete("alice", source="plan") == 0  # the name belongs to a namespace, not to those below it


@pytest.mark.parametrize("sentences", [2, 40])
def test_a_reader_sees_two_revisions_only_within_a_commit(tmp_path: Path, sentences: int) -> None:
    """The new revision appears in one step and the old one goes in the next: between the two steps both show.

    What holds: there is always a whole revision, never none, and once ``add`` has returned only the new one.
    """
    settings = Settings(chunk_tokens=32, staging=6, batch=4)
    parts: dict[str, Any] = {"embedder": HashEmbedder(), "reranker": None, "late": None, "settings": settings}
    with MemoryStore.open(tmp_path / "m", keyring=tmp_path / "k.json", **parts) as store:
        text = "Version {} says thing {} here.".format
        done = threading.Event()
        seen: Counter[int] = Counter()
        window: list[float] = []

        def read() -> None:
            since = None
            while not done.is_set():
                found = Counter(record.text.split()[1] for record in store.list("alice", limit=1_000).records)
                seen[len(found)] += 1
                now = time.perf_counter()
                if len(found) < 2:
                    since = None
                else:
                    since = since if since is not None else now
                    window.append(now - since)

        store.add(" ".join(text(0, n) for n in range(sentences)), "alice", source="x")
        reader = threading.Thread(target=read)
        reader.start()
        took = []
        for version in range(1, 25):
            start = time.perf_counter()
            store.add(" ".join(text(version, n) for n in range(sentences)), "alice", source="x")
            took.append(time.perf_counter() - start)
            assert {record.text.split()[1] for record in store.list("alice", limit=1_000).records} == {str(version)}
        done.set()
        reader.join()
        print(
            f"\nreads that saw so many revisions: {dict(seen)}; longest time with two: "
            f"{1000 * max(window, default=0):.1f} ms; longest add: {1000 * max(took):.1f} ms"
        )
        assert seen[0] == 0
        assert set(seen) <= {0, 1, 2}
