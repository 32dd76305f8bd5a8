"""The shipped model: near the original, repeatable, checked, loaded once a process."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_plugin.errors import ConfigurationError, InvalidInputError
from memory_plugin.models import runtime

HERE = Path(__file__).parent


@pytest.fixture
def unloaded() -> Iterator[None]:
    """As if nothing had been loaded, before and after."""
    runtime._process.forget()
    yield
    runtime._process.forget()


def encode(text: str) -> runtime.Encoding:
    model = runtime.load()
    return model.encode(runtime.windows(model.pieces(text))[0])


# ── the model ─────────────────────────────────────────────────────────────────────────────────────


def test_int8_stays_near_float32() -> None:
    with np.load(HERE / "reference.npz") as file:
        exact = file["sentences"]
    texts = (HERE / "reference.txt").read_text(encoding="utf-8").splitlines()
    found = np.stack([encode(text).sentence for text in texts])
    assert found.shape == exact.shape == (20, runtime.DIMENSION)
    cosines = (found * exact).sum(axis=1)
    assert cosines.mean() > 0.99
    assert cosines.min() > 0.96, "single words and emoji are the worst"


def test_vectors_have_unit_length_and_a_token_each() -> None:
    encoding = encode("My sister moved to Porto.")
    assert encoding.sentence.dtype == encoding.tokens.vectors.dtype == np.float32
    assert np.linalg.norm(encoding.sentence) == pytest.approx(1, abs=1e-5)
    assert np.linalg.norm(encoding.tokens.vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert encoding.tokens.ids.dtype == np.uint32
    assert encoding.tokens.ids[0] == runtime.CLS
    assert encoding.tokens.ids[-1] == runtime.SEP
    assert encoding.tokens.vectors.shape == (len(encoding.tokens.ids), runtime.DIMENSION)


def test_the_model_reads_a_full_window() -> None:
    model = runtime.load()
    pieces = model.pieces("word " * 300)
    assert len(pieces) == 302, "neither truncated nor padded by the tokenizer"
    assert len(model.encode(pieces[: runtime.WINDOW]).tokens.ids) == runtime.WINDOW


@pytest.mark.parametrize("name", ["[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]"])
def test_a_text_cannot_spell_control_tokens(name: str) -> None:
    pieces = runtime.load().pieces(f"before {name} after")
    assert runtime.load().tokenizer.token_to_id(name) not in pieces[1:-1]


def test_a_lone_surrogate_is_refused_with_its_offset_and_the_fix() -> None:
    with pytest.raises(InvalidInputError, match=r"offset 3: clean it with text\.encode\('utf-8', 'replace'\)"):
        runtime.load().pieces("abc\ud83d")


@given(st.integers(0, 1_200))
def test_windows_lose_nothing_and_fit(count: int) -> None:
    pieces = np.array([runtime.CLS, *range(1_000, 1_000 + count), runtime.SEP])
    parts = runtime.windows(pieces)
    assert [piece for part in parts for piece in part[1:-1]] == list(pieces[1:-1])
    assert all(part[0] == runtime.CLS and part[-1] == runtime.SEP and len(part) <= runtime.WINDOW for part in parts)
    assert len(parts) == max(1, -(-count // (runtime.WINDOW - 2)))


def test_the_statistics_know_rare_from_frequent() -> None:
    statistics = runtime.statistics()
    assert statistics.mean.shape == (runtime.DIMENSION,)
    assert statistics.idf.shape == (runtime.VOCABULARY,)
    assert 0.1 < np.linalg.norm(statistics.mean) < 1
    assert (statistics.idf > 0).all(), "else weights could not be normalised"
    identifier = runtime.load().tokenizer.token_to_id
    assert statistics.idf[identifier("the")] < 1 < 4 < statistics.idf[identifier("orchard")]
    assert statistics.idf[runtime.CLS] < 0.001


# ── its files ─────────────────────────────────────────────────────────────────────────────────────


def test_the_notice_names_the_shipped_files() -> None:
    notice = (runtime.DIRECTORY / "NOTICE").read_text(encoding="utf-8")
    assert runtime.SHA256["model.onnx"] in notice
    assert runtime.SHA256["tokenizer.json"] in notice
    assert "Apache License 2.0" in notice


def use(name: str) -> object:
    return runtime.statistics() if name == "statistics.npz" else runtime.load()


@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize("name", list(runtime.SHA256))
def test_a_missing_or_altered_file_is_an_error_that_heals(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shutil.copytree(runtime.DIRECTORY, tmp_path / "minilm")
    monkeypatch.setattr(runtime, "DIRECTORY", folder)
    good = (folder / name).read_bytes()

    (folder / name).unlink()
    with pytest.raises(ConfigurationError, match=rf"{name} \(No such file or directory\): reinstall"):
        use(name)

    (folder / name).write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(ConfigurationError, match=rf"{name} is not the file .* reinstall"):
        use(name)

    (folder / name).write_bytes(good)
    assert use(name) is use(name)


# ── loading ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("unloaded")
def test_threads_that_come_together_get_one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []
    read = runtime.read

    def record(name: str) -> bytes:
        reads.append(name)
        return read(name)

    monkeypatch.setattr(runtime, "read", record)
    together = threading.Barrier(6)

    def arrive(_: int) -> int:
        together.wait()
        return id(runtime.load())

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(arrive, range(6)))) == 1
    assert sorted(reads) == ["model.onnx", "tokenizer.json"]


def run_python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_loads_no_engine() -> None:
    code = """
import sys
import memory_plugin.embedders.local as local, memory_plugin.rerankers.late_interaction as late
local.LocalEmbedder().identity, late.MaxSim().model
print([name for name in ("onnxruntime", "tokenizers") if name in sys.modules])
local.LocalEmbedder().count("word")
print([name for name in ("onnxruntime", "tokenizers") if name in sys.modules])
"""
    assert run_python(code).splitlines() == ["[]", "['onnxruntime', 'tokenizers']"]


@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_a_child_forked_while_a_thread_loads_has_its_own_model() -> None:
    code = """
import os, threading
from memory_plugin.embedders.local import LocalEmbedder
from memory_plugin.models import runtime

embedder = LocalEmbedder(workers=2)
texts = ["one thing", "and another"]
before = embedder.embed(texts, input_type="document").vectors.tobytes()
loading, release, read = threading.Event(), threading.Event(), runtime.read

def wait_in_thread(name):
    if threading.current_thread() is thread:
        loading.set()
        release.wait()
    return read(name)

runtime._process.forget()
runtime.read = wait_in_thread
thread = threading.Thread(target=runtime.load)
thread.start()
loading.wait()
child = os.fork()
if not child:
    same = embedder.embed(texts, input_type="document").vectors.tobytes() == before
    os._exit(0 if same else 3)
release.set()
thread.join()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run_python(code).strip() == "0"
