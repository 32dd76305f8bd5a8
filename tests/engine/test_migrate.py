"""Changing the model of a store while it serves: begin, back-fill, switch, rollback, finish, abandon."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from memory_plugin import PLAINTEXT, InvalidInputError, ManifestMismatchError, MemoryStore, Settings
from memory_plugin.errors import EmbeddingError, MigrationError
from memory_plugin.manifest import space
from memory_plugin.testing.doubles import HashEmbedder
from memory_plugin.types import Embeddings, HasKey, HasVector, InputType
from tests.conftest import Driver, Opener

SUBJECTS = ("alice", "bob", "carol")
NOTES = 40

ONE_WAY = pytest.mark.parametrize("open_store", ["blocking"], indirect=True)


def old() -> HashEmbedder:
    return HashEmbedder(96)


def new() -> HashEmbedder:
    return HashEmbedder(128, revision="2")


def notes(who: str) -> list[str]:
    return [f"{who} note {n} of topic{n % 7} says thing{n * 31 % 101} and word{n * 17 % 53}" for n in range(NOTES)]


def filled(open_store: Opener, **parts: Any) -> Driver:
    store = open_store(embedder=old(), **parts)
    for who in SUBJECTS:
        store.add(notes(who), who)
    return store


def dense(store: Driver, query: str, who: str = "alice") -> tuple[list[str], set[str]]:
    found = store.search(query, who, limit=5, legs="dense", rerank="none")
    return [hit.text for hit in found], {hit.space for hit in found}


def engine_of(store: Driver) -> Any:
    inner = store.store
    return inner._verbs.engine if isinstance(inner, MemoryStore) else inner._opened.engine


def having(store: Driver, name: str) -> int:
    engine = engine_of(store)
    sealed = engine.settings.vectors == "sealed"
    driver = store.store
    where = HasKey(f"v_{name}") if sealed else HasVector(f"d_{name}")

    async def count() -> int:
        return int(await engine.index.count(engine.io, where))

    if isinstance(driver, MemoryStore):
        from memory_plugin.flow import run

        return run(count())
    assert store._runner is not None
    return int(store._runner.run(count()))


MODES: list[dict[str, Any]] = [
    {"settings": Settings(vectors="rotated")},
    {"settings": Settings(vectors="sealed")},
    {"settings": Settings(vectors="plain")},
    {"keyring": PLAINTEXT},
]


@pytest.mark.parametrize("mode", MODES, ids=["rotated", "sealed", "plain", "PLAINTEXT"])
def test_the_whole_way(open_store: Opener, mode: dict[str, Any]) -> None:
    store, model = filled(open_store, **mode), new()
    before, spaces = dense(store, notes("alice")[3])
    assert spaces == {space(old().identity)}
    assert before[0] == notes("alice")[3]

    done = store.migrate(model)
    assert (done.state, done.model, done.memories, done.embedded, done.missing) == (
        "switched",
        model.identity,
        3 * NOTES,
        3 * NOTES,
        0,
    )
    assert done.gate.ok
    after, spaces = dense(store, notes("alice")[3])
    assert spaces == {space(model.identity)}
    assert after[0] == notes("alice")[3]
    assert store.verify(model=True).ok

    # Both spaces are written until it is finished.
    store.add("a new memory of zebras", "alice")
    assert having(store, space(old().identity)) == having(store, space(model.identity)) == 3 * NOTES + 1
    back = store.rollback()
    assert (back.model, back.embedded, back.missing) == (old().identity, 0, 0)
    assert dense(store, "a new memory of zebras")[0][0] == "a new memory of zebras"
    assert dense(store, notes("alice")[3])[0][0] == before[0]
    assert store.rollback().model == model.identity

    store.finish()
    assert store.migration() is None
    assert having(store, space(old().identity)) == 0
    assert dense(store, notes("bob")[5], "bob")[0][0] == notes("bob")[5]
    assert store.verify().ok
    with pytest.raises(MigrationError, match="nothing was switched"):
        store.rollback()
    with pytest.raises(MigrationError, match="no earlier space"):
        store.finish()


def test_what_is_there_while_it_is_filled_and_what_opens_it(tmp_path: Path) -> None:
    parts: dict[str, Any] = {"reranker": None, "late": None, "keyring": tmp_path / "k.json"}
    failing = Failing(after=30)
    with MemoryStore.open(tmp_path / "m", embedder=old(), **parts) as store:
        store.add(notes("alice"), "alice")
        with pytest.raises(EmbeddingError, match="out of order"):
            store.migrate(failing, batch=10)
        pending = store.migration()
        assert pending is not None
        assert (pending.state, pending.active, pending.other) == ("filling", old().identity, new().identity)
        assert (pending.memories, pending.missing, pending.missing_active) == (NOTES, NOTES - 30, 0)
        assert store.describe()["migration"] == {"state": "filling", "other": "testing:hashed-words?dimension=128"}
        # The store serves as before, and writes that the new model cannot make do not fail.
        store.add("written meanwhile", "alice")
        assert store.search("written meanwhile", "alice", limit=1)[0].space == space(old().identity)
    with pytest.raises(ManifestMismatchError, match=r"being moved to this model(.|\n)*--abandon") as caught:
        MemoryStore.open(tmp_path / "m", embedder=new(), **parts)
    assert f"--store {tmp_path / 'm'}" in str(caught.value)
    with MemoryStore.open(tmp_path / "m", embedder=old(), **parts) as store:
        with pytest.raises(MigrationError, match="is pending: go on with"):
            store.migrate(HashEmbedder(64, revision="3"))
        model = new()
        done = store.migrate(model)
        assert (done.state, done.embedded) == ("switched", NOTES + 1 - 30)
        with pytest.raises(MigrationError, match="is not finished"):
            store.migrate(HashEmbedder(64, revision="3"))
        assert store.migrate(model).embedded == 0  # it is there already
    with pytest.raises(ManifestMismatchError, match=r"was moved from this model(.|\n)*--rollback"):
        MemoryStore.open(tmp_path / "m", embedder=old(), **parts)
    with MemoryStore.open(tmp_path / "m", embedder=new(), **parts) as store:
        # This process does not have the old model: it writes the new space alone.
        store.add("of one space", "alice")
        with pytest.raises(MigrationError, match=r"needs that model"):
            store.rollback()
        back = store.rollback(old())
        assert (back.model, back.embedded, back.missing) == (old().identity, 1, 0)
        assert store.search("of one space", "alice", limit=1, legs="dense")[0].text == "of one space"
    with MemoryStore.open(tmp_path / "m", embedder=new(), successor=old(), **parts) as store:
        assert store.search("of one space", "alice", limit=1)[0].space == space(old().identity)


class Failing(HashEmbedder):
    """The new model, which fails after some texts."""

    def __init__(self, after: int) -> None:
        super().__init__(128, revision="2")
        self.left = after + 16  # the probes come first

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:
        self.left -= len(texts)
        if self.left < 0:
            raise RuntimeError("out of order")
        return super().embed(texts, input_type=input_type)


@ONE_WAY
def test_a_model_that_does_not_work_changes_nothing(open_store: Opener) -> None:
    store = filled(open_store)
    before = engine_of(store).manifest
    with pytest.raises(EmbeddingError):
        store.migrate(Failing(after=-16))
    assert engine_of(store).manifest == before
    assert store.migration() is None


@ONE_WAY
def test_abandoning(open_store: Opener) -> None:
    store, failing = filled(open_store), Failing(after=20)
    with pytest.raises(EmbeddingError):
        store.migrate(failing, batch=10)
    with pytest.raises(MigrationError, match=r"abandon\(\) gives up"):
        store.rollback()
    with pytest.raises(MigrationError, match="no earlier space"):
        store.finish()
    store.abandon()
    assert store.migration() is None
    assert having(store, space(new().identity)) == 0
    assert set(engine_of(store).manifest.canaries) == {space(old().identity)}
    store.add("after it", "alice")
    assert store.verify().ok
    with pytest.raises(MigrationError, match="no migration is under way"):
        store.abandon()
    assert store.migrate(new()).state == "switched"


def test_a_dry_run_changes_nothing_and_tells(open_store: Opener) -> None:
    store, model = filled(open_store), new()
    manifest = engine_of(store).manifest
    done = store.migrate(model, dry_run=True)
    assert done.state == "stable"
    assert done.estimate.memories == 3 * NOTES
    mean = done.estimate.tokens / done.estimate.memories
    assert 10 < mean < 40
    assert done.estimate.cost == 0.0
    assert done.estimate.bytes_during == 3 * NOTES * (4 * 128 + 72)
    assert done.estimate.bytes_after == 3 * NOTES * (4 * 128 + 72 - 4 * 96 - 56)
    assert done.estimate.seconds > 0
    assert store.migrate(model, dry_run=True, rate=1.0).estimate.seconds == pytest.approx(3 * NOTES)
    assert engine_of(store).manifest == manifest
    assert having(store, space(model.identity)) == 0


class Remote(HashEmbedder):
    """A model on another machine, with a price."""

    leaves_machine = True

    def __init__(self) -> None:
        super().__init__(128, revision="2")
        self.identity = HashEmbedder(128).identity.__class__("openai", "text-embedding-3-small", "1", 128)


@ONE_WAY
def test_a_dry_run_sends_nothing_away_and_tells_the_price(open_store: Opener) -> None:
    store, model = filled(open_store), Remote()
    found = store.migrate(model, dry_run=True).estimate
    assert model.texts == []
    assert found.cost == pytest.approx(found.tokens * 0.02 / 1e6)
    mean = found.tokens / found.memories
    assert found.seconds == pytest.approx(3 * NOTES / (1e6 / 60 / mean), rel=0.02)  # what the vendor allows a minute
    assert store.migrate(model, dry_run=True, rate=12.0).estimate.seconds == pytest.approx(3 * NOTES / 12)


def test_what_is_local_only_stays_so(open_store: Opener) -> None:
    store, model = filled(open_store), Remote()
    store.add("the secret of alice is xylophone", "alice", local_only=True)
    done = store.migrate(model)
    assert (done.memories, done.exempt, done.missing) == (3 * NOTES, 1, 0)
    assert not any("xylophone" in text for text in model.texts)
    assert "xylophone" in store.search("xylophone", "alice", limit=1)[0].text
    assert store.verify().ok
    back = store.rollback()
    assert (back.memories, back.missing, back.exempt) == (3 * NOTES + 1, 0, 0)


def test_rate_and_progress(tmp_path: Path) -> None:
    parts: dict[str, Any] = {"reranker": None, "late": None, "keyring": tmp_path / "k.json"}
    told: list[Any] = []
    with MemoryStore.open(tmp_path / "m", embedder=old(), **parts) as store:
        store.add(notes("alice"), "alice")
        done = store.migrate(new(), rate=80.0, batch=8, progress=told.append)
    assert done.seconds >= NOTES / 80 * 0.95
    steps = [(at.done, at.total) for at in told]
    assert steps[0] == (0, NOTES)
    assert [step for step in steps if step[0]][:5] == [(n, NOTES) for n in range(8, NOTES + 1, 8)]
    middle = next(at for at in told if at.done == NOTES // 2 + 4)
    assert middle.rate is not None
    assert 40 < middle.rate <= 81
    assert middle.seconds_left == pytest.approx((NOTES - middle.done) / middle.rate)


@ONE_WAY
def test_an_empty_store(open_store: Opener) -> None:
    store = open_store(embedder=old())
    done = store.migrate(new())
    assert (done.state, done.memories, done.embedded) == ("switched", 0, 0)
    store.finish()
    store.add("first", "alice")
    assert store.search("first", "alice")[0].space == space(new().identity)


@pytest.mark.parametrize("vectors", ["rotated", "sealed"])
def test_rotating_and_forgetting_between(open_store: Opener, vectors: Any) -> None:
    store, failing = filled(open_store, settings=Settings(vectors=vectors)), Failing(after=60)
    with pytest.raises(EmbeddingError):
        store.migrate(failing, batch=20)
    store.rotate("alice")
    store.forget("bob")
    store.add("a second life of bob", "bob")
    done = store.migrate(new())
    assert done.memories == 2 * NOTES + 1
    store.rotate("carol")
    assert store.verify().ok
    for _ in range(2):
        assert dense(store, notes("alice")[7])[0][0] == notes("alice")[7]
        assert dense(store, notes("carol")[7], "carol")[0][0] == notes("carol")[7]
        assert dense(store, "second life", "bob")[0] == ["a second life of bob"]
        store.rollback()
    store.finish()
    assert store.verify().ok


def test_a_subject_whose_key_is_lost_stops_the_switch_unless_forced(tmp_path: Path) -> None:
    from memory_plugin.flow import Blocking, run

    parts: dict[str, Any] = {"reranker": None, "late": None, "keyring": tmp_path / "k.json"}
    with MemoryStore.open(tmp_path / "m", embedder=old(), **parts) as store:
        for who in SUBJECTS:
            store.add(notes(who), who)
        engine = store._verbs.engine
        sealer = run(engine.sealer(("bob",), create=False))
        assert sealer is not None
        engine.keyring.destroy(sealer.subject)  # the key alone, as if a backup without it had been restored
        assert isinstance(engine.io, Blocking)
        with pytest.raises(
            MigrationError, match=r"share of memories with a vector 0\.667 is below(.|\n)*key of its subj"
        ):
            store.migrate(new())
        assert store.migrate(new(), force=True).missing == NOTES


@ONE_WAY
def test_quantization_alone(open_store: Opener) -> None:
    store, model = filled(open_store), old()
    done = store.migrate(quantization="int8")
    assert (done.state, done.embedded, done.converted) == ("stable", 0, 0)
    assert engine_of(store).settings.quantization == "int8"
    assert store.describe()["settings"]["quantization"] == "int8"
    assert done.gate.figures[0].value > 0.95
    found = store.migrate(quantization="none", dry_run=True).estimate
    assert (found.bytes_after, found.tokens, found.cost) == (-3 * NOTES * 100, 0, 0.0)
    assert dense(store, notes("bob")[3], "bob")[0][0] == notes("bob")[3]
    assert model.texts == []


@ONE_WAY
def test_quantization_that_finds_too_little_is_taken_back(open_store: Opener) -> None:
    store = open_store(embedder=HashEmbedder(16))
    # The best 400 by sign are looked at in full: of 1,200 that leaves some out.
    store.add([note for number in range(30) for note in notes(f"who{number}")], "alice")
    with pytest.raises(MigrationError, match=r"are kept as turbo4 as before, since as binary"):
        store.migrate(quantization="binary", floor=1.0)
    assert engine_of(store).settings.quantization == "turbo4"
    assert store.migrate(quantization="binary", floor=1.0, force=True).state == "stable"
    assert engine_of(store).settings.quantization == "binary"


@ONE_WAY
def test_sealed_vectors_have_no_quantization(open_store: Opener) -> None:
    store = filled(open_store, settings=Settings(vectors="sealed"))
    with pytest.raises(MigrationError, match="nothing to quantize"):
        store.migrate(quantization="int8")


@ONE_WAY
def test_model_and_quantization_at_once(open_store: Opener) -> None:
    store = filled(open_store)
    done = store.migrate(new(), quantization="int8")
    assert done.state == "switched"
    assert [figure.name.split("@")[0] for figure in done.gate.figures][-1] == "neighbours kept"
    assert engine_of(store).manifest.settings["quantization"] == "int8"


BAD: list[dict[str, Any]] = [
    {}, {"floor": 1.1, "embedder": new()}, {"floor": True, "embedder": new()}, {"rate": 0, "embedder": new()},
    {"rate": float("inf"), "embedder": new()}, {"batch": 0, "embedder": new()}, {"quantization": "pq"},
    {"questions": [], "embedder": new()}, {"questions": ["who?"], "embedder": new()},
    {"questions": "no/such/file", "embedder": new()},
]  # fmt: skip


@ONE_WAY
@pytest.mark.parametrize(
    "arguments", BAD, ids=lambda one: " ".join(f"{key}={one[key]}" for key in one if key != "embedder")
)
def test_bad_input(open_store: Opener, arguments: dict[str, Any]) -> None:
    store = open_store(embedder=old())
    manifest = engine_of(store).manifest
    with pytest.raises(InvalidInputError):
        store.migrate(**arguments)
    assert engine_of(store).manifest == manifest


@ONE_WAY
def test_what_is_no_embedder(open_store: Opener) -> None:
    from memory_plugin import ConfigurationError

    store = open_store(embedder=old())
    with pytest.raises(ConfigurationError, match="is no embedder"):
        store.migrate(object())
    with pytest.raises(MigrationError, match="embeds no texts"):
        store.migrate("vectors:128")


@ONE_WAY
def test_a_model_with_too_small_a_window_is_refused(open_store: Opener) -> None:
    store, model = open_store(embedder=old()), new()
    model.max_tokens = 100  # type: ignore[attr-defined]
    with pytest.raises(MigrationError, match=r"up to 256 word pieces(.|\n)*chunk_tokens=100"):
        store.migrate(model)


def test_one_at_a_time(tmp_path: Path) -> None:
    parts: dict[str, Any] = {"reranker": None, "late": None, "keyring": tmp_path / "k.json"}
    with MemoryStore.open(tmp_path / "m", embedder=old(), **parts) as store:
        store.add(notes("alice"), "alice")

        def again(_progress: object) -> None:
            with pytest.raises(MigrationError, match="is running"):
                store.migrate(new())

        assert store.migrate(new(), progress=again).state == "switched"
