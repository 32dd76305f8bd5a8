"""What every embedder, reranker and key ring does, as tests to inherit.

    class TestMine(EmbedderTests):
        @pytest.fixture
        def embedder(self):
            return MyEmbedder()

``call`` runs one method of a provider; replace it for a provider whose methods are ``async def``:
``return asyncio.run(method(*given, **named))``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import pytest

from memory_plugin.flow import Blocking, run
from memory_plugin.manifest import space
from memory_plugin.protocols import Embedder, KeyRing, Reranker, SubjectKey
from memory_plugin.types import Embeddings, InputType, Matrix

TEXTS = (
    "The cat sleeps on the warm windowsill.",
    "A cat is sleeping by the window.",
    "Interest rates rose by a quarter of a point.",
    "naïve café, Ω ≈ 3, 東京, שלום, 🎉",
    "x",
)


class ProviderTests:
    """How the tests reach a provider."""

    def call(self, method: Callable[..., Any], /, *given: Any, **named: Any) -> Any:
        """Call a method that blocks."""
        return run(Blocking().call(method, *given, **named))


class EmbedderTests(ProviderTests):
    """Inherit and give ``embedder``."""

    tolerance: ClassVar[float] = 1e-3
    """How far a vector may move between calls, in cosine."""

    @pytest.fixture
    def embedder(self) -> Embedder:
        """The embedder to test."""
        raise NotImplementedError("give the fixture 'embedder'")

    def vectors(self, embedder: Embedder, texts: Sequence[str], input_type: InputType = "document") -> Matrix:
        """Vectors of texts, however the embedder returns them."""
        made = self.call(embedder.embed, texts, input_type=input_type)
        found = made.vectors if isinstance(made, Embeddings) else made
        return np.asarray(found, dtype=np.float32)

    def test_its_identity_is_stable_and_names_a_space(self, embedder: Embedder) -> None:
        identity = embedder.identity
        assert identity == embedder.identity
        assert identity.provider
        assert identity.model
        assert identity.revision
        assert len(space(identity)) == 12

    @pytest.mark.parametrize("input_type", ["document", "query"])
    def test_one_finite_vector_a_text_of_its_dimension(self, embedder: Embedder, input_type: InputType) -> None:
        vectors = self.vectors(embedder, TEXTS, input_type)
        assert vectors.shape == (len(TEXTS), embedder.identity.dimension)
        assert np.isfinite(vectors).all()
        norms = np.linalg.norm(vectors, axis=1)
        assert (norms > 0).all()
        if embedder.identity.normalized:
            assert norms == pytest.approx(np.ones(len(TEXTS)), abs=1e-3)

    def test_no_texts_no_vectors(self, embedder: Embedder) -> None:
        assert len(self.vectors(embedder, [])) == 0

    def test_a_vector_does_not_depend_on_its_place(self, embedder: Embedder) -> None:
        forth, back = self.vectors(embedder, TEXTS), self.vectors(embedder, TEXTS[::-1])[::-1]
        assert self.cosines(forth, back) == pytest.approx(np.ones(len(TEXTS)), abs=self.tolerance)

    def test_near_texts_are_nearer_than_others(self, embedder: Embedder) -> None:
        cat, other_cat, rates, *_ = self.vectors(embedder, TEXTS)
        assert float(cat @ other_cat) > float(cat @ rates)

    def test_token_vectors_belong_to_their_texts(self, embedder: Embedder) -> None:
        made = self.call(embedder.embed, TEXTS, input_type="document")
        if isinstance(made, Embeddings) and made.tokens is not None:
            assert len(made.tokens) == len(TEXTS)
            assert all(len(one.ids) == len(one.vectors) > 0 for one in made.tokens)

    def test_threads_may_share_it(self, embedder: Embedder) -> None:
        alone = self.vectors(embedder, TEXTS)
        with ThreadPoolExecutor(4) as pool:
            for found in pool.map(lambda _: self.vectors(embedder, TEXTS), range(8)):
                assert self.cosines(alone, found) == pytest.approx(np.ones(len(TEXTS)), abs=self.tolerance)

    @staticmethod
    def cosines(one: Matrix, other: Matrix) -> Any:
        """Row by row."""
        return (one * other).sum(axis=1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)


class RerankerTests(ProviderTests):
    """Inherit and give ``reranker``."""

    @pytest.fixture
    def reranker(self) -> Reranker:
        """The reranker to test."""
        raise NotImplementedError("give the fixture 'reranker'")

    def test_it_has_a_name(self, reranker: Reranker) -> None:
        assert reranker.model == reranker.model != ""

    def test_one_finite_score_a_text(self, reranker: Reranker) -> None:
        scores = self.call(reranker.rerank, "Where does the cat sleep?", TEXTS)
        assert len(scores) == len(TEXTS)
        assert np.isfinite(np.asarray(scores, dtype=np.float64)).all()

    def test_no_texts_no_scores(self, reranker: Reranker) -> None:
        assert len(self.call(reranker.rerank, "anything", [])) == 0

    def test_what_answers_scores_above_what_does_not(self, reranker: Reranker) -> None:
        cat, _, rates, *_ = self.call(reranker.rerank, "Where does the cat sleep?", TEXTS)
        assert cat > rates

    def test_a_score_does_not_depend_on_its_place(self, reranker: Reranker) -> None:
        forth = self.call(reranker.rerank, "Where does the cat sleep?", TEXTS)
        back = self.call(reranker.rerank, "Where does the cat sleep?", TEXTS[::-1])
        assert list(forth) == pytest.approx(list(back)[::-1], abs=1e-3)


class KeyRingTests(ProviderTests):
    """Inherit and give ``ring``: a function that opens the same key ring anew."""

    @pytest.fixture
    def ring(self) -> Callable[[], KeyRing]:
        """Opens the key ring to test; empty at first."""
        raise NotImplementedError("give the fixture 'ring'")

    def keys(self, ring: KeyRing, subject: str, *, create: bool) -> Sequence[SubjectKey]:
        """The subject's keys."""
        found: Sequence[SubjectKey] = self.call(ring.keys, subject, create=create)
        return found

    def test_a_subject_has_no_key_until_one_is_made(self, ring: Callable[[], KeyRing]) -> None:
        assert not self.keys(ring(), "a" * 32, create=False)
        assert len(self.keys(ring(), "a" * 32, create=True)) == 1

    def test_a_key_is_there_for_whoever_opens_the_ring_again(self, ring: Callable[[], KeyRing]) -> None:
        (made,) = self.keys(ring(), "a" * 32, create=True)
        (again,) = self.keys(ring(), "a" * 32, create=False)
        assert (made.id, made.derive("record")) == (again.id, again.derive("record"))

    def test_subjects_and_purposes_have_keys_of_their_own(self, ring: Callable[[], KeyRing]) -> None:
        opened = ring()
        keys = [self.keys(opened, subject, create=True)[0] for subject in ("", "a" * 32, "b" * 32)]
        derived = [key.derive(purpose) for key in keys for purpose in ("record", "term", "filter", "vector", "id")]
        assert len(set(derived)) == 15
        assert {len(one) for one in derived} == {32}
        assert {len(key.id) for key in keys} == {4}

    def test_a_destroyed_key_does_not_come_back(self, ring: Callable[[], KeyRing]) -> None:
        opened = ring()
        (old,) = self.keys(opened, "a" * 32, create=True)
        (other,) = self.keys(opened, "b" * 32, create=True)
        assert self.call(opened.destroy, "a" * 32) == 1
        assert self.call(opened.destroy, "a" * 32) == 0
        assert not self.keys(ring(), "a" * 32, create=False)
        (new,) = self.keys(ring(), "a" * 32, create=True)
        assert new.derive("record") != old.derive("record")
        assert self.keys(ring(), "b" * 32, create=False)[0].derive("record") == other.derive("record")

    def test_nothing_shows_its_bytes(self, ring: Callable[[], KeyRing]) -> None:
        opened = ring()
        (key,) = self.keys(opened, "a" * 32, create=True)
        secret = key.derive("record")
        for text in (repr(key), str(key), repr(opened), opened.location):
            assert secret.hex() not in text
            assert repr(secret)[2:-1] not in text
