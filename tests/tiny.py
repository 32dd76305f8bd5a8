"""Model directories that are tiny and real: ONNX graphs that onnxruntime runs, tokenizers that ``tokenizers`` reads.

What they compute is plain, so that a test can say what has to come out; and texts that share words are near.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from memory_plugin.testing.providers import TEXTS

SAMPLE = (
    *TEXTS,
    "Where does the cat sleep?",
    "Ana moved to Porto last autumn; she rents a flat near the river.",
    "The invoice number is KX-4471, they want it paid by the end of May.",
    "We should meet for lunch, maybe on Friday? I bought a red bicycle.",
    "a picture of something red, green or blue",
)
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")
BOS, PAD, EOS, UNK = range(4)


@cache
def tokenizer_json() -> str:
    """A byte-level BPE with whole words of the sample, each text between <s> and </s>; other words fall to bytes."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=700,
        min_frequency=1,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SAMPLE * 3, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=[("<s>", BOS), ("</s>", EOS)]
    )
    # As published files have it: padding and a cut that nobody wants by surprise.
    tokenizer.enable_padding(pad_id=PAD, pad_token="<pad>", length=64)
    tokenizer.enable_truncation(64)
    return str(tokenizer.to_str())


def vocabulary() -> int:
    return int(Tokenizer.from_str(tokenizer_json()).get_vocab_size())


def ids_of(text: str) -> list[int]:
    """The word pieces of a text, as the tiny models see them."""
    tokenizer = Tokenizer.from_str(tokenizer_json())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return list(tokenizer.encode(text).ids)


def table(dimension: int, *, seed: int = 0) -> NDArray[np.float32]:
    """A vector for each word piece; special ones and single characters have short ones."""
    vectors = np.random.default_rng(seed).normal(size=(vocabulary(), dimension)).astype(np.float32)
    vectors[: len(SPECIAL) + 256] *= 0.05
    return vectors


def write_tokenizer(place: Path, *, window: int = 64, **settings: Any) -> None:
    place.mkdir(parents=True, exist_ok=True)
    (place / "tokenizer.json").write_text(tokenizer_json(), "utf-8")
    told = {"model_max_length": window, "pad_token": "<pad>", **settings}
    (place / "tokenizer_config.json").write_text(json.dumps(told))
    (place / "special_tokens_map.json").write_text(json.dumps({"pad_token": "<pad>", "unk_token": "<unk>"}))


class Graph:
    """Nodes and weights of an ONNX model under construction."""

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._weights: list[Any] = []

    def weight(self, name: str, value: NDArray[Any]) -> str:
        self._weights.append(numpy_helper.from_array(value, name))
        return name

    def node(self, kind: str, given: Sequence[str], output: str, **attributes: Any) -> str:
        self._nodes.append(helper.make_node(kind, list(given), [output], **attributes))
        return output

    def save(
        self,
        path: Path,
        inputs: Mapping[str, tuple[int, Sequence[Any]]],
        outputs: Mapping[str, Sequence[Any]],
        **how: Any,
    ) -> None:
        """Write the model; ``how`` goes to onnx.save."""
        graph = helper.make_graph(
            self._nodes,
            "tiny",
            [helper.make_tensor_value_info(name, kind, list(shape)) for name, (kind, shape) in inputs.items()],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)) for name, shape in outputs.items()],
            self._weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model, str(path), **how)


TEXT = {"input_ids": (TensorProto.INT64, ("batch", "n")), "attention_mask": (TensorProto.INT64, ("batch", "n"))}


def _pooled(graph: Graph, states: str, output: str) -> str:
    """The mean over the word pieces that the mask lets through."""
    graph.node("Cast", ["attention_mask"], "mask_float", to=TensorProto.FLOAT)
    graph.node("Unsqueeze", ["mask_float", graph.weight("last", np.array([2]))], "mask_3d")
    graph.node("Mul", [states, "mask_3d"], "masked")
    graph.node("ReduceSum", ["masked", graph.weight("pieces", np.array([1]))], "sum", keepdims=0)
    graph.node("ReduceSum", ["mask_3d", "pieces"], "count", keepdims=0)
    return graph.node("Div", ["sum", "count"], output)


def write_encoder(
    place: Path, *, dimension: int = 64, file: str = "model.onnx", seed: int = 0, window: int = 64
) -> Path:
    """A text encoder with last_hidden_state: a table, looked up."""
    graph = Graph()
    graph.node("Gather", [graph.weight("words", table(dimension, seed=seed)), "input_ids"], "states")
    graph.node("Mul", ["states", graph.weight("one", np.ones(1, np.float32))], "last_hidden_state")
    graph.save(place / file, TEXT, {"last_hidden_state": ("batch", "n", dimension)})
    write_tokenizer(place, window=window)
    (place / "config.json").write_text(json.dumps({"hidden_size": dimension, "pad_token_id": PAD}))
    return place


def term_weights() -> NDArray[np.float32]:
    """What the tiny bge-m3 thinks of each word piece: some weigh nothing, some less than nothing."""
    weights = np.random.default_rng(7).uniform(0.1, 2.0, (vocabulary(), 1)).astype(np.float32)
    weights[::5] = -1
    weights[: len(SPECIAL)] = 3
    return weights


