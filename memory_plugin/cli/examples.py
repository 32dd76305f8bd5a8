"""What ``--help`` shows; ``tests/test_cli_examples.py`` runs every line in a directory with notes and a chat."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

EXAMPLES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "add": (
            "memory-plugin add notes.md --namespace alice",
            "memory-plugin add notes/ chat.jsonl -n alice/session-7 --meta team=search",
            "echo 'Alice moved to Lisbon in May.' | memory-plugin add - -n alice",
            "memory-plugin add notes.md -n alice --local-only --offline",
        ),
        "search": (
            "memory-plugin search 'Where does Alice live?' -n alice",
            "memory-plugin search 'error E1042' -n alice -n company --limit 5 --rerank none --json",
            "memory-plugin search 'plans' -n alice --where team=search --since 2024-01-01",
        ),
        "context": (
            "memory-plugin context 'Where does Alice live?' -n alice --max-tokens 500",
            "memory-plugin context 'Where does Alice live?' -n alice --json",
        ),
        "list": (
            "memory-plugin list -n alice --limit 20 --newest-first",
            "memory-plugin list -n alice/session-7 --json",
        ),
        "get": (
            "memory-plugin get 00000000-0000-5000-8000-000000000000 -n alice",
            "memory-plugin get -n alice --source notes.md --json",
        ),
        "count": ("memory-plugin count -n alice", "memory-plugin count -n alice --where team=search"),
        "facet": ("memory-plugin facet team -n alice", "memory-plugin facet '$source' -n alice --json"),
        "delete": (
            "memory-plugin delete -n alice --source notes.md",
            "memory-plugin delete -n alice --where team=search --yes",
            "memory-plugin delete -n alice/session-7 --all --yes --json",
        ),
        "rotate": ("memory-plugin rotate -n alice",),
        "forget": ("memory-plugin forget -n alice --yes",),
        "doctor": ("memory-plugin doctor", "memory-plugin doctor --json"),
        "verify": ("memory-plugin verify", "memory-plugin verify --model"),
        "migrate": (
            "memory-plugin migrate --to 'local?dimension=128&force=true' --dry-run",
            "memory-plugin migrate --to 'local?dimension=256&force=true' --rate 50 --json",
            "memory-plugin migrate --quantization int8",
            "memory-plugin migrate --status",
        ),
        "eval": (
            "memory-plugin eval questions/",
            "memory-plugin eval questions/ --reranker none --reranker late --legs hybrid --sample 200 --json",
            "memory-plugin eval questions/ --dimension 384 --dimension 128 --quantization binary --picture choice.svg",
            "memory-plugin eval --make-questions --namespace alice --out alice.jsonl",
            "memory-plugin eval --questions mine.jsonl --reranker late --reranker local",
            "memory-plugin eval --questions mine.jsonl --embedder local --quantization turbo4 --quantization binary",
        ),
        "plan": (
            "memory-plugin plan --memories 10M --subjects 50k",
            "memory-plugin plan --memories 1e6 --embedder voyage:voyage-4 --dimension 256 --dimension 1024",
            "memory-plugin plan --memories 2.5k --embedder local --quantization turbo4 --quantization binary --json",
        ),
        "mcp": (
            "memory-plugin mcp --namespace alice",
            "memory-plugin mcp -n alice --read-only --offline",
            "memory-plugin mcp --http --port 8765 --tokens tokens.json",
        ),
        "mcp token": (
            "memory-plugin mcp token --tokens tokens.json -n alice --name laptop",
            "memory-plugin mcp token --tokens tokens.json --list",
            "memory-plugin mcp token --tokens tokens.json --revoke phone",
        ),
        "mcp config": (
            "memory-plugin mcp config --client claude-desktop -n alice",
            "memory-plugin mcp config --client codex -n alice --store ./memory --read-only",
            "memory-plugin mcp config --client vscode --url https://memory.example.com/mcp",
        ),
        "train embedder": (
            "memory-plugin train embedder pairs.jsonl --dry-run",
            "memory-plugin train embedder pairs.jsonl --out my-model --epochs 1",
        ),
    }
)

NEEDS: Mapping[str, str] = MappingProxyType(
    {
        "memory-plugin train embedder pairs.jsonl --out my-model --epochs 1": "train",
        **{line: "mcp" for name, lines in EXAMPLES.items() if name.startswith("mcp") for line in lines},
    }
)
"""Examples that work with an extra only, and which."""
