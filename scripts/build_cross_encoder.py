"""Build the shipped int8 ONNX cross-encoder from a checkpoint of scripts/train_cross_encoder.py.

The graph is written node by node with onnxruntime's fused transformer operators, then quantized by onnxruntime's own
``quantize_dynamic``, per channel.  The word table is stored as int8 with one scale a row.  Deterministic: the same
checkpoint and package versions give the same bytes.

Inputs ``input_ids`` and ``token_type_ids``, int64, shape (1, pieces): one pair a call, no padding, 256 pieces at most.
Output ``score``, float32, shape (1,).

Usage:
    python scripts/build_cross_encoder.py --checkpoint model.safetensors --references references.jsonl --out model.onnx

Needs onnx, onnxruntime, numpy and safetensors.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from safetensors.numpy import load_file

CLS, SEP = 101, 102
LAYERS, HEADS, PIECES = 6, 12, 256
MICROSOFT = "com.microsoft"
Array = NDArray[Any]


class Graph:
    """Collects nodes and constants."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: Array) -> str:
        """Add a constant; its name."""
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def op(self, kind: str, name: str, inputs: list[str], domain: str = "", **attributes: Any) -> str:
        """Add a node; the name of its output."""
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, domain=domain, **attributes))
        return name


def build(w: dict[str, Array]) -> tuple[onnx.ModelProto, list[str]]:
    """The float32 model (with an int8 word table), and the nodes that must stay in float32."""
    g = Graph()
    _embed(g, w)
    x = "embedded"
    for i in range(LAYERS):
        x = _layer(g, w, i, x)
    keep = _head(g, w, x)
    pieces = [1, "pieces"]
    graph = helper.make_graph(
        g.nodes,
        "cross_encoder",
        [helper.make_tensor_value_info(name, TensorProto.INT64, pieces) for name in ("input_ids", "token_type_ids")],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, [1])],
        g.constants,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(MICROSOFT, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="memory_plugin")
    return model, keep


def _embed(g: Graph, w: dict[str, Array]) -> None:
    words = w["words.weight"]
    scale = np.maximum(np.abs(words).max(1, keepdims=True), 1e-8) / 127
    g.constant("words", np.rint(words / scale).astype(np.int8))
    g.constant("words_scale", scale.astype(np.float32))
    g.constant("positions", w["positions.weight"][:PIECES])
    g.constant("types", w["types.weight"])
    g.constant("zero", np.array([0], np.int64))
    g.constant("one", np.array([1], np.int64))
    g.op("Shape", "shape", ["input_ids"])
    g.op("Slice", "pieces_", ["shape", "one", g.constant("two", np.array([2], np.int64)), "zero"])
    g.op("Slice", "position", ["positions", "zero", "pieces_", "zero"])
    g.op("Cast", "word_f", [g.op("Gather", "word_q", ["words", "input_ids"])], to=TensorProto.FLOAT)
    g.op("Mul", "word", ["word_f", g.op("Gather", "word_s", ["words_scale", "input_ids"])])
    g.op("Add", "word_position", ["word", "position"])
    g.op("Add", "summed", ["word_position", g.op("Gather", "type", ["types", "token_type_ids"])])
    g.constant("norm.weight", w["norm.weight"])
    g.constant("norm.bias", w["norm.bias"])
    g.op("LayerNormalization", "embedded", ["summed", "norm.weight", "norm.bias"], axis=-1, epsilon=1e-12)


def _layer(g: Graph, w: dict[str, Array], i: int, x: str) -> str:
    at = f"layers.{i}."

    def weight(name: str) -> str:
        return g.constant(f"{at}{name}.weight", w[f"{at}{name}.weight"].T)

    def vector(name: str) -> str:
        return g.constant(at + name, w[at + name])

    def norm(name: str, value: str, residual: str, number: int, bias: str) -> str:
        inputs = [value, residual, vector(f"norm{number}.weight"), vector(f"norm{number}.bias"), vector(bias)]
        return g.op("SkipLayerNormalization", at + name, inputs, MICROSOFT, epsilon=1e-12)

    attended = g.op("Attention", f"{at}attended", [x, weight("qkv"), vector("qkv.bias")], MICROSOFT, num_heads=HEADS)
    middle = norm("middle", g.op("MatMul", f"{at}projected", [attended, weight("out")]), x, 1, "out.bias")
    up = g.op("MatMul", f"{at}raised", [middle, weight("up")])
    active = g.op("BiasGelu", f"{at}active", [up, vector("up.bias")], MICROSOFT)
    return norm("hidden", g.op("MatMul", f"{at}lowered", [active, weight("down")]), middle, 2, "down.bias")


