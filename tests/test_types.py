from __future__ import annotations

import dataclasses
import inspect

import pytest

from memory_plugin import types
from memory_plugin.types import Chunk, Context, Results
from tests.records import hit, record


def test_results_are_a_sequence_of_hits() -> None:
    one, other = hit("a"), hit("b")
    results = Results((one, other))
    assert list(results) == [one, other]
    assert (len(results), results[0], results[-1], results[1:]) == (2, one, other, (other,))
    assert one in results
    assert not Results(())


def test_a_hit_is_known_by_its_record() -> None:
    assert (hit("a").id, hit("a").text) == ("p", "a")


def test_a_passage_is_the_context_then_the_text() -> None:
    assert Chunk("text", 0, 4, 0, "Guide\n").passage == record("text", context="Guide\n").passage == "Guide\ntext"


def test_a_context_prints_as_its_text() -> None:
    assert f"{Context('packed', (), 1, 'words')}" == "packed"


VALUES = [value for _, value in inspect.getmembers(types, dataclasses.is_dataclass)]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: value.__name__)
def test_values_are_frozen_and_slotted(value: type) -> None:
    assert value.__dataclass_params__.frozen  # type: ignore[attr-defined]
    assert "__slots__" in vars(value)
