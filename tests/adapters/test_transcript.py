"""A transcript on real stores: exact items, their order, whatever the clock, other threads and other processes do."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient

from memory_plugin import AsyncMemoryStore, EmbeddingError, InvalidInputError, MemoryStore, Settings, eq
from memory_plugin.adapters import tail as tails
from memory_plugin.adapters import transcript as module
from memory_plugin.adapters.conversation import Turn
from memory_plugin.adapters.transcript import Transcript
from memory_plugin.flow import IO, Blocking, OnLoop, run
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.index.server import ServerIndex
from memory_plugin.testing.doubles import HashEmbedder
from memory_plugin.types import Embeddings, InputType, Json

SESSION = ("alice", "monday")


class Kept:
    """A store, and transcripts in it, driven in one of three ways."""

    def __init__(self, way: str, path: Path, embedder: HashEmbedder | None = None, **settings: Any) -> None:
        self.embedder = embedder or HashEmbedder()
        parts: dict[str, Any] = {
            "embedder": self.embedder,
            "reranker": None,
            "late": None,
            "keyring": path / "keys.json",
            "settings": Settings(**settings),
        }
        index = EdgeIndex(path / "store", durability="process")
        self.loop = None if way == "blocking" else asyncio.Runner()
        self.io: IO = OnLoop() if self.loop else Blocking()
        kind = AsyncMemoryStore if way == "async" else MemoryStore
        self.store: Any = kind(index, **parts)

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run(work) if self.loop else run(work)

    def ask(self, verb: str, *arguments: Any, **named: Any) -> Any:
        return self.do(self.io.call(getattr(self.store, verb), *arguments, **named))

    def append(self, *items: Any, session: Any = SESSION) -> None:
        """Texts are what the user said; else a pair of an item and its turn."""
        pairs = [said(one) if isinstance(one, str) else one for one in items]
        self.do(Transcript(self.store, session).append(self.io, pairs))

    def latest(self, limit: int | None = None, session: Any = SESSION) -> Any:
        return self.do(Transcript(self.store, session).latest(self.io, limit))

    def pop(self, session: Any = SESSION) -> Any:
        return self.do(Transcript(self.store, session).pop(self.io))

    def clear(self, session: Any = SESSION) -> None:
        self.do(Transcript(self.store, session).clear(self.io))

    def found(self, query: str, namespace: Any = "alice") -> list[str]:
        return [hit.text for hit in self.ask("search", query, namespace)]

    def close(self) -> None:
        self.do(self.io.call(self.store.close))
        if self.loop:
            self.loop.close()


def item(text: str) -> dict[str, Json]:
    return {"role": "user", "content": text}


def said(text: str, id_: str | None = None) -> tuple[Json, Turn]:
    return item(text), Turn("user", text, id=id_)


@pytest.fixture(params=["blocking", "blocking on a loop", "async"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(request.param, tmp_path)
    yield kept
    kept.close()


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Kept]:
    """Where the way of driving makes no difference."""
    kept = Kept("blocking", tmp_path)
    yield kept
    kept.close()


# ── what it is for ────────────────────────────────────────────────────────────────────────────────


def test_items_come_back_in_order_and_what_was_said_is_found(kept: Kept) -> None:
    call = {"type": "function_call", "call_id": "c1", "name": "lookup", "arguments": "{}"}
    kept.append("My badge is LX-2217.", (call, None), ({"output": "zebra weather"}, Turn("tool", "")))
    kept.append("Thank you.", "Bye.")
    everything = [item("My badge is LX-2217."), call, {"output": "zebra weather"}, item("Thank you."), item("Bye.")]
    assert kept.latest() == everything
    assert kept.latest(3) == everything[-3:]
    assert kept.latest(50) == everything
    assert kept.latest(0) == []
    assert kept.found("LX-2217")[0] == "My badge is LX-2217."
    assert not any("zebra" in text for text in kept.found("zebra weather"))
    assert kept.pop() == item("Bye.")
    assert kept.latest() == everything[:-1]
    assert "Bye." not in kept.found("Bye")


def test_an_empty_session(kept: Kept) -> None:
    kept.append()
    assert (kept.latest(), kept.latest(3), kept.pop()) == ([], [], None)
    kept.clear()
    kept.append("Hello.")
    assert (kept.pop(), kept.pop(), kept.latest()) == (item("Hello."), None, [])


def test_clear_leaves_other_sessions_and_documents(kept: Kept) -> None:
    kept.append("The code word is walnut.", ({"call": 1}, None))
    kept.append("The code word is cherry.", session=("alice", "tuesday"))
    kept.append("The code word is plum.", session="alice")
    kept.append("The code word is fig.", session=("alice", "monday", "aside"))
    kept.ask("add", "A document of the code word.", SESSION, source="notes.md")
    kept.clear()
    assert kept.latest() == []
    found = kept.found("code word")
    assert not any("walnut" in text for text in found)
    assert {"cherry.", "plum.", "fig."} <= {text.split()[-1] for text in found}
    assert kept.latest(session=("alice", "tuesday")) == [item("The code word is cherry.")]
    assert kept.latest(5, session="alice") == [item("The code word is plum.")]
    assert kept.latest(session=("alice", "monday", "aside")) == [item("The code word is fig.")]
    assert [record.source for record in kept.ask("list", SESSION).records if record.namespace == SESSION] == [
        "notes.md"
    ]


def test_another_user_sees_nothing(kept: Kept) -> None:
    kept.append("The code word is walnut.")
    assert kept.latest(session=("bob", "monday")) == []
    assert kept.pop(session=("bob", "monday")) is None
    kept.clear(session=("bob", "monday"))
    assert kept.found("code word", "bob") == []
    assert kept.latest() == [item("The code word is walnut.")]


def test_it_is_there_after_reopening(tmp_path: Path) -> None:
    for round_ in range(3):
        kept = Kept("blocking", tmp_path)
        assert len(kept.latest()) == round_
        kept.append(f"Message {round_}.")
        assert kept.latest(1) == [item(f"Message {round_}.")]
        kept.close()


def test_forgetting_the_user_forgets_the_session(kept: Kept) -> None:
    kept.append("One.", "Two.")
    assert kept.latest(1) == [item("Two.")]
    kept.ask("forget", "alice")
    assert (kept.latest(1), kept.latest(), kept.pop()) == ([], [], None)
    kept.append("Three.")
    assert kept.latest(2) == [item("Three.")]


def test_nothing_is_readable_on_disk(tmp_path: Path) -> None:
    kept = Kept("blocking", tmp_path)
    kept.append("My badge is LX-2217.", ({"output": "the vault is at 12 Quay"}, None))
    kept.close()
    content = b"".join(path.read_bytes() for path in (tmp_path / "store").rglob("*") if path.is_file())
    assert not any(secret in content for secret in (b"LX-2217", b"12 Quay", b"transcript/", b"monday"))


# ── exactness ─────────────────────────────────────────────────────────────────────────────────────

EXACT: dict[str, Any] = {
    "order of keys": {"b": 1, "a": {"z": 1, "y": 2}},
    "numbers": [1.0, 1e3, -0.0, 2**80, 1e-320, 0.1, True, None],
    "not a number": [float("inf"), float("-inf")],
    "escapes": 'tab\t quote" back\\ slash/ \u2028 \x00 \U0001f600 Käse 漢字',
    "half an emoji": {"content": "cut off \ud83d"},
    "half an emoji in a key": {"\udc00": 1},
    "empty": [{}, [], ""],
    "text alone": "text",
    "nothing": None,
    "deep": [[[[[[[[[[{"a": [1]}]]]]]]]]]],
    "keys that are no text": {2: "a", True: "b", None: "c"},
}


def same(one: object, other: object) -> bool:
    return json.dumps(one) == json.dumps(other) and type(one) is type(other)


def test_items_come_back_exactly(one: Kept) -> None:
    one.append(*((value, None) for value in EXACT.values()))
    for name, kept, given in zip(EXACT, one.latest(), EXACT.values(), strict=True):
        assert same(kept, json.loads(json.dumps(given))), name


@pytest.mark.parametrize(
    "text",
    ["cut off \ud83d", "\udc00", "one \ud83d\ude00 pair", "\u200b\u2060", " \n", "\x00"],
    ids=["half", "only half", "pair", "invisible", "blank", "control"],
)
def test_words_that_no_model_can_read_are_kept_all_the_same(one: Kept, text: str) -> None:
    one.append(said(text), (item("Käse"), Turn("user", "Käse", name="A\ud83d")))
    assert one.latest() == json.loads(json.dumps([item(text), item("Käse")]))
    assert "Käse" in one.found("Käse")


def test_what_is_no_json_is_refused_and_nothing_is_written(one: Kept) -> None:
    circle: list[Any] = []
    circle.append(circle)
    for bad in (object(), {"a": b"secret bytes"}, circle, {(1, 2): 3}, 10**5000):
        with pytest.raises(InvalidInputError, match="no JSON value") as caught:
            one.append("Kept?", (bad, None))
        assert "secret" not in str(caught.value)
    assert (one.latest(), one.ask("count", "alice")) == ([], 0)
    with pytest.raises(InvalidInputError, match="0 or more"):
        one.latest(-1)
    with pytest.raises(InvalidInputError, match="namespace"):
        Transcript(one.store, ("alice", ""))


def test_a_tool_output_of_2_mb_is_kept_and_costs_no_embedding(one: Kept) -> None:
    output = {"type": "function_call_output", "call_id": "c1", "output": "zebra 漢 " * 250_000}
    one.append("Fetch it.", (output, None))
    assert one.latest(1) == [output]
    assert not any("zebra" in text for text in one.embedder.texts)
    assert one.ask("count", "alice") == 3  # two items, one of them with words


def test_an_item_that_is_too_long_is_refused_whole(tmp_path: Path) -> None:
    kept = Kept("blocking", tmp_path, max_text_bytes=1000)
    with pytest.raises(InvalidInputError):
        kept.append("Short.", ({"output": "x" * 2000}, None))
    assert (kept.latest(), kept.ask("count", "alice")) == ([], 0)
    kept.close()


# ── order ─────────────────────────────────────────────────────────────────────────────────────────


def test_order_holds_within_a_microsecond_and_when_the_clock_goes_back(
    one: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"Message {number}." for number in range(40)]
    clock = 1_790_000_000_000_000
    for number in range(0, 40, 4):
        now = clock - number * 1_000_000 * 3600 * 24  # a day earlier each time
        monkeypatch.setattr(module, "_now", lambda now=now: now)
        one.append(*texts[number : number + 4])
    assert one.latest() == [item(text) for text in texts]
    assert one.latest(7) == [item(text) for text in texts[-7:]]
    tails.tails.clear()  # as another process
    assert one.latest(7) == [item(text) for text in texts[-7:]]
    monkeypatch.setattr(module, "_now", lambda: 0)
    tails.tails.clear()
    one.append("Last.")
    assert one.latest(2) == [item(texts[-1]), item("Last.")]
    times = [record.time for record in one.ask("list", SESSION, filter=eq("$kind", "value")).records]
    assert len(set(times)) == 41  # those who list the store see the same order
    assert [json.loads(r.value) for r in one.ask("list", SESSION, filter=eq("$kind", "value")).records] == one.latest()


def test_order_holds_over_midnight(one: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    day = 86_400_000_000
    monkeypatch.setattr(module, "_now", lambda: 20_000 * day - 2)
    texts = [f"Message {number}." for number in range(5)]
    one.append(*texts)
    tails.tails.clear()
    assert one.latest(4) == [item(text) for text in texts[-4:]]
    assert one.latest() == [item(text) for text in texts]


def test_threads_that_share_a_store_lose_nothing(one: Kept) -> None:
    failed: list[Exception] = []

    def write(thread: int) -> None:
        try:
            for number in range(8):
                one.append((f"{thread}:{number}a", None), (f"{thread}:{number}b", None))
        except Exception as error:  # noqa: BLE001 - whatever it is
            failed.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    items = one.latest()
    assert len(items) == 96
    assert all(second == first[:-1] + "b" for first, second in zip(items[::2], items[1::2], strict=True))
    for number in range(6):
        own = [text for text in items if text.startswith(f"{number}:")]
        assert own == sorted(own)


async def test_tasks_that_share_a_session_lose_nothing_and_pop_each_item_once(tmp_path: Path) -> None:
    kept = Kept("blocking", tmp_path)
    io = OnLoop()
    await asyncio.gather(*(Transcript(kept.store, SESSION).append(io, [(number, None)]) for number in range(30)))
    popped = await asyncio.gather(*(Transcript(kept.store, SESSION).pop(io) for _ in range(20)))
    rest = await Transcript(kept.store, SESSION).latest(io)
    assert {*map(str, popped), *map(str, rest)} == set(map(str, range(30)))
    assert len(rest) == 10
    kept.close()


async def test_more_waiting_tasks_than_threads_do_not_starve_the_one_at_work(tmp_path: Path) -> None:
    asyncio.get_running_loop().set_default_executor(module_executor(2))
    kept = Kept("blocking", tmp_path)
    io = OnLoop()
    await asyncio.gather(*(Transcript(kept.store, SESSION).append(io, [(number, None)]) for number in range(12)))
    assert len(await Transcript(kept.store, SESSION).latest(io)) == 12
    kept.close()


class Slow(HashEmbedder):
    """Takes its time."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()

    def embed(self, texts: Any, /, *, input_type: InputType) -> Embeddings:
        self.begun.set()
        time.sleep(0.1)
        return super().embed(texts, input_type=input_type)


