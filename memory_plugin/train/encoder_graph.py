"""A BERT that averages its last hidden states, as the ONNX file that ``memory_plugin.models.runtime`` runs.

The graph has one input, ``input_ids`` (1, n) int64, one text a call and so no padding, and two outputs:
``sentence`` (1, width), the mean over tokens, and ``tokens`` (n, width), the last hidden states; all of unit length.

Three choices keep int8 close to float32:

* A few channels of a few activations are ten times larger than the rest, and one scale for a whole tensor wastes the
  range on them.  They are divided by a power of two, and their weights multiplied by it: nothing changes in float32
  (Xiao et al., SmoothQuant, arXiv:2211.10438, restricted to outliers).
* The word table has a scale a row.
* Weights have 7 bits, since x86 processors without VNNI saturate on 8: vectors are the same everywhere.

``read_weights`` goes the other way: the weights that an int8 file stands for, to train on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

from memory_plugin.train.onnx_graph import MICROSOFT, Array, Graph, quantise, rows_as_int8, session

OUTLIER = 2.0  # in medians over channels of the largest value seen
SHRINK = 0.75  # exponent: how much of an outlier's excess is moved into its weights

CALIBRATION = (
    "I moved to Lisbon in March 2021, and my sister Ana still lives in Porto.",
    "ok",
    "What did the doctor say about the blood test last week?",
    "def connect(host: str, port: int = 6333) -> Client:  # raises TimeoutError after 30 s",
    "The committee met on Tuesday. Two members objected: the figures for transport were out of date (see p. 14).",
    "Nobody could say how the new bridge, estimated at 4.2 million, would be paid for; they will meet again in May.",
    "- eggs\n- milk\n- flour\n- 2 lemons",
    "Photosynthesis turns light, water and carbon dioxide into sugar and oxygen; it happens in the chloroplasts.",
)
"""Texts that show which channels are outliers.  The same ones are in any text: more of them change nothing."""

WORDS = "embeddings.word_embeddings.weight"
POSITIONS = "embeddings.position_embeddings.weight"
SEGMENTS = "embeddings.token_type_embeddings.weight"


@dataclass(frozen=True, slots=True)
class Shape:
    """What the weights do not tell.

    Args:
        heads: Of attention.
        window: Word pieces that the model reads at most, its special ones included.
        epsilon: Of layer normalisation.
    """

    heads: int = 12
    window: int = 256
    epsilon: float = 1e-12


def as_int8(name: str, weights: Mapping[str, Array], shape: Shape, tokenizer: Tokenizer) -> bytes:
    """The model as an int8 ONNX file.

    Args:
        name: Of the graph.
        weights: By the names of transformers' ``BertModel``; the pooler's are not needed.
        shape: The rest.
        tokenizer: Neither pads nor truncates; it makes the word pieces that outliers are looked for with.
    """
    exact = build(name, weights, shape, {}, exact=True)
    prepared = build(name, weights, shape, find_outliers(exact, tokenizer, shape.window), exact=False)
    return quantise(prepared, kinds=["MatMul"], reduce_range=True)


class EncoderGraph(Graph):
    """A graph with what an encoder is made of."""

    def __init__(self, shrink: Mapping[str, Array], shape: Shape) -> None:
        super().__init__()
        self.shrink = shrink
        self.shape = shape

    def linear(self, x: str, weight: Array, bias: Array, *, name: str) -> str:
        """Add x · weight + bias, the outliers among x's channels shrunk first and their weights grown."""
        if name in self.shrink:
            x = self.op("Mul", x, self.constant(f"{name}.shrink", 1 / self.shrink[name]), name=f"{name}.input")
            weight = weight * self.shrink[name][:, None]
        product = self.op("MatMul", x, self.constant(f"{name}.weight", weight), name=f"{name}.product")
        return self.op("Add", product, self.constant(f"{name}.bias", bias), name=name)

    def add_and_norm(self, x: str, residual: str, weights: Mapping[str, Array], *, name: str) -> str:
        """Layer normalisation of a sum."""
        scale = self.constant(f"{name}.scale", weights[f"{name}.weight"])
        shift = self.constant(f"{name}.shift", weights[f"{name}.bias"])
        kind = "SkipLayerNormalization"
        return self.op(kind, x, residual, scale, shift, name=name, domain=MICROSOFT, epsilon=self.shape.epsilon)


def embeddings(graph: EncoderGraph, weights: Mapping[str, Array], *, exact: bool) -> str:
    """Word, position and (constant) segment, normalised; the word table as int8 with a scale a row unless ``exact``."""
    table = weights[WORDS]
    if exact:
        words = graph.op("Gather", graph.constant("words", table), "input_ids", name="word")
    else:
        codes, scale = rows_as_int8(table)
        code = graph.op("Gather", graph.constant("words", codes), "input_ids", name="word.code")
        code = graph.op("Cast", code, name="word.float", to=TensorProto.FLOAT)
        row = graph.op("Gather", graph.constant("words.scale", scale), "input_ids", name="word.scale")
        words = graph.op("Mul", code, row, name="word")
    segment = weights[SEGMENTS][0]
    positions = graph.constant("positions", weights[POSITIONS][: graph.shape.window] + segment)
    length = graph.op("Shape", "input_ids", name="length", start=1, end=2)
    position = graph.op("Slice", positions, graph.constant("first", np.array([0])), length, name="position")
    return graph.add_and_norm(words, position, weights, name="embeddings.LayerNorm")


