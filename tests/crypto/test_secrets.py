"""No key leaves its object unasked: not shown, not pickled, not logged, not in a traceback."""

from __future__ import annotations

import base64
import copy
import functools
import gc
import io
import json
import logging
import os
import pickle
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from memory_plugin.crypto.kek import CallbackKek, LocalKek
from memory_plugin.crypto.keyring import FileKeyRing
from memory_plugin.crypto.keys import PURPOSES, Mac, RetiredKey, RootKey
from memory_plugin.crypto.sealer import SubjectSealer
from memory_plugin.crypto.terms import TermHash
from memory_plugin.crypto.vectors import Rotation, RotationCache
from memory_plugin.errors import MemoryPluginError
from tests.crypto.helpers import POINT

ROOT = os.urandom(32)
KEK = os.urandom(32)
KEY = RootKey(b"abcd", ROOT)
SECRETS = [ROOT, KEK, *(KEY.derive(purpose) for purpose in PURPOSES)]


def holders(tmp_path: Path) -> list[object]:
    ring = FileKeyRing(tmp_path / "ring.json", store_id="store", kek=LocalKek(KEK))
    ring.keys("subject", create=True)
    return [
        KEY,
        RetiredKey.of(KEY),
        LocalKek(KEK),
        Mac(ROOT, "sha256"),
        TermHash(ROOT),
        Rotation(ROOT),
        RotationCache(1),
        SubjectSealer("store", "subject", [KEY]),
        ring,
    ]


def find(secrets: list[bytes], data: str | bytes) -> list[str]:
    """Which forms of which secrets the data holds: raw, repr, hex, base64 at any alignment."""
    haystack = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
    found = []
    for secret in secrets:
        forms = {"raw": secret, "repr": repr(secret)[2:-1].encode(), "hex": secret.hex().encode()}
        forms["list"] = str(list(secret))[1:-1].encode()
        for shift in range(3):
            encoded = base64.b64encode(bytes(shift) + secret)[4 * (shift > 0) : -4]
            forms[f"base64+{shift}"] = encoded
            forms[f"urlsafe+{shift}"] = encoded.translate(bytes.maketrans(b"+/", b"-_"))
        found += [name for name, form in forms.items() if form in haystack or form.upper() in haystack]
    return found


def test_the_search_finds_what_is_there() -> None:
    for form in (ROOT, repr(ROOT), ROOT.hex(), base64.b64encode(b"x" + ROOT), base64.urlsafe_b64encode(b"xy" + ROOT)):
        assert find([ROOT], form)
    assert not find([ROOT], os.urandom(10_000))


def test_nothing_that_prints_shows_a_key(tmp_path: Path) -> None:
    stream = io.StringIO()
    logger = logging.getLogger("test_secrets")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(logging.StreamHandler(stream))
    logger.propagate = False
    for holder in holders(tmp_path):
        logger.debug("%s %r %s", holder, holder, [holder])
        shown = f"{holder} {holder!r} {holder!s} {holder!a} {[holder]} {dir(holder)}"
        assert not find(SECRETS, shown)
        with pytest.raises(TypeError):
            vars(holder)
    assert stream.getvalue().count("\n") == len(holders(tmp_path))
    assert not find(SECRETS, stream.getvalue())


