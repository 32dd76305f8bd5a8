"""The key file: what it holds, who may read it, and what is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memory_plugin.crypto.kek import CallbackKek, LocalKek
from memory_plugin.crypto.keyring import PLAINTEXT, FileKeyRing
from memory_plugin.crypto.keys import RootKey
from memory_plugin.errors import KeyServiceError
from memory_plugin.protocols import KeyRing
from tests.crypto.helpers import OpenRing, read, record


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


def test_plaintext_is_a_key_ring() -> None:
    ring: KeyRing = PLAINTEXT
    assert ring.keys("a", create=True)
    assert isinstance(ring.keys("a", create=True), tuple)
    assert not isinstance(PLAINTEXT.keys("a", create=True)[0], RootKey)
