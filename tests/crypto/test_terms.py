"""Keyed ids, tags and UUIDs."""

from __future__ import annotations

import os
import re
import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_plugin.crypto.keys import Mac
from memory_plugin.crypto.terms import TermHash, point_id, subject_tag, tag
from memory_plugin.errors import InvalidInputError
from tests.crypto.helpers import new_key

MAC = Mac(os.urandom(32), "sha256")
texts = st.lists(st.text(st.characters(), max_size=3), max_size=4)


def test_term_ids() -> None:
    terms = TermHash(os.urandom(32))
    ids = terms.ids(["memory", "key", "memory"])
    assert ids.dtype == np.uint32
    assert ids.shape == (3,)
    assert ids[0] == ids[2] != ids[1]
    assert terms.ids([]).shape == (0,)
    assert terms.ids([]).dtype == np.uint32


def test_terms_spread_over_all_bits() -> None:
    ids = TermHash(os.urandom(32)).ids([f"term {number}" for number in range(4096)])
    ones = np.unpackbits(ids.view(np.uint8)).reshape(4096, 32).mean(axis=0)
    assert np.all(abs(ones - 0.5) < 0.06)  # 7 standard deviations


def test_a_term_must_be_text() -> None:
    with pytest.raises(InvalidInputError):
        TermHash(bytes(32)).ids([b"memory"])  # type: ignore[list-item]


@given(texts, texts)
def test_tags_and_ids_are_injective(left: list[str], right: list[str]) -> None:
    assert (tag(MAC, "label", *left) == tag(MAC, "label", *right)) == (left == right)
    assert (point_id(MAC, *left) == point_id(MAC, *right)) == (left == right)


def test_a_label_is_no_value() -> None:
    assert tag(MAC, "a", "b", "c") != tag(MAC, "b", "a", "c")
    assert tag(MAC, "ab", "c") != tag(MAC, "a", "bc")
    assert tag(MAC, "a") != tag(MAC, "a", "")


def test_forms() -> None:
    assert re.fullmatch("[0-9a-f]{16}", tag(MAC, "topic", "travel"))
    assert re.fullmatch("[0-9a-f]{32}", subject_tag(new_key(), "alice"))


@given(texts)
def test_point_ids_are_uuids_of_version_8(parts: list[str]) -> None:
    text = point_id(MAC, *parts)
    parsed = uuid.UUID(text)
    assert str(parsed) == text
    assert parsed.version == 8
    assert parsed.variant == uuid.RFC_4122


def test_subject_tags() -> None:
    key = new_key()
    names = ["alice", "Alice", "alice ", "", "ä", "a\u0308"]
    assert len({subject_tag(key, name) for name in names}) == len(names)
    assert subject_tag(key, "alice") == subject_tag(key, "alice") != subject_tag(new_key(), "alice")
    # A tag of the store itself is no prefix of it.
    assert not subject_tag(key, "alice").startswith(tag(Mac(key.derive("filter"), "sha256"), "subject", "alice"))
