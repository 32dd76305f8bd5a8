"""The training itself: AdamW over batches, stopped by questions that were kept back, the best state kept.

Needs torch.  The model is any of sentence-transformers; its prompts for queries and documents are put before the texts.
"""

from __future__ import annotations

import contextlib
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_

from memory_plugin.metrics import ndcg_at
from memory_plugin.train.batches import NEGATIVES, Batch, batches
from memory_plugin.train.loss import at_dimensions, contrastive, distillation
from memory_plugin.train.mine import Example
from memory_plugin.train.recipe import Course, Recipe

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

Progress: TypeAlias = Callable[[str, int, int], None]

WARM_UP = 0.1
"""Share of the steps over which the learning rate rises; then it falls to nothing on a straight line."""
CLIP = 1.0
"""Longest gradient."""
DECAY = 0.01
"""Weight decay of matrices."""
LABEL_SHARE = 0.5
"""Weight of the labels beside the teacher's grades when distilling."""
CHECKS = 3
"""How often an epoch is stopped to see whether training still helps."""
PATIENCE = 3
"""Checks without a gain after which training ends; those while the rate still rises do not count."""


def train(
    model: SentenceTransformer,
    examples: Sequence[Example],
    stop: Sequence[Example],
    recipe: Recipe,
    progress: Progress | None = None,
) -> Course:
    """Train a model in place; it ends in its best state, by ``stop``, or its last one where that is empty.

    Ctrl-C ends training as the time limit does.

    Args:
        model: Any model of sentence-transformers.
        examples: What to learn from.
        stop: What to stop by.
        recipe: How.
        progress: Told about every step.
    """
    random.seed(recipe.seed)  # dropout and whatever a model's own modules draw
    torch.manual_seed(recipe.seed)
    with _threads(recipe.threads):
        return _Training(model, examples, stop, recipe, progress or _silent).run()


def _silent(what: str, done: int, of: int) -> None:
    """No progress shown."""


