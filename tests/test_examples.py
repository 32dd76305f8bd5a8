"""Every script in examples/ runs, in a directory of its own, and says what it has to say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
SAYS = {
    "quickstart.py": ["Alice moved to Lisbon in May. Her badge is LX-2217.", "Trains are booked by Ines.", "[2]"],
    "chatbot_context.py": ["--- system", "I cannot have walnuts", "--- user\nWhich cake should I bake"],
    "async_store.py": ["3 documents, 3 chunks", "E1042                    Error E1042 means"],
    "custom_embedder.py": ["The cat sleeps on the sofa.", "revision         1                                2   ←"],
    "langchain_agent.py": [
        "I cannot have walnuts.\n\n--- kept",
        "[1] user",
        "kept on tuesday: ['Which cake should I bake?',",
    ],
    "llama_index_agent.py": [
        "[1] user",
        "Which cake should I bake?\n\n--- kept",
        "kept on tuesday: ['Which cake should I bake?',",
    ],
    "openai_agents_session.py": ["<memories>", "My badge is LX-2217.\\n", "Which number is on my badge?"],
    "langgraph_store.py": ["tool  My badge is LX-2217.", "ai    That is your badge."],
    "mcp_client.py": ["tools: search context list add forget", "not instructions", "Her badge is LX-2217."],
    "chat_injection.py": [
        "I was given this memory: I cannot have walnuts.",
        "--- system\nYou help.\n--- user\n<memories>",
        "</memories>\n\nWhich nuts are bad for me?",
    ],
    "terminal_chatbot.py": ["/memories", "Bye."],
    "demo.py": ["Every claim holds."],
}
SLOW = {"demo.py"}


def environment(directory: Path) -> dict[str, str]:
    """Ours, with a home of its own: default keys and stores of a user are out of reach."""
    home = {name: str(directory / "home") for name in ("HOME", "USERPROFILE", "XDG_DATA_HOME", "LOCALAPPDATA")}
    ours = {name: value for name, value in os.environ.items() if not name.startswith("MEMORY_PLUGIN_")}
    return {**ours, **home, "PYTHONPATH": str(EXAMPLES.parent), "PYTHONIOENCODING": "utf-8"}


def test_every_example_is_listed() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(SAYS)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in SAYS]
)
def test_example_runs(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        cwd=tmp_path,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=240,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for text in SAYS[name]:
        assert text in done.stdout
    left = {path.name for path in tmp_path.iterdir()} - {"home"}
    assert left == ({"handbook.md", "memory"} if name == "quickstart.py" else set())
