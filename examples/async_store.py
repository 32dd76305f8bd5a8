"""The same store on an event loop: many searches at once, none of which blocks the loop."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from memory_plugin import AsyncMemoryStore, Document

NOTES = [
    Document("The staging cluster runs in Frankfurt.", source="notes/cluster"),
    Document("Deployments freeze on Thursday at noon.", source="notes/deployments"),
    Document("Error E1042 means that the certificate has expired.", source="notes/errors"),
]
QUESTIONS = ["Where does staging run?", "When is the freeze?", "E1042"]


async def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        async with AsyncMemoryStore.open(Path(name, "memory"), keyring=Path(name, "keys.json")) as store:
            added = await store.add(NOTES, "team")
            print(f"{added.documents} documents, {added.written} chunks")
            answers = await asyncio.gather(*(store.search(query, "team", limit=1) for query in QUESTIONS))
            for query, found in zip(QUESTIONS, answers, strict=True):
                print(f"{query:24} {found[0].text}")


if __name__ == "__main__":
    asyncio.run(main())
