"""bge-m3 on a tiny model of its shape: what each output holds, and that all three come to use in a store."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from memory_plugin import MemoryStore, registry
from memory_plugin.embedders.bge_m3 import BgeM3Embedder
from memory_plugin.errors import ConfigurationError, InvalidInputError, ManifestMismatchError
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.manifest import space
from memory_plugin.network import leaves_machine
from memory_plugin.protocols import Embedder, TokenEncoder
from memory_plugin.rerankers.late_interaction import MaxSim
from memory_plugin.settings import Settings
from memory_plugin.testing.doubles import HashEmbedder
from memory_plugin.testing.providers import TEXTS, EmbedderTests
from tests import tiny


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tiny.write_m3(tmp_path / "bge-m3")


@pytest.fixture
def embedder(place: Path) -> BgeM3Embedder:
    return BgeM3Embedder(place)


class TestBgeM3(EmbedderTests):
    tolerance = 1e-6  # a text's vector depends on nothing but the text

    @pytest.fixture
    def embedder(self, place: Path) -> Embedder:
        return registry.embedder(f"bge-m3:{place}")


# ── what the outputs are ──────────────────────────────────────────────────────────────────────────


def test_the_dense_vector_is_the_models_own_of_unit_length(embedder: BgeM3Embedder) -> None:
    made = embedder.embed(TEXTS, input_type="document")
    for text, vector in zip(TEXTS, made.vectors, strict=True):
        expected = tiny.table(64)[tiny.ids_of(text)].mean(axis=0)
        assert vector == pytest.approx(expected / np.linalg.norm(expected), abs=1e-6)


def test_terms_are_word_pieces_with_their_highest_weight(embedder: BgeM3Embedder) -> None:
    text = "The cat, the cat, the red cat!"
    (found,) = embedder.embed([text], input_type="document").terms or ()
    weights = tiny.term_weights()[:, 0]
    ids = set(tiny.ids_of(text)) - set(range(len(tiny.SPECIAL)))
    expected = {embedder.tokenizer.id_to_token(one): float(weights[one]) for one in ids if weights[one] > 0}
    assert found == pytest.approx(expected)
    assert len(expected) < len(ids), "some weigh nothing, and are left out"
    assert not set(found) & set(tiny.SPECIAL)


def test_token_vectors_are_all_but_that_of_the_first_special_piece(embedder: BgeM3Embedder) -> None:
    text = "the red cat"
    (document,) = embedder.embed([text], input_type="document").tokens or ()
    (query,) = embedder.embed([text], input_type="query").tokens or ()
    ids = tiny.ids_of(text)
    assert document.ids.tolist() == ids[1:]
    assert query.ids.tolist() == ids[1:-1]
    expected = tiny.table(64, seed=1)[ids[1:]]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert document.vectors == pytest.approx(expected, abs=1e-6)
    assert query.vectors == pytest.approx(expected[:-1], abs=1e-6)


NAMES = [
    ("dense_vecs", "sparse_vecs", "colbert_vecs"),
    ("dense_embeddings", "sparse_weights", "colbert_vectors"),
    ("dense", "sparse", "colbert"),
]


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("raw", [True, False])
def test_every_published_form_of_export_gives_the_same(tmp_path: Path, names: tuple[str, ...], raw: bool) -> None:
    known = BgeM3Embedder(tiny.write_m3(tmp_path / "known")).embed(TEXTS, input_type="document")
    made = BgeM3Embedder(tiny.write_m3(tmp_path / "other", names=names, raw=raw)).embed(TEXTS, input_type="document")
    assert made.vectors == pytest.approx(known.vectors, abs=1e-6)
    assert made.terms is not None
    assert known.terms is not None
    assert made.tokens is not None
    assert known.tokens is not None
    for one, other in zip(made.terms, known.terms, strict=True):
        assert one == pytest.approx(other)
    for mine, its in zip(made.tokens, known.tokens, strict=True):
        assert mine.ids.tolist() == its.ids.tolist()
        assert mine.vectors == pytest.approx(its.vectors, abs=1e-6)


def test_a_model_of_several_files_is_one(tmp_path: Path) -> None:
    whole = BgeM3Embedder(tiny.write_m3(tmp_path / "whole"))
    parted = BgeM3Embedder(tiny.write_m3(tmp_path / "parted", external=True))
    assert (tmp_path / "parted" / "model.onnx_data").stat().st_size > 10_000
    vectors = [one.embed(TEXTS, input_type="document").vectors for one in (whole, parted)]
    assert vectors[0] == pytest.approx(vectors[1], abs=1e-6)


# ── identity ──────────────────────────────────────────────────────────────────────────────────────


def test_identity_is_the_weights_and_the_tokenizer(tmp_path: Path, embedder: BgeM3Embedder) -> None:
    identity = embedder.identity
    assert (identity.provider, identity.model, identity.outputs) == ("bge-m3", "bge-m3", "dense,terms")
    assert (identity.dimension, len(identity.revision), identity.normalized) == (64, 16, True)
    moved = BgeM3Embedder(tiny.write_m3(tmp_path / "elsewhere" / "by-another-name"))
    assert moved.identity == identity
    other = BgeM3Embedder(tiny.write_m3(tmp_path / "tuned", seed=3))
    assert space(other.identity) != space(identity)
    tokenizer = tmp_path / "elsewhere" / "by-another-name" / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text("utf-8").replace('"<unk>"', '"<none>"'), "utf-8")
    assert space(BgeM3Embedder(tokenizer.parent).identity) != space(identity)


def test_weights_in_a_file_of_their_own_are_part_of_the_identity(tmp_path: Path) -> None:
    first = BgeM3Embedder(tiny.write_m3(tmp_path / "a", external=True)).identity
    same = BgeM3Embedder(tiny.write_m3(tmp_path / "b", external=True)).identity
    other = BgeM3Embedder(tiny.write_m3(tmp_path / "c", external=True, seed=3)).identity
    assert first == same
    assert first.revision != other.revision
    (tmp_path / "a" / "README.md").write_text("tells nothing of the vectors")
    assert BgeM3Embedder(tmp_path / "a").identity == first


def test_a_directory_of_several_models_is_told_which(tmp_path: Path) -> None:
    place = tiny.write_m3(tmp_path / "m")
    tiny.write_m3(place, file="model_int8.onnx", seed=4)
    small, full = BgeM3Embedder(place, file="model_int8.onnx"), BgeM3Embedder(place)
    assert small.identity.revision != full.identity.revision
    with pytest.raises(ConfigurationError, match=r"model_fp16\.onnx"):
        _ = BgeM3Embedder(place, file="model_fp16.onnx").identity


def test_nothing_is_read_before_it_is_needed(place: Path) -> None:
    embedder = BgeM3Embedder(place)
    (place / "model.onnx").write_bytes(b"no model")
    assert not leaves_machine(embedder)
    assert str(place) in repr(embedder)
    with pytest.raises(ConfigurationError, match="onnxruntime cannot load"):
        embedder.embed(["x"], input_type="document")


# ── windows ───────────────────────────────────────────────────────────────────────────────────────


def test_a_document_may_fill_the_window_but_not_pass_it(embedder: BgeM3Embedder) -> None:
    assert embedder.max_tokens == 64
    fits = "cat " * 62
    assert embedder.count(fits.strip()) == 64
    embedder.embed([fits.strip()], input_type="document")
    with pytest.raises(InvalidInputError, match=r"texts\[1\] has 65 word pieces, more than the 64 .* split it first"):
        embedder.embed(["fine", fits + "cat"], input_type="document")


def test_a_long_query_keeps_its_beginning(embedder: BgeM3Embedder) -> None:
    cut = embedder.embed(["cat " * 62 + "red " * 50], input_type="query").vectors
    whole = embedder.embed([("cat " * 62).strip()], input_type="query").vectors
    assert cut == pytest.approx(whole, abs=1e-6)


def test_token_vectors_of_long_texts_are_those_of_its_windows(embedder: BgeM3Embedder) -> None:
    long, short, empty = embedder.token_vectors(["cat " * 150, "red", ""])
    assert len(long.ids) == len(long.vectors) == 151 + 3, "150 words, a space and three ends"
    assert short.ids.tolist() == tiny.ids_of("red")[1:]
    assert empty.ids.tolist() == [tiny.EOS]
    assert embedder.token_vectors([]) == ()


def test_no_texts_no_outputs(embedder: BgeM3Embedder) -> None:
    made = embedder.embed([], input_type="document")
    assert made.vectors.shape == (0, 64)
    assert made.tokens == ()
    assert made.terms == ()


# ── what cannot be used ───────────────────────────────────────────────────────────────────────────


def test_lone_surrogates_are_refused(embedder: BgeM3Embedder) -> None:
    for use in (
        lambda: embedder.embed(["ok", "\ud800"], input_type="query"),
        lambda: embedder.token_vectors(["\ud800"]),
    ):
        with pytest.raises(InvalidInputError, match="lone surrogate"):
            use()


def broken_outputs(place: Path) -> None:
    tiny.write_m3(place, names=("dense", "sparse", "tokens"))


def broken_tokenizer(place: Path) -> None:
    (place / "tokenizer.json").write_text("{}")


def without_tokenizer(place: Path) -> None:
    (place / "tokenizer.json").unlink()


def without_model(place: Path) -> None:
    (place / "model.onnx").unlink()


def another_model(place: Path) -> None:
    tiny.write_encoder(place)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (broken_outputs, "whose name begins with dense, sparse, colbert is needed, it has dense, sparse, tokens"),
        (broken_tokenizer, "cannot read .*tokenizer.json"),
        (without_tokenizer, "holds no tokenizer.json"),
        (without_model, "holds no bge-m3: neither an ONNX export .* nor a checkpoint with sparse_linear.pt"),
        (another_model, "is no bge-m3 with three outputs"),
    ],
)
def test_a_directory_that_is_no_bge_m3_says_what_is_wrong(
    place: Path, spoil: Callable[[Path], None], says: str
) -> None:
    spoil(place)
    with pytest.raises(ConfigurationError, match=says):
        BgeM3Embedder(place).embed(["x"], input_type="document")


def test_a_damaged_configuration_is_no_missing_one(place: Path) -> None:
    (place / "config.json").write_text('{"hidden_size":')
    with pytest.raises(ConfigurationError, match=r"cannot read .*config\.json"):
        _ = BgeM3Embedder(place).identity


def test_arguments_are_checked_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="no directory"):
        BgeM3Embedder(tmp_path / "nowhere")
    with pytest.raises(InvalidInputError, match="no directory 'BAAI/bge-m3' to read bge-m3 from"):
        BgeM3Embedder("BAAI/bge-m3")
    for arguments in ({"workers": 0}, {"threads": 0}):
        with pytest.raises(InvalidInputError, match="at least 1"):
            BgeM3Embedder(tmp_path, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [1, 3])
def test_company_and_threads_change_no_bit(place: Path, workers: int) -> None:
    alone = [BgeM3Embedder(place, workers=1).embed([text], input_type="document").vectors.tobytes() for text in TEXTS]
    embedder = BgeM3Embedder(place, workers=workers)
    with ThreadPoolExecutor(4) as pool:
        for made in pool.map(lambda _: embedder.embed(TEXTS, input_type="document").vectors, range(6)):
            assert [row.tobytes() for row in made] == alone


# ── in a store ────────────────────────────────────────────────────────────────────────────────────

MEMORIES = (
    "Ana moved to Porto last autumn; she rents a flat near the river.",
    "The invoice number is KX-4471, they want it paid by the end of May.",
    "We should meet for lunch, maybe on Friday? I bought a red bicycle.",
    "Interest rates rose by a quarter of a point.",
)
QUESTIONS = {"KX-4471 invoice": 1, "the red bicycle": 2, "a flat near the river": 0, "quarter of a point": 3}


@pytest.fixture
def roomy(tmp_path: Path) -> BgeM3Embedder:
    """One whose window takes a store's passages."""
    return BgeM3Embedder(tiny.write_m3(tmp_path / "roomy", window=256))


