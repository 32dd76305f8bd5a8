"""sentence-transformers, the real one, on a tiny model.  Skipped where it is not installed; see test_st_standin.py."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory_plugin import MemoryStore, registry
from memory_plugin.embedders.bge_m3 import BgeM3Embedder
from memory_plugin.embedders.clip import ClipEmbedder
from memory_plugin.embedders.sentence_transformers import SentenceTransformersEmbedder
from memory_plugin.errors import ConfigurationError, InvalidInputError
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.manifest import space
from memory_plugin.network import leaves_machine
from memory_plugin.protocols import Embedder
from memory_plugin.settings import Settings
from memory_plugin.testing.providers import TEXTS, EmbedderTests
from tests import tiny, tiny_torch
from tests.embedders.test_clip import picture

library = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed: it needs torch")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")

PROMPTS = {"query": "search_query: ", "document": "search_document: "}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_torch.sentence_transformer(tmp_path_factory.mktemp("st") / "tiny-bert")


@pytest.fixture(scope="module")
def prompted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_torch.sentence_transformer(tmp_path_factory.mktemp("st") / "prompted", prompts=PROMPTS)


class TestSentenceTransformers(EmbedderTests):
    @pytest.fixture
    def embedder(self, plain: Path) -> Embedder:
        return registry.embedder(f"sentence-transformers:{plain}?device=cpu&batch=2")


class TestWithPrompts(EmbedderTests):
    @pytest.fixture
    def embedder(self, prompted: Path) -> Embedder:
        return SentenceTransformersEmbedder(prompted)


class TestBgeM3Checkpoint(EmbedderTests):
    @pytest.fixture
    def embedder(self, tmp_path: Path) -> Embedder:
        return BgeM3Embedder(tiny_torch.m3(tmp_path / "bge-m3"))


class TestClipCheckpoint(EmbedderTests):
    @pytest.fixture
    def embedder(self, tmp_path: Path) -> Embedder:
        return ClipEmbedder(tiny_torch.clip(tmp_path / "clip"))

    def test_near_texts_are_nearer_than_others(self, embedder: Embedder) -> None:
        """Its weights are random."""


def test_vectors_are_the_librarys_own(plain: Path) -> None:
    theirs = library.SentenceTransformer(str(plain), device="cpu")
    made = SentenceTransformersEmbedder(plain, device="cpu").embed(TEXTS, input_type="document").vectors
    assert made == pytest.approx(theirs.encode(list(TEXTS), normalize_embeddings=True), abs=1e-5)


@pytest.mark.parametrize("input_type", ["query", "document"])
def test_the_models_own_prompts_are_used_and_named(prompted: Path, input_type: Any) -> None:
    embedder = SentenceTransformersEmbedder(prompted)
    identity = embedder.identity
    assert (identity.query_prefix, identity.document_prefix) == ("search_query: ", "search_document: ")
    made = embedder.embed(["red cat"], input_type=input_type).vectors
    theirs = library.SentenceTransformer(str(prompted), device="cpu")
    encode = theirs.encode_query if input_type == "query" else theirs.encode_document
    assert made == pytest.approx(encode(["red cat"], normalize_embeddings=True), abs=1e-5)
    bare = SentenceTransformersEmbedder(prompted, query_prefix="", document_prefix="")
    assert np.abs(bare.embed(["red cat"], input_type=input_type).vectors - made).max() > 1e-3
    assert space(bare.identity) != space(identity)


def test_a_default_prompt_of_the_model_is_not_slipped_in(tmp_path: Path) -> None:
    place = tiny_torch.sentence_transformer(
        tmp_path / "m", prompts={"query": "", "document": "", "s2s": "find this: "}, default_prompt_name="s2s"
    )
    embedder = SentenceTransformersEmbedder(place)
    assert (embedder.identity.query_prefix, embedder.identity.document_prefix) == ("", "")
    bare = library.SentenceTransformer(str(place), device="cpu").encode(["red"], prompt="", normalize_embeddings=True)
    assert embedder.embed(["red"], input_type="document").vectors == pytest.approx(bare, abs=1e-5)


def test_prompts_of_known_names_are_used_where_the_files_tell_none(tmp_path: Path, plain: Path) -> None:
    place = tmp_path / "e5-small-v2"
    shutil.copytree(plain, place)
    identity = SentenceTransformersEmbedder(place).identity
    assert (identity.query_prefix, identity.document_prefix) == ("query: ", "passage: ")
    mine = SentenceTransformersEmbedder(place, query_prefix="ask: ").identity
    assert (mine.query_prefix, mine.document_prefix) == ("ask: ", "passage: ")


def test_identity_is_the_directorys_weights(tmp_path: Path, plain: Path) -> None:
    identity = SentenceTransformersEmbedder(plain).identity
    assert (identity.provider, identity.model, identity.dimension) == ("sentence-transformers", "tiny-bert", 64)
    assert len(identity.revision) == 16
    copied = tmp_path / "copy" / "tiny-bert"
    shutil.copytree(plain, copied)
    (copied / "README.md").write_text("tells nothing of the vectors")
    (copied / "onnx").mkdir()
    (copied / "onnx" / "model.onnx").write_bytes(b"another form of the same")
    assert SentenceTransformersEmbedder(copied).identity == identity
    other = tiny_torch.sentence_transformer(tmp_path / "other" / "tiny-bert", seed=5)
    assert space(SentenceTransformersEmbedder(other).identity) != space(identity)
    pooling = next(copied.glob("1_Pooling/config.json"))
    pooling.write_text(pooling.read_text().replace("mean", "cls"))
    assert space(SentenceTransformersEmbedder(copied).identity) != space(identity)


@pytest.fixture
def hub(tmp_path: Path, plain: Path) -> Callable[[str], Path]:
    """A hub's cache with a model in it."""

    def put(commit: str) -> Path:
        root = tmp_path / "hub" / "models--acme--tiny"
        (root / "refs").mkdir(parents=True, exist_ok=True)
        (root / "refs" / "main").write_text(commit)
        shutil.copytree(plain, root / "snapshots" / commit)
        return tmp_path / "hub"

    return put