def layer(graph: EncoderGraph, x: str, weights: Mapping[str, Array], prefix: str) -> str:
    """One transformer block: attention, then the feed-forward net, each added to its input and normalised."""

    def linear(y: str, part: str) -> str:
        w, b = weights[f"{prefix}{part}.weight"].T, weights[f"{prefix}{part}.bias"]
        return graph.linear(y, w, b, name=prefix + part)

    q, k, v = (linear(x, f"attention.self.{part}") for part in ("query", "key", "value"))
    heads = graph.shape.heads
    y = graph.op("MultiHeadAttention", q, k, v, name=f"{prefix}attention", domain=MICROSOFT, num_heads=heads)
    y = linear(y, "attention.output.dense")
    x = graph.add_and_norm(y, x, weights, name=f"{prefix}attention.output.LayerNorm")
    y = graph.op("Gelu", linear(x, "intermediate.dense"), name=f"{prefix}gelu", domain=MICROSOFT)
    return graph.add_and_norm(linear(y, "output.dense"), x, weights, name=f"{prefix}output.LayerNorm")


def build(
    name: str, weights: Mapping[str, Array], shape: Shape, shrink: Mapping[str, Array], *, exact: bool
) -> onnx.ModelProto:
    """The whole model; ``exact`` keeps float32 throughout, else the word table is int8 and the rest ready for it."""
    graph = EncoderGraph(shrink, shape)
    x = embeddings(graph, weights, exact=exact)
    for index in range(layers(weights)):
        x = layer(graph, x, weights, f"encoder.layer.{index}.")
    mean = graph.op("ReduceMean", x, graph.constant("over tokens", np.array([1])), name="mean", keepdims=0)
    graph.op("LpNormalization", mean, name="sentence", axis=-1, p=2)
    flat = graph.op("Squeeze", x, graph.constant("batch", np.array([0])), name="flat")
    graph.op("LpNormalization", flat, name="tokens", axis=-1, p=2)
    width = weights[WORDS].shape[1]
    vectors = {"sentence": [1, width], "tokens": ["n", width]}
    return graph.model(name, {"input_ids": [1, "n"]}, vectors, opset=18, ir_version=9)


def layers(weights: Mapping[str, Array]) -> int:
    """How many transformer blocks there are weights of."""
    return sum(name.startswith("encoder.layer.") and name.endswith(".output.LayerNorm.bias") for name in weights) // 2


def find_outliers(model: onnx.ModelProto, tokenizer: Tokenizer, window: int) -> dict[str, Array]:
    """For each linear map a factor an input channel: powers of two, 1 for all but the outliers.

    Powers of two change no rounding and, unlike measured maxima, are the same on every machine.
    """
    inputs = {n.name.removesuffix(".product"): n.input[0] for n in model.graph.node if n.op_type == "MatMul"}
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    names = sorted(set(inputs.values()))
    probe.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    run = session(probe)
    largest = dict.fromkeys(names, np.float32(0))
    for text in CALIBRATION:
        values = run.run(names, {"input_ids": np.array([tokenizer.encode(text).ids[:window]])})
        for name, value in zip(names, values, strict=True):
            largest[name] = np.maximum(largest[name], np.abs(value).max(axis=(0, 1)))
    factors = {}
    for linear, name in inputs.items():
        usual = max(OUTLIER * np.median(largest[name]), np.finfo(np.float32).tiny)
        excess = np.maximum(largest[name] / usual, 1)
        factors[linear] = np.exp2(np.rint(SHRINK * np.log2(excess))).astype(np.float32)
    return {name: factor for name, factor in factors.items() if factor.max() > 1}


def read_weights(model: bytes) -> dict[str, Array]:
    """The float32 weights that an int8 file of ``as_int8`` stands for, by the names of transformers' ``BertModel``.

    The segment that texts of one segment have is part of the positions there; it comes back as zeros.
    """
    held = {one.name: numpy_helper.to_array(one) for one in onnx.load_from_string(model).graph.initializer}
    weights = {WORDS: held["words"].astype(np.float32) * held["words.scale"], POSITIONS: held["positions"]}
    weights[SEGMENTS] = np.zeros((2, weights[WORDS].shape[1]), np.float32)
    for name, value in held.items():
        if name.endswith("LayerNorm.scale"):
            weights[name.removesuffix("scale") + "weight"] = value
        elif name.endswith("LayerNorm.shift"):
            weights[name.removesuffix("shift") + "bias"] = value
        elif name.endswith(".bias"):
            weights[name] = value
        elif name.endswith(".weight_quantized"):
            linear = name.removesuffix(".weight_quantized")
            scale, zero = held[f"{linear}.weight_scale"], held[f"{linear}.weight_zero_point"]
            matrix = (value.astype(np.float32) - zero.astype(np.float32)) * scale
            shrunk = held.get(f"{linear}.shrink")
            # Shrinking divided the input by a factor and multiplied the weight by it: undone, it is 1 / shrink.
            weights[f"{linear}.weight"] = np.ascontiguousarray(
                (matrix if shrunk is None else matrix * shrunk[:, None]).T
            )
    return weights
