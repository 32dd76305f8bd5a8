"""What each verb of a key ring leaves behind, and how the file is written."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest

from memory_plugin.crypto import keyfile
from memory_plugin.crypto.kek import CallbackKek, LocalKek
from memory_plugin.crypto.keyring import FileKeyRing
from memory_plugin.crypto.sealer import SubjectSealer
from memory_plugin.errors import KeyServiceError, UnknownKeyError
from tests.crypto.helpers import POINT, OpenRing, read, record


def test_destroyed_keys_are_gone_and_the_others_stay(open_ring: OpenRing, path: Path) -> None:
    ring, other = open_ring(), open_ring()
    ring.keys("a", create=True)
    kept = ring.keys("b", create=True)[0].derive("record")
    sealed = SubjectSealer("store", "a", other.keys("a", create=False)).seal(POINT, "e", b"text")
    old = read(path)
    assert ring.destroy("a") == 1
    assert ring.destroy("a") == 0
    assert "a" not in read(path)["subjects"]
    for one in (ring, other, open_ring()):
        assert one.keys("a", create=False) == ()
        assert record(one, "b") == kept
    with pytest.raises(UnknownKeyError, match="never made, or destroyed"):
        SubjectSealer("store", "a", ring.keys("a", create=False))
    with pytest.raises(UnknownKeyError):
        SubjectSealer("store", "a", ring.keys("a", create=True)).open(POINT, "e", sealed)
    # The KEK is another one: the file as it was and the KEK as it is do not fit.
    assert read(path)["kek"]["key"] != old["kek"]["key"]
    assert read(path)["subjects"]["b"][0]["wrapped"] != old["subjects"]["b"][0]["wrapped"]


def test_what_an_old_copy_of_the_file_still_opens(open_ring: OpenRing, path: Path, tmp_path: Path) -> None:
    """As the documents say: a copy that holds its KEK outlives the destruction; keeps them honest."""
    ring = open_ring()
    ring.keys("a", create=True)
    copy = tmp_path / "copy.json"
    copy.touch(mode=0o600)
    copy.write_bytes(path.read_bytes())
    ring.destroy("a")
    assert FileKeyRing(copy, store_id="store").keys("a", create=False)


def test_destroying_under_a_given_kek_asks_no_service(open_ring: OpenRing) -> None:
    inner = LocalKek.generate()
    open_ring(CallbackKek(inner.wrap, inner.unwrap, "kms")).keys("a", create=True)

    def down(data: bytes, context: bytes) -> bytes:
        raise ConnectionError

    ring = open_ring(CallbackKek(down, down, "kms"))
    with pytest.raises(KeyServiceError, match="ConnectionError"):
        ring.keys("a", create=False)
    assert ring.destroy("a") == 1
    assert ring.keys("a", create=False) == ()


def test_two_rings_destroy_the_same_subject(open_ring: OpenRing, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one is faster, after we looked and before we hold the lock."""
    ring, other = open_ring(), open_ring()
    ring.keys("a", create=True)
    locked = keyfile.locked

    def late(target: Path) -> Any:
        monkeypatch.setattr(keyfile, "locked", locked)
        other.destroy("a")
        return locked(target)

    monkeypatch.setattr(keyfile, "locked", late)
    assert ring.destroy("a") == 0


def test_rotation(open_ring: OpenRing, path: Path) -> None:
    ring, other = open_ring(), open_ring()
    with pytest.raises(UnknownKeyError):
        ring.rotate("a")
    with pytest.raises(UnknownKeyError):
        ring.retire("a")
    first = ring.keys("a", create=True)[0]
    assert ring.retire("a") == 0
    second = ring.rotate("a")
    third = ring.rotate("a")
    for one in (ring, other, open_ring()):
        assert [key.id for key in one.keys("a", create=True)] == [third.id, second.id, first.id]
    assert ring.retire("a") == 2
    for one in (ring, other, open_ring()):
        newest, oldest = one.keys("a", create=False)
        assert (newest.id, oldest.id) == (third.id, first.id)
        assert newest.derive("record") == third.derive("record")
        assert oldest.derive("vector") == first.derive("vector")
        with pytest.raises(UnknownKeyError, match="was retired"):
            oldest.derive("record")
    fourth = ring.rotate("a")
    assert ring.retire("a") == 1
    assert [key.id for key in open_ring().keys("a", create=False)] == [fourth.id, first.id]
    assert ring.destroy("a") == 2


