"""Installs into the environment that runs it: with uv, which takes a fifth of pip's time; with pip where uv cannot.

    .venv/bin/python scripts/install.py --editable '.[dev]'

uv is told of the places where pip is set up to look.  Needs nothing but pip.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
PLACES = {"index-url": "--index-url", "extra-index-url": "--extra-index-url", "find-links": "--find-links"}


def places(configuration: str) -> list[str]:
    """What ``pip config list`` says of where packages are, as options of uv."""
    found: dict[str, list[str]] = {}
    for line in sorted(configuration.splitlines(), key=lambda one: one.startswith(":env:")):  # the environment wins
        name, _, value = line.partition("=")
        option = name.rpartition(".")[2]
        if option in PLACES:
            found[option] = [one for one in str(ast.literal_eval(value)).split() if there(one)]
    given = [word for option, values in found.items() for value in values for word in (PLACES[option], value)]
    # Of all places the best version, as pip has it.
    return [*given, "--index-strategy", "unsafe-best-match"] if given else []


def there(place: str) -> bool:
    """False for a directory that is not there: pip warns, uv fails."""
    return "://" in place.removeprefix("file://") or Path(place.removeprefix("file://")).exists()


def ways(arguments: list[str]) -> Iterator[tuple[str, ...]]:
    """Commands that install, the quickest first."""
    fetched = subprocess.run(
        [*PIP, "install", "--quiet", "--retries", "1", "--timeout", "20", "uv"], capture_output=True, check=False
    )
    if fetched.returncode == 0:
        told = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True, check=False).stdout
        uv = (sys.executable, "-m", "uv", "pip", "install", "--python", sys.executable, "--quiet")
        # Copies, not links into uv's cache: nltk refuses to read a file that has several names.
        yield (*uv, "--link-mode", "copy", *places(told), *arguments)
    yield (*PIP, "install", "--quiet", *arguments)


def main() -> int:
    status = 1
    for command in ways(sys.argv[1:]):
        status = subprocess.run(command, check=False).returncode
        if status == 0:
            break
    return status


if __name__ == "__main__":
    sys.exit(main())
