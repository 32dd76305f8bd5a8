"""From pairs to a model directory and a table; what it does without the extra, and with it."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from memory_plugin import ConfigurationError, InvalidInputError, MemoryStore, MissingExtraError, Settings
from memory_plugin.dataset import Expected, Question
from memory_plugin.embedders.local import LocalEmbedder
from memory_plugin.errors import TrainingError
from memory_plugin.train import base, output
from memory_plugin.train.embedder import Options, plan_training, train_embedder
from memory_plugin.train.recipe import Recipe
from tests import sets
from tests.train import tiny, toy

SHOP = [
    ("when do you open", "The shop is open from nine to five."),
    ("can I pay by card", "We take all cards, and cash."),
    ("do you repair bikes", "Our workshop mends bicycles while you wait."),
    ("where can I park", "There is room for cars behind the house."),
    ("is the coffee free", "Drinks at the counter cost nothing."),
    ("may I bring my dog", "Animals are welcome on a lead."),
]


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    return toy.write(tmp_path / "shop.jsonl", SHOP)


def needs_extra() -> None:
    for name in ("torch", "sentence_transformers"):
        pytest.importorskip(name, reason="the extra train is not installed")


# ── without the extra ─────────────────────────────────────────────────────────────────────────────


def test_a_plan_needs_no_extra_and_writes_nothing(shop: Path, tmp_path: Path) -> None:
    told: list[str] = []
    plan = plan_training(shop, options=Options(hold_out=0.5), progress=lambda what, *_: told.append(what))
    assert (plan.train, plan.stop, plan.test, plan.near) == (3, 0, 3, 0)
    assert plan.mined.examples == 3
    assert plan.mined.negatives + plan.mined.doubtful == 3 * 2, "the answers of questions that judge are not shown"
    assert plan.to_json()["mined"]["examples"] == 3
    assert dict.fromkeys(told) == {"embed shop, local": None, "mine": None}
    assert list(tmp_path.iterdir()) == [shop]
    assert not {"torch", "sentence_transformers"} & set(sys.modules) or importlib.util.find_spec("torch")


def test_the_first_models_stores_can_be_kept(shop: Path, tmp_path: Path) -> None:
    options = Options(store=tmp_path / "stores")
    first = plan_training(shop, options=options)
    (kept,) = (tmp_path / "stores").iterdir()
    assert kept.name.startswith("shop-all-MiniLM-L6-v2-")
    told: list[tuple[str, int, int]] = []
    assert plan_training(shop, options=options, progress=lambda *one: told.append(one)) == first
    assert told[0] == ("embed shop, local", 6, 6), "nothing is embedded again"


def test_without_the_extra_the_error_names_it(shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else found(name))
    with pytest.raises(
        MissingExtraError, match=r"training needs an optional package: pip install 'memory-plugin\[train\]'"
    ):
        train_embedder(shop, tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"method": "guess"}, "method is one of contrastive, distill"),
        ({"epochs": 0}, "epochs must be at least 1"),
        ({"batch": 1}, "batch must be at least 2"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"rate": 0}, "rate is between 0 and 1"),
        ({"time_limit": 0}, "time_limit must be positive"),
        ({"dimensions": (0,)}, "dimensions must be positive"),
    ],
)
def test_a_recipe_that_cannot_be(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        Recipe(**values)


def test_options_that_cannot_be(shop: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="sample must be at least 1"):
        plan_training(shop, options=Options(sample=0))
    with pytest.raises(InvalidInputError, match=r"has 384 dimensions: it cannot be cut to \(512,\)"):
        plan_training(shop, recipe=Recipe(dimensions=(512,)))
    with pytest.raises(ConfigurationError, match=r"holds no sentence-transformers model .* leave --base out"):
        plan_training(shop, base=tmp_path)


def test_a_directory_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    where = output.require_free(tmp_path / "a" / "model")

    def interrupted() -> None:
        with output.whole(where) as partial:
            (partial / "model.json").write_text("{}")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(where.parent.iterdir()) == []
    where.mkdir()
    with output.whole(output.require_free(where)) as partial:
        (partial / "model.json").write_text('{"a": 1}')
    output.record(where, b=2)
    assert json.loads((where / "model.json").read_text()) == {"a": 1, "b": 2}
    assert [one.name for one in where.parent.iterdir()] == ["model"]
    with pytest.raises(ConfigurationError, match="is there already"):
        output.require_free(where)
    with pytest.raises(ConfigurationError, match="is there already"):
        output.require_free(where / "model.json")
    with pytest.raises(ConfigurationError, match="cannot be made"):
        output.require_free(where / "model.json" / "b")


# ── with it ───────────────────────────────────────────────────────────────────────────────────────

FAST = Recipe(epochs=15, batch=16, rate=3e-3, seed=3, threads=1)


@pytest.fixture
def tongue(tmp_path: Path) -> Path:
    """A model that knows the words of both languages, and of none what it means."""
    needs_extra()
    where = tiny.folder(tmp_path / "tongue", words=toy.WORDS)
    tiny.floats(where / base.FLOATS, words=toy.WORDS)
    return where


@pytest.fixture
def phrases(tmp_path: Path) -> Path:
    return toy.write(tmp_path / "phrases.jsonl", toy.pairs(400, seed=4))


def test_a_model_is_trained_judged_and_used(tongue: Path, phrases: Path, tmp_path: Path) -> None:
    check = sets.write(tmp_path / "check")
    options = Options(hold_out=0.2, checks=(check,), name="tongue-2")
    recipe = replace(FAST, dimensions=(8,))
    found = train_embedder(phrases, tmp_path / "model", base=tongue, recipe=recipe, options=options)
    assert (found.before, found.embedder) == (f"local:{tongue}", f"local:{tmp_path / 'model'}")
    gains = {(one.of, one.stage, one.metric): one for one in found.differences}
    dense = gains["phrases", "dense leg", "recall@10"]
    assert (dense.n, found.plan.test) == (80, 80)
    assert dense.before < 0.2
    assert dense.interval.low > 0.3
    assert gains["phrases", "full pipeline", "ndcg@10"].gain > 0
    assert gains["phrases, 8 dimensions", "dense leg", "ndcg@10"].gain > 0.2
    assert ("check", "dense leg", "ndcg@10") in gains

    embedder = LocalEmbedder(tmp_path / "model")
    assert (embedder.identity.model, embedder.matryoshka) == ("tongue-2", (8,))
    query, passage = toy.pairs(1, seed=77)[0]
    settings = Settings(chunk_tokens=tiny.WINDOW)
    others = toy.pairs(20, seed=78)
    questions = [
        Question(f"q{n}", text, "", ("n",), {"0": 1}, (Expected(text=right),)) for n, (text, right) in enumerate(others)
    ]
    with MemoryStore.open(
        tmp_path / "store", embedder=found.before, reranker=None, keyring=tmp_path / "keys.json", settings=settings
    ) as memory:
        memory.add([passage, *(right for _, right in others)], "n")
        memory.migrate(found.embedder, questions=questions)
        assert memory.search(query, "n", legs="dense", rerank="none", limit=1)[0].text == passage

    described = json.loads((tmp_path / "model" / "model.json").read_text())
    assert described["differences"][0]["after"] == found.differences[0].after
    assert described["recipe"]["seed"] == 3
    assert json.loads(json.dumps(found.to_json()))["embedder"] == found.embedder
    from sentence_transformers import SentenceTransformer

    exact = SentenceTransformer(str(tmp_path / "model" / base.FLOATS)).encode([query], normalize_embeddings=True)
    assert exact[0] @ embedder.embed([query], input_type="query").vectors[0] > 0.99


def test_training_goes_on_from_what_was_trained(tongue: Path, tmp_path: Path) -> None:
    few = toy.write(tmp_path / "phrases.jsonl", toy.pairs(40, seed=4))  # too few to keep some back to stop by
    once, judge = replace(FAST, epochs=1), Options(sample=5)
    first = train_embedder(few, tmp_path / "one", base=tongue, recipe=once, options=judge)
    second = train_embedder(few, tmp_path / "two", base=tmp_path / "one", recipe=once, options=judge)
    assert second.before == first.embedder
    names = [LocalEmbedder(tmp_path / name).identity.model for name in ("one", "two")]
    assert names == ["tiny-phrases", "tiny-phrases-phrases"]


def test_control_c_leaves_a_model_that_works_or_nothing(tongue: Path, phrases: Path, tmp_path: Path) -> None:

    def interrupt_at(step: int) -> Any:
        def tell(what: str, done: int, of: int) -> None:
            if what == "train" and done == step:
                raise KeyboardInterrupt

        return tell

    options = Options(hold_out=0.2)
    with pytest.raises(KeyboardInterrupt):
        train_embedder(phrases, tmp_path / "none", base=tongue, recipe=FAST, options=options, progress=interrupt_at(1))
    assert not (tmp_path / "none").exists()
    found = train_embedder(
        phrases, tmp_path / "some", base=tongue, recipe=FAST, options=options, progress=interrupt_at(60)
    )
    assert (found.course.ended, found.differences) == ("interrupted", ())
    assert 0 < found.course.best <= 60
    LocalEmbedder(tmp_path / "some").embed(["ba be"], input_type="query")


def test_training_that_does_not_help_writes_nothing(tongue: Path, phrases: Path, tmp_path: Path) -> None:
    good = train_embedder(phrases, tmp_path / "good", base=tongue, recipe=FAST, options=Options(0.2, sample=5))
    ruin = replace(FAST, epochs=1, rate=0.9)
    with pytest.raises(TrainingError, match=r"nothing was written\. Give more pairs, or try a lower --rate"):
        train_embedder(phrases, tmp_path / "model", base=good.directory, recipe=ruin, options=Options(0.2))
    assert not (tmp_path / "model").exists()


def test_the_shipped_model_comes_back_from_its_own_file(tmp_path: Path) -> None:
    needs_extra()
    model = base.load(None)
    text = "My sister Ana lives in Porto."
    shipped = LocalEmbedder().embed([text], input_type="query").vectors[0]
    assert model.encode([text], normalize_embeddings=True)[0] @ shipped > 0.995
    with output.whole(tmp_path / "same") as partial:
        output.save(model, partial, "same", {"matryoshka": []})
    again = LocalEmbedder(tmp_path / "same")
    assert again.embed([text], input_type="query").vectors[0] @ shipped > 0.995
    assert again.count(text) == LocalEmbedder().count(text)


def test_another_architecture_is_left_to_sentence_transformers(tongue: Path, tmp_path: Path) -> None:
    pooling = tongue / base.FLOATS / "1_Pooling" / "config.json"
    pooling.write_text(
        json.dumps(
            {"word_embedding_dimension": tiny.WIDTH, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
        )
    )
    few = toy.write(tmp_path / "few.jsonl", toy.pairs(40, seed=4))
    once, judge = replace(FAST, epochs=1), Options(sample=5)
    found = train_embedder(few, tmp_path / "other", base=tongue / base.FLOATS, recipe=once, options=judge)
    assert found.before == f"sentence-transformers:{tongue / base.FLOATS}"
    assert found.embedder == f"sentence-transformers:{tmp_path / 'other' / base.FLOATS}"
    assert {one.name for one in found.directory.iterdir()} == {"model.json", base.FLOATS}
    assert len(found.differences) == 4


def test_a_directory_that_holds_something_else(tmp_path: Path) -> None:
    needs_extra()
    (tmp_path / "modules.json").write_text("[]")
    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        base.load(tmp_path)