def _head(g: Graph, w: dict[str, Array], x: str) -> list[str]:
    """The joint MaxSim head; see scripts/train_cross_encoder.py for the formula."""
    for name, value in (("sep", SEP), ("cls", CLS)):
        g.constant(name, np.array(value, np.int64))
    g.constant("kind_query", np.array(0, np.int64))
    g.constant("least", np.array(-1.0, np.float32))
    g.constant("never", np.array(-1e9, np.float32))
    g.op("Squeeze", "ids", ["input_ids", "zero"])
    g.op("Squeeze", "kinds", ["token_type_ids", "zero"])
    g.op("Squeeze", "hidden", [x, "zero"])
    g.op("Equal", "is_sep", ["ids", "sep"])
    g.op("Not", "not_sep", ["is_sep"])
    g.op("Not", "not_cls", [g.op("Equal", "is_cls", ["ids", "cls"])])
    g.op("Equal", "first", ["kinds", "kind_query"])
    g.op("And", "passage", [g.op("Not", "second", ["first"]), "not_sep"])
    g.op("And", "query", [g.op("And", "first_words", ["first", "not_sep"]), "not_cls"])
    g.op("LpNormalization", "unit", ["hidden"], axis=-1, p=2)
    g.op("MatMul", "cosines", ["unit", g.op("Transpose", "unit_t", ["unit"], perm=[1, 0])])
    g.op("Where", "seen", ["passage", "cosines", "least"])
    g.op("ReduceMax", "best", ["seen"], axes=[1], keepdims=0)
    g.constant("idf", (w["log_idf"] * w["idf_power"]).astype(np.float32))
    g.constant("weight.weight", w["weight.weight"].T)
    g.op("Squeeze", "learned", [g.op("MatMul", "learned_column", ["hidden", "weight.weight"]), "one"])
    g.op("Add", "logits", [g.op("Gather", "rarity", ["idf", "ids"]), "learned"])
    g.op("Softmax", "weights", [g.op("Where", "asked", ["query", "logits", "never"])], axis=0)
    g.op("ReduceSum", "similar", [g.op("Mul", "weighted", ["weights", "best"]), "zero"], keepdims=1)
    g.op("Mul", "scaled", ["similar", g.constant("scale", np.exp(w["log_scale"]).astype(np.float32))])
    g.constant("cls_in.weight", w["cls_in.weight"].T)
    g.constant("cls_in.bias", w["cls_in.bias"])
    g.constant("cls_out.weight", w["cls_out.weight"].T)
    g.op("Gather", "cls_row", ["hidden", "zero"])
    g.op("MatMul", "cls_raised", ["cls_row", "cls_in.weight"])
    g.op("BiasGelu", "cls_active", ["cls_raised", "cls_in.bias"], MICROSOFT)
    g.op("Squeeze", "cls_score", [g.op("MatMul", "cls_column", ["cls_active", "cls_out.weight"]), "one"])
    g.op("Add", "score", ["scaled", "cls_score"])
    return ["word_q", "word_s", "type", "rarity", "learned_column", "cosines", "cls_row", "cls_raised", "cls_column"]


def quantize(model: onnx.ModelProto, keep: list[str], path: Path, *, reduce_range: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "float.onnx")
        onnx.save(model, source)
        quantize_dynamic(
            source,
            path,
            per_channel=True,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=keep,
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": TensorProto.FLOAT},
        )


def run(model: str | bytes, pairs: list[dict[str, Any]]) -> tuple[Array, float]:
    """Scores, and milliseconds a pair on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    started = time.process_time()
    scores = [
        session.run(
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
    quantize(model, keep, args.out, reduce_range=args.reduce_range)
    data = args.out.read_bytes()
    print(f"{args.out.name}: {len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()}")
    if args.references:
        pairs = [json.loads(line) for line in args.references.read_text(encoding="utf-8").splitlines()]
        reference = np.array([pair["score"] for pair in pairs])
        compare("float32 graph", pairs, reference, *run(model.SerializeToString(), pairs))
        compare("int8", pairs, reference, *run(data, pairs))


if __name__ == "__main__":
    main()
