"""Training itself, on a tiny model that has to learn which word stands for which."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the extra train is not installed")
pytest.importorskip("sentence_transformers", reason="the extra train is not installed")

import torch

from memory_plugin.train import base, loop
from memory_plugin.train.loss import contrastive, cut, distillation
from memory_plugin.train.mine import Example
from memory_plugin.train.recipe import Recipe
from tests.train import tiny
from tests.train.toy import WORDS, pairs

RECIPE = Recipe(epochs=12, batch=16, rate=3e-3, seed=3, threads=1)


def examples(given: Sequence[tuple[str, str]], *, grades: bool = False) -> list[Example]:
    """Each with two wrong passages, which share three words with the right one; those are graded in between."""
    made = []
    for number, (query, passage) in enumerate(given):
        wrong = [" ".join([*passage.split()[:3], word]) for word in WORDS[48 + number % 40 : 50 + number % 40]]
        made.append(Example(query, (passage,), tuple(dict.fromkeys(wrong) if passage not in wrong else ()), (), ()))
    return (
        [replace(one, grades=(3.0, *(1.0 for _ in one.negatives))) for one in made]
        if grades
        else [replace(one, grades=(1.0, *(0.0 for _ in one.negatives))) for one in made]
    )


@pytest.fixture
def model(tmp_path: Path) -> Any:
    return base.load(tiny.floats(tmp_path / "tiny", words=WORDS))


def recall(model: Any, held: Sequence[tuple[str, str]], dimension: int = tiny.WIDTH) -> float:
    """Recall@1 among all held-out passages, by the first numbers of the vectors."""
    sides = [model.encode([pair[side] for pair in held])[:, :dimension] for side in (0, 1)]
    queries, passages = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in sides)
    return float((np.argmax(queries @ passages.T, axis=1) == np.arange(len(held))).mean())


@pytest.mark.parametrize("method", ["contrastive", "distill"])
def test_what_is_learned_holds_for_sentences_never_seen(model: Any, method: Any) -> None:
    held = pairs(60, seed=99)
    before = recall(model, held)
    course = loop.train(model, examples(pairs(400, seed=1), grades=True), (), replace(RECIPE, method=method))
    assert course.losses[-1] < course.losses[0] / 2
    assert before < 0.1
    assert recall(model, held) > 0.6
    assert (course.ended, course.best, course.steps) == ("epochs", course.steps, 12 * 25)


def test_the_best_state_is_kept_and_training_ends_when_nothing_is_gained(model: Any) -> None:
    stop = examples(pairs(40, seed=7))
    told: list[tuple[str, int, int]] = []
    recipe = replace(RECIPE, epochs=100, rate=0.01)
    course = loop.train(model, examples(pairs(120, seed=1)), stop, recipe, lambda *one: told.append(one))
    assert course.ended == "no gain"
    assert course.steps < 100 * 8
    assert course.checks.index(max(course.checks)) < len(course.checks) - 1
    assert loop._Judge(model, stop).quality() == pytest.approx(max(course.checks), abs=0.02)
    assert told[0] == ("train", 1, 800)
    assert len(told) == course.steps


def test_a_seed_decides(tmp_path: Path) -> None:
    def weights(seed: int) -> Any:
        made = base.load(tiny.floats(tmp_path / f"{seed}-{random.random()}", words=WORDS))
        loop.train(made, examples(pairs(32, seed=1)), (), replace(RECIPE, epochs=1, seed=seed))
        return made.encode(["ba be bi"])

    first, again, other = weights(1), weights(1), weights(2)
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def test_a_time_limit_ends_it(model: Any) -> None:
    course = loop.train(model, examples(pairs(64, seed=1)), (), replace(RECIPE, time_limit=1e-9))
    assert (course.ended, course.steps) == ("time limit", 1)
    assert len(course.losses) == 1


def test_control_c_ends_it_with_the_best_so_far(model: Any) -> None:
    def interrupt(what: str, done: int, of: int) -> None:
        if done == 30:
            raise KeyboardInterrupt

    stop = examples(pairs(40, seed=7))
    course = loop.train(model, examples(pairs(200, seed=1)), stop, RECIPE, interrupt)
    assert (course.ended, course.steps) == ("interrupted", 30)
    assert 0 < course.best < 30
    assert loop._Judge(model, stop).quality() == pytest.approx(max(course.checks), abs=0.02)


def test_trained_for_it_short_vectors_are_nearly_as_good(tmp_path: Path) -> None:
    held, found = pairs(60, seed=99), {}
    for dimensions in ((), (4,)):
        model = base.load(tiny.floats(tmp_path / f"of{len(dimensions)}", words=WORDS))
        loop.train(model, examples(pairs(400, seed=1)), (), replace(RECIPE, dimensions=dimensions))
        found[dimensions] = recall(model, held, dimension=4)
    assert found[4,] > found[()] + 0.1


def test_torch_keeps_its_threads(model: Any) -> None:
    before = torch.get_num_threads()
    loop.train(model, examples(pairs(16, seed=1)), (), replace(RECIPE, epochs=1, threads=before + 1))
    assert torch.get_num_threads() == before


# ── losses ────────────────────────────────────────────────────────────────────────────────────────


def unit(*rows: Sequence[float]) -> Any:
    return torch.nn.functional.normalize(torch.tensor(rows, dtype=torch.float32), dim=1)


def test_the_contrastive_loss_by_hand() -> None:
    queries, passages = unit([1, 0]), unit([1, 0], [0, 1], [1, 1])
    none = torch.zeros((1, 3), dtype=torch.bool)
    logits = np.array([1, 0, np.sqrt(0.5)]) / 0.05
    wanted = -np.log(np.exp(logits[0]) / np.exp(logits).sum())
    answer = torch.tensor([0])
    assert float(contrastive(queries, passages, answer, none)) == pytest.approx(wanted, rel=1e-4)
    unknown = torch.tensor([[False, False, True]])
    without = -np.log(np.exp(logits[0]) / np.exp(logits[:2]).sum())
    assert float(contrastive(queries, passages, answer, unknown)) == pytest.approx(without, abs=1e-6)


def test_distillation_is_nothing_where_student_and_teacher_agree() -> None:
    queries, passages = unit([1, 0], [0, 1]), unit([1, 0], [0, 1], [1, 1])
    listed = torch.tensor([[0, 1, 2], [1, 0, -1]])
    agreed = torch.tensor([[1, 0, 0.5**0.5], [1, 0, 9.0]]) / 0.05
    assert float(distillation(queries, passages, listed, agreed)) == pytest.approx(0, abs=1e-5)
    turned = torch.tensor([[0, 1, 0.5], [0, 1, 9.0]]) / 0.05
    assert float(distillation(queries, passages, listed, turned)) > 10


def test_cut_vectors_have_unit_length() -> None:
    made = cut(unit([3, 4, 12]), 2)
    assert made.tolist()[0] == pytest.approx([0.6, 0.8])
