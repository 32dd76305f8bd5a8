"""Directories of model files: which there are, and what their content hashes to."""

from __future__ import annotations

import json
import os
from pathlib import Path

import platformdirs
import pytest

from memory_plugin.errors import ConfigurationError, InvalidInputError
from memory_plugin.models import files
from tests import tiny


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own."""
    monkeypatch.setattr(platformdirs, "user_cache_dir", lambda *_, **__: str(tmp_path / "cache"))
    monkeypatch.setattr(files, "_hashes", {})
    return tmp_path / "cache" / "weights.json"


# ── a directory or a name ─────────────────────────────────────────────────────────────────────────


def test_a_directory_is_one_however_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = (tmp_path / "model").resolve()
    for written in ("model", "./model", "~/model", str(tmp_path / "model"), tmp_path / "model", "model/"):
        assert files.directory(written) == expected


@pytest.mark.parametrize("name", ["BAAI/bge-m3", "all-MiniLM-L6-v2", "nomic-ai/nomic-embed-text-v1.5"])
def test_a_name_is_none(name: str) -> None:
    assert files.directory(name) is None


@pytest.mark.parametrize("path", ["/no/such", "./none", "../none", "~/none", "a/b/c", "C:\\models\\bge"])
def test_what_can_only_be_a_directory_has_to_be_there(path: str) -> None:
    with pytest.raises(InvalidInputError, match="there is no directory"):
        files.directory(path)


@pytest.mark.parametrize("path", ["", "a\x00b"])
def test_nothing_is_no_model(path: str) -> None:
    with pytest.raises(InvalidInputError, match="names no model"):
        files.directory(path)


def test_a_file_is_no_directory(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"")
    with pytest.raises(InvalidInputError, match="there is no directory"):
        files.directory(tmp_path / "model.onnx")


def test_a_copy_from_a_hub_has_the_hubs_name() -> None:
    place = Path("/home/u/.cache/huggingface/hub/models--BAAI--bge-m3/snapshots") / ("0" * 40)
    assert (files.name_of(place), files.revision_of(place)) == ("BAAI/bge-m3", "0" * 40)
    assert (files.name_of(Path("/models/bge-m3")), files.revision_of(Path("/models/bge-m3"))) == ("bge-m3", None)


# ── reading ───────────────────────────────────────────────────────────────────────────────────────


def test_json(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    assert files.read_json(path) == {}
    path.write_text('{"a": 1}')
    assert files.read_json(path) == {"a": 1}
    for damaged in ("[1]", "{", '"text"'):
        path.write_text(damaged)
        with pytest.raises(ConfigurationError, match=r"config\.json"):
            files.read_json(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="cannot read"):
        files.read_json(path)


def test_weights_beside_an_onnx_model_are_found(tmp_path: Path) -> None:
    place = tiny.write_m3(tmp_path / "m", external=True)
    (place / "other.onnx").write_bytes(b"another model")
    assert [path.name for path in files.onnx_files(place / "model.onnx")] == ["model.onnx", "model.onnx_data"]
    whole = tiny.write_m3(tmp_path / "w")
    assert files.onnx_files(whole / "model.onnx") == [whole / "model.onnx"]
    for damaged in ("none.onnx", "empty.onnx"):
        (whole / "empty.onnx").write_bytes(b"")
        with pytest.raises(ConfigurationError, match="cannot read the model file"):
            files.onnx_files(whole / damaged)


# ── hashes ────────────────────────────────────────────────────────────────────────────────────────


def test_a_fingerprint_is_content_in_order_and_settings(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"1")
    two.write_bytes(b"2")
    made = [
        files.fingerprint([one, two]),
        files.fingerprint([two, one]),
        files.fingerprint([one]),
        files.fingerprint([one, two], "cls"),
        files.fingerprint([one, two], None),
    ]
    assert len(set(made)) == 5
    assert all(len(found) == 16 for found in made)
    (tmp_path / "renamed").write_bytes(b"1")
    assert files.fingerprint([tmp_path / "renamed", two]) == made[0]
    with pytest.raises(ConfigurationError, match=r"cannot read the model file .*none: No such file"):
        files.fingerprint([tmp_path / "none"])


def test_a_change_is_noticed_though_size_and_time_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"weights 1")
    about = path.stat()
    first = files.fingerprint([path])
    path.write_bytes(b"weights 2")
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert path.stat().st_mtime_ns == about.st_mtime_ns
    assert files.fingerprint([path]) != first


def test_large_files_are_hashed_once_for_all_processes(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "LARGE", 8)
    path, small = tmp_path / "model.onnx", tmp_path / "config.json"
    path.write_bytes(b"many weights")
    small.write_bytes(b"{}")
    first = files.fingerprint([path, small])
    (kept,) = json.loads(cache.read_text()).items()
    assert str(path) in kept[0]
    assert len(kept[1]) == 64
    # Another process: what it remembers is used, which shows when it is another hash.
    cache.write_text(json.dumps({kept[0]: "0" * 64}))
    monkeypatch.setattr(files, "_hashes", {})
    assert files.fingerprint([path, small]) != first
    for damaged in ("", "[]", "{", json.dumps({kept[0]: "no hash"}), json.dumps({kept[0]: 3})):
        cache.write_text(damaged)
        monkeypatch.setattr(files, "_hashes", {})
        assert files.fingerprint([path, small]) == first
    assert json.loads(cache.read_text()) == dict([kept])


def test_a_cache_that_cannot_be_written_is_none(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LARGE", 1)
    cache.parent.parent.mkdir(exist_ok=True)
    cache.parent.write_text("a file where the directory would be")
    (tmp_path / "model.onnx").write_bytes(b"weights")
    assert len(files.fingerprint([tmp_path / "model.onnx"])) == 16


def test_the_cache_does_not_grow_for_ever(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LARGE", 1)
    monkeypatch.setattr(files, "_REMEMBERED", 3)
    for number in range(5):
        path = tmp_path / f"{number}.onnx"
        path.write_bytes(b"weights")
        files.fingerprint([path])
    kept = json.loads(cache.read_text())
    assert [Path(key.partition("|")[0]).name for key in kept] == ["2.onnx", "3.onnx", "4.onnx"]
