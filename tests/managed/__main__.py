"""``python -m tests.managed``: every managed provider under every fault, as a table."""

from __future__ import annotations

from memory_plugin.errors import QuotaError
from memory_plugin.testing.managed import TRIALS, Outcome
from memory_plugin.testing.wire import WireServer
from tests.managed import test_faults

LEGEND = """right N    the right result, after N requests
error N    EmbeddingError or RerankError, not retryable, after N requests
again N    the same, retryable
quota N    QuotaError after N requests
-          the format has no such thing"""


def cell(outcome: Outcome) -> str:
    error = outcome.error
    if error is None:
        word = "right"
    elif isinstance(error, QuotaError):
        word = "quota"
    else:
        word = "again" if getattr(error, "retryable", False) else "error"
    return f"{word} {outcome.requests}"


def main() -> None:
    classes = [kind for name, kind in vars(test_faults).items() if name.startswith("Test")]
    names = [f"{kind.vendor}{'*' if kind.operation == 'rerank' else ''}" for kind in classes]
    widest = max(len(trial.name) for trial in TRIALS)
    print(" " * widest, *(f"{name:12}" for name in names))
    for trial in TRIALS:
        cells = []
        for kind in classes:
            suite = kind()
            with WireServer() as wire:
                cells.append(cell(suite.strike(trial, wire)) if suite.means(trial) else "-")
        print(f"{trial.name:{widest}}", *(f"{one:12}" for one in cells), flush=True)
    print(f"\n{LEGEND}\n* reranker")


if __name__ == "__main__":
    main()
