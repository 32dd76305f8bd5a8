"""fastembed's cross-encoders, run by the real fastembed on a tiny model in a directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from memory_plugin import registry
from memory_plugin.errors import ConfigurationError, InvalidInputError
from memory_plugin.network import leaves_machine
from memory_plugin.protocols import Reranker
from memory_plugin.rerankers.fastembed import FastEmbedReranker
from memory_plugin.testing.providers import RerankerTests
from tests import tiny


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tiny.write_cross_encoder(tmp_path / "judge")


class TestFastEmbedReranker(RerankerTests):
    @pytest.fixture
    def reranker(self, place: Path) -> Reranker:
        return registry.reranker(f"fastembed:{place}?batch=2")


def test_scores_are_the_models_logits(place: Path) -> None:
    one, two, none = FastEmbedReranker(place).rerank("red cat", ["a cat", "a red cat", "blue"])
    assert two > one > none
    assert none == pytest.approx(0)


def test_its_name_is_its_files(place: Path, tmp_path: Path) -> None:
    reranker = FastEmbedReranker(place)
    assert reranker.model.startswith("fastembed:judge@")
    assert FastEmbedReranker(tiny.write_cross_encoder(tmp_path / "copy" / "judge")).model == reranker.model
    assert FastEmbedReranker("Xenova/ms-marco-MiniLM-L-6-v2").model == "fastembed:Xenova/ms-marco-MiniLM-L-6-v2"
    assert str(place) in repr(reranker)


def test_a_directory_stays_on_the_machine_and_a_name_does_not(place: Path) -> None:
    assert not leaves_machine(FastEmbedReranker(place))
    assert not leaves_machine(FastEmbedReranker(local_files_only=True))
    assert leaves_machine(FastEmbedReranker())


def test_what_cannot_be_used_says_so(place: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="at least 1"):
        FastEmbedReranker(place, threads=0)
    with pytest.raises(InvalidInputError, match="surrogate"):
        FastEmbedReranker(place).rerank("\ud800", ["x"])
    with pytest.raises(ConfigurationError, match="fastembed cannot load 'nobody/nothing'"):
        FastEmbedReranker("nobody/nothing", cache_dir=tmp_path, local_files_only=True).rerank("a", ["b"])
    (place / "onnx" / "model.onnx").unlink()
    with pytest.raises(ConfigurationError, match="holds no ONNX model"):
        FastEmbedReranker(place).rerank("a", ["b"])
