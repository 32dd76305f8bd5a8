"""The command line in processes of its own: terminals, signals, pipes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.command import here as here

COMMAND = (sys.executable, "-m", "memory_plugin")


def process(arguments: Sequence[str], **options: Any) -> subprocess.Popen[str]:
    root = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": str(root), **options.pop("env", {})}
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(
        [*COMMAND, *arguments],
        text=True,
        env=environment,
        # Whoever starts the tests in the background makes their children deaf to Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no thread runs here
        **{**pipes, **options},
    )


def test_a_process(here: Path) -> None:
    with process(["add", "notes.md", "-n", "alice"]) as adding:
        out, err = adding.communicate(timeout=60)
    assert (adding.returncode, err) == (0, "")
    assert "1 added" in out
    with process(
        ["search", "Alice", "-n", "alice", "--rerank", "late", "--json"], env={"PYTHONIOENCODING": "ascii"}
    ) as found:
        out, err = found.communicate(timeout=60)
    assert (found.returncode, err) == (0, "")
    assert "Lisbon" in json.loads(out)["hits"][0]["text"]


def test_another_process_has_it_open(here: Path) -> None:
    with process(["add", "-", "-n", "alice"], stdin=subprocess.PIPE) as waiting:
        waiting.communicate("first", timeout=60)
    from memory_plugin import MemoryStore
    from memory_plugin.assembly import default_key_file

    place = default_key_file("x").parents[1] / "store"
    with MemoryStore.open(place, reranker=None), process(["count", "-n", "alice", "--json"]) as second:
        out, _ = second.communicate(timeout=60)
    assert second.returncode == 1
    assert json.loads(out)["error"]["type"] == "StoreLockedError"


def test_ctrl_c(here: Path) -> None:
    many = here / "many"
    many.mkdir()
    for number in range(3000):
        (many / f"{number}.txt").write_text(f"Note {number} " + "about this and that " * 30, encoding="utf-8")
    with process(["add", "many", "-n", "alice"]) as adding:
        manifest = here.parent / "home" / "memory-plugin" / "store" / "manifest.json"
        deadline = time.monotonic() + 60
        while not manifest.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(2)
        adding.send_signal(signal.SIGINT)
        out, err = adding.communicate(timeout=60)
    assert (adding.returncode, out) == (130, "")
    assert err == "memory-plugin: interrupted: what was reported as done is kept\n"
    with process(["verify", "--json"]) as verifying:
        out, _ = verifying.communicate(timeout=60)
    assert json.loads(out)["ok"]


def test_the_reader_goes_away(here: Path) -> None:
    (here / "long.txt").write_text("word " * 100_000, encoding="utf-8")
    with process(["add", "notes.md", "-n", "alice"]) as adding:
        adding.communicate(timeout=60)
    with process(["list", "-n", "alice"]) as listing:
        assert listing.stdout is not None
        listing.stdout.close()
        listing.stdout = None
        _, err = listing.communicate(timeout=60)
    assert (listing.returncode, err) == (141, "")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
@pytest.mark.parametrize(("answer", "status", "left"), [("n", 1, "1"), ("y", 0, "0"), ("\x03", 130, "1")])
def test_on_a_terminal(here: Path, answer: str, status: int, left: str) -> None:
    with process(["add", "notes.md", "-n", "alice"]) as adding:
        adding.communicate(timeout=60)
    code, screen = on_terminal(["search", "Lisbon", "-n", "alice", "--rerank", "late"])
    assert code == 0
    assert "─" in screen
    code, screen = on_terminal(["delete", "-n", "alice", "--all"], answer=answer)
    assert code == status, screen
    assert "Delete everything from alice?" in screen
    with process(["count", "-n", "alice"]) as counting:
        out, _ = counting.communicate(timeout=60)
    assert out.strip() == left


def on_terminal(arguments: Sequence[str], answer: str = "") -> tuple[int, str]:
    """Run a command on a pseudo-terminal; its status and what the screen got."""
    import pty

    root = Path(__file__).parents[1]
    pid, screen = pty.fork()
    if pid == 0:
        os.environ["PYTHONPATH"] = str(root)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.execv(sys.executable, [*COMMAND, *arguments])
    seen = b""
    while True:
        try:
            part = os.read(screen, 4096)
        except OSError:
            break
        if not part:
            break
        seen += part
        if answer and b"[y/N]" in seen:
            os.write(screen, answer.encode() + (b"" if answer == "\x03" else b"\n"))
            answer = ""
    _, status = os.waitpid(pid, 0)
    os.close(screen)
    return os.waitstatus_to_exitcode(status), seen.decode(errors="replace")