async def test_a_thread_does_not_wait_for_a_task_of_its_own_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tails, "PATIENCE", 1e9)
    kept = Kept("blocking", tmp_path, slow := Slow())
    transcript = Transcript(kept.store, SESSION)
    await transcript.append(OnLoop(), [said("First."), said("Taken back.")])
    slow.begun.clear()
    work = asyncio.ensure_future(transcript.append(OnLoop(), [said("Second."), said("Third.")]))
    await asyncio.to_thread(slow.begun.wait)
    assert not work.done()
    # With the loop standing still; as many items afterwards as before.
    assert run(transcript.pop(Blocking())) == item("Taken back.")
    run(transcript.append(Blocking(), [said("Aside.")]))
    await work
    # The append was under way when its time was taken: what came aside stands after it.
    assert await transcript.latest(OnLoop(), 2) == [item("Third."), item("Aside.")]
    assert await transcript.latest(OnLoop()) == [item(f"{text}.") for text in ("First", "Second", "Third", "Aside")]
    kept.close()


async def test_what_somebody_works_with_is_not_dropped(one: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tails, "SESSIONS", 1)
    async with tails.Alone(OnLoop(), one.store, SESSION) as tail:
        for number in range(3):
            await Transcript(one.store, ("alice", f"s{number}")).append(OnLoop(), [(number, None)])
        assert tails.tails[one.store][SESSION] is tail
    await Transcript(one.store, ("alice", "last")).append(OnLoop(), [(0, None)])
    assert SESSION not in tails.tails[one.store]