def test_of_a_hubs_model_the_commit_is_named(hub: Callable[[str], Path]) -> None:
    cache = hub("a" * 40)
    embedder = SentenceTransformersEmbedder("acme/tiny", cache_folder=cache, local_files_only=True)
    assert not leaves_machine(embedder)
    assert (embedder.identity.model, embedder.identity.revision) == ("acme/tiny", "a" * 40)
    hub("b" * 40)
    later = SentenceTransformersEmbedder("acme/tiny", cache_folder=cache, local_files_only=True)
    assert later.identity.revision == "b" * 40
    pinned = SentenceTransformersEmbedder("acme/tiny", cache_folder=cache, local_files_only=True, revision="a" * 40)
    assert pinned.identity == embedder.identity
    snapshot = cache / "models--acme--tiny" / "snapshots" / ("a" * 40)
    assert SentenceTransformersEmbedder(snapshot).identity.model == "acme/tiny"


def test_a_hubs_model_that_was_not_fetched(tmp_path: Path) -> None:
    embedder = SentenceTransformersEmbedder("acme/nothing", cache_folder=tmp_path, local_files_only=True)
    with pytest.raises(ConfigurationError, match="sentence-transformers cannot load acme/nothing"):
        _ = embedder.identity


def test_windows_count_the_prompt(plain: Path, prompted: Path) -> None:
    bare, behind = SentenceTransformersEmbedder(plain), SentenceTransformersEmbedder(prompted)
    assert bare.max_tokens == 64
    assert behind.max_tokens < 64
    assert registry.pieces(bare).count("the red cat") == len(tiny.ids_of("the red cat"))
    assert bare.count("cat " * 300) > 300, "it does not cut"
    fits = ("cat " * 62).strip()
    bare.embed([fits], input_type="document")
    with pytest.raises(InvalidInputError, match=r"texts\[0\] has \d+ word pieces, more than the 64"):
        bare.embed([fits + " cat"], input_type="document")
    with pytest.raises(InvalidInputError, match=r"more than the 64"):
        behind.embed([fits], input_type="document")
    assert bare.embed([fits + " cat" * 50], input_type="query").vectors.shape == (1, 64)


def test_a_model_without_a_transformer(tmp_path: Path) -> None:
    from sentence_transformers.models import StaticEmbedding
    from tokenizers import Tokenizer

    reader = Tokenizer.from_str(tiny.tokenizer_json())
    static = StaticEmbedding(reader, embedding_weights=tiny.table(32))
    library.SentenceTransformer(modules=[static], device="cpu").save_pretrained(str(tmp_path / "static"))
    embedder = SentenceTransformersEmbedder(tmp_path / "static")
    assert embedder.identity.dimension == 32
    made = embedder.embed(TEXTS, input_type="document").vectors
    assert float(made[0] @ made[1]) > float(made[0] @ made[2])
    assert embedder.count("the red cat") >= 3


