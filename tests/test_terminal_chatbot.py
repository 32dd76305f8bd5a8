"""The terminal chatbot at a real terminal: it remembers from run to run, forgets when told, and leaves quietly."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.test_examples import EXAMPLES, environment

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals on this system")

# The terminal becomes that of the new session, so that Ctrl-C is a signal there.
CONTROLLED = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"


class Terminal:
    """A run of the chatbot, typed at and read."""

    def __init__(self, directory: Path) -> None:
        self._ours, theirs = pty.openpty()
        script = (sys.executable, str(EXAMPLES / "terminal_chatbot.py"))
        keys = {"OPENAI_API_KEY", "ANTHROPIC_API_KEY"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", CONTROLLED, *script, "--user", "alice", "--store", str(directory / "store")],
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
            env={name: value for name, value in environment(directory).items() if name not in keys},
        )  # fmt: skip
        os.close(theirs)
        self.begun = self.read()

    def read(self, until: str = r"^> |\? \[y/N\] ") -> str:
        """What is on the screen up to the next prompt, or the end."""
        seen = b""
        deadline = time.monotonic() + 120
        while not re.search(until, seen.decode(errors="replace"), re.MULTILINE) and time.monotonic() < deadline:
            if select.select([self._ours], [], [], 0.2)[0]:
                try:
                    seen += os.read(self._ours, 4096)
                except OSError:
                    break  # it has left
        return seen.decode().replace("\r\n", "\n")

    def type(self, keys: str) -> str:
        """Type, and read the answer."""
        os.write(self._ours, keys.encode())
        return self.read()

    def leave(self, key: str) -> str:
        """Type a key that ends it."""
        os.write(self._ours, key.encode())
        last = self.read(until=r"\Z.")
        assert self.process.wait(30) == 0, last
        os.close(self._ours)
        return last


def test_from_one_run_to_the_next(tmp_path: Path) -> None:
    monday = Terminal(tmp_path)
    assert "a stand-in answers, which only quotes what it is given" in monday.begun
    assert "I see." in monday.type("My badge is LX-2217.\n")
    last = monday.leave("\x04")  # Ctrl-D
    assert last.endswith("Bye.\n")
    assert "Traceback" not in last

    tuesday = Terminal(tmp_path)
    assert "I was given this memory: My badge is LX-2217." in tuesday.type("Which badge do I have?\n")
    listed = tuesday.type("/memories\n")
    assert "user: My badge is LX-2217." in listed
    assert "assistant: I see." in listed
    assert "/forget" in tuesday.type("/help\n")
    assert "Forget all 4 memories of alice? [y/N] " in tuesday.type("/forget\n")
    assert "Forgotten: 4 memories" in tuesday.type("y\n")
    assert "I see." in tuesday.type("Which badge do I have?\n")
    last = tuesday.leave("\x03")  # Ctrl-C
    assert last.endswith("Bye.\n")
    assert "Traceback" not in last