def test_key_ids_of_a_subject_are_distinct(open_ring: OpenRing, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = open_ring()
    first = ring.keys("a", create=True)[0]
    ids = [first.id, first.id, b"next"]
    real = os.urandom
    monkeypatch.setattr(os, "urandom", lambda size: ids.pop(0) if size == 4 else real(size))
    assert ring.rotate("a").id == b"next"


def test_rewrapping(open_ring: OpenRing, path: Path) -> None:
    ring = open_ring()
    keys = {subject: ring.keys(subject, create=True)[0].derive("record") for subject in ("", "a", "b")}
    ring.rotate("b")
    ring.retire("b")
    keys["b"] = record(ring, "b")
    first, second = LocalKek.generate(), LocalKek.generate()
    stale = open_ring()
    assert record(stale, "a") == keys["a"]
    for kek in (first, second, None, None, first):
        assert ring.rewrap(kek) == 3
        assert ring.owns_kek == (kek is None)
        for one in (ring, open_ring(kek)):
            assert {subject: record(one, subject) for subject in keys} == keys
            assert len(one.keys("b", create=False)) == 2
    with pytest.raises(KeyServiceError, match="give it as kek="):
        stale.keys("a", create=False)


def test_rewrapping_before_there_is_a_file(open_ring: OpenRing, path: Path) -> None:
    ring, kek = open_ring(), LocalKek.generate()
    assert ring.rewrap(kek) == 0
    assert not path.exists()
    ring.keys("a", create=True)
    assert open_ring(kek).keys("a", create=False)


def test_a_failed_rewrapping_changes_nothing(open_ring: OpenRing, path: Path) -> None:
    def down(data: bytes, context: bytes) -> bytes:
        raise ConnectionError

    ring = open_ring()
    ring.keys("a", create=True)
    before = path.read_bytes()
    with pytest.raises(KeyServiceError):
        ring.rewrap(CallbackKek(down, down, "kms"))
    assert path.read_bytes() == before
    assert ring.owns_kek
    assert ring.keys("a", create=False)


# ── writing ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(
    step: str, open_ring: OpenRing, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    ring = open_ring()
    ring.keys("a", create=True)
    before = path.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(os if step == "fsync" else Path, step, full)
        with pytest.raises(KeyServiceError, match="No space left"):
            ring.keys("b", create=True)
    assert path.read_bytes() == before
    assert not path.with_name("store.json.tmp").exists()
    assert ring.keys("b", create=False) == ()
    assert ring.keys("b", create=True)


def test_what_a_killed_writer_left_is_removed(open_ring: OpenRing, path: Path) -> None:
    open_ring().keys("a", create=True)
    left = path.with_name("store.json.tmp")
    left.write_text("half of a k")
    open_ring().keys("b", create=True)
    assert not left.exists()
    assert open_ring().keys("a", create=False)


def test_many_threads_lose_no_key(open_ring: OpenRing) -> None:
    shared, found = open_ring(), {}

    def work(number: int) -> None:
        ring = shared if number % 2 else open_ring()
        for subject in ("same", f"own {number}"):
            found[number, subject] = ring.keys(subject, create=True)[0].derive("record")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 24
    fresh = open_ring()
    for (_, subject), derived in found.items():
        assert record(fresh, subject) == derived


def test_an_unchanged_file_is_not_read_again(open_ring: OpenRing, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = open_ring()
    keys = ring.keys("a", create=True)
    monkeypatch.setattr(keyfile, "_CLOCK_NS", 0)  # as if the file were old
    assert ring.keys("a", create=True) is keys
    monkeypatch.setattr(keyfile, "load", None)
    assert all(ring.keys("a", create=True) is keys for _ in range(100))


def test_a_young_file_is_read_again_though_it_looks_the_same(
    open_ring: OpenRing, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second replacement inside one tick of the clock may get the inode, date and size of the first."""
    monkeypatch.setattr(keyfile, "_CLOCK_NS", 10**12)  # on a slow machine it would be old by then
    ring, other = open_ring(), FileKeyRing(tmp_path / "other.json", store_id="store")
    keys = [one.keys("a", create=True)[0] for one in (ring, other)]
    assert record(ring, "a") == keys[0].derive("record")
    before = path.stat()
    path.write_bytes((tmp_path / "other.json").read_bytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert keyfile.stamp(path) == (before.st_ino, before.st_mtime_ns, before.st_size)
    assert record(ring, "a") == keys[1].derive("record")


def test_a_writer_reads_first_whatever_the_file_looks_like(
    open_ring: OpenRing, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyfile, "_CLOCK_NS", 0)
    ring, other = open_ring(), FileKeyRing(tmp_path / "other.json", store_id="store")
    for one in (ring, other):
        one.keys("a", create=True)
    assert ring.keys("a", create=False)
    before = path.stat()
    path.write_bytes((tmp_path / "other.json").read_bytes())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    ring.keys("b", create=True)
    assert record(open_ring(), "a") == record(other, "a")
    assert open_ring().keys("b", create=False)


def test_a_service_is_asked_once_a_key(open_ring: OpenRing) -> None:
    inner, asked = LocalKek.generate(), []

    def unwrap(wrapped: bytes, context: bytes) -> bytes:
        asked.append(context)
        return inner.unwrap(wrapped, context)

    kek = CallbackKek(inner.wrap, unwrap, "kms")
    ring, other = open_ring(kek), open_ring(kek)
    for number in range(10):
        other.keys(f"subject {number}", create=True)
        assert all(ring.keys(f"subject {known}", create=False) for known in range(number + 1))
    assert len(asked) == 10


def test_discarding_leaves_a_file_with_keys_of_people_or_of_another_store(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    ring = FileKeyRing(path, store_id="mine")
    ring.discard()  # there is none yet
    ring.keys("", create=True)
    (key,) = ring.keys("a" * 32, create=True)
    ring.discard()
    FileKeyRing(path, store_id="other").discard()
    assert [one.id for one in FileKeyRing(path, store_id="mine").keys("a" * 32, create=False)] == [key.id]


def test_discarding_removes_what_nothing_was_sealed_under(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    ring = FileKeyRing(path, store_id="mine")
    ring.keys("", create=True)
    ring.discard()
    assert not path.exists()
    assert ring.keys("", create=False) == ()