def opened(tmp_path: Path, **parts: object) -> MemoryStore:
    index = EdgeIndex(tmp_path / "memory", durability="process")
    return MemoryStore(index, keyring=tmp_path / "keys.json", reranker=None, **parts)  # type: ignore[arg-type]


def late_model(store: MemoryStore) -> object:
    models = store.describe()["models"]
    assert isinstance(models, dict)
    return models["late_interaction"]


def test_it_is_a_source_of_late_interaction(embedder: BgeM3Embedder) -> None:
    source: TokenEncoder = embedder
    late = registry.own_late_interaction(embedder)
    assert isinstance(late, MaxSim)
    assert late.encoder == source.encoder == f"bge-m3@{embedder.identity.revision}"
    assert late.model == f"maxsim-1:{source.encoder}"
    assert registry.late_interaction(f"bge-m3:{embedder._place}").model == late.model
    with pytest.raises(ConfigurationError, match="gives no token vectors"):
        registry.late_interaction("vectors:3")


def test_all_three_outputs_are_stored_and_used(tmp_path: Path, roomy: BgeM3Embedder) -> None:
    with opened(tmp_path, embedder=roomy) as store:
        assert late_model(store) == f"maxsim-1:{roomy.encoder}"
        store.add(list(MEMORIES), "alice")
        for question, best in QUESTIONS.items():
            # Each output may be asked alone, and the stages tell what each of them thought.
            for legs in ("dense", "learned"):
                alone = store.search(question, "alice", limit=1, legs=legs, rerank="none")
                assert set(alone[0].stages) == {legs, "fused"}
            hits = store.search(question, "alice", limit=4)
            assert hits[0].text == MEMORIES[best]
            assert {"dense", "learned", "lexical", "fused", "late"} <= set(hits[0].stages)
            assert hits[0].stages["late"].rank == 1


