"""Weights as the ONNX file that we run, and back: the arithmetic is that of the papers."""

from __future__ import annotations

import numpy as np
import pytest
from tokenizers import Tokenizer

pytest.importorskip("onnx", reason="the extra train is not installed")

from memory_plugin.models import runtime
from memory_plugin.train.encoder_graph import Shape, as_int8, build, find_outliers, layers, read_weights
from memory_plugin.train.onnx_graph import session
from tests import wordpiece
from tests.train import tiny

SHAPE = Shape(heads=tiny.HEADS, window=tiny.WINDOW)
TOKENIZER = wordpiece.tokenizer()
WEIGHTS = tiny.weights(TOKENIZER.get_vocab_size())
TEXTS = ["the river house", "alice moved to lisbon in the garden of the old days", "fox"]


def run(model: object, text: str) -> tuple[tiny.Array, tiny.Array]:
    ids = np.array([TOKENIZER.encode(text).ids])
    sentence, tokens = session(model).run(["sentence", "tokens"], {"input_ids": ids})  # type: ignore[arg-type]
    return sentence[0], tokens


@pytest.mark.parametrize("text", TEXTS)
def test_the_graph_computes_a_bert(text: str) -> None:
    sentence, tokens = run(build("tiny", WEIGHTS, SHAPE, {}, exact=True), text)
    wanted = tiny.forward(WEIGHTS, TOKENIZER.encode(text).ids)
    assert sentence == pytest.approx(wanted[0], abs=2e-3)
    assert tokens == pytest.approx(wanted[1], abs=2e-3)


@pytest.mark.parametrize("text", TEXTS)
def test_int8_is_near(text: str) -> None:
    sentence, _ = run(as_int8("tiny", WEIGHTS, SHAPE, TOKENIZER), text)
    assert sentence @ tiny.forward(WEIGHTS, TOKENIZER.encode(text).ids)[0] > 0.99


def test_weights_come_back() -> None:
    found = read_weights(as_int8("tiny", WEIGHTS, SHAPE, TOKENIZER))
    assert found.keys() == WEIGHTS.keys()
    assert layers(found) == tiny.LAYERS
    for name, value in WEIGHTS.items():
        if name == "embeddings.token_type_embeddings.weight":
            continue  # its first row is part of the positions
        wanted = value + WEIGHTS["embeddings.token_type_embeddings.weight"][0] if "position" in name else value
        assert found[name].shape == value.shape
        assert np.abs(found[name] - wanted).max() < np.abs(value).max() / 60, name


def test_outliers_are_shrunk_and_grow_back() -> None:
    """An input channel of one map is made a hundred times larger: in int8 it would drown the others."""
    weights = {name: value.copy() for name, value in WEIGHTS.items()}
    name = "encoder.layer.1.attention.output.LayerNorm"
    weights[f"{name}.bias"][7] = 60.0
    exact = build("tiny", weights, SHAPE, {}, exact=True)
    shrink = find_outliers(exact, TOKENIZER, tiny.WINDOW)
    assert shrink["encoder.layer.1.intermediate.dense"][7] > 4
    assert run(build("tiny", weights, SHAPE, shrink, exact=True), TEXTS[0])[0] == pytest.approx(
        run(exact, TEXTS[0])[0], abs=1e-4
    )
    found = read_weights(as_int8("tiny", weights, SHAPE, TOKENIZER))
    wanted = weights["encoder.layer.1.intermediate.dense.weight"]
    assert found["encoder.layer.1.intermediate.dense.weight"] == pytest.approx(wanted, abs=0.05)


def test_the_shipped_file_comes_back_as_itself_but_for_rounding() -> None:
    shipped = runtime.read("model.onnx")
    tokenizer = Tokenizer.from_str(runtime.read("tokenizer.json").decode())
    again = as_int8(runtime.NAME, read_weights(shipped), Shape(window=runtime.WINDOW), tokenizer)
    assert abs(len(again) - len(shipped)) < 100
    ids = {"input_ids": np.array([tokenizer.encode("My sister Ana lives in Porto.").ids])}
    first, second = (session(model).run(["sentence"], ids)[0][0] for model in (shipped, again))
    assert first @ second > 0.995
