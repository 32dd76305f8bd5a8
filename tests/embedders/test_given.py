"""Vectors that are given: a space with a name, and no way to embed."""

from __future__ import annotations

import pytest

from memory_plugin import registry
from memory_plugin.embedders.given import GivenVectors
from memory_plugin.errors import InvalidInputError
from memory_plugin.manifest import space
from memory_plugin.network import leaves_machine


def test_the_dimension_may_be_the_whole_name() -> None:
    identity = registry.embedder("vectors:300").identity
    assert (identity.provider, identity.model, identity.dimension) == ("vectors", "given", 300)
    assert identity.revision == "1"


def test_a_name_and_a_revision_are_spaces_of_their_own() -> None:
    names = ("vectors:300", "vectors:songs?dimension=300", "vectors:songs?dimension=300&revision=2", "vectors:128")
    assert len({space(registry.embedder(name).identity) for name in names}) == len(names)
    assert registry.embedder("vectors:songs?dimension=300").identity.model == "songs"


@pytest.mark.parametrize("name", ["vectors", "vectors:songs", "vectors:0", "vectors:songs?dimension=-1"])
def test_without_a_dimension_there_is_no_space(name: str) -> None:
    with pytest.raises(InvalidInputError, match=r"need their dimension: 'vectors:300'"):
        registry.embedder(name)


@pytest.mark.parametrize("dimension", [True, 3.0, "3"])
def test_a_dimension_is_a_whole_number(dimension: object) -> None:
    with pytest.raises(InvalidInputError, match="need their dimension"):
        GivenVectors("songs", dimension=dimension)  # type: ignore[arg-type]


def test_nothing_is_empty() -> None:
    with pytest.raises(InvalidInputError, match="not empty"):
        GivenVectors("", dimension=3)
    with pytest.raises(InvalidInputError, match="not empty"):
        GivenVectors("songs", dimension=3, revision="")


def test_it_refuses_to_embed_and_says_where_a_vector_goes() -> None:
    embedder = GivenVectors("songs", dimension=3)
    with pytest.raises(InvalidInputError, match=r"songs, 3 dimensions.*pass Document\(text, vector=…\)"):
        embedder.embed(["la la"], input_type="document")
    with pytest.raises(InvalidInputError, match=r"pass search\(…, vector=…\)"):
        embedder.embed(["la la"], input_type="query")


def test_it_stays_on_the_machine() -> None:
    assert not leaves_machine(GivenVectors(3))
    assert repr(GivenVectors("songs", dimension=3)) == "GivenVectors('songs', dimension=3)"
