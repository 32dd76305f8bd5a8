"""A model in a user's directory: run as the shipped one is, checked, and never taken for it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("onnx", reason="the tiny model is made with onnx")

from memory_plugin import ConfigurationError, InvalidInputError, ManifestMismatchError, MemoryStore, Settings, registry
from memory_plugin.embedders.local import LocalEmbedder
from memory_plugin.models import folder
from memory_plugin.rerankers.late_interaction import MaxSim
from memory_plugin.testing.doubles import OverlapReranker
from memory_plugin.testing.providers import EmbedderTests
from tests import wordpiece
from tests.train import tiny


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.folder(tmp_path_factory.mktemp("models") / "tiny", matryoshka=[16])


@pytest.fixture
def copy(directory: Path, tmp_path: Path) -> Iterator[Path]:
    folder._process.forget()
    yield Path(shutil.copytree(directory, tmp_path / "copy"))
    folder._process.forget()


def change(where: Path, **values: object) -> None:
    path = where / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


class TestConformance(EmbedderTests):
    """What every embedder does."""

    @pytest.fixture
    def embedder(self, directory: Path) -> LocalEmbedder:
        return LocalEmbedder(directory)


def test_it_computes_what_its_weights_say(directory: Path) -> None:
    embedder = registry.embedder(f"local:{directory}")
    assert isinstance(embedder, LocalEmbedder)
    text = "alice lives in the old garden"
    made = embedder.embed([text, "fox"], input_type="document")
    assert made.vectors.shape == (2, tiny.WIDTH)
    tokenizer = wordpiece.tokenizer()
    wanted, _ = tiny.forward(tiny.weights(tokenizer.get_vocab_size()), tokenizer.encode(text).ids)
    assert made.vectors[0] @ wanted > 0.99
    assert made.tokens is None, "token vectors of two encoders are never compared"
    assert embedder.count(text) == len(tokenizer.encode(text).ids)


def test_what_it_says_of_itself(directory: Path, copy: Path) -> None:
    embedder = LocalEmbedder(directory)
    identity = embedder.identity
    assert (identity.provider, identity.model, identity.dimension) == ("local", "tiny", tiny.WIDTH)
    assert identity == LocalEmbedder(copy).identity, "where it lies does not matter"
    assert (embedder.max_tokens, embedder.matryoshka) == (tiny.WINDOW, (16,))
    assert embedder.encoder != MaxSim().encoder
    assert not embedder.leaves_machine
    shipped = LocalEmbedder()
    assert (shipped.matryoshka, shipped.max_tokens) == ((), 256)


def test_either_file_decides_the_identity(copy: Path, tmp_path: Path) -> None:
    first = LocalEmbedder(copy).identity
    other = LocalEmbedder(tiny.folder(tmp_path / "other", seed=1)).identity
    words = LocalEmbedder(tiny.folder(tmp_path / "words", words=[*wordpiece.WORDS[1:], "zebra"])).identity
    assert len({first.revision, other.revision, words.revision}) == 3


def test_a_document_has_to_fit_into_its_own_window(directory: Path) -> None:
    embedder = LocalEmbedder(directory)
    fits, not_quite = ("the " * (tiny.WINDOW - 2), "the " * (tiny.WINDOW - 1))
    embedder.embed([fits], input_type="document")
    embedder.embed([not_quite], input_type="query")
    with pytest.raises(InvalidInputError, match=r"97 word pieces, more than the 96 that the model reads"):
        embedder.embed([not_quite], input_type="document")


def test_it_can_be_cut_to_what_it_was_trained_for(directory: Path) -> None:
    whole = registry.embedder(f"local:{directory}").embed(["old garden"], input_type="query")
    half = registry.embedder(f"local:{directory}?dimension=16").embed(["old garden"], input_type="query")
    first = np.asarray(whole.vectors)[0, :16]  # type: ignore[union-attr]
    assert np.asarray(half.vectors)[0] == pytest.approx(first / np.linalg.norm(first), abs=1e-6)  # type: ignore[union-attr]
    with pytest.raises(ConfigurationError):
        registry.embedder(f"local:{directory}?dimension=8")


def test_a_store_made_with_it(directory: Path, tmp_path: Path) -> None:
    options = {"reranker": OverlapReranker(), "keyring": tmp_path / "keys.json"}
    small = Settings(chunk_tokens=tiny.WINDOW)
    name = f"local:{directory}"
    with MemoryStore.open(tmp_path / "store", embedder=name, settings=small, **options) as memory:  # type: ignore[arg-type]
        memory.add(["alice moved to lisbon", "the old garden by the river"], "n")
        hits = memory.search("where is the garden", "n", limit=1)
        assert hits[0].text == "the old garden by the river"
        assert "late" in hits[0].stages, "late interaction goes on with the shipped model"
    with pytest.raises(ManifestMismatchError):
        MemoryStore.open(tmp_path / "store", embedder="local", **options)  # type: ignore[arg-type]


def test_a_store_migrates_to_it_and_keeps_its_token_vectors(directory: Path, tmp_path: Path) -> None:
    with MemoryStore.open(
        tmp_path / "store",
        reranker=OverlapReranker(),
        keyring=tmp_path / "keys.json",
        settings=Settings(chunk_tokens=tiny.WINDOW),
    ) as memory:
        memory.add(["alice moved to lisbon", "the old garden by the river", "a quick brown fox"], "n")
        before = memory.search("old garden", "n", limit=1)[0]
        memory.migrate(f"local:{directory}")
        after = memory.search("old garden", "n", limit=1)[0]
        assert (after.text, before.text) == ("the old garden by the river",) * 2
        assert after.space != before.space
        assert after.stages["late"].score == pytest.approx(before.stages["late"].score, abs=0.2)
        memory.finish()
    with MemoryStore.open(
        tmp_path / "store", embedder=f"local:{directory}", reranker=OverlapReranker(), keyring=tmp_path / "keys.json"
    ) as memory:
        assert memory.verify().ok


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_missing_or_altered_file_is_an_error_that_heals(copy: Path, name: str) -> None:
    good = (copy / name).read_bytes()
    embedder = LocalEmbedder(copy)
    (copy / name).unlink()
    with pytest.raises(
        ConfigurationError, match=rf"{name} \(No such file or directory\): copy the whole directory again"
    ):
        embedder.embed(["fox"], input_type="query")
    (copy / name).write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(ConfigurationError, match=rf"{name} is not the file that model\.json was made with"):
        embedder.embed(["fox"], input_type="query")
    (copy / name).write_bytes(good)
    embedder.embed(["fox"], input_type="query")


def test_no_directory_no_model(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"holds no model .* name a directory that `memory-plugin train` wrote"
    ):
        registry.embedder(f"local:{tmp_path / 'absent'}")
    (tmp_path / "model.json").write_text("{")
    with pytest.raises(ConfigurationError, match="it is no JSON"):
        LocalEmbedder(tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format": 2}, "is not of format 1"),
        ({"dimension": 0}, "is damaged"),
        ({"dimension": "many"}, "is damaged"),
        ({"window": 2}, "is damaged"),
        ({"matryoshka": [33]}, "is damaged"),
        ({"sha256": {}}, "is damaged"),
        ({"name": ""}, "is damaged"),
        ({"matryoshka": None}, "is damaged"),
    ],
)
def test_a_description_that_cannot_be(copy: Path, values: dict[str, object], message: str) -> None:
    change(copy, **values)
    with pytest.raises(ConfigurationError, match=message):
        LocalEmbedder(copy)
