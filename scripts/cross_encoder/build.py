"""Build the shipped int8 ONNX cross-encoder from a checkpoint of scripts/cross_encoder/train.py.

The graph is written node by node with onnxruntime's fused transformer operators, then quantised by onnxruntime's own
``quantize_dynamic``, per channel.  The word table is stored as int8 with one scale a row.  Deterministic: the same
checkpoint and package versions give the same bytes.

Inputs ``input_ids`` and ``token_type_ids``, int64, shape (1, pieces): one pair a call, no padding, 256 pieces at most.
Output ``score``, float32, shape (1,).

    python -m scripts.cross_encoder.build --reduce-range --checkpoint RUN/model.safetensors \
        --references RUN/references.jsonl --out memory_plugin/models/cross_encoder/model.onnx

Needs onnx, onnxruntime, numpy and safetensors.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto
from safetensors.numpy import load_file

from memory_plugin.train.onnx_graph import MICROSOFT, Array, Graph, quantise, rows_as_int8, session
from scripts.minilm import CLS, EPSILON, HEADS, LAYERS, SEP, WINDOW


def build(w: dict[str, Array]) -> tuple[onnx.ModelProto, list[str]]:
    """The float32 model (with an int8 word table), and the nodes that must stay in float32."""
    g = Graph()
    _embed(g, w)
    x = "embedded"
    for i in range(LAYERS):
        x = _layer(g, w, i, x)
    keep = _head(g, w, x)
    pair = {"input_ids": [1, "pieces"], "token_type_ids": [1, "pieces"]}
    model = g.model("cross_encoder", pair, {"score": [1]}, opset=17, ir_version=8, producer_name="memory_plugin")
    return model, keep


def _embed(g: Graph, w: dict[str, Array]) -> None:
    words, scale = rows_as_int8(w["words.weight"])
    g.constant("words", words)
    g.constant("words_scale", scale)
    g.constant("positions", w["positions.weight"][:WINDOW])
    g.constant("types", w["types.weight"])
    g.constant("zero", np.array([0], np.int64))
    g.constant("one", np.array([1], np.int64))
    g.op("Shape", "input_ids", name="shape")
    g.op("Slice", "shape", "one", g.constant("two", np.array([2], np.int64)), "zero", name="pieces_")
    g.op("Slice", "positions", "zero", "pieces_", "zero", name="position")
    g.op("Cast", g.op("Gather", "words", "input_ids", name="word_q"), name="word_f", to=TensorProto.FLOAT)
    g.op("Mul", "word_f", g.op("Gather", "words_scale", "input_ids", name="word_s"), name="word")
    g.op("Add", "word", "position", name="word_position")
    g.op("Add", "word_position", g.op("Gather", "types", "token_type_ids", name="type"), name="summed")
    g.constant("norm.weight", w["norm.weight"])
    g.constant("norm.bias", w["norm.bias"])
    g.op("LayerNormalization", "summed", "norm.weight", "norm.bias", name="embedded", axis=-1, epsilon=EPSILON)


def _layer(g: Graph, w: dict[str, Array], i: int, x: str) -> str:
    at = f"layers.{i}."

    def weight(name: str) -> str:
        return g.constant(f"{at}{name}.weight", w[f"{at}{name}.weight"].T)

    def vector(name: str) -> str:
        return g.constant(at + name, w[at + name])

    def norm(name: str, value: str, residual: str, number: int, bias: str) -> str:
        inputs = [value, residual, vector(f"norm{number}.weight"), vector(f"norm{number}.bias"), vector(bias)]
        return g.op("SkipLayerNormalization", *inputs, name=at + name, domain=MICROSOFT, epsilon=EPSILON)

    attended = g.op(
        "Attention", x, weight("qkv"), vector("qkv.bias"), name=f"{at}attended", domain=MICROSOFT, num_heads=HEADS
    )
    middle = norm("middle", g.op("MatMul", attended, weight("out"), name=f"{at}projected"), x, 1, "out.bias")
    up = g.op("MatMul", middle, weight("up"), name=f"{at}raised")
    active = g.op("BiasGelu", up, vector("up.bias"), name=f"{at}active", domain=MICROSOFT)
    return norm("hidden", g.op("MatMul", active, weight("down"), name=f"{at}lowered"), middle, 2, "down.bias")


def _head(g: Graph, w: dict[str, Array], x: str) -> list[str]:
    """The joint MaxSim head; scripts/cross_encoder/model.py has the formula."""
    for name, value in (("sep", SEP), ("cls", CLS)):
        g.constant(name, np.array(value, np.int64))
    g.constant("kind_query", np.array(0, np.int64))
    g.constant("least", np.array(-1.0, np.float32))
    g.constant("never", np.array(-1e9, np.float32))
    g.op("Squeeze", "input_ids", "zero", name="ids")
    g.op("Squeeze", "token_type_ids", "zero", name="kinds")
    g.op("Squeeze", x, "zero", name="hidden")
    g.op("Equal", "ids", "sep", name="is_sep")
    g.op("Not", "is_sep", name="not_sep")
    g.op("Not", g.op("Equal", "ids", "cls", name="is_cls"), name="not_cls")
    g.op("Equal", "kinds", "kind_query", name="first")
    g.op("And", g.op("Not", "first", name="second"), "not_sep", name="passage")
    g.op("And", g.op("And", "first", "not_sep", name="first_words"), "not_cls", name="query")
    g.op("LpNormalization", "hidden", name="unit", axis=-1, p=2)
    g.op("MatMul", "unit", g.op("Transpose", "unit", name="unit_t", perm=[1, 0]), name="cosines")
    g.op("Where", "passage", "cosines", "least", name="seen")
    g.op("ReduceMax", "seen", name="best", axes=[1], keepdims=0)
    g.constant("idf", (w["log_idf"] * w["idf_power"]).astype(np.float32))
    g.constant("weight.weight", w["weight.weight"].T)
    g.op("Squeeze", g.op("MatMul", "hidden", "weight.weight", name="learned_column"), "one", name="learned")
    g.op("Add", g.op("Gather", "idf", "ids", name="rarity"), "learned", name="logits")
    g.op("Softmax", g.op("Where", "query", "logits", "never", name="asked"), name="weights", axis=0)
    g.op("ReduceSum", g.op("Mul", "weights", "best", name="weighted"), "zero", name="similar", keepdims=1)
    g.op("Mul", "similar", g.constant("scale", np.exp(w["log_scale"]).astype(np.float32)), name="scaled")
    g.constant("cls_in.weight", w["cls_in.weight"].T)
    g.constant("cls_in.bias", w["cls_in.bias"])
    g.constant("cls_out.weight", w["cls_out.weight"].T)
    g.op("Gather", "hidden", "zero", name="cls_row")
    g.op("MatMul", "cls_row", "cls_in.weight", name="cls_raised")
    g.op("BiasGelu", "cls_raised", "cls_in.bias", name="cls_active", domain=MICROSOFT)
    g.op("Squeeze", g.op("MatMul", "cls_active", "cls_out.weight", name="cls_column"), "one", name="cls_score")
    g.op("Add", "scaled", "cls_score", name="score")
    return ["word_q", "word_s", "type", "rarity", "learned_column", "cosines", "cls_row", "cls_raised", "cls_column"]


def run(model: onnx.ModelProto | bytes, pairs: list[dict[str, Any]]) -> tuple[Array, float]:
    """Scores, and milliseconds a pair on one thread."""
    ready = session(model)
    started = time.process_time()
    scores = [
        ready.run(
            ["score"],
            {"input_ids": np.array([p["ids"]], np.int64), "token_type_ids": np.array([p["types"]], np.int64)},
        )[0][0]
        for p in pairs
    ]
    return np.array(scores), (time.process_time() - started) * 1000 / len(pairs)


def ranks(values: Array) -> Array:
    return np.argsort(np.argsort(values, kind="stable"), kind="stable").astype(np.float64)


def compare(label: str, pairs: list[dict[str, Any]], reference: Array, scores: Array, milliseconds: float) -> None:
    groups = collections.defaultdict(list)
    for number, pair in enumerate(pairs):
        groups[pair["group"]].append(number)
    inside = np.mean([np.corrcoef(ranks(reference[n]), ranks(scores[n]))[0, 1] for n in groups.values()])
    first = np.mean([np.argmax(reference[n]) == np.argmax(scores[n]) for n in groups.values()])
    hits = np.mean([np.argmax(scores[n]) == 0 for n in groups.values()])
    overall = np.corrcoef(ranks(reference), ranks(scores))[0, 1]
    away = np.abs(reference - scores).mean()
    print(
        f"{label}: rank correlation {overall:.4f} over all pairs, {inside:.4f} inside a query; same first {first:.3f};"
        f" mean |difference| {away:.3f} (scores' deviation {reference.std():.2f}); positive first {hits:.3f};"
        f" {milliseconds:.2f} ms a pair"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--references", type=Path, help="held-out pairs with full-precision scores")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--reduce-range", action="store_true", help="7-bit weights: no saturation without VNNI")
    args = parser.parse_args()
    model, keep = build(load_file(args.checkpoint))
    onnx.checker.check_model(model)
    data = quantise(model, keep=keep, reduce_range=args.reduce_range)
    args.out.write_bytes(data)
    print(f"{args.out.name}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")
    if args.references:
        pairs = [json.loads(line) for line in args.references.read_text(encoding="utf-8").splitlines()]
        reference = np.array([pair["score"] for pair in pairs])
        compare("float32 graph", pairs, reference, *run(model, pairs))
        compare("int8", pairs, reference, *run(data, pairs))


if __name__ == "__main__":
    main()
