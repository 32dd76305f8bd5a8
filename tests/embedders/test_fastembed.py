"""fastembed, the real one, on a tiny model in a directory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory_plugin import registry
from memory_plugin.embedders.fastembed import FastEmbedEmbedder
from memory_plugin.errors import ConfigurationError, InvalidInputError, MissingExtraError
from memory_plugin.manifest import space
from memory_plugin.network import leaves_machine
from memory_plugin.protocols import Embedder
from memory_plugin.testing.providers import TEXTS, EmbedderTests
from tests import tiny


def write(place: Path, *, pooling: str = "mean", **how: Any) -> Path:
    tiny.write_encoder(place, **how)
    (place / "1_Pooling").mkdir()
    (place / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{pooling}": True}))
    return place


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return write(tmp_path / "tiny-encoder", pooling="mean_tokens")


@pytest.fixture
def embedder(place: Path) -> FastEmbedEmbedder:
    return FastEmbedEmbedder(place)


class TestFastEmbed(EmbedderTests):
    @pytest.fixture
    def embedder(self, place: Path) -> Embedder:
        return registry.embedder(f"fastembed:{place}?batch=3")


def unit(rows: Any) -> Any:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def test_mean_pooling_is_the_mean_of_the_word_pieces(embedder: FastEmbedEmbedder) -> None:
    made = embedder.embed(TEXTS, input_type="document").vectors
    for text, vector in zip(TEXTS, made, strict=True):
        assert vector == pytest.approx(unit(tiny.table(64)[tiny.ids_of(text)].mean(axis=0)), abs=1e-5)


def test_pooling_is_read_from_the_files_or_told(tmp_path: Path) -> None:
    cls = FastEmbedEmbedder(write(tmp_path / "cls", pooling="cls_token"))
    expected = unit(tiny.table(64)[tiny.BOS])
    assert cls.embed(["cat"], input_type="document").vectors[0] == pytest.approx(expected, abs=1e-5)
    told = FastEmbedEmbedder(tmp_path / "cls", pooling="last_token")
    expected = unit(tiny.table(64)[tiny.EOS])
    assert told.embed(["cat"], input_type="document").vectors[0] == pytest.approx(expected, abs=1e-5)
    assert space(told.identity) != space(cls.identity)
    (tmp_path / "cls" / "1_Pooling" / "config.json").write_text('{"pooling_mode": "mean"}')
    (tmp_path / "cls" / "config.json").unlink()
    mean = FastEmbedEmbedder(tmp_path / "cls")
    assert mean.identity.dimension == 64, "asked of the model where no configuration tells it"
    expected = unit(tiny.table(64)[tiny.ids_of("cat")].mean(axis=0))
    assert mean.embed(["cat"], input_type="query").vectors[0] == pytest.approx(expected, abs=1e-5)


def test_a_model_that_pools_itself(tmp_path: Path) -> None:
    place = tiny.write_m3(tmp_path / "m3")
    embedder = FastEmbedEmbedder(place, pooling="disabled", output="dense_vecs")
    assert embedder.identity.dimension == 64
    expected = unit(tiny.table(64)[tiny.ids_of("red cat")].mean(axis=0))
    assert embedder.embed(["red cat"], input_type="document").vectors[0] == pytest.approx(expected, abs=1e-5)


def test_identity_is_the_files_the_pooling_and_the_prefixes(tmp_path: Path, place: Path) -> None:
    identity = FastEmbedEmbedder(place).identity
    assert (identity.provider, identity.model, identity.dimension) == ("fastembed", "tiny-encoder", 64)
    assert len(identity.revision) == 16
    assert FastEmbedEmbedder(write(tmp_path / "copy" / "tiny-encoder", pooling="mean_tokens")).identity == identity
    others = [
        FastEmbedEmbedder(write(tmp_path / "other" / "tiny-encoder", pooling="mean_tokens", seed=2)),
        FastEmbedEmbedder(place, pooling="cls"),
        FastEmbedEmbedder(place, query_prefix="query: "),
        FastEmbedEmbedder(place, document_prefix="passage: "),
    ]
    assert len({space(identity), *(space(one.identity) for one in others)}) == 5


def test_prefixes_of_known_models_are_put_before_texts(tmp_path: Path) -> None:
    place = write(tmp_path / "multilingual-e5-small", pooling="mean_tokens")
    embedder = FastEmbedEmbedder(place)
    assert (embedder.identity.query_prefix, embedder.identity.document_prefix) == ("query: ", "passage: ")
    plain = FastEmbedEmbedder(place, query_prefix="", document_prefix="")
    for input_type, prefix in (("query", "query: "), ("document", "passage: ")):
        made = embedder.embed(["red cat"], input_type=input_type).vectors  # type: ignore[arg-type]
        expected = plain.embed([f"{prefix}red cat"], input_type=input_type).vectors  # type: ignore[arg-type]
        assert made == pytest.approx(expected, abs=1e-6)


def test_a_prefix_takes_room_in_the_window(place: Path) -> None:
    plain, prefixed = FastEmbedEmbedder(place), FastEmbedEmbedder(place, document_prefix="cat cat ")
    assert (plain.max_tokens, plain.count("cat")) == (64, 3)
    # "cat cat " is three word pieces: two words, and the space at the end.
    assert prefixed.max_tokens == 61
    prefixed.embed(["cat " * 58 + "cat"], input_type="document")
    with pytest.raises(InvalidInputError, match=r"texts\[0\] has 6\d word pieces, more than the 64"):
        prefixed.embed(["cat " * 64], input_type="document")
    assert prefixed.embed(["cat " * 100], input_type="query").vectors.shape == (1, 64)


def test_texts_are_cut_with_its_own_tokenizer(embedder: FastEmbedEmbedder) -> None:
    pieces = registry.pieces(embedder)
    assert pieces.count("the red cat") == len(tiny.ids_of("the red cat"))
    assert pieces.count("cat " * 300) > 300, "it does not cut"


def test_a_directory_stays_on_the_machine_and_a_name_does_not(place: Path) -> None:
    assert not leaves_machine(FastEmbedEmbedder(place))
    assert not leaves_machine(FastEmbedEmbedder("BAAI/bge-small-en-v1.5", path=place))
    assert not leaves_machine(FastEmbedEmbedder("BAAI/bge-small-en-v1.5", local_files_only=True))
    assert leaves_machine(FastEmbedEmbedder("BAAI/bge-small-en-v1.5"))
    assert str(place) in repr(FastEmbedEmbedder(place))


def test_a_listed_model_from_a_directory_pools_as_listed(place: Path) -> None:
    (place / "model.onnx").rename(place / "model_optimized.onnx")
    embedder = FastEmbedEmbedder("BAAI/bge-base-en-v1.5", path=place)
    identity = embedder.identity
    assert (identity.model, identity.dimension) == ("BAAI/bge-base-en-v1.5", 768)
    assert identity.query_prefix == "Represent this sentence for searching relevant passages: "
    assert embedder.embed(["cat"], input_type="document").vectors.shape == (1, 64), "for the engine to refuse"


def test_it_makes_no_directory_of_its_own(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTEMBED_CACHE_PATH", str(tmp_path / "cache"))
    before = sorted(place.rglob("*"))
    FastEmbedEmbedder(place).embed(["cat"], input_type="document")
    assert not (tmp_path / "cache").exists()
    assert sorted(place.rglob("*")) == before


def no_pooling(place: Path) -> None:
    (place / "1_Pooling" / "config.json").unlink()


def no_model(place: Path) -> None:
    (place / "model.onnx").unlink()


def no_settings(place: Path) -> None:
    (place / "tokenizer_config.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (no_pooling, "does not tell how the model pools.*say pooling="),
        (no_model, "holds no ONNX model: one of model_optimized.onnx, model.onnx"),
        (no_settings, "fastembed cannot load 'tiny-encoder': Could not find tokenizer_config.json"),
    ],
)
def test_a_directory_that_lacks_something_says_what(place: Path, spoil: Callable[[Path], None], says: str) -> None:
    spoil(place)
    with pytest.raises(ConfigurationError, match=says):
        FastEmbedEmbedder(place).embed(["cat"], input_type="document")


def test_arguments_are_checked_at_once(place: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="pooling is one of cls, mean, last_token, disabled, not 'sum'"):
        FastEmbedEmbedder(place, pooling="sum")
    with pytest.raises(InvalidInputError, match="at least 1"):
        FastEmbedEmbedder(place, batch=0)
    with pytest.raises(InvalidInputError, match="no directory"):
        FastEmbedEmbedder(tmp_path / "nowhere")
    with pytest.raises(InvalidInputError, match=r"no directory 'here/not' to read BAAI/bge-small-en-v1\.5 from"):
        FastEmbedEmbedder("BAAI/bge-small-en-v1.5", path="here/not")
    with pytest.raises(InvalidInputError, match="a prefix is a text"):
        FastEmbedEmbedder(place, query_prefix=3)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError, match="surrogate"):
        FastEmbedEmbedder(place).embed(["\ud800"], input_type="query")


def test_a_name_that_is_not_listed(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"fastembed cannot load 'nobody/nothing'.*list_supported_models"):
        _ = FastEmbedEmbedder("nobody/nothing", cache_dir=tmp_path, local_files_only=True).identity


def test_a_listed_model_that_is_not_in_the_cache(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"fastembed cannot load 'BAAI/bge-small-en-v1\.5'"):
        _ = FastEmbedEmbedder(cache_dir=tmp_path, local_files_only=True).identity


def test_without_the_package_the_extra_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memory_plugin.models.optional.importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'memory-plugin\[fastembed\]'"):
        registry.embedder(f"fastembed:{place}")
    with pytest.raises(MissingExtraError, match=r"memory-plugin\[fastembed\]"):
        registry.reranker(f"fastembed:{place}")
