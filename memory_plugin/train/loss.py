"""What training makes smaller, as functions of vectors.

Both look at q · p ÷ τ, cosines sharpened by a temperature, of the queries of a batch against its passages.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

TEMPERATURE = 0.05
"""τ: what all-MiniLM-L6-v2 was made with; cosines of its vectors are spread accordingly."""


def contrastive(queries: Tensor, passages: Tensor, answers: Tensor, unknown: Tensor) -> Tensor:
    """InfoNCE (van den Oord et al., arXiv:1807.03748): each query picks its answer among all passages of the batch.

    Args:
        queries: Unit vectors, shape (b, dimension).
        passages: Unit vectors, shape (p, dimension).
        answers: Which passage answers each query, shape (b,), int64.
        unknown: Which passages may answer a query too and so say nothing about it, shape (b, p), bool.
    """
    logits = queries @ passages.T / TEMPERATURE
    return functional.cross_entropy(logits.masked_fill(unknown, float("-inf")), answers)


def distillation(queries: Tensor, passages: Tensor, listed: Tensor, teacher: Tensor) -> Tensor:
    """KL divergence of a query's list as the teacher weighs it from the list as the vectors do.

    Args:
        queries: Unit vectors, shape (b, dimension).
        passages: Unit vectors, shape (p, dimension).
        listed: Places among the passages, shape (b, list); −1 where a list is shorter.
        teacher: Grades in standard deviations of each list, shape (b, list).
    """
    missing = listed < 0
    cosines = (queries[:, None] * passages[listed.clamp(min=0)]).sum(dim=2)
    found = functional.log_softmax((cosines / TEMPERATURE).masked_fill(missing, -1e9), dim=1)
    wanted = functional.softmax(teacher.masked_fill(missing, -1e9), dim=1)
    return functional.kl_div(found, wanted, reduction="batchmean")


def cut(vectors: Tensor, dimension: int) -> Tensor:
    """The first numbers of each vector, of unit length again (Matryoshka, arXiv:2205.13147)."""
    return functional.normalize(vectors[:, :dimension], dim=1)


def at_dimensions(loss: Any, queries: Tensor, passages: Tensor, dimensions: Sequence[int]) -> Tensor:
    """Mean of a loss over vectors cut to several dimensions."""
    losses = [loss(cut(queries, dimension), cut(passages, dimension)) for dimension in dimensions]
    return torch.stack(losses).mean()
