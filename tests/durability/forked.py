"""Processes to stop at a random moment, forked by one that has imported what they need: a start costs milliseconds.

A script of this directory calls ``serve``; a test starts it with ``Runs`` and has a child for each line that it sends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import memory_plugin

KILLS = int(os.environ.get("MEMORY_PLUGIN_KILLS", "15"))
"""How often a process is killed in each test that does so at random moments."""


def serve(work: Callable[[str], None]) -> None:
    """In the script: fork a child for each line on the input; it gets the line, says what it likes, and is waited for.

    What the child raises is printed; the line "gone STATUS" ends what is said of each.
    """
    for line in sys.stdin:
        child = os.fork()
        if not child:
            print(f"child {os.getpid()}", flush=True)
            work(line.strip())
            return
        _, status = os.waitpid(child, 0)
        print(f"gone {os.waitstatus_to_exitcode(status)}", flush=True)


class Runs:
    """In the test: the script, and its children one after the other.

    Args:
        script: Calls ``serve``.
        arguments: Of the script.
    """

    def __init__(self, script: Path, *arguments: object) -> None:
        root = Path(memory_plugin.__file__).parents[1]
        self._process = subprocess.Popen(
            [sys.executable, str(script), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._input: IO[str] = self._process.stdin
        self._output: IO[str] = self._process.stdout
        self._child = 0

    def start(self, line: str) -> None:
        """Fork a child that gets the line."""
        print(line, file=self._input, flush=True)
        self._child = int(self.expect("child"))

    def stop(self, how: signal.Signals) -> None:
        """Send the child a signal; one that has ended by itself says so by its status."""
        try:
            os.kill(self._child, how)
        except ProcessLookupError:
            return

    def line(self) -> str:
        """The next that was said."""
        return self._output.readline().rstrip("\n")

    def expect(self, word: str) -> str:
        """The next that was said, which begins with the word; the rest of it."""
        line = self.line()
        assert line.startswith(word), line
        return line.removeprefix(word).strip()

    def rest(self) -> tuple[list[str], int]:
        """What the child said to its end, and the status it left with."""
        lines = []
        # A child that is killed in the middle of a line leaves no end of it.
        while "gone " not in (line := self.line()):
            assert line or self._process.poll() is None, "the script itself ended"
            lines.append(line)
        before, _, status = line.rpartition("gone ")
        return [*lines, *filter(None, [before])], int(status)

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the script, and a child that is left."""
        if error is not None:
            self.stop(signal.SIGKILL)
        self._input.close()
        self._output.close()
        self._process.wait(60)
