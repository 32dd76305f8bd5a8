"""The key file: what it holds, who may read it, and what each verb leaves behind."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memory_plugin.crypto import keyfile
from memory_plugin.crypto.kek import CallbackKek, Kek, LocalKek
from memory_plugin.crypto.keyring import PLAINTEXT, FileKeyRing
from memory_plugin.crypto.keys import RootKey
from memory_plugin.crypto.sealer import SubjectSealer
from memory_plugin.errors import KeyServiceError, UnknownKeyError
from memory_plugin.protocols import KeyRing
from tests.crypto.helpers import POINT


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "store.json"


@pytest.fixture
def open_ring(path: Path) -> Callable[..., FileKeyRing]:
    def build(kek: Kek | None = None, store_id: str = "store") -> FileKeyRing:
        return FileKeyRing(path, store_id=store_id, kek=kek)

    return build


OpenRing = Callable[..., FileKeyRing]


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def record(ring: FileKeyRing, subject: str) -> bytes:
    return ring.keys(subject, create=False)[0].derive("record")


def test_keys_are_made_once_and_found_again(open_ring: OpenRing) -> None:
    ring: KeyRing = open_ring()
    assert ring.keys("a", create=False) == ()
    made = ring.keys("a", create=True)
    assert isinstance(made, tuple)
    assert len(made) == 1
    assert ring.keys("a", create=True) == made
    again = open_ring().keys("a", create=False)
    assert isinstance(again, tuple)
    assert [key.id for key in again] == [key.id for key in made]
    assert again[0].derive("record") == made[0].derive("record")


def test_looking_makes_no_file(open_ring: OpenRing, path: Path) -> None:
    ring = open_ring()
    assert ring.keys("a", create=False) == ()
    assert ring.destroy("a") == 0
    assert not path.parent.exists()


def test_subjects_have_different_keys(open_ring: OpenRing) -> None:
    ring = open_ring()
    keys = [ring.keys(subject, create=True)[0] for subject in ("", "a", "b", "ä", "\ud800")]
    assert len({key.derive("record") for key in keys}) == 5
    assert record(open_ring(), "\ud800") == keys[-1].derive("record")


def test_modes(open_ring: OpenRing, path: Path) -> None:
    before = os.umask(0)
    try:
        open_ring().keys("a", create=True)
    finally:
        os.umask(before)
    modes = {name: (path.parent / name).stat().st_mode & 0o777 for name in os.listdir(path.parent)}  # noqa: PTH208
    assert modes == {"store.json": 0o600, "store.json.lock": 0o600}
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o610, 0o644, 0o666, 0o777])
def test_a_file_open_to_others_is_refused(mode: int, open_ring: OpenRing, path: Path) -> None:
    open_ring().keys("a", create=True)
    path.chmod(mode)
    with pytest.raises(KeyServiceError, match=f"chmod 600 {path}"):
        open_ring().keys("a", create=True)
    path.chmod(0o400)
    assert open_ring().keys("a", create=False)


def test_a_link_stays_a_link(open_ring: OpenRing, path: Path, tmp_path: Path) -> None:
    open_ring().keys("a", create=True)
    link = tmp_path / "link.json"
    link.symlink_to(path)
    FileKeyRing(link, store_id="store").keys("b", create=True)
    assert link.is_symlink()
    assert open_ring().keys("b", create=False)


def test_location_says_what_wraps(open_ring: OpenRing, path: Path) -> None:
    kek = LocalKek.generate()
    assert open_ring().location == f"{path} (which also holds their KEK)"
    assert open_ring(kek).location == f"{path} (wrapped by KEK {kek.id})"
    assert (open_ring().owns_kek, open_ring(kek).owns_kek) == (True, False)


def test_the_file_holds_its_kek_only_when_none_is_given(open_ring: OpenRing, path: Path) -> None:
    open_ring().keys("a", create=True)
    assert set(read(path)["kek"]) == {"id", "key"}
    path.unlink()
    kek = LocalKek.generate()
    key = open_ring(kek).keys("a", create=True)[0]
    assert read(path)["kek"] == {"id": kek.id}
    assert record(open_ring(kek), "a") == key.derive("record")


# ── refusals ──────────────────────────────────────────────────────────────────────────────────────


def test_another_store(open_ring: OpenRing) -> None:
    open_ring().keys("a", create=True)
    with pytest.raises(KeyServiceError, match="belongs to store 'store', not 'other'"):
        open_ring(store_id="other").keys("a", create=True)


def test_another_kek(open_ring: OpenRing, path: Path) -> None:
    kek = LocalKek.generate()
    open_ring(kek).keys("a", create=True)
    with pytest.raises(KeyServiceError, match=f"is wrapped by KEK '{kek.id}', not by"):
        open_ring(LocalKek.generate()).keys("a", create=True)
    with pytest.raises(KeyServiceError, match="give it as kek="):
        open_ring().keys("a", create=True)
    path.unlink()
    open_ring().keys("a", create=True)
    with pytest.raises(KeyServiceError, match="holds its own KEK"):
        open_ring(kek).keys("a", create=True)


def test_a_file_that_goes_away_is_not_made_anew(open_ring: OpenRing, path: Path) -> None:
    ring = open_ring()
    ring.keys("a", create=True)
    path.unlink()
    for call in (lambda: ring.keys("a", create=False), lambda: ring.keys("b", create=True), lambda: ring.destroy("a")):
        with pytest.raises(KeyServiceError, match="is gone: restore it from a backup"):
            call()
    assert not path.exists()


CHANGES: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("another format", lambda d: d.update(format="x")),
    ("version 1 is expected, not 2", lambda d: d.update(version=2)),
    ("a part is missing", lambda d: d.pop("store")),
    ("a part is missing", lambda d: d.pop("kek")),
    ("a part is missing", lambda d: d.update(subjects=[])),
    ("the KEK has no id", lambda d: d["kek"].pop("id")),
    ("the KEK is not base64", lambda d: d["kek"].update(key="?")),
    ("the KEK is not base64", lambda d: d["kek"].update(key=7)),
    ("the KEK has not 32 bytes", lambda d: d["kek"].update(key="AQEB")),
    ("the KEK is not the one that its id names", lambda d: d["kek"].update(id="00")),
    ("has no list of keys", lambda d: d["subjects"].update(a=[])),
    ("has no list of keys", lambda d: d["subjects"].update(a={})),
    ("has no use", lambda d: d["subjects"]["a"][0].update(use="x")),
    ("has no use", lambda d: d["subjects"].update(a=[7])),
    ("no id of 8 hex digits", lambda d: d["subjects"]["a"][0].update(id="xyz")),
    ("no id of 8 hex digits", lambda d: d["subjects"]["a"][0].pop("id")),
    ("no id of 8 hex digits", lambda d: d["subjects"]["a"][0].update(id="00")),
    ("is not base64", lambda d: d["subjects"]["a"][0].pop("wrapped")),
]


@pytest.mark.parametrize(("problem", "change"), CHANGES)
def test_a_damaged_file(
    problem: str, change: Callable[[dict[str, Any]], object], open_ring: OpenRing, path: Path
) -> None:
    open_ring().keys("a", create=True)
    document = read(path)
    change(document)
    path.write_text(json.dumps(document))
    before = path.read_bytes()
    with pytest.raises(KeyServiceError, match=f"{problem}.*Nothing was changed. Restore it from a backup"):
        open_ring().keys("b", create=True)
    assert path.read_bytes() == before


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"7", b"\xff\xfe", b"[" * 100_000, b'"memory_plugin key ring"'])
def test_not_even_json(data: bytes, open_ring: OpenRing, path: Path) -> None:
    open_ring().keys("a", create=True)
    path.write_bytes(data)
    with pytest.raises(KeyServiceError, match="Restore it from a backup"):
        open_ring().keys("a", create=True)
    assert path.read_bytes() == data


def test_a_key_that_was_moved_does_not_unwrap(open_ring: OpenRing, path: Path) -> None:
    ring = open_ring()
    ring.keys("a", create=True)
    ring.keys("b", create=True)
    original = read(path)
    moves: list[Callable[[dict[str, Any]], object]] = [
        lambda d: d["subjects"].update(a=d["subjects"]["b"]),
        lambda d: d["subjects"]["a"][0].update(id="00000000"),
        lambda d: d["subjects"]["a"][0].update(use="index"),
    ]
    for move in moves:
        document = json.loads(json.dumps(original))
        move(document)
        path.write_text(json.dumps(document))
        with pytest.raises(KeyServiceError, match="does not open under KEK"):
            open_ring().keys("a", create=False)


def test_a_service_that_gives_something_else(open_ring: OpenRing) -> None:
    kek = CallbackKek(lambda data, _: data, lambda data, _: data[:-1], "kms")
    open_ring(kek).keys("a", create=True)
    with pytest.raises(KeyServiceError, match="with a wrong length from KEK 'kms'"):
        open_ring(kek).keys("a", create=False)


def test_a_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ring = FileKeyRing(tmp_path / "file" / "keys.json", store_id="store")
    with pytest.raises(KeyServiceError, match="NotADirectoryError"):
        ring.keys("a", create=True)


# ── destroy, rotate, rewrap ───────────────────────────────────────────────────────────────────────


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


def test_plaintext_is_a_key_ring() -> None:
    ring: KeyRing = PLAINTEXT
    assert ring.keys("a", create=True)
    assert isinstance(ring.keys("a", create=True), tuple)
    assert not isinstance(PLAINTEXT.keys("a", create=True)[0], RootKey)
