"""How to train, and how it went: values that need no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from memory_plugin.errors import InvalidInputError

Method: TypeAlias = Literal["contrastive", "distill"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train.

    Args:
        method: "contrastive" learns from the answers and the hard negatives; "distill" also from how well a reranker,
            or the user, says each of them answers.
        epochs: Passes over the examples at most.
        batch: Queries a step.
        rate: Highest learning rate.
        time_limit: Seconds after which training ends with the best so far, or None.
        seed: Of everything that is random.
        dimensions: Lengths that vectors may be cut to afterwards; empty for none.
        threads: Cores to use; None for torch's own choice.

    Raises:
        InvalidInputError: A value is out of its range.
    """

    method: Method = "contrastive"
    epochs: int = 2
    batch: int = 32
    rate: float = 1e-4
    time_limit: float | None = None
    seed: int = 1
    dimensions: tuple[int, ...] = ()
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise InvalidInputError(f"method is one of {', '.join(get_args(Method))}, not {self.method!r:.40}")
        for name, value, least in (("epochs", self.epochs, 1), ("batch", self.batch, 2), ("threads", self.threads, 1)):
            if value is not None and value < least:
                raise InvalidInputError(f"{name} must be at least {least}, not {value}")
        if not 0 < self.rate < 1:
            raise InvalidInputError(f"rate is between 0 and 1, such as 1e-4, not {self.rate}")
        if self.time_limit is not None and not self.time_limit > 0:
            raise InvalidInputError(f"time_limit must be positive, not {self.time_limit}")
        if any(one < 1 for one in self.dimensions):
            raise InvalidInputError(f"dimensions must be positive, not {self.dimensions}")


@dataclass(slots=True)
class Course:
    """How training went.

    Args:
        steps: Steps made.
        losses: Mean loss over each stretch between two checks.
        checks: NDCG@10 on the questions to stop by: before training, then after each stretch.
        best: Step whose state was kept.
        ended: Why training ended.
        seconds: Wall time.
    """

    steps: int = 0
    losses: list[float] = field(default_factory=list)
    checks: list[float] = field(default_factory=list)
    best: int = 0
    ended: Literal["epochs", "no gain", "time limit", "interrupted"] = "epochs"
    seconds: float = 0.0
