"""The command that changes a store's model, and what the other commands open a store with."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from memory_plugin import MemoryStore, registry
from memory_plugin.manifest import name_of
from memory_plugin.testing import doubles
from memory_plugin.testing.doubles import HashEmbedder
from memory_plugin.types import ModelIdentity
from tests.command import Invoke, data
from tests.command import here as here
from tests.command import invoke as invoke


def hashed(model: str = "hashed-words", *, dimension: int = 64, revision: str = "1") -> HashEmbedder:
    """A provider that has names: "testing", "testing:hashed-words?dimension=128&revision=2"."""
    assert model == "hashed-words"
    return HashEmbedder(dimension, revision)


@pytest.fixture(autouse=True)
def _named(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {**registry.EMBEDDERS, "testing": ("tests.test_cli_migrate:hashed", "")}
    monkeypatch.setattr(registry, "EMBEDDERS", table)


NEW = "testing:hashed-words?dimension=128"
NOTES = "\n\n".join(f"Note {n} of topic{n % 7} says thing{n * 31 % 101}." for n in range(20))


@pytest.fixture
def filled(invoke: Invoke, here: Path) -> Invoke:
    for number, note in enumerate(NOTES.split("\n\n")):
        (here / f"n{number}.txt").write_text(note, encoding="utf-8")
    invoke("add", *(f"n{n}.txt" for n in range(20)), "-n", "alice", "--embedder", "testing")
    return invoke


def test_the_whole_way(filled: Invoke) -> None:
    """No other command has to be told the model: it is in the manifest."""
    found = data(filled("migrate", "--to", NEW, "--dry-run", "--json"))["estimate"]
    assert (found["memories"], found["cost"], found["embeds"]) == (20, 0.0, True)
    text = filled("migrate", "--to", NEW, "--dry-run").stdout
    assert re.search(r"memories to fill\s+20", text)
    assert filled("migrate", "--status").stdout == "no migration is pending\n"
    done = filled("migrate", "--to", NEW).stdout
    assert "self-retrieval@10 1.000 reaches the floor" in done
    assert "searched with testing:hashed-words (128 dimensions): 20 memories have its vectors (20 embedded" in done
    assert "--rollback goes back to them, --finish drops them" in done
    status = data(filled("migrate", "--status", "--json"))
    assert (status["state"], status["active"]["dimension"], status["other"]["dimension"]) == ("switched", 128, 64)
    hit = data(filled("search", "thing93", "-n", "alice", "--rerank", "none", "--limit", "1", "--json"))["hits"][0]
    assert "thing93" in hit["text"]
    # The command writes both spaces, since it can make both models from their names.
    filled("add", "notes.md", "-n", "alice")
    back = data(filled("migrate", "--rollback", "--json"))
    assert (back["model"]["dimension"], back["missing"], back["embedded"]) == (64, 0, 0)
    filled("migrate", "--rollback")
    assert "dropped" in filled("migrate", "--finish").stdout
    assert filled("migrate", "--status", "--json").stdout.strip() == '{"state": "stable"}'
    filled("verify", "--model")


def test_the_gate_is_told_and_leaves_with_a_status(filled: Invoke, here: Path) -> None:
    asked = {"query": "thing93", "namespace": "alice", "source": "n3.txt"}
    (here / "mine.jsonl").write_text(json.dumps(asked), encoding="utf-8")
    done = data(filled("migrate", "--to", NEW, "--questions", "mine.jsonl", "--json"))
    assert [one["name"] for one in done["gate"]["figures"]] == [
        "share of memories with a vector",
        "recall@10 on your questions",
    ]
    result = filled("migrate", "--to", "testing:hashed-words?revision=9", status=1)
    assert "is not finished" in result.stderr
    assert "--rollback" in result.stderr


def test_abandoning(filled: Invoke, here: Path) -> None:
    with MemoryStore.open(here.parent / "home" / "memory-plugin" / "store", embedder=hashed(), reranker=None) as store:
        failing = hashed(dimension=128)
        embed = failing.embed

        def fails(texts: Any, /, **arguments: Any) -> Any:
            if any("Note" in text for text in texts):
                raise TimeoutError("no answer")
            return embed(texts, **arguments)

        failing.embed = fails  # type: ignore[method-assign]
        with pytest.raises(Exception, match="no answer"):
            store.migrate(failing)
    assert "0 of 20 memories have its vectors" in filled("migrate", "--status").stdout
    assert "dropped" in filled("migrate", "--abandon").stdout
    filled("migrate", "--abandon", status=1)


@pytest.mark.parametrize(
    "arguments",
    [[], ["--to", NEW, "--finish"], ["--finish", "--rollback"], ["--status", "--abandon"], ["--dry-run"]],
    ids=str,
)
def test_one_thing_at_a_time(filled: Invoke, arguments: list[str]) -> None:
    assert "migrate needs one of" in filled("migrate", *arguments, status=2).stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--to", "nobody"], "no provider 'nobody'"),
        (["--to", NEW, "--floor", "2"], "floor is a share"),
        (["--to", NEW, "--rate", "0"], "rate is a number"),
        (["--to", NEW, "--questions", "no/such"], "cannot be read"),
        (["--quantization", "pq"], "quantization is one of"),
    ],
)
def test_bad_options(filled: Invoke, arguments: list[str], message: str) -> None:
    assert message in filled("migrate", *arguments, status=2).stderr


def test_quantization(filled: Invoke) -> None:
    assert data(filled("migrate", "--quantization", "int8", "--json"))["state"] == "stable"
    assert data(filled("doctor", "--json"))["settings"]["quantization"] == "int8"


def test_a_model_that_has_no_name_is_needed_only_to_embed(invoke: Invoke, here: Path) -> None:
    class Own(HashEmbedder):
        def __init__(self) -> None:
            super().__init__(32)
            self.identity = ModelIdentity("ours", "special", "1", 32)

    place = here.parent / "home" / "memory-plugin" / "store"
    with MemoryStore.open(place, embedder=Own(), reranker=None, late=None) as store:
        store.add("The badge is LX-2217.", "alice")
    assert invoke("count", "-n", "alice").stdout.strip() == "1"
    assert "LX-2217" in invoke("list", "-n", "alice").stdout
    assert "1 memories of 1 subjects, 0 damaged" in invoke("verify").stdout
    found = invoke("search", "badge", "-n", "alice", "--rerank", "none", status=2)
    assert "the model ours:special of 32 dimensions" in found.stderr
    assert "--embedder" in found.stderr
    assert invoke("delete", "-n", "alice", "--all", "--yes").stdout.strip() == "1 memories deleted"


def test_the_wrong_model_is_told_what_to_do(filled: Invoke) -> None:
    error = filled("search", "x", "-n", "alice", "--embedder", NEW, status=2).stderr
    assert re.search(r"dimension +64 +128 +←", error)
    assert "memory-plugin migrate --to 'testing:hashed-words?dimension=128' --store " in error


def test_a_model_that_has_moved(filled: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "the model is the same (cosine of 16 probes with then: mean 1.00000" in filled("verify", "--model").stdout

    def moved(self: HashEmbedder, texts: Any, /, *, input_type: Any) -> Any:
        return doubles.HashEmbedder(64, "moved").embed(texts, input_type=input_type)

    with monkeypatch.context() as patched:
        patched.setattr("tests.test_cli_migrate.HashEmbedder", type("Moved", (HashEmbedder,), {"embed": moved}))
        result = filled("verify", "--model", status=1)
        assert "HAS MOVED" in result.stdout
        assert data(filled("verify", "--model", "--json", status=1))["model"]["moved"] is True


@pytest.mark.parametrize(
    "name",
    ["testing", NEW, "testing:hashed-words?dimension=32", "local", "local?dimension=128&force=true", "vectors:300"],
)
def test_an_identity_tells_its_name(name: str) -> None:
    made = registry.embedder(name)
    assert registry.of(made.identity).identity == made.identity


def test_an_identity_that_does_not() -> None:
    for identity in (hashed(revision="7").identity, ModelIdentity("nobody", "x", "1", 3)):
        with pytest.raises(Exception, match=r"cannot be made from its name(.|\n)*--embedder"):
            registry.of(identity)
    assert name_of(hashed().identity) == "testing:hashed-words"
