"""What a migration tells of itself: values only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from memory_plugin.types import ModelIdentity

State: TypeAlias = Literal["stable", "filling", "switched"]
"""What a store is in: one space alone; a second one that is being filled; a second one that was left."""


@dataclass(frozen=True, slots=True)
class MigrationProgress:
    """How far a migration is.

    Args:
        done: Memories that have a vector of the new model.
        total: Memories that are to have one.
        rate: Memories a second since this run began; None before the first.
        seconds_left: At that rate; None where there is none.
    """

    done: int
    total: int
    rate: float | None = None
    seconds_left: float | None = None


Tell: TypeAlias = Callable[[MigrationProgress], None]


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that a gate looked at.

    Args:
        name: What it is.
        value: Of the new model.
        floor: What it has to reach.
        before: Of the old model; None where there is nothing to compare with.
        number: Memories or questions that it was measured on.
    """

    name: str
    value: float
    floor: float
    before: float | None
    number: int

    @property
    def ok(self) -> bool:
        """Whether the floor was reached."""
        return self.value >= self.floor

    def __str__(self) -> str:
        """The figure in a line."""
        compared = f", before {self.before:.3f}" if self.before is not None else ""
        verdict = "reaches" if self.ok else "is below"
        return f"{self.name} {self.value:.3f} {verdict} the floor {self.floor:.3f} ({self.number} measured{compared})"


@dataclass(frozen=True, slots=True)
class Gate:
    """What was measured before a switch.

    Args:
        figures: In the order of measuring; none where the store is too small to measure.
    """

    figures: tuple[Figure, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every floor was reached."""
        return all(figure.ok for figure in self.figures)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a migration would take, before anything is done.

    Args:
        memories: That would get a vector.
        tokens: In their texts, estimated from a sample by the store's tokenizer; vendors count a little differently.
            0 where nothing has to be embedded.
        cost: Dollars by the price table; None where the model is not in it.
        bytes_during: More on the disk while both spaces are there, estimated.
        bytes_after: More (or less) once the old space is dropped, estimated.
        seconds: From a trial with real memories where the model is on this machine, else from the rate given and
            what the vendor allows; None where neither is known.
        embeds: Whether texts are embedded; else vectors are made of those that are there.
    """

    memories: int
    tokens: int
    cost: float | None
    bytes_during: int
    bytes_after: int
    seconds: float | None
    embeds: bool = True


@dataclass(frozen=True, slots=True)
class Migration:
    """What ``migrate`` or ``rollback`` did.

    Args:
        state: What the store is in now.
        model: What it is searched with now.
        memories: That have a vector of that model.
        embedded: Texts embedded by this call.
        converted: Vectors that this call made of stored ones.
        missing: Memories that should have a vector of that model, and have none.
        exempt: Memories that the model must not see, ``local_only``, and images, whose files are not kept: found by
            their words.  Add images again to have vectors of the new model.
        seconds: Wall time.
        gate: What was measured; None where nothing was.
        estimate: Of a dry run.
    """

    state: State
    model: ModelIdentity
    memories: int
    embedded: int = 0
    converted: int = 0
    missing: int = 0
    exempt: int = 0
    seconds: float = 0.0
    gate: Gate | None = None
    estimate: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Pending:
    """A migration that is not finished.

    Args:
        state: "filling" until the switch, "switched" from then until ``finish``.
        active: The model that is searched.
        other: The model that it is left for ("filling"), or that was left ("switched").
        memories: In the store.
        missing: Memories that still need a vector of ``other``.
        missing_active: Memories without one of ``active``: found by their words alone until they are filled in.
        next: What can be done now, for people.
    """

    state: State
    active: ModelIdentity
    other: ModelIdentity
    memories: int
    missing: int
    missing_active: int
    next: str