@contextlib.contextmanager
def _threads(wanted: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    if wanted is not None:
        torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Training:
    """One run: the model, its optimizer, and the best state so far."""

    def __init__(
        self,
        model: SentenceTransformer,
        examples: Sequence[Example],
        stop: Sequence[Example],
        recipe: Recipe,
        tell: Progress,
    ) -> None:
        self.model = model
        self.examples = examples
        self.recipe = recipe
        self.tell = tell
        self.course = Course()
        self.judge = _Judge(model, stop) if stop else None
        self.epoch = math.ceil(len(examples) / recipe.batch)
        self.total = self.epoch * recipe.epochs
        self.optimizer = _optimizer(model, recipe.rate)
        self.best: Mapping[str, Tensor] = {}
        self.since_best = 0

    def run(self) -> Course:
        """All of it."""
        started = time.monotonic()
        deadline = math.inf if self.recipe.time_limit is None else started + self.recipe.time_limit
        try:
            self._check()
            self._steps(deadline)
        except KeyboardInterrupt:
            self.course.ended = "interrupted"
        if self.judge is None:
            self.course.best = self.course.steps
        elif self.best:
            self.model.load_state_dict(self.best)
        self.model.eval()
        self.course.seconds = time.monotonic() - started
        return self.course

    def _steps(self, deadline: float) -> None:
        rng = random.Random(self.recipe.seed)  # noqa: S311
        every = max(1, self.epoch // CHECKS)
        recent: list[float] = []
        negatives = NEGATIVES[self.recipe.method]
        for _ in range(self.recipe.epochs):
            for batch in batches(self.examples, self.recipe.batch, rng, negatives=negatives):
                recent.append(self._step(batch))
                done = self.course.steps
                self.tell("train", done, self.total)
                late = time.monotonic() > deadline
                if late or done % every == 0 or done == self.total:
                    self.course.losses.append(float(np.mean(recent)))
                    recent.clear()
                    self._check()
                if late or self.since_best >= PATIENCE:
                    self.course.ended = "time limit" if late else "no gain"
                    return

    def _step(self, batch: Batch) -> float:
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate * _pace((self.course.steps + 1) / self.total)
        device = self.model.device
        with _autocast(device.type):
            queries = _embed(self.model, batch.queries, "query")
            passages = _embed(self.model, batch.passages, "document")
        loss = _loss(batch, queries.float(), passages.float(), self.recipe)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        clip_grad_norm_(self.model.parameters(), CLIP)
        self.optimizer.step()
        self.course.steps += 1
        return float(loss.detach())

    def _check(self) -> None:
        """Keep the state if it is the best so far."""
        if self.judge is None:
            return
        quality = self.judge.quality()
        better = not self.course.checks or quality > max(self.course.checks)
        self.course.checks.append(quality)
        if better:
            self.since_best = 0
        elif self.course.steps > WARM_UP * self.total:
            self.since_best += 1
        if better:
            self.course.best = self.course.steps
            self.best = {name: value.detach().clone() for name, value in self.model.state_dict().items()}


def _pace(done: float) -> float:
    return min(done / WARM_UP, (1 - done) / (1 - WARM_UP) + 1e-3)


def _optimizer(model: SentenceTransformer, rate: float) -> torch.optim.Optimizer:
    parts = [one for one in model.parameters() if one.requires_grad]
    groups = [
        {"params": [one for one in parts if one.ndim > 1], "weight_decay": DECAY},
        {"params": [one for one in parts if one.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, fused=True)


def _autocast(device: str) -> Any:
    """Half precision where it pays: on graphics cards, and on processors with instructions for it."""
    if device == "cpu" and not getattr(torch.cpu, "_is_avx512_bf16_supported", bool)():
        return contextlib.nullcontext()
    return torch.autocast(device, torch.bfloat16)


def _embed(model: SentenceTransformer, texts: Sequence[str], kind: Literal["query", "document"]) -> Tensor:
    """Unit vectors with gradients, shape (n, dimension)."""
    prompt = (model.prompts or {}).get(kind) or ""
    features = model.preprocess([prompt + text for text in texts])
    placed = {name: value.to(model.device) if isinstance(value, Tensor) else value for name, value in features.items()}
    return functional.normalize(model(placed)["sentence_embedding"], dim=1)


def _loss(batch: Batch, queries: Tensor, passages: Tensor, recipe: Recipe) -> Tensor:
    def tensor(values: Any) -> Tensor:
        return torch.from_numpy(values).to(queries.device)

    losses = [partial(contrastive, answers=tensor(batch.answers), unknown=tensor(batch.unknown))]
    if recipe.method == "distill":
        losses.append(partial(distillation, listed=tensor(batch.listed), teacher=tensor(batch.teacher)))
    dimensions = sorted({queries.shape[1], *recipe.dimensions})
    found = [at_dimensions(loss, queries, passages, dimensions) for loss in losses]
    return found[0] if len(found) == 1 else LABEL_SHARE * found[0] + (1 - LABEL_SHARE) * found[1]


class _Judge:
    """How well the model ranks the answers of questions kept back among all their passages."""

    def __init__(self, model: SentenceTransformer, examples: Sequence[Example]) -> None:
        self.model = model
        self.queries = [one.query for one in examples]
        texts = (text for one in examples for text in (*one.answers, *one.negatives[: NEGATIVES["contrastive"]]))
        self.passages = list(dict.fromkeys(texts))
        self.relevant: list[dict[str, int]] = [dict.fromkeys(one.answers, 1) for one in examples]

    def quality(self) -> float:
        """Mean NDCG@10."""
        self.model.eval()
        with torch.no_grad(), _autocast(self.model.device.type):
            queries, passages = self._all(self.queries, "query"), self._all(self.passages, "document")
        order = (-(queries @ passages.T)).argsort(axis=1, kind="stable")[:, :10]
        return float(
            np.mean(
                [
                    ndcg_at([self.passages[place] for place in row], relevant, 10)
                    for row, relevant in zip(order, self.relevant, strict=True)
                ]
            )
        )

    def _all(self, texts: Sequence[str], kind: Literal["query", "document"]) -> NDArray[np.float32]:
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        made: list[NDArray[np.float32]] = []
        for start in range(0, len(order), 64):
            part = [texts[place] for place in order[start : start + 64]]
            made.append(_embed(self.model, part, kind).float().cpu().numpy())
        vectors = np.concatenate(made)
        back = np.empty_like(vectors)
        back[order] = vectors
        return back
