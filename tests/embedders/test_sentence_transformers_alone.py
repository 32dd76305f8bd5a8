"""What is ours in the sentence-transformers providers, tested without the library: a stand-in takes its place.

What the library does with it is tested by test_sentence_transformers.py, where it is installed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest
from tokenizers import Tokenizer

from memory_plugin import registry
from memory_plugin.embedders.local import LocalEmbedder
from memory_plugin.embedders.sentence_transformers import SentenceTransformersEmbedder
from memory_plugin.errors import ConfigurationError, EmbeddingError, InvalidInputError, MissingExtraError, RerankError
from memory_plugin.manifest import space
from memory_plugin.models import transformers
from memory_plugin.models.files import fingerprint
from memory_plugin.network import leaves_machine
from memory_plugin.rerankers.sentence_transformers import SentenceTransformersReranker
from tests import tiny

COMMIT = "c" * 40


class StandIn:
    """Remembers how it was made and called; its vectors are tables looked up."""

    made: list[dict[str, Any]]
    prompts: ClassVar[dict[str, Any]] = {}
    max_seq_length: Any = 64
    num_labels = 1

    def __init__(self, name: str, **how: Any) -> None:
        if "nowhere" in name:
            raise OSError(f"{name} is not a local folder and is not a valid model identifier")
        type(self).made.append({"name": name, **how})
        self.tokenizer = Tokenizer.from_str(tiny.tokenizer_json())
        self.calls: list[tuple[str, list[Any], dict[str, Any]]] = []

    def get_embedding_dimension(self) -> int:
        return 64

    def encode_query(self, texts: list[str], **how: Any) -> Any:
        return self._encode("query", texts, how)

    def encode_document(self, texts: list[str], **how: Any) -> Any:
        return self._encode("document", texts, how)

    def _encode(self, kind: str, texts: list[str], how: dict[str, Any]) -> Any:
        self.calls.append((kind, texts, how))
        if "fail" in texts:
            raise RuntimeError("out of memory")
        return np.array([tiny.table(64)[tiny.ids_of(how["prompt"] + text)].mean(axis=0) for text in texts])

    def predict(self, pairs: Sequence[tuple[str, str]], **how: Any) -> Any:
        self.calls.append(("predict", list(pairs), how))
        if ("fail", "x") in pairs:
            raise RuntimeError("out of memory")
        return np.array([len(set(query.split()) & set(text.split())) for query, text in pairs], np.float32)


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> type[StandIn]:
    kind = type("Fresh", (StandIn,), {"made": [], "prompts": {}})
    progress: dict[str, bool] = {"shown": True}
    modules: dict[str, dict[str, Any]] = {
        "sentence_transformers": {"SentenceTransformer": kind, "CrossEncoder": kind},
        "transformers": {},
        "transformers.utils": {},
        "transformers.utils.logging": {
            "is_progress_bar_enabled": lambda: progress["shown"],
            "disable_progress_bar": lambda: progress.update(shown=False),
            "enable_progress_bar": lambda: progress.update(shown=True),
        },
        "torch": {},
        "torch.nn": {"Identity": lambda: "logits"},
        "huggingface_hub": {"try_to_load_from_cache": lambda *_, **__: None},
    }
    for name, held in modules.items():
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        module.__dict__.update(held, progress=progress)
        monkeypatch.setitem(sys.modules, name, module)
    return kind


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory of a model's files, without a model."""
    made = tmp_path / "tiny-bert"
    (made / "1_Pooling").mkdir(parents=True)
    (made / "model.safetensors").write_bytes(b"weights")
    (made / "config.json").write_text("{}")
    (made / "1_Pooling" / "config.json").write_text("{}")
    return made


def hub_says(monkeypatch: pytest.MonkeyPatch, answers: dict[tuple[str, str], str]) -> list[dict[str, Any]]:
    asked: list[dict[str, Any]] = []

    def answer(name: str, file: str, **how: Any) -> str | None:
        asked.append({"name": name, "file": file, **how})
        return answers.get((name, file))

    monkeypatch.setattr(sys.modules["huggingface_hub"], "try_to_load_from_cache", answer)
    return asked


# ── loading ───────────────────────────────────────────────────────────────────────────────────────


def test_nothing_is_loaded_before_it_is_needed(library: type[StandIn], place: Path) -> None:
    embedder = registry.embedder(f"sentence-transformers:{place}?device=cpu")
    assert not leaves_machine(embedder)
    assert library.made == []
    embedder.embed(["red"], input_type="query")
    embedder.embed(["red"], input_type="query")
    (how,) = library.made
    assert (how["name"], how["device"], how["local_files_only"]) == (str(place), "cpu", True)
    assert how["trust_remote_code"] is False
    assert sys.modules["transformers.utils.logging"].progress["shown"], "put back as it was"


