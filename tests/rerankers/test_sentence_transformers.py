"""Cross-encoders of sentence-transformers, the real one, on a tiny model.  Skipped where it is not installed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from memory_plugin import registry
from memory_plugin.errors import ConfigurationError, InvalidInputError
from memory_plugin.network import leaves_machine
from memory_plugin.protocols import Reranker
from memory_plugin.rerankers.sentence_transformers import SentenceTransformersReranker
from memory_plugin.testing.providers import TEXTS, RerankerTests
from tests import tiny_torch

library = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed: it needs torch")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

QUERY = "Where does the cat sleep?"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_torch.cross_encoder(tmp_path_factory.mktemp("ce") / "judge")


class TestSentenceTransformersReranker(RerankerTests):
    @pytest.fixture
    def reranker(self, place: Path) -> Reranker:
        return registry.reranker(f"sentence-transformers:{place}?device=cpu&batch=2")


def test_scores_are_logits(place: Path) -> None:
    import torch

    theirs = library.CrossEncoder(str(place), device="cpu")
    pairs = [(QUERY, text) for text in TEXTS]
    expected = theirs.predict(pairs, activation_fn=torch.nn.Identity())
    made = SentenceTransformersReranker(place).rerank(QUERY, TEXTS)
    assert made == pytest.approx(list(expected), abs=1e-4)
    assert max(made) > 1, "a sigmoid would not go there"


def test_its_name_is_its_files(place: Path, tmp_path: Path) -> None:
    reranker = SentenceTransformersReranker(place)
    assert reranker.model.startswith("sentence-transformers:judge@")
    shutil.copytree(place, tmp_path / "judge")
    assert SentenceTransformersReranker(tmp_path / "judge").model == reranker.model
    assert not leaves_machine(reranker)
    assert leaves_machine(SentenceTransformersReranker())
    pinned = SentenceTransformersReranker("acme/judge", revision="abc", local_files_only=True)
    assert pinned.model == "sentence-transformers:acme/judge@abc"
    assert not leaves_machine(pinned)


def test_long_pairs_are_cut(place: Path) -> None:
    reranker = SentenceTransformersReranker(place, max_tokens=16)
    one, two = reranker.rerank("cat", ["red " * 100, "red " * 100 + "blue"])
    assert one == pytest.approx(two)


def test_a_model_of_several_scores_is_refused(tmp_path: Path) -> None:
    reranker = SentenceTransformersReranker(tiny_torch.cross_encoder(tmp_path / "three", labels=3))
    with pytest.raises(ConfigurationError, match="three gives 3 scores a pair"):
        reranker.rerank("a", ["b"])
    with pytest.raises(InvalidInputError, match="at least 8"):
        SentenceTransformersReranker(tmp_path, max_tokens=3)
