"""Version 1 stays readable for ever: vectors made once, by another implementation of the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from memory_plugin.crypto import envelope
from memory_plugin.crypto.encoding import to_text
from memory_plugin.crypto.kek import LocalKek
from memory_plugin.crypto.keyring import FileKeyRing
from memory_plugin.crypto.keys import Mac, RootKey
from memory_plugin.crypto.sealer import SubjectSealer
from memory_plugin.crypto.terms import subject_tag
from memory_plugin.crypto.vectors import Rotation
from tests.crypto import reference
from tests.crypto.helpers import raw

VECTORS: dict[str, Any] = json.loads(Path(__file__).with_name("vectors.json").read_text())
ENVELOPES: list[dict[str, Any]] = VECTORS["envelopes"]
KEY = RootKey(reference.KEY_ID, reference.ROOT)
SEALER = SubjectSealer(reference.STORE, reference.SUBJECT, [KEY])


def test_there_are_as_many_as_were_frozen() -> None:
    assert len(ENVELOPES) == 35
    assert len({case["sealed"] for case in ENVELOPES}) == 35


def test_the_reference_still_gives_them() -> None:
    again = json.loads(json.dumps(reference.vectors()))
    floats = {name for name in VECTORS if name.startswith("rotation")}
    assert {k: v for k, v in again.items() if k not in floats} == {k: v for k, v in VECTORS.items() if k not in floats}


@pytest.mark.parametrize("case", ENVELOPES, ids=[case["why"] for case in ENVELOPES])
def test_envelope(case: dict[str, Any]) -> None:
    key_id = bytes.fromhex(case["key_id"])
    records = Mac(RootKey(key_id, bytes.fromhex(case["root"])).derive("record"), "sha512")
    place = envelope.Place(case["store"], case["subject"], case["point"], case["field"], case["schema"])
    plaintext = bytes.fromhex(case["plaintext"])
    assert envelope.open_sealed(records, envelope.unpack(raw(case["sealed"])), place) == plaintext
    again = envelope.seal(records, key_id, place, plaintext, salt=bytes.fromhex(case["salt"]))
    assert to_text(again) == case["sealed"]


@pytest.mark.parametrize("case", [case for case in ENVELOPES if case["schema"] == 1], ids=lambda case: case["why"])
def test_envelope_through_a_sealer(case: dict[str, Any]) -> None:
    key = RootKey(bytes.fromhex(case["key_id"]), bytes.fromhex(case["root"]))
    sealer = SubjectSealer(case["store"], case["subject"], [key])
    assert sealer.open(case["point"], case["field"], case["sealed"]).hex() == case["plaintext"]


def test_sub_keys() -> None:
    assert {purpose: KEY.derive(purpose).hex() for purpose in VECTORS["sub_keys"]} == VECTORS["sub_keys"]


def test_terms() -> None:
    words, ids = zip(*VECTORS["terms"], strict=True)
    assert SEALER.term_ids(words).tolist() == list(ids)


def test_tags_and_ids() -> None:
    for texts, expected in VECTORS["tags"]:
        assert SEALER.tag(*texts) == expected
    for name, expected in VECTORS["subject_tags"]:
        assert subject_tag(KEY, name) == expected
    for parts, expected in VECTORS["point_ids"]:
        assert SEALER.point_id(*parts) == expected


def test_rotations() -> None:
    rotation = Rotation(KEY.derive("vector"))
    for dimension, rows in VECTORS["rotations"].items():
        np.testing.assert_allclose(rotation.matrix(int(dimension)), rows, rtol=0, atol=1e-6)
    np.testing.assert_allclose(rotation.matrix(50)[49], VECTORS["rotation_50_row_49"], rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["owned", "given"])
def test_key_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps(VECTORS[f"key_file_{kind}"]))
    kek = None if kind == "owned" else LocalKek(bytes.fromhex(VECTORS["kek"]))
    ring = FileKeyRing(path, store_id=reference.STORE, kek=kek)
    (key,) = ring.keys(reference.SUBJECT, create=False)
    assert key.id == KEY.id
    assert key.derive("record") == KEY.derive("record")
    newest, oldest = ring.keys("rotated", create=False)
    assert newest.derive("record") != KEY.derive("record")
    assert oldest.derive("vector") == KEY.derive("vector")
