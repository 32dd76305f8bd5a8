"""Commands that look at the store itself: doctor, verify."""

from __future__ import annotations

import platform
import stat
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from memory_plugin import Verified
from memory_plugin.cli import show
from memory_plugin.cli.options import (
    EMBEDDER,
    EmbedderOption,
    JsonOption,
    KeysOption,
    OfflineOption,
    Place,
    PlaintextOption,
    StoreOption,
)

PACKAGES = (
    "memory-plugin",
    "qdrant-edge-py",
    "qdrant-client",
    "onnxruntime",
    "tokenizers",
    "tiktoken",
    "numpy",
    "cryptography",
)
SCALE = ("bytes", "KiB", "MiB", "GiB", "TiB")


def _drift(found: Verified) -> str:
    drift = found.drift
    if drift is None:
        return "no probes were kept of this model: whether it has moved cannot be told"
    verdict = "the model HAS MOVED: it is not the one that made the vectors" if drift.moved else "the model is the same"
    return f"{verdict} (cosine of {drift.probes} probes with then: mean {drift.mean:.5f}, worst {drift.worst:.5f})"


def doctor(
    as_json: JsonOption = False,
    store: StoreOption = None,
    keys: KeysOption = None,
    plaintext: PlaintextOption = False,
    embedder: EmbedderOption = EMBEDDER,
    offline: OfflineOption = False,
) -> None:
    """Say where data and keys are, what protects what, which models, versions and sizes."""
    place = Place(store, keys, plaintext, embedder, offline)
    found: dict[str, Any] = {"exists": place.exists, "data": place.location}
    if place.exists:
        with place.open(reranks=True) as memory:
            found |= memory.describe()
    else:
        found["keys"] = str(place.key_file(None))
    found["versions"] = {name: _version(name) for name in PACKAGES}
    found["versions"]["python"] = platform.python_version()
    found["versions"]["system"] = platform.platform()
    found["warnings"] = _warnings(found, place)
    if as_json:
        show.emit(found)
        return
    if not found["exists"]:
        show.note(f"there is no store at {place.location} yet: make one with `memory-plugin add`")
    _print(found)


def _print(found: Mapping[str, Any]) -> None:
    """Plain facts first, then one table a section."""
    plain = {name: value for name, value in found.items() if not isinstance(value, dict | list)}
    show.table(["store", ""], [[name, _fact(name, value)] for name, value in plain.items()])
    for name, value in found.items():
        if isinstance(value, dict):
            show.table([name, ""], [[one, _fact(one, other)] for one, other in value.items()])
    for warning in found["warnings"]:
        show.say(f"warning: {warning}")


def _fact(name: str, value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and "bytes" in name:
        return size(value)
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)


def size(number: int) -> str:
    """Bytes for people."""
    amount = float(number)
    for unit in SCALE:
        if amount < 1024 or unit == SCALE[-1]:
            return f"{amount:.0f} {unit}" if unit == SCALE[0] else f"{amount:.1f} {unit}"
        amount /= 1024
    raise AssertionError(number)


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _warnings(found: Mapping[str, Any], place: Place) -> list[str]:
    """What is open to others, or lies where a thief of one would have both."""
    warnings = []
    if found.get("sealed") is False:
        warnings.append("the store is PLAINTEXT: nothing in it is encrypted")
    data, keys = Path(str(found["data"])).expanduser(), place.key_file(found.get("store"))
    if data.is_dir() and keys.is_file() and data.resolve() in keys.resolve().parents:
        warnings.append(f"the keys {keys} lie inside the data that they protect: move them elsewhere")
    if sys.platform != "win32":
        for path, ours in ((data, data.is_dir()), (keys, keys.is_file())):
            if ours and stat.S_IMODE(path.stat().st_mode) & 0o077:
                warnings.append(f"{path} is open to other users of this machine: chmod go-rwx {path}")
    return warnings


def verify(
    model: Annotated[
        bool, typer.Option("--model", help="Embed the probes again, too: has the model changed under its name?")
    ] = False,
    as_json: JsonOption = False,
    store: StoreOption = None,
    keys: KeysOption = None,
    plaintext: PlaintextOption = False,
    embedder: EmbedderOption = EMBEDDER,
    offline: OfflineOption = False,
) -> None:
    """Open every memory; leaves with status 1 when one does not open or lacks a vector."""
    with Place(store, keys, plaintext, embedder, offline).open() as memory:
        found = memory.verify(model=model)
    if as_json:
        show.emit(
            {
                "ok": found.ok,
                "memories": found.memories,
                "subjects": found.subjects,
                "failures": dict(found.failures),
                "model": None if found.drift is None else {**asdict(found.drift), "moved": found.drift.moved},
            }
        )
    else:
        show.say(f"{found.memories} memories of {found.subjects} subjects, {len(found.failures)} damaged")
        if found.failures:
            show.table(["id", "what is wrong"], [list(one) for one in found.failures.items()])
        if model:
            show.say(_drift(found))
    if not found.ok:
        raise typer.Exit(1)
