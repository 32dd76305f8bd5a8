"""The example of the README: remember, ask, and get text for a prompt.  Makes ./memory in the working directory."""

from pathlib import Path

from memory_plugin import MemoryStore

Path("handbook.md").write_text("# Leave\n\nAsk two weeks ahead.\n\n# Travel\n\nTrains are booked by Ines.\n")

with MemoryStore.open("./memory") as store:
    store.add("Alice moved to Lisbon in May. Her badge is LX-2217.", namespace="alice")
    store.add_file("handbook.md", namespace="company")

    for hit in store.search("Where does Alice live?", namespace="alice", limit=3):
        print(hit.text, {stage: at.rank for stage, at in hit.stages.items()})

    print(store.context("Who books trains, and what is LX-2217?", namespace=["alice", "company"], max_tokens=300))