def copies() -> list[Callable[[object], object]]:
    ways: list[Callable[[object], object]] = [
        copy.copy,
        copy.deepcopy,
        json.dumps,
        lambda holder: holder.__getstate__(),
    ]
    ways += [functools.partial(pickle.dumps, protocol=protocol) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    return ways


def test_nothing_copies_or_pickles_a_key(tmp_path: Path) -> None:
    for holder in holders(tmp_path):
        for way in copies():
            with pytest.raises(TypeError) as caught:
                way(holder)
            assert not find(SECRETS, str(caught.value))


def everything_about(error: BaseException) -> str:
    """Tracebacks with local variables, arguments and attributes of it and all that led to it."""
    shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    chain: list[BaseException | None] = [error, error.__cause__, error.__context__]
    for one in chain:
        if one is not None:
            # Once more, for what `raise … from None` hides from the usual way.
            shown += "".join(traceback.TracebackException.from_exception(one, capture_locals=True).format())
            shown += f"{one!r} {one.args!r} {vars(one)!r}"
    return shown


def raised(call: Callable[[], object]) -> str:
    """What an error of ours tells, seen from the library's frames: those of the tests may hold keys."""
    with pytest.raises(MemoryPluginError) as caught:
        call()
    error = caught.value
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    assert trace is not None
    return everything_about(error.with_traceback(trace))


def test_errors_of_envelopes_tell_no_key() -> None:
    sealer = SubjectSealer("store", "subject", [KEY])
    other = SubjectSealer("store", "subject", [RootKey(b"abcd", os.urandom(32))])
    sealed = sealer.seal(POINT, "e", b"text")
    calls: list[Callable[[], object]] = [
        lambda: sealer.open(POINT, "f", sealed),
        lambda: sealer.open(POINT, "e", other.seal(POINT, "e", b"text")),
        lambda: sealer.open(POINT, "e", sealed[:40]),
        lambda: sealer.open(POINT, "e", "plain:text"),
        lambda: sealer.open(POINT, "e", "AQEB" * 60),
        lambda: sealer.tag("topic", None),  # type: ignore[arg-type]
        lambda: sealer.term_ids([None]),  # type: ignore[list-item]
        lambda: sealer.rotate(None),  # type: ignore[arg-type]
        lambda: KEY.derive("no such"),
        lambda: RetiredKey.of(KEY).derive("record"),
        lambda: SubjectSealer("store", "subject", [KEY, KEY]),
        lambda: SubjectSealer("store", "subject", [RetiredKey.of(KEY), KEY]),
    ]
    for call in calls:
        assert not find(SECRETS, raised(call))


def test_errors_of_key_rings_tell_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "keys.json"
    ring = FileKeyRing(path, store_id="store")
    key = ring.keys("subject", create=True)[0]
    content = path.read_bytes()
    document: dict[str, Any] = json.loads(content)
    secrets = [base64.b64decode(document["kek"]["key"]), *(key.derive(purpose) for purpose in PURPOSES)]
    assert "base64+0" in find(secrets, content)

    def damaged(data: bytes, mode: int = 0o600, store: str = "store", kek: LocalKek | None = None) -> str:
        path.write_bytes(data)
        path.chmod(mode)
        return raised(lambda: FileKeyRing(path, store_id=store, kek=kek).keys("subject", create=True))

    wrong_id = content.replace(document["kek"]["id"].encode(), b"0" * 16)
    shown = [
        damaged(content[:-3]),
        damaged(wrong_id),
        damaged(content.replace(b'"full"', b'"none"')),
        damaged(content.replace(b'"full"', b'"index"')),
        damaged(content, 0o644),
        damaged(content, store="other"),
        damaged(content, kek=LocalKek(KEK)),
    ]
    path.write_bytes(content)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", None)
        shown.append(raised(lambda: FileKeyRing(path, store_id="store").rotate("subject")))
    for text in shown:
        assert not find([*secrets, KEK], text)


def test_a_service_that_fails_tells_no_key(tmp_path: Path) -> None:
    wrapped: list[bytes] = []

    def down(material: bytes, context: bytes) -> bytes:
        wrapped.append(material)
        raise ConnectionError("no route")

    ring = FileKeyRing(tmp_path / "keys.json", store_id="store", kek=CallbackKek(down, down, "kms"))
    shown = raised(lambda: ring.keys("subject", create=True))
    assert len(wrapped[0]) == 32
    assert "ConnectionError: no route" in shown
    assert not find(wrapped, shown)


def test_errors_of_the_environment_tell_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = os.urandom(33)
    monkeypatch.setenv("MEMORY_PLUGIN_KEK", base64.b64encode(secret).decode())
    assert not find([secret], raised(LocalKek.from_environment))


def test_a_sealer_keeps_no_sub_key_as_bytes() -> None:
    sealer = SubjectSealer("store", "subject", [KEY])
    seen: set[int] = set()
    queue: list[object] = [sealer]
    while queue:
        item = queue.pop()
        if id(item) in seen or isinstance(item, type):
            continue
        seen.add(id(item))
        if isinstance(item, bytes | str):
            assert not find(SECRETS, item)
        elif type(item).__module__.startswith(("memory_plugin", "builtins", "hmac")):
            queue += [part for part in gc.get_referents(item) if not callable(part)]
    assert len(seen) > 10