def test_the_learned_score_is_that_of_the_weights(tmp_path: Path, roomy: BgeM3Embedder) -> None:
    with opened(tmp_path, embedder=roomy) as store:
        store.add(list(MEMORIES), "alice")
        question = "she moved to the river"
        made = roomy.embed([question], input_type="query").terms or ()
        passages = roomy.embed(list(MEMORIES), input_type="document").terms or ()
        expected = {
            text: sum(weight * terms[term] for term, weight in made[0].items() if term in terms)
            for text, terms in zip(MEMORIES, passages, strict=True)
        }
        hits = store.search(question, "alice", limit=4, legs="learned", rerank="none")
        assert hits
        for hit in hits:
            assert hit.stages["learned"].score == pytest.approx(expected[hit.text], rel=1e-3)


def test_a_long_passage_keeps_all_its_token_vectors(tmp_path: Path, roomy: BgeM3Embedder) -> None:
    with opened(tmp_path, embedder=roomy) as store:
        store.add(" ".join(MEMORIES * 40), "alice")
        assert store.count("alice") > 1
        assert store.search("the red bicycle", "alice", limit=1)[0].stages["late"].rank == 1


def test_passages_of_single_characters_fit_a_window_that_is_full(tmp_path: Path) -> None:
    embedder = BgeM3Embedder(tiny.write_m3(tmp_path / "narrow", window=96))
    with opened(tmp_path, embedder=embedder, settings=Settings(chunk_tokens=96)) as store:
        for length in range(88, 100):  # the tokenizer puts one more piece before the first
            store.add("}{" * (length // 2) + "}" * (length % 2), "alice", source=str(length))
        assert store.count("alice") >= 12


def test_opened_again_it_is_what_it_was_made_with(tmp_path: Path, roomy: BgeM3Embedder) -> None:
    with opened(tmp_path, embedder=roomy) as store:
        store.add(list(MEMORIES), "alice")
    for late in ("auto", f"bge-m3:{roomy._place}"):
        with opened(tmp_path, embedder=BgeM3Embedder(roomy._place), late=late) as store:
            assert store.search("the red bicycle", "alice", limit=1)[0].text == MEMORIES[2]
    with pytest.raises(
        ManifestMismatchError, match=r"late space is .*: pass late= what it was made with, or late=None"
    ):
        opened(tmp_path, embedder=roomy, late="local")
    with opened(tmp_path, embedder=roomy, late=None) as store:
        assert "late" not in store.search("the red bicycle", "alice", limit=1)[0].stages


def test_a_store_made_with_the_shipped_late_interaction_keeps_it(tmp_path: Path, roomy: BgeM3Embedder) -> None:
    for late in ("local", "auto"):
        with opened(tmp_path, embedder=roomy, late=late) as store:
            assert "MiniLM" in str(late_model(store))
            store.add(list(MEMORIES), "alice")
            assert store.search("the red bicycle", "alice", limit=1)[0].text == MEMORIES[2]


def test_a_store_made_without_late_interaction_stays_without(tmp_path: Path, roomy: BgeM3Embedder) -> None:
    for late in (None, "auto"):
        with opened(tmp_path, embedder=roomy, late=late) as store:
            assert late_model(store) is None
            store.add(list(MEMORIES), "alice")
            assert "late" not in store.search("the red bicycle", "alice", limit=1)[0].stages


@pytest.mark.parametrize("first", ["hashed words", "bge-m3"])
def test_a_store_moves_to_it_and_from_it(tmp_path: Path, roomy: BgeM3Embedder, first: str) -> None:
    before, after = (HashEmbedder(), roomy) if first == "hashed words" else (roomy, HashEmbedder())
    with opened(tmp_path, embedder=before) as store:
        late = late_model(store)
        store.add(list(MEMORIES), "alice")
        store.migrate(after)
        for question, best in QUESTIONS.items():
            hit = store.search(question, "alice", limit=1)[0]
            assert hit.text == MEMORIES[best]
            assert hit.stages["late"].rank == 1
            assert ("learned" in hit.stages) == (after is roomy)
        store.finish()
    # The token vectors stay those that the passages were kept with.
    with opened(tmp_path, embedder=after, late="auto" if before is not roomy else f"bge-m3:{roomy._place}") as store:
        assert late_model(store) == late
        assert store.search("the red bicycle", "alice", limit=1)[0].text == MEMORIES[2]
