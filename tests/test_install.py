"""What installs is told where pip looks."""

from __future__ import annotations

from pathlib import Path

from scripts.install import places


def test_nothing_is_set_up() -> None:
    assert places("") == []
    assert places("global.cert='/etc/ssl/ca.crt'\n:env:.default-timeout='180'") == []


def test_places_of_packages(tmp_path: Path) -> None:
    told = f"""
:env:.index-url='https://mirror.example/simple'
global.index-url='https://elsewhere.example/simple'
global.extra-index-url='file://{tmp_path} file:///nowhere/simple https://more.example/simple'
global.find-links='{tmp_path} /nowhere/wheels'
"""
    assert places(told) == [
        *("--index-url", "https://mirror.example/simple"),
        *("--extra-index-url", f"file://{tmp_path}", "--extra-index-url", "https://more.example/simple"),
        *("--find-links", str(tmp_path)),
        *("--index-strategy", "unsafe-best-match"),
    ]