async def test_threads_that_hold_all_workers_do_not_wait_for_a_task_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tails, "PATIENCE", 0.05)
    asyncio.get_running_loop().set_default_executor(module_executor(2))
    kept = Kept("blocking", tmp_path, slow := Slow())
    transcript = Transcript(kept.store, SESSION)
    slow.begun.clear()
    work = asyncio.ensure_future(transcript.append(OnLoop(), [said("Task.")]))
    await asyncio.to_thread(slow.begun.wait)
    threads = (asyncio.to_thread(run, transcript.append(Blocking(), [said(f"Thread {n}.")])) for n in range(4))
    await asyncio.wait_for(asyncio.gather(work, *threads), 30)
    assert len(await transcript.latest(OnLoop())) == 5
    kept.close()


def module_executor(workers: int) -> Any:
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(workers)


# ── two processes on a server ─────────────────────────────────────────────────────────────────────


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[MemoryStore, MemoryStore]]:
    """Two stores over one served collection, as two processes have them."""
    client = QdrantClient(":memory:")
    parts: dict[str, Any] = {"reranker": None, "late": None, "keyring": tmp_path / "keys.json"}
    index: Callable[[], ServerIndex] = lambda: ServerIndex(client, "shared")  # noqa: E731
    yield (
        MemoryStore(index(), HashEmbedder(), **parts),
        MemoryStore(index(), HashEmbedder(), **parts),
    )
    client.close()


