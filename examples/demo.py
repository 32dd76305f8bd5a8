"""The main job on real text, in a temporary directory: add, search, count, context, grep the disk, forget.

Nothing is downloaded and no server runs.  Leaves with status 1 if one of its claims does not hold.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from memory_plugin import PLAINTEXT, Document, MemoryStore, Results, Settings, and_, eq, time_range

DATA = Path(__file__).parent / "data"
MESSAGES = [json.loads(line) for line in (DATA / "conversation.jsonl").read_text(encoding="utf-8").splitlines()]
MAYA, PEPS = "maya-ferreira", "handbook-peps"
STAGES = ("dense", "lexical", "fused", "late", "rerank")
JUNE = datetime(2024, 6, 1, tzinfo=UTC)
QUESTIONS = (  # where to look, and what has to be among the first three
    ("Which nuts is Maya allergic to?", [MAYA], "hazelnuts and walnuts"),
    ("How do I declare the dependencies of a single-file script?", [PEPS], "pep-0723.rst"),
    ("Where do the walrus operator and the sea turtle get their names?", [MAYA, PEPS], "Turtles"),
    ("LX-2217", [MAYA], "badge LX-2217"),
    ("Which device has the serial number ZR-88-1043?", [MAYA, PEPS], "ZR-88-1043"),
)
# Each is longer, or has a sign more, than chance makes of a few megabytes of base64.
NEEDLES = {f"a word: {word}": word for word in ("monstera", "loggerhead", "LX-2217", "ZR-88-1043", "walrus operator")}
NEEDLES |= {"a speaker: Tomas": '"Tomas', f"a namespace: {MAYA}": MAYA, "a file name: pep-0572.rst": "pep-0572.rst"}

console = Console(highlight=False, width=None if sys.stdout.isatty() else 104)
broken: list[str] = []


def claim(text: str, holds: bool) -> None:
    """Say it, and whether it is so."""
    console.print(f"  {'[green]holds[/]' if holds else '[bold red]DOES NOT HOLD[/]'}  {text}")
    if not holds:
        broken.append(text)


def document(name: str) -> Document:
    return Document((DATA / "peps" / name).read_text(encoding="utf-8"), source=name, time=JUNE)


def add(store: MemoryStore) -> None:
    console.print("\n[bold]1. Add a conversation and seven documents[/]")
    names = sorted(path.name for path in (DATA / "peps").iterdir())
    columns = (TextColumn("  {task.description:18}"), BarColumn(), MofNCompleteColumn())
    chunks, start = 0, time.perf_counter()
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=1 + len(names))
        for name in ("conversation.jsonl", *names):
            bar.update(task, description=name)
            made = store.add(document(name), PEPS) if name in names else store.add(MESSAGES, MAYA)
            bar.advance(task)
            chunks += made.written
            console.print(f"  {name:20} {made.written:3} chunks")
    seconds = time.perf_counter() - start
    console.print(f"  {chunks} chunks in {seconds:.1f} s: {chunks / seconds:.0f} a second embedded, sealed and on disk")
    claim("adding the conversation again writes nothing", store.add(MESSAGES, MAYA).written == 0)


def ask(store: MemoryStore) -> None:
    console.print("\n[bold]2. Ask[/] (in each cell: rank and score at that stage)")
    for query, where, wanted in QUESTIONS:
        found = store.search(query, where, limit=3)
        console.print(f"\n  [bold cyan]{query}[/]  [dim]in {' and '.join(where)}[/]")
        show(found)
        texts = [f"{hit.record.source} {hit.text}" for hit in found]
        claim(f"{wanted!r} is among the first three", any(wanted in text for text in texts))


def show(found: Results) -> None:
    table = Table(box=box.SIMPLE_HEAD, padding=0, expand=True, show_edge=False)
    table.add_column("  memory", no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column("from", no_wrap=True)
    for name in STAGES:
        table.add_column(name, justify="right", no_wrap=True)
    for hit in found:
        text = f"  {' '.join(hit.text.split())[:80]}".replace("[", "\\[")
        scores = [f"{at.rank} [dim]{at.score:5.2f}[/]" if (at := hit.stages.get(name)) else "" for name in STAGES]
        table.add_row(text, hit.record.source or hit.record.name or "", *scores)
    console.print(table)
    laps = ", ".join(f"{stage} {seconds * 1000:.1f}" for stage, seconds in found.seconds.items())
    console.print(f"  [dim]milliseconds: {laps}[/]")


def count(store: MemoryStore) -> None:
    console.print("\n[bold]3. Count[/]: exact, over everything, not by similarity")
    speakers = store.facet("$name", MAYA)
    late = store.count(MAYA, filter=and_(eq("$name", "Tomas"), time_range(since=JUNE)))
    console.print(f"  messages by speaker: {speakers}; of Tomas since June: {late}")
    names = [one["name"] for one in MESSAGES]
    claim("as in the file", speakers == {name: names.count(name) for name in speakers})
    claim("with a time, too", late == sum(one["name"] == "Tomas" and one["time"] >= "2024-06" for one in MESSAGES))


def pack(store: MemoryStore) -> None:
    console.print("\n[bold]4. Context for a prompt[/], of at most 240 tokens")
    packed = store.context("What does Maya not eat?", MAYA, max_tokens=240)
    console.print(packed.text, style="cyan", markup=False)
    console.print(f"  {packed.tokens} tokens ({packed.counter}), {len(packed.citations)} passages")
    for one in packed.citations:
        console.print(f"  [dim]\\[{one.number}] is point {one.id} of {'/'.join(one.namespace)}, {one.time:%d %B %Y}[/]")
    claim("within the budget, each passage cited", packed.tokens <= 240 and len(packed.citations) == len(packed.hits))
    claim("with meat and nuts in it", "stopped eating meat" in packed.text and "walnuts" in packed.text)


def grep(directory: Path) -> dict[str, int]:
    """How often each needle stands in the files under a directory, or in their names."""
    counts = dict.fromkeys(NEEDLES, 0)
    for path in directory.rglob("*"):
        # The engine's files are mostly holes, which read as zeros.
        data = path.read_bytes().replace(bytes(4096), b"\0") if path.is_file() else b""
        for name, needle in NEEDLES.items():
            counts[name] += data.count(needle.encode()) + path.name.count(needle)
    return counts


def look_at_disk(sealed: Path, plain: Path) -> None:
    console.print("\n[bold]5. Grep every file[/] of the store, and of a PLAINTEXT one (conversation and one document)")
    with MemoryStore.open(plain, keyring=PLAINTEXT, settings=Settings(vectors="plain")) as store:
        store.add(MESSAGES, MAYA)
        store.add(document("pep-0572.rst"), PEPS)
    found, control = grep(sealed), grep(plain)
    table = Table("  needle", "sealed", "PLAINTEXT", box=box.SIMPLE_HEAD, show_edge=False)
    for name in NEEDLES:
        table.add_row(f"  {name}", str(found[name]), str(control[name]))
    console.print(table)
    claim("nothing readable in the sealed store", not any(found.values()))
    claim("the same grep finds everything in the other", all(control.values()))


def forget(memory: Path, keys: Path, backup: Path) -> None:
    console.print(f"\n[bold]6. Forget {MAYA}[/], then open yesterday's backup of the store with the keys of today")
    shutil.copytree(memory, backup, copy_function=copy)
    with MemoryStore.open(memory, keyring=keys) as store:
        done = store.forget(MAYA)
    console.print(f"  {done.memories} memories deleted, {done.keys} key destroyed")
    for text in (*(f"Gone: {line}" for line in done.gone), *(f"Remains: {line}" for line in done.remains)):
        console.print(f"  [dim]{text.replace(str(keys.parent), '…')}[/]")
    with MemoryStore.open(backup, keyring=keys) as store:
        claim("none of the backup's memories of Maya opens", len(store.verify().failures) == len(MESSAGES))
        claim("and none is found", not store.search(QUESTIONS[0][0], MAYA))
        claim("the documents still open", len(store.search("walrus operator", PEPS)) > 0)


def copy(source: str, target: str) -> None:
    """Copy a file with its holes."""
    with Path(source).open("rb") as old, Path(target).open("wb") as new:
        while part := old.read(1 << 16):
            new.write(part) if part.strip(b"\0") else new.seek(len(part), 1)
        new.truncate(old.tell())


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="memory-plugin-demo-") as name:
        memory, keys = Path(name, "memory"), Path(name, "keys", "keys.json")
        with MemoryStore.open(memory, keyring=keys) as store:
            for step in (add, ask, count, pack):
                step(store)
        look_at_disk(memory, Path(name, "plain"))
        forget(memory, keys, Path(name, "backup"))
    console.print(f"\n[bold]{f'{len(broken)} claims are broken.' if broken else 'Every claim holds.'}[/]")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