def test_a_hub_may_be_asked_unless_told_otherwise(library: type[StandIn], monkeypatch: pytest.MonkeyPatch) -> None:
    found = f"/cache/models--acme--tiny/snapshots/{COMMIT}/modules.json"
    asked = hub_says(monkeypatch, {("acme/tiny", "modules.json"): found})
    online, offline = (SentenceTransformersEmbedder("acme/tiny", local_files_only=flag) for flag in (False, True))
    assert (leaves_machine(online), leaves_machine(offline)) == (True, False)
    assert online.identity.revision == COMMIT
    assert offline.identity == online.identity
    assert [how["local_files_only"] for how in library.made] == [False, True]
    assert asked[0] == {"name": "acme/tiny", "file": "modules.json", "cache_dir": None, "revision": None}


def test_a_bare_name_is_one_of_the_librarys_own(library: type[StandIn], monkeypatch: pytest.MonkeyPatch) -> None:
    found = f"/cache/models--sentence-transformers--mini/snapshots/{COMMIT}/config.json"
    hub_says(monkeypatch, {("sentence-transformers/mini", "config.json"): found})
    assert SentenceTransformersEmbedder("mini", revision="v2").identity.revision == COMMIT
    assert library.made[0]["revision"] == "v2"


def test_a_commit_that_cannot_be_told_is_no_identity(library: type[StandIn]) -> None:
    with pytest.raises(ConfigurationError, match="which commit of acme/tiny was loaded cannot be told"):
        _ = SentenceTransformersEmbedder("acme/tiny").identity
    library.config = type("Config", (), {"_commit_hash": COMMIT})  # type: ignore[attr-defined]
    assert SentenceTransformersEmbedder("acme/tiny").identity.revision == COMMIT


def test_what_cannot_be_loaded_says_so(library: type[StandIn]) -> None:
    with pytest.raises(ConfigurationError, match=r"sentence-transformers cannot load acme/nowhere: .* not a valid"):
        SentenceTransformersEmbedder("acme/nowhere").embed(["x"], input_type="query")
    assert sys.modules["transformers.utils.logging"].progress["shown"]


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    for make in (registry.embedder, registry.reranker):
        with pytest.raises(MissingExtraError, match=r"pip install 'memory-plugin\[sentence-transformers\]'") as caught:
            make(f"sentence-transformers:{place}")
        assert caught.value.extra == "sentence-transformers"


# ── prompts ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "own", "given", "expected"),
    [
        ("acme/tiny", {}, {}, ("", "")),
        ("nomic-ai/nomic-embed-text-v2-moe", {}, {}, ("search_query: ", "search_document: ")),
        ("BAAI/bge-base-en-v1.5", {}, {}, ("Represent this sentence for searching relevant passages: ", "")),
        ("intfloat/multilingual-e5-large", {}, {}, ("query: ", "passage: ")),
        ("acme/tiny", {"query": "ask: ", "passage": "tell: "}, {}, ("ask: ", "tell: ")),
        ("intfloat/e5-base", {"query": "q: ", "document": None}, {}, ("q: ", "")),
        ("intfloat/e5-base", {"query": "", "document": ""}, {}, ("query: ", "passage: ")),
        ("intfloat/e5-base", {"clustering": "group: "}, {}, ("query: ", "passage: ")),
        ("intfloat/e5-base", {"query": "q: "}, {"query_prefix": "mine: "}, ("mine: ", "")),
        ("intfloat/e5-base", {}, {"query_prefix": "", "document_prefix": ""}, ("", "")),
    ],
)
def test_prompts_given_then_the_models_then_known_ones(
    library: type[StandIn],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    own: dict[str, Any],
    given: dict[str, str],
    expected: tuple[str, str],
) -> None:
    library.prompts = own
    library.config = type("Config", (), {"_commit_hash": COMMIT})  # type: ignore[attr-defined]
    embedder = SentenceTransformersEmbedder(name, **given)  # type: ignore[arg-type]
    identity = embedder.identity
    assert (identity.query_prefix, identity.document_prefix) == expected
    model = embedder._model()
    for input_type, prompt in zip(("query", "document"), expected, strict=True):
        embedder.embed(["red"], input_type=input_type)  # type: ignore[arg-type]
        kind, texts, how = model.calls[-1]
        assert (kind, texts, how["prompt"]) == (input_type, ["red"], prompt), "also where it is empty"


# ── identity ──────────────────────────────────────────────────────────────────────────────────────