def test_two_processes_see_what_the_other_did(two: tuple[MemoryStore, MemoryStore]) -> None:
    here, there = (Transcript(store, SESSION) for store in two)
    io = Blocking()
    expected: list[Json] = []
    for number in range(6):
        run((here, there)[number % 2].append(io, [(f"{number}a", None), (f"{number}b", None)]))
        expected += [f"{number}a", f"{number}b"]
        assert run(here.latest(io, 3)) == run(there.latest(io, 3)) == expected[-3:]
    assert run(here.pop(io)) == expected.pop()
    assert run(there.latest(io, 2)) == expected[-2:]
    assert run(there.pop(io)) == expected.pop()
    run(here.append(io, [("new", None)]))
    assert run(there.latest(io)) == [*expected, "new"]
    run(there.clear(io))
    assert run(here.latest(io, 2)) == []


def test_an_item_that_another_process_takes_between_counting_and_reading(
    two: tuple[MemoryStore, MemoryStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = (Transcript(store, SESSION) for store in two)
    io = Blocking()
    run(here.append(io, [(number, None) for number in range(6)]))
    for read, expected in (("latest", [3, 4]), ("pop", 3)):
        counts = [two[0].count(SESSION, filter=module.ITEMS)]
        run(there.pop(io))
        monkeypatch.setattr(two[0], "count", _first(counts, two[0].count))
        assert run(here.latest(io, 2) if read == "latest" else here.pop(io)) == expected
        monkeypatch.undo()
    assert run(there.latest(io)) == [0, 1, 2]


def test_what_two_processes_append_at_the_same_moment_stays_together(
    two: tuple[MemoryStore, MemoryStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_now", lambda: 1_790_000_000_000_000)
    monkeypatch.setattr(Transcript, "_sync", _nothing)  # neither knows of the other
    io = Blocking()
    for name, store in zip("ab", two, strict=True):
        run(Transcript(store, SESSION).append(io, [(f"{name}{number}", None) for number in range(4)]))
    monkeypatch.undo()
    items = [str(one) for one in run(Transcript(two[0], SESSION).latest(io))]
    assert [text[1] for text in items] == ["0", "1", "2", "3"] * 2
    assert {"".join(text[0] for text in items[:4]), "".join(text[0] for text in items[4:])} == {"aaaa", "bbbb"}
    assert run(Transcript(two[1], SESSION).latest(io, 3)) == items[-3:]


def _first(answers: list[int], then: Callable[..., int]) -> Callable[..., int]:
    def call(*arguments: Any, **named: Any) -> int:
        return answers.pop() if answers else then(*arguments, **named)

    return call


async def _nothing(self: Transcript, io: IO, tail: object, least: int) -> None:
    """As when the other process writes in between."""


# ── retries and failures ──────────────────────────────────────────────────────────────────────────


def test_an_append_that_was_tried_again_changes_nothing(kept: Kept) -> None:
    turn = [said("One.", "msg_1"), ({"id": "fc_1"}, Turn("function_call", "", id="fc_1"))]
    kept.append(*turn)
    kept.append(*turn)
    assert kept.latest() == [item("One."), {"id": "fc_1"}]
    tails.tails.clear()
    kept.append(*turn)
    assert len(kept.latest()) == 2
    kept.append(turn[1])  # the end of it
    assert len(kept.latest()) == 2


def test_what_is_no_retry_is_added(one: Kept) -> None:
    one.append("Yes.")
    one.append("Yes.")  # said twice
    assert len(one.latest()) == 2
    one.append(said("Yes.", "1"))
    one.append("Really?")
    one.append(said("Yes.", "1"))  # a model that gives every answer the same id
    one.append(said("Yes!", "1"))  # another text
    assert len(one.latest()) == 6
    one.pop()
    one.append(said("Yes!", "1"))  # taken back, and said again
    assert len(one.latest()) == 6


class Failing(HashEmbedder):
    """Fails at a word."""

    def embed(self, texts: Any, /, *, input_type: InputType) -> Embeddings:
        if any("poison" in text for text in texts):
            raise RuntimeError("no")
        return super().embed(texts, input_type=input_type)


def test_an_append_that_fails_leaves_no_half(tmp_path: Path) -> None:
    kept = Kept("blocking", tmp_path, Failing(), batch=4)
    kept.append("Before.")
    with pytest.raises(EmbeddingError):
        kept.append(*(f"Message {number}." for number in range(12)), "poison")
    assert kept.latest() == [item("Before.")]
    assert kept.ask("count", "alice") == 2
    kept.append("After.")
    assert kept.latest(2) == [item("Before."), item("After.")]
    kept.close()


async def test_a_cancelled_append_is_whole_or_absent(tmp_path: Path) -> None:
    kept = Kept("blocking", tmp_path, batch=4)
    for delay in (0.0, 0.001, 0.005, 0.02):
        before = len(await Transcript(kept.store, SESSION).latest(OnLoop()))
        work = asyncio.ensure_future(
            Transcript(kept.store, SESSION).append(OnLoop(), [said(f"Message {number}.") for number in range(20)])
        )
        await asyncio.sleep(delay)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert len(await Transcript(kept.store, SESSION).latest(OnLoop())) - before in (0, 20)
    kept.close()


# ── what changes behind its back ──────────────────────────────────────────────────────────────────


def test_what_was_deleted_by_hand_is_gone_at_once(one: Kept) -> None:
    one.append("One.", "Two.", "Three.")
    assert one.latest(2) == [item("Two."), item("Three.")]
    names = [record.source for record in one.ask("list", SESSION, filter=eq("$kind", "value")).records]
    one.ask("delete", SESSION, source=names[1])
    assert one.latest(2) == [item("One."), item("Three.")]
    one.ask("delete", SESSION, source=names[2])
    assert one.pop() == item("One.")


def test_words_whose_item_was_deleted_by_hand_are_cleared_too(one: Kept) -> None:
    one.append("The code word is walnut.")
    [record] = one.ask("list", SESSION, filter=eq("$kind", "value")).records
    one.ask("delete", SESSION, record.id)
    assert one.latest() == []
    assert one.found("walnut")
    one.clear()
    assert not one.found("walnut")


def test_other_values_in_the_namespace_are_no_items(one: Kept) -> None:
    from memory_plugin import Document

    one.append("First.")
    for number in range(80):
        one.ask("add", Document("", source=f"note-{number}", value=number), SESSION)
    assert one.latest(1) == [item("First.")]
    tails.tails.clear()
    assert one.latest(1) == [item("First.")]
    assert one.pop() == item("First.")
    assert one.pop() is None
    one.clear()
    assert one.ask("count", SESSION) == 80


# ── long sessions ─────────────────────────────────────────────────────────────────────────────────


def test_the_end_of_a_long_session_is_read_without_opening_the_rest(one: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    day = 86_400_000_000
    for number in range(5):
        monkeypatch.setattr(module, "_now", lambda number=number: (20_000 + number) * day)
        one.append(*(({"number": number * 1000 + place}, None) for place in range(1000)))
    opened: list[object] = []
    monkeypatch.setattr(json, "loads", _counting(json.loads, opened))
    assert [one["number"] for one in one.latest(20)] == list(range(4980, 5000))
    assert len(opened) < 100
    tails.tails.clear()  # another process: the last day's are opened, once
    opened.clear()
    assert len(one.latest(20)) == 20
    assert 1000 <= len(opened) < 4000
    opened.clear()
    assert len(one.latest(20)) == 20
    assert one.pop() == {"number": 4999}
    one.append(({"number": 5000}, None))
    assert one.latest(2) == [{"number": 4998}, {"number": 5000}]
    assert len(opened) < 300


@pytest.mark.parametrize("limit", [None, 5, 100])
def test_a_turn_lists_the_store_once(one: Kept, monkeypatch: pytest.MonkeyPatch, limit: int | None) -> None:
    one.append(*((number, None) for number in range(60)))
    tails.tails.clear()
    listed: list[object] = []
    monkeypatch.setattr(one.store, "list", _counting(one.store.list, listed))
    for number in range(60, 64):  # read, question, tool round, answer
        assert len(one.latest(limit)) == min(limit or 100, number)
        one.append((number, None))
        one.append(("call", None), ("output", None))
        assert [one.pop(), one.pop()] == ["output", "call"]
    assert len(listed) == (1 if limit else 4)


def _counting(loads: Callable[..., Any], calls: list[object]) -> Callable[..., Any]:
    def counted(*arguments: Any, **named: Any) -> Any:
        calls.append(None)
        return loads(*arguments, **named)

    return counted


def test_what_is_remembered_of_sessions_is_bounded(one: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tails, "SESSIONS", 4)
    monkeypatch.setattr(tails, "NAMES", 8)
    for number in range(10):
        one.append(*((place, None) for place in range(12)), session=("alice", f"s{number}"))
    assert len(tails.tails[one.store]) <= 4
    assert all(len(tail.names) <= 8 for tail in tails.tails[one.store].values())
    assert one.latest(10, session=("alice", "s9")) == list(range(2, 12))
    assert one.latest(session=("alice", "s0")) == list(range(12))
