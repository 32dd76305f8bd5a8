"""A chatbot in the terminal that remembers you from one run to the next.

    python examples/terminal_chatbot.py --user alice

With OPENAI_API_KEY or ANTHROPIC_API_KEY set it talks to a real model (``--model``).  Without a key a stand-in on this
machine answers: no language model, it quotes the memory that it was given.  Memories are kept sealed under ``--store``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import openai

from memory_plugin import MemoryPluginError, MemoryStore
from memory_plugin.adapters.openai import memory_of, with_memory
from memory_plugin.testing.wire import WireServer

SYSTEM = "You are a friendly assistant. Use the memories in the user's message where they help. Be brief."
HELP = "/memories  what is known of you    /forget  all of it    /quit  or Ctrl-D"
Answer: TypeAlias = Callable[[list[Any]], Iterator[str]]  # from messages to the pieces of an answer


def openai_answers(client: openai.OpenAI, model: str) -> Answer:
    def answer(messages: list[Any]) -> Iterator[str]:
        system: list[Any] = [{"role": "system", "content": SYSTEM}]
        with client.chat.completions.stream(model=model, messages=[*system, *messages]) as stream:
            yield from (event.delta for event in stream if event.type == "content.delta")

    return answer


def anthropic_answers(client: Any, model: str) -> Answer:
    def answer(messages: list[Any]) -> Iterator[str]:
        with client.messages.stream(model=model, max_tokens=1000, system=SYSTEM, messages=messages) as stream:
            yield from stream.text_stream

    return answer


def connect(stack: ExitStack, store: MemoryStore, given: argparse.Namespace) -> tuple[Answer, Callable[[], None]]:
    """What answers, and what drops the memories that it has at hand."""
    session = (given.user, f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S}")
    if os.environ.get("ANTHROPIC_API_KEY") and not os.environ.get("OPENAI_API_KEY"):
        import anthropic

        from memory_plugin.adapters import anthropic as adapter

        claude = adapter.with_memory(anthropic.Anthropic(), store, given.user, session=session)
        return anthropic_answers(claude, given.model or "claude-haiku-5-5"), adapter.memory_of(claude).forget_turn
    if os.environ.get("OPENAI_API_KEY"):
        client, model = openai.OpenAI(), given.model or "gpt-5.4-mini"
    else:
        print("No OPENAI_API_KEY and no ANTHROPIC_API_KEY: a stand-in answers, which only quotes what it is given.")
        wire = stack.enter_context(WireServer())
        client, model = openai.OpenAI(base_url=wire.url("openai"), api_key=wire.key), "stand-in"
    client = with_memory(client, store, given.user, session=session)
    return openai_answers(client, model), memory_of(client).forget_turn


def forget(store: MemoryStore, user: str) -> bool:
    if input(f"Forget all {store.count(user)} memories of {user}? [y/N] ").strip().lower() != "y":
        return False
    print(f"Forgotten: {store.forget(user).memories} memories, and the key that sealed them.")
    return True


def talk(store: MemoryStore, user: str, answer: Answer, drop: Callable[[], None]) -> None:
    messages: list[Any] = []
    while (said := input("> ").strip()) != "/quit":
        if said == "/memories":
            for record in store.list(user, newest_first=True, limit=20).records:
                print(f"  {record.time.astimezone():%d %b %H:%M}  {record.role or record.source or ''}: {record.text}")
        elif said == "/forget":
            if forget(store, user):
                drop()
                messages.clear()
        elif said.startswith("/"):
            print(HELP)
        elif said:
            messages.append({"role": "user", "content": said})
            try:
                whole = ""
                for piece in answer(messages):
                    print(piece, end="", flush=True)
                    whole += piece
                print()
                messages.append({"role": "assistant", "content": whole})
            except Exception as error:  # noqa: BLE001 - of either SDK, or of the store: the chat goes on
                print(f"\n{type(error).__name__}: {error}")
                messages.pop()


def main() -> int:
    parser = argparse.ArgumentParser(description="A chatbot that remembers you.")
    parser.add_argument("--user", default="me", help="whose memories (default: me)")
    parser.add_argument("--model", help="of OpenAI or Anthropic, whichever key is set")
    parser.add_argument("--store", type=Path, default=Path.home() / "memory-chatbot", help="where memories are kept")
    given = parser.parse_args()
    try:
        with ExitStack() as stack:
            given.store.mkdir(parents=True, exist_ok=True)
            store = stack.enter_context(MemoryStore.open(given.store / "memory", keyring=given.store / "keys.json"))
            answer, drop = connect(stack, store, given)
            print(HELP)
            talk(store, given.user, answer, drop)
    except (EOFError, KeyboardInterrupt):
        print()
    except MemoryPluginError as error:
        print(error, file=sys.stderr)
        return 1
    print("Bye.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