def touched(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.mark.usefixtures("library")
def test_a_directorys_revision_is_what_decides_vectors(place: Path) -> None:
    identity = SentenceTransformersEmbedder(place).identity
    assert (identity.provider, identity.model, identity.dimension) == ("sentence-transformers", "tiny-bert", 64)
    for idle in ("README.md", "onnx/model.onnx", "openvino/model.bin", "training_args.bin", ".git/config.json", "a.py"):
        touched(place / idle, b"nothing")
    touched(place / "pytorch_model.bin", b"the same weights once more")
    assert SentenceTransformersEmbedder(place).identity == identity
    seen = {space(identity)}
    for deciding in ("1_Pooling/config.json", "tokenizer.json", "2_Dense/model.safetensors", "modules.json"):
        touched(place / deciding, b'{"another": 1}')
        seen.add(space(SentenceTransformersEmbedder(place).identity))
    assert len(seen) == 5


@pytest.mark.usefixtures("library")
def test_pickled_weights_count_where_there_are_no_others(place: Path) -> None:
    (place / "model.safetensors").unlink()
    with pytest.raises(ConfigurationError, match="holds no weights"):
        _ = SentenceTransformersEmbedder(place).identity
    touched(place / "pytorch_model.bin", b"weights")
    first = SentenceTransformersEmbedder(place).identity
    touched(place / "pytorch_model.bin", b"others")
    assert SentenceTransformersEmbedder(place).identity.revision != first.revision


def test_older_libraries_measure_by_another_name(library: type[StandIn], place: Path) -> None:
    library.get_embedding_dimension = None  # type: ignore[assignment, method-assign]
    library.get_sentence_embedding_dimension = lambda _: 96  # type: ignore[attr-defined]
    assert SentenceTransformersEmbedder(place).identity.dimension == 96


# ── texts ─────────────────────────────────────────────────────────────────────────────────────────


def test_windows_and_prompts(library: type[StandIn], place: Path) -> None:
    library.prompts = {"query": "", "document": "cat cat "}
    embedder = SentenceTransformersEmbedder(place)
    assert registry.pieces(embedder).count("the red cat") == len(tiny.ids_of("the red cat"))
    assert embedder.max_tokens == 61
    with pytest.raises(InvalidInputError, match=r"texts\[1\] has \d+ word pieces, more than the 64"):
        embedder.embed(["red", "cat " * 64], input_type="document")
    with pytest.raises(InvalidInputError, match="lone surrogate"):
        embedder.embed(["\ud800"], input_type="query")
    assert embedder._model().calls == [], "nothing was embedded"
    assert embedder.embed([], input_type="document").vectors.shape == (0, 64)


def test_a_tokenizer_of_another_make_counts_nothing(library: type[StandIn], place: Path) -> None:
    embedder = SentenceTransformersEmbedder(place)
    embedder._model().tokenizer = object()
    assert not hasattr(embedder, "tokenizer")
    assert isinstance(registry.pieces(embedder), LocalEmbedder), "the shipped tokenizer cuts instead"
    assert embedder.max_tokens == 64
    library.max_seq_length = None
    assert SentenceTransformersEmbedder(place).max_tokens > 100_000


@pytest.mark.usefixtures("library")
def test_failures_are_ours(place: Path) -> None:
    with pytest.raises(EmbeddingError, match="sentence-transformers:tiny-bert: RuntimeError: out of memory"):
        SentenceTransformersEmbedder(place).embed(["fail"], input_type="query")
    with pytest.raises(RerankError, match="sentence-transformers:tiny-bert: RuntimeError: out of memory"):
        SentenceTransformersReranker(place).rerank("fail", ["x"])
    for arguments in ({"batch": 0}, {"query_prefix": 3}, {"revision": "main"}):
        with pytest.raises(InvalidInputError):
            SentenceTransformersEmbedder(place, **arguments)


# ── re-ranking ────────────────────────────────────────────────────────────────────────────────────


def test_a_reranker_asks_for_logits_and_one_score(library: type[StandIn], place: Path) -> None:
    reranker = SentenceTransformersReranker(place, batch=7, max_tokens=32)
    assert reranker.rerank("red cat", ["a red cat", "blue"]) == [2.0, 0.0]
    assert reranker.rerank("red cat", []) == []
    kind, pairs, how = reranker._encoder().calls[0]
    assert (kind, pairs) == ("predict", [("red cat", "a red cat"), ("red cat", "blue")])
    assert (how["activation_fn"], how["batch_size"]) == ("logits", 7)
    assert library.made[0]["max_length"] == 32
    library.num_labels = 2
    with pytest.raises(ConfigurationError, match="gives 2 scores a pair"):
        SentenceTransformersReranker(place).rerank("a", ["b"])


def test_its_name(place: Path, library: type[StandIn]) -> None:
    name = SentenceTransformersReranker(place).model
    assert name == f"sentence-transformers:tiny-bert@{fingerprint(transformers.files(place))}"
    assert SentenceTransformersReranker("acme/judge").model == "sentence-transformers:acme/judge"
    assert str(place) in repr(SentenceTransformersReranker(place))
    assert "acme/judge" in repr(SentenceTransformersEmbedder("acme/judge"))
    assert library.made == [], "a name needs no model"
