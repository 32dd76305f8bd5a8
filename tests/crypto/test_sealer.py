"""A sealed store never returns plaintext, and nothing opens but where and under what it was sealed."""

from __future__ import annotations

import os
import random
import threading
import uuid

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_plugin.crypto.keys import PLAINTEXT, PublicKey, RetiredKey, RootKey
from memory_plugin.crypto.sealer import PlaintextSealer, SubjectSealer, sealer
from memory_plugin.errors import (
    ConfigurationError,
    DecryptionError,
    InvalidInputError,
    SealError,
    UnknownKeyError,
    UnsealedPayloadError,
    WrongKeyError,
)
from memory_plugin.protocols import KeyRing, Sealer
from tests.crypto.helpers import POINT, new_key, new_sealer


def test_both_are_sealers() -> None:
    both: list[Sealer] = [new_sealer(), PlaintextSealer("subject")]
    assert [one.subject for one in both] == ["subject", "subject"]
    ring: KeyRing = PLAINTEXT
    assert "PLAINTEXT" in ring.location


def test_the_one_that_fits_the_keys() -> None:
    keys = PLAINTEXT.keys("subject", create=True)
    assert isinstance(sealer("store", "subject", keys), PlaintextSealer)
    assert isinstance(sealer("store", "subject", [new_key()]), SubjectSealer)
    with pytest.raises(UnknownKeyError, match="never made, or destroyed"):
        sealer("store", "subject", [])


def test_20_000_swaps() -> None:
    """Stores, subjects, points and fields share one key here: the associated data alone tells them apart."""
    rng = random.Random(3)
    key = new_key()
    sealers = [SubjectSealer(store, subject, [key]) for store in ("s1", "s2") for subject in ("a", "b", "")]
    places = [
        (one, point, field)
        for one in sealers
        for point in [str(uuid.UUID(int=rng.getrandbits(128))) for _ in range(20)]
        for field in ("e", "v", "")
    ]
    sealed = [one.seal(point, field, f"{index}".encode()) for index, (one, point, field) in enumerate(places)]
    for _ in range(20_000):
        here, there = rng.sample(range(len(places)), 2)
        one, point, field = places[there]
        with pytest.raises(DecryptionError, match="sealed for another place"):
            one.open(point, field, sealed[here])
    for index, (one, point, field) in enumerate(places):
        assert one.open(point, field, sealed[index]) == f"{index}".encode()


def test_swaps_between_subjects_with_their_own_keys() -> None:
    sealers = [new_sealer(subject=f"subject {number}") for number in range(50)]
    for one in sealers:
        sealed = one.seal(POINT, "e", b"mine")
        for other in sealers:
            if other is not one:
                with pytest.raises(UnknownKeyError, match=f"key {one.newest.hex()}"):
                    other.open(POINT, "e", sealed)


def test_500_wrong_keys() -> None:
    sealed = SubjectSealer("store", "subject", [RootKey(b"abcd", os.urandom(32))]).seal(POINT, "e", b"text")
    for _ in range(500):
        root = os.urandom(32)
        wrong = SubjectSealer("store", "subject", [RootKey(b"abcd", root)])
        with pytest.raises(WrongKeyError) as caught:
            wrong.open(POINT, "e", sealed)
        assert b"abcd".hex() in str(caught.value)
        assert root.hex() not in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [None, 7, b"AQEB", ["AQEB"], {"e": 1}, "", "plain:hello", "plain64:AQEB", "hello", "hello123", "{}", "AQEB\n"],
)
def test_what_was_never_sealed(value: object) -> None:
    with pytest.raises(UnsealedPayloadError):
        new_sealer().open(POINT, "e", value)


@given(st.text())
def test_no_text_is_an_envelope(text: str) -> None:
    with pytest.raises(SealError):
        new_sealer().open(POINT, "e", text)