def test_threads_get_what_one_gets(plain: Path) -> None:
    embedder = SentenceTransformersEmbedder(plain)
    alone = embedder.embed(TEXTS, input_type="document").vectors
    with ThreadPoolExecutor(6) as pool:
        runs = [pool.submit(embedder.embed, TEXTS, input_type="document") for _ in range(30)]
        for run in runs:
            assert run.result().vectors == pytest.approx(alone, abs=1e-5)


def test_what_is_no_model_says_so(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match="sentence-transformers cannot load"):
        SentenceTransformersEmbedder(tmp_path / "empty").embed(["x"], input_type="query")
    with pytest.raises(InvalidInputError, match="no directory"):
        SentenceTransformersEmbedder(tmp_path / "nowhere")
    with pytest.raises(InvalidInputError, match="leave revision out"):
        SentenceTransformersEmbedder(tmp_path, revision="main")


def test_a_store_on_it(tmp_path: Path, prompted: Path) -> None:
    index = EdgeIndex(tmp_path / "memory", durability="process")
    embedder = SentenceTransformersEmbedder(prompted)
    settings = Settings(chunk_tokens=48)
    with MemoryStore(
        index, embedder, reranker=None, late=None, keyring=tmp_path / "keys.json", settings=settings
    ) as store:
        store.add([*TEXTS[:3], "word " * 200], "alice")
        (hit,) = store.search("Where does the cat sleep?", "alice", limit=1, legs="dense")
        assert "cat" in hit.text


# ── checkpoints of bge-m3 and CLIP ────────────────────────────────────────────────────────────────


def test_a_bge_m3_checkpoint_gives_the_three_outputs_of_its_paper(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModel

    place = tiny_torch.m3(tmp_path / "bge-m3")
    made = BgeM3Embedder(place).embed(["the red cat"], input_type="document")
    ids = tiny.ids_of("the red cat")
    with torch.no_grad():
        hidden = AutoModel.from_pretrained(str(place)).eval()(torch.tensor([ids])).last_hidden_state[0]
        sparse, colbert = (torch.load(place / name) for name in ("sparse_linear.pt", "colbert_linear.pt"))
        weights = torch.relu(hidden @ sparse["weight"].T + sparse["bias"])[:, 0]
        tokens = torch.nn.functional.normalize(hidden[1:] @ colbert["weight"].T + colbert["bias"], dim=-1)
    assert made.vectors[0] == pytest.approx(torch.nn.functional.normalize(hidden[0], dim=0).numpy(), abs=1e-5)
    assert made.tokens is not None
    assert made.terms is not None
    assert made.tokens[0].vectors == pytest.approx(tokens.numpy(), abs=1e-5)
    reader = BgeM3Embedder(place).tokenizer
    expected = {reader.id_to_token(one): float(w) for one, w in zip(ids[1:-1], weights[1:-1], strict=True) if w > 0}
    assert dict(made.terms[0]) == pytest.approx(expected, abs=1e-5)


def test_a_clip_checkpoint_is_prepared_and_projected_as_transformers_do(tmp_path: Path) -> None:
    import torch
    from transformers import CLIPModel

    place = tiny_torch.clip(tmp_path / "clip")
    embedder = ClipEmbedder(place)
    model = CLIPModel.from_pretrained(str(place)).eval()
    with torch.no_grad():
        both = model(
            input_ids=torch.tensor([tiny.ids_of("a red cat")]),
            pixel_values=torch.from_numpy(_published(picture((250, 10, 10), (32, 32)))),
        )
    text = embedder.embed(["a red cat"], input_type="query").vectors
    image = embedder.embed_images([picture((250, 10, 10), (32, 32))]).vectors
    assert text == pytest.approx(torch.nn.functional.normalize(both.text_embeds, dim=-1).numpy(), abs=1e-5)
    assert image == pytest.approx(torch.nn.functional.normalize(both.image_embeds, dim=-1).numpy(), abs=1e-5)


def _published(data: bytes) -> Any:
    """A picture of 32 pixels as transformers' own processor would hand it on."""
    from io import BytesIO

    from PIL import Image

    values = np.asarray(Image.open(BytesIO(data)).convert("RGB"), np.float32) / 255
    mean, deviation = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    return ((values - mean) / deviation).transpose(2, 0, 1)[None].astype(np.float32)