def write_m3(
    place: Path,
    *,
    dimension: int = 64,
    names: Sequence[str] = ("dense_vecs", "sparse_vecs", "colbert_vecs"),
    raw: bool = True,
    file: str = "model.onnx",
    window: int = 64,
    external: bool = False,
    seed: int = 0,
) -> Path:
    """A bge-m3: the dense vector is a mean; weights and token vectors are looked up.

    Args:
        raw: Weights without ReLU, token vectors of any length and with that of <s>; else as FlagEmbedding returns them.
        external: Weights in a file of their own, as models over 2 GiB have them.
    """
    dense, sparse, colbert = names
    graph = Graph()
    graph.node("Gather", [graph.weight("words", table(dimension, seed=seed)), "input_ids"], "states")
    _pooled(graph, "states", dense)
    graph.node("Gather", [graph.weight("weights", term_weights()), "input_ids"], sparse if raw else "signed")
    graph.node(
        "Gather", [graph.weight("late", table(dimension, seed=seed + 1)), "input_ids"], colbert if raw else "all"
    )
    rows = "n" if raw else "n_minus_1"
    if not raw:
        graph.node("Relu", ["signed"], sparse)
        begin, end = graph.weight("begin", np.array([1])), graph.weight("end", np.array([2**31]))
        graph.node("Slice", ["all", begin, end, "pieces"], "sliced")
        graph.node("LpNormalization", ["sliced"], colbert, axis=-1, p=2)
    how = {"save_as_external_data": True, "location": f"{file}_data", "size_threshold": 1024} if external else {}
    shapes = {dense: ("batch", dimension), sparse: ("batch", "n", 1), colbert: ("batch", rows, dimension)}
    graph.save(place / file, TEXT, shapes, **how)
    write_tokenizer(place, window=window)
    return place


def write_cross_encoder(place: Path, *, file: str = "onnx/model.onnx") -> Path:
    """A cross-encoder whose logit counts the words that query and passage share, weighed by the tiny terms."""
    graph = Graph()
    types = {**TEXT, "token_type_ids": (TensorProto.INT64, ("batch", "n"))}
    worth = np.clip(np.linalg.norm(table(8), axis=1), 0, None).astype(np.float32)
    worth[: len(SPECIAL)] = 0
    graph.node("Gather", [graph.weight("worth", worth), "input_ids"], "values")
    graph.node("Cast", ["token_type_ids"], "second", to=TensorProto.FLOAT)
    graph.node("Sub", [graph.weight("one", np.ones(1, np.float32)), "second"], "first")
    graph.node("Mul", ["first", "values"], "query")
    graph.node("Unsqueeze", ["query", graph.weight("at_2", np.array([2]))], "query_column")
    graph.node("Unsqueeze", ["second", graph.weight("at_1", np.array([1]))], "passage_row")
    graph.node("Unsqueeze", ["input_ids", "at_2"], "ids_column")
    graph.node("Unsqueeze", ["input_ids", "at_1"], "ids_row")
    graph.node("Equal", ["ids_column", "ids_row"], "same")
    graph.node("Cast", ["same"], "same_float", to=TensorProto.FLOAT)
    graph.node("Mul", ["same_float", "query_column"], "asked")
    graph.node("Mul", ["asked", "passage_row"], "found")
    graph.node("ReduceSum", ["found", graph.weight("both", np.array([1, 2]))], "sum", keepdims=0)
    graph.node("Unsqueeze", ["sum", "at_1"], "logits")
    graph.save(place / file, types, {"logits": ("batch", 1)})
    write_tokenizer(place)
    (place / "config.json").write_text(json.dumps({"pad_token_id": PAD}))
    return place


COLOURS = ("red", "green", "blue")


def colour_table(dimension: int = 32) -> NDArray[np.float32]:
    """Word pieces of colours lie along the first three axes, all others across the rest."""
    vectors = table(dimension)
    vectors[:, :3] = 0
    for axis, colour in enumerate(COLOURS):
        (piece,) = ids_of(colour)[1:-1]
        vectors[piece] = np.eye(dimension, dtype=np.float32)[axis] * 20
    return vectors


def write_clip_text(path: Path, *, dimension: int = 32, length: str | int = "n", seed_of: int = 0) -> None:
    """The text model: the mean of what its word pieces are."""
    graph = Graph()
    given = {name: (kind, ("batch", length)) for name, (kind, _) in TEXT.items()}
    graph.node("Gather", [graph.weight("words", colour_table(dimension) + seed_of), "input_ids"], "states")
    _pooled(graph, "states", "text_embeds")
    shapes = {"text_embeds": ("batch", dimension)}
    graph.save(path, given, shapes)


def write_clip_vision(path: Path, *, dimension: int = 32, size: int = 32, name: str = "image_embeds") -> None:
    """The vision model: the mean colour, on the axes of the colours' words."""
    mean, deviation = np.array((0.48145466, 0.4578275, 0.40821073)), np.array((0.26862954, 0.26130258, 0.27577711))
    graph = Graph()
    graph.node("GlobalAveragePool", ["pixel_values"], "averages")
    graph.node("Flatten", ["averages"], "colour")
    to_axes = np.zeros((3, dimension), np.float32)
    to_axes[:, :3] = np.diag(deviation)
    back = np.zeros(dimension, np.float32)
    back[:3] = mean
    graph.node("MatMul", ["colour", graph.weight("axes", to_axes)], "scaled")
    graph.node("Add", ["scaled", graph.weight("back", back)], name)
    graph.save(path, {"pixel_values": (TensorProto.FLOAT, ("batch", 3, size, size))}, {name: ("batch", dimension)})


def write_clip(place: Path, *, apart: bool = False, size: int = 32, window: int = 77) -> Path:
    """A CLIP of colours, in one directory or in two."""
    texts, images = (place / "tiny-text", place / "tiny-vision") if apart else (place, place)
    write_tokenizer(texts, window=window)
    write_clip_text(texts / ("model.onnx" if apart else "onnx/text_model.onnx"))
    images.mkdir(parents=True, exist_ok=True)
    write_clip_vision(images / ("model.onnx" if apart else "onnx/vision_model.onnx"), size=size)
    told = {"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}, "resample": 3}
    (images / "preprocessor_config.json").write_text(json.dumps(told))
    return place