def test_a_rotation_reseals_lazily() -> None:
    old, new = new_key(), new_key()
    before = SubjectSealer("store", "subject", [old])
    sealed = before.seal(POINT, "e", b"text")
    during = SubjectSealer("store", "subject", [new, old])
    assert during.open(POINT, "e", sealed) == b"text"
    assert during.key_id(sealed) == old.id != during.newest
    resealed = during.seal(POINT, "e", during.open(POINT, "e", sealed))
    assert during.key_id(resealed) == new.id == during.newest
    with pytest.raises(UnknownKeyError):
        before.open(POINT, "e", resealed)

    after = SubjectSealer("store", "subject", [new, RetiredKey.of(old)])
    assert after.open(POINT, "e", resealed) == b"text"
    with pytest.raises(UnknownKeyError, match="destroyed, retired"):
        after.open(POINT, "e", sealed)

    vectors = np.eye(8, dtype=np.float32)
    for later in (during, after):
        assert later.tag("topic", "x") == before.tag("topic", "x")
        assert later.point_id("x") == before.point_id("x")
        assert later.term_ids(["x"]) == before.term_ids(["x"])
        np.testing.assert_array_equal(later.rotate(vectors), before.rotate(vectors))
    alone = SubjectSealer("store", "subject", [new])
    assert alone.tag("topic", "x") != before.tag("topic", "x")


def test_keys_that_cannot_be_used() -> None:
    key = new_key()
    with pytest.raises(UnknownKeyError, match="was retired"):
        SubjectSealer("store", "subject", [RetiredKey.of(key)])
    with pytest.raises(ConfigurationError, match="same id"):
        SubjectSealer("store", "subject", [key, RootKey(key.id, os.urandom(32))])
    with pytest.raises(ConfigurationError, match="give the store a key ring"):
        SubjectSealer("store", "subject", [PublicKey()])
    with pytest.raises(ConfigurationError, match="give the store a key ring"):
        SubjectSealer("store", "subject", [key, PublicKey()])


@pytest.mark.parametrize("value", ["", "plain:x", "AQEB"])
def test_key_id_of_no_envelope(value: str) -> None:
    with pytest.raises(SealError):
        new_sealer().key_id(value)


def test_ids_differ_between_subjects() -> None:
    sealers: list[Sealer] = [new_sealer(), new_sealer(), PlaintextSealer("subject")]
    assert len({one.tag("topic", "x") for one in sealers}) == 3
    assert len({one.point_id("x") for one in sealers}) == 3
    assert len({one.term_ids(["x"]).item() for one in sealers}) == 3
    ids: list[set[int]] = [set(one.term_ids([f"word{n}" for n in range(2000)]).tolist()) for one in sealers]
    assert all(len(one) == 2000 for one in ids)
    assert len(ids[0] & ids[1]) <= 1


def test_one_sealer_in_several_threads() -> None:
    one = new_sealer()
    wrong: list[bytes] = []

    def work(number: int) -> None:
        for turn in range(300):
            text = f"{number} {turn}".encode()
            got = one.open(POINT, "e", one.seal(POINT, "e", text))
            if got != text or one.tag("a", text.decode()) != one.tag("a", text.decode()):
                wrong.append(got)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@given(st.binary())
def test_plaintext_round_trip(data: bytes) -> None:
    one = PlaintextSealer("subject")
    assert one.open(POINT, "e", one.seal(POINT, "e", data)) == data


def test_plaintext_is_marked_and_readable() -> None:
    one = PlaintextSealer("subject")
    assert one.seal(POINT, "e", "Grüße".encode()) == "plain:Grüße"
    assert one.seal(POINT, "e", b"\xff\xfe") == "plain64://4="
    vectors = np.eye(3, dtype=np.float32)
    assert one.rotate(vectors) is vectors


def test_plaintext_opens_no_envelope() -> None:
    one = PlaintextSealer("subject")
    with pytest.raises(UnknownKeyError, match="open the store with its key ring"):
        one.open(POINT, "e", new_sealer().seal(POINT, "e", b"text"))
    for value in (None, 7, b"plain:x", "", "hello", "plain64:?", "plain64:AQ", "Plain:x", "AQEB", "AgEB" * 60):
        with pytest.raises(DecryptionError, match="not written by a PLAINTEXT store"):
            one.open(POINT, "e", value)


def test_a_text_that_is_one_string_is_no_list_of_terms() -> None:
    with pytest.raises(InvalidInputError, match="list of terms"):
        new_sealer().term_ids("memory")
