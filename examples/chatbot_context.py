"""Context for a chatbot: what it remembers goes into the system message, and what is said goes into the memory.

No language model is called: the messages that would be sent are printed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from memory_plugin import MemoryStore, Message

SYSTEM = "You help Alice. Answer from the memories below where they say something, and name their numbers."


def messages_for(store: MemoryStore, user: str, said: str) -> list[dict[str, str]]:
    """What to send to a language model for the user's next turn."""
    known = store.context(said, namespace=user, max_tokens=300)
    system = f"{SYSTEM}\n\n{known}" if known.citations else SYSTEM
    return [{"role": "system", "content": system}, {"role": "user", "content": said}]


def turn(store: MemoryStore, user: str, session: str, said: str) -> None:
    """One turn: recall, (answer), remember."""
    for message in messages_for(store, user, said):
        print(f"--- {message['role']}\n{message['content']}\n")
    answer = "(the model's answer)"
    # A session is a namespace below the user's: searching "alice" sees all her sessions, forgetting her takes them too.
    store.add([Message("user", said, name="Alice"), Message("assistant", answer)], (user, session))


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as name,
        MemoryStore.open(Path(name, "memory"), keyring=Path(name, "keys.json")) as store,
    ):
        turn(store, "alice", "monday", "I cannot have walnuts, and I am moving to Lisbon in May.")
        turn(store, "alice", "tuesday", "Which cake should I bake for my housewarming?")


if __name__ == "__main__":
    main()
