"""``python -m memory_plugin.testing.wire``: the server, until Ctrl-C."""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Sequence

from memory_plugin.testing.wire.faults import FAULTS
from memory_plugin.testing.wire.formats import FORMATS
from memory_plugin.testing.wire.server import WireServer

_DESCRIPTION = """A server on this machine that speaks the formats of OpenAI, Azure, Ollama, Cohere, Voyage, Jina,
ZeroEntropy and text-embeddings-inference, with vectors that tell texts apart.  For tests: it is no model."""

_MODELS = {"tei": "", "ollama": ":nomic-embed-text"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C.

    Args:
        arguments: Instead of those of the process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m memory_plugin.testing.wire",
        description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="faults:\n" + "\n".join(f"  {name:14} {words}" for name, words in FAULTS.items()),
    )
    parser.add_argument("--port", type=int, default=8080, help="0 for a free one (default: %(default)s)")
    parser.add_argument("--key", default="", help="the only key that is let in (default: any)")
    parser.add_argument("--revision", default="1", help="another one is another model under the same names")
    parser.add_argument("--dimension", type=int, default=64, help="of models it does not know (default: %(default)s)")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        metavar="VENDOR:FAULT[:TIMES]",
        help="fail so many of the next requests, or all without a number; may be given several times",
    )
    given = parser.parse_args(arguments)
    try:
        wire = WireServer(port=given.port, key=given.key, revision=given.revision, dimension=given.dimension)
    except OSError as error:
        parser.error(f"port {given.port}: {error}")
    with wire:
        for fault in given.fault:
            try:
                _arm(wire, fault)
            except (KeyError, ValueError) as error:
                parser.error(f"--fault {fault}: {error}; vendors are {', '.join(FORMATS)}")
        _tell(wire)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            return 0
    return 0


def _arm(wire: WireServer, fault: str) -> None:
    vendor, kind, *times = fault.split(":")
    wire.fail(vendor, kind, times=int(times[0]) if times else None)


def _tell(wire: WireServer) -> None:
    lines = ["Serving until Ctrl-C.  Providers by name, with any key in WIRE_KEY:", "  export WIRE_KEY=wire-key"]
    for vendor, form in FORMATS.items():
        key = "&key_from=WIRE_KEY" if form.auth else ""
        if any(operation == "embed" for operation, _ in form.routes.values()):
            lines.append(f"  {vendor}{_MODELS.get(vendor, '')}?base_url={wire.url(vendor)}{key}")
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
