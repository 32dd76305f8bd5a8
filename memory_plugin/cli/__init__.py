"""The command line: a thin face over ``MemoryStore``, one function a command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run ``memory-plugin`` and leave with its exit status."""
    try:
        from memory_plugin.cli.app import run
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(run(sys.argv[1:]))
