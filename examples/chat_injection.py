"""Memories for plain chat APIs: put into messages by hand, and by a client that does it on its own.

The model is a stand-in on this machine that quotes what it is given, so no key is needed: ``OpenAI()`` is a real one.
"""

import tempfile
from pathlib import Path
from typing import Any

from openai import OpenAI

from memory_plugin import MemoryStore
from memory_plugin.adapters.chat import Chat
from memory_plugin.adapters.openai import with_memory
from memory_plugin.testing.wire import WireServer

with (
    tempfile.TemporaryDirectory() as name,
    MemoryStore.open(Path(name, "memory"), keyring=Path(name, "keys.json")) as store,
    WireServer() as wire,
    OpenAI(base_url=wire.url("openai"), api_key=wire.key) as client,
):
    # By hand: the list stays yours, what is sent has the memories in it.
    monday = Chat(store, "alice", session=("alice", "monday"))
    messages: list[Any] = [{"role": "user", "content": "I cannot have walnuts."}]
    reply = client.chat.completions.create(model="stand-in", messages=monday.inject(messages))
    monday.remember([*messages, reply.choices[0].message])

    # On its own: the same client, for one user.
    tuesday = with_memory(client, store, "alice", session=("alice", "tuesday"))
    print(tuesday.responses.create(model="stand-in", input="Which cake should I bake?").output_text)

    messages = [{"role": "system", "content": "You help."}, {"role": "user", "content": "Which nuts are bad for me?"}]
    for message in Chat(store, "alice").inject(messages):
        print(f"--- {message['role']}\n{message['content']}")
