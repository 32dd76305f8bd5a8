"""Commands that write: add, delete, rotate, forget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Literal

import typer

from memory_plugin.cli import show
from memory_plugin.cli.files import Found, How, Item, load, load_image, scan
from memory_plugin.cli.options import (
    EMBEDDER,
    EmbedderOption,
    JsonOption,
    KeysOption,
    NamespaceOption,
    OfflineOption,
    Place,
    PlaintextOption,
    SinceOption,
    StoreOption,
    UntilOption,
    WhereOption,
    YesOption,
    condition,
    moment,
    namespace,
    pairs,
)
from memory_plugin.errors import InvalidInputError
from memory_plugin.settings import Settings
from memory_plugin.store import MemoryStore
from memory_plugin.types import Added, Namespace

BATCH_ITEMS, BATCH_CHARACTERS = 256, 4 * 2**20


def add(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="PATH…", help="Text files, directories, .jsonl chat logs, images, or - for standard input."
        ),
    ],
    whose: NamespaceOption,
    source: Annotated[
        str | None, typer.Option("--source", help="Name of the one file given. Default: its path as you give it.")
    ] = None,
    time: Annotated[
        str | None, typer.Option("--time", help="When it was written. Default: the file's date.", show_default=False)
    ] = None,
    meta: Annotated[
        list[str] | None, typer.Option("--meta", metavar="KEY=VALUE", help="Metadata of all.", show_default=False)
    ] = None,
    form: Annotated[
        Literal["auto", "text", "markdown", "chat", "image"],
        typer.Option("--format", help="How to read; auto: by the name. image: for models that embed images."),
    ] = "auto",
    caption: Annotated[
        str | None, typer.Option("--caption", help="What the one image shows, in words.", show_default=False)
    ] = None,
    local_only: Annotated[
        bool, typer.Option("--local-only", help="No model outside this machine may ever see them.")
    ] = False,
    as_json: JsonOption = False,
    store: StoreOption = None,
    keys: KeysOption = None,
    plaintext: PlaintextOption = False,
    embedder: EmbedderOption = EMBEDDER,
    offline: OfflineOption = False,
) -> None:
    """Remember files, directories, chat logs or standard input; adding the same again changes nothing.

    A chat log holds one JSON object a line with role and content, and perhaps name, time and id.
    """
    wanted = namespace(whose)
    metadata = pairs(meta)
    how = How(source, moment(time, "--time"), form, Settings().max_text_bytes, local_only)
    skipped: Counter[str] = Counter()
    files = scan(paths, skipped, images=form == "image")
    for option, value in (("--source names", source), ("--caption is of", caption)):
        if value is not None and len(files) != 1:
            raise InvalidInputError(f"{option} one file, but there are {len(files)}: leave it out")
    if caption is not None and form != "image":
        raise InvalidInputError("--caption is for images: say --format image")
    with Place(store, keys, plaintext, embedder, offline).open(create=True) as memory, show.progress() as tell:
        if form == "image":
            done = _add_images(memory, files, how, wanted, metadata, caption, skipped, tell)
        else:
            done = _add(memory, files, how, wanted, metadata, skipped, tell)
    _report(done, skipped, as_json=as_json)


def _add(
    memory: MemoryStore,
    files: Sequence[Found],
    how: How,
    wanted: Namespace,
    metadata: dict[str, str],
    skipped: Counter[str],
    tell: Callable[[str, int, int], None],
) -> Added:
    """Batches of files, each durable before the next is read."""
    total = Added()
    for items, left in _batches(files, how, skipped):

        def batch(done: int, of: int, before: int = total.documents, left: int = left) -> None:
            tell("Adding", before + done, before + of + left)

        batch(0, len(items))
        made = memory.add(items, wanted, metadata=metadata, local_only=how.local_only, progress=batch)
        total = _sum(total, made)
    return total


def _add_images(
    memory: MemoryStore,
    files: Sequence[Found],
    how: How,
    wanted: Namespace,
    metadata: dict[str, str],
    caption: str | None,
    skipped: Counter[str],
    tell: Callable[[str, int, int], None],
) -> Added:
    """Images one by one, each durable before the next is read."""
    total = Added()
    for number, file in enumerate(files):
        tell("Adding", number, len(files))
        image, source = load_image(file, how)
        try:
            made = memory.add_image(
                image,
                wanted,
                caption=caption,
                source=source,
                time=how.time,
                metadata=metadata,
                local_only=how.local_only,
            )
        except InvalidInputError:
            if file.named:
                raise
            skipped["not readable as image"] += 1
            continue
        total = _sum(total, made)
    return total


def _sum(total: Added, made: Added) -> Added:
    return Added(
        ids=total.ids + made.ids,
        documents=total.documents + made.documents,
        written=total.written + made.written,
        unchanged=total.unchanged + made.unchanged,
        replaced=total.replaced + made.replaced,
        billed_tokens=total.billed_tokens + made.billed_tokens,
        cost=None if total.cost is None or made.cost is None else total.cost + made.cost,
    )


def _batches(files: Sequence[Found], how: How, skipped: Counter[str]) -> Iterator[tuple[list[Item], int]]:
    """What files hold, some at a time, and how many files are left after it."""
    batch: list[Item] = []
    size = 0
    for number, file in enumerate(files, 1):
        for item in load(file, how, skipped):
            batch.append(item)
            size += len(item.content if hasattr(item, "content") else item.text)
            if len(batch) == BATCH_ITEMS or size > BATCH_CHARACTERS:
                yield batch, len(files) - number
                batch, size = [], 0
    if batch:
        yield batch, 0


def _report(done: Added, skipped: Counter[str], *, as_json: bool) -> None:
    left_out = {reason: number for reason, number in skipped.items() if number}
    added = done.documents - done.unchanged - done.replaced
    if as_json:
        show.emit(
            {
                "documents": done.documents,
                "added": added,
                "unchanged": done.unchanged,
                "replaced": done.replaced,
                "written": done.written,
                "skipped": left_out,
                "ids": list(done.ids),
                **({"billed_tokens": done.billed_tokens, "cost": done.cost} if done.billed_tokens else {}),
            }
        )
        return
    show.say(f"{added} added, {done.unchanged} unchanged, {done.replaced} replaced ({done.written} chunks written)")
    if done.billed_tokens:
        show.note(show.bill(done.billed_tokens, done.cost))
    if left_out:
        show.note("skipped: " + ", ".join(f"{number} {reason}" for reason, number in sorted(left_out.items())))


def delete(
    whose: NamespaceOption,
    identities: Annotated[
        list[str] | None, typer.Argument(metavar="[ID…]", help="As `list` shows them.", show_default=False)
    ] = None,
    sources: Annotated[
        list[str] | None,
        typer.Option("--source", help="Or the document of that name; may be repeated.", show_default=False),
    ] = None,
    where: WhereOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Or all of the namespace and those below it.")] = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
    store: StoreOption = None,
    keys: KeysOption = None,
    plaintext: PlaintextOption = False,
    embedder: EmbedderOption = EMBEDDER,
    offline: OfflineOption = False,
) -> None:
    """Delete memories: those of the ids, of a document, that satisfy conditions, or all."""
    wanted = namespace(whose)
    filter_ = condition(where, since, until)
    if sum((bool(identities), bool(sources), filter_ is not None, everything)) != 1:
        raise InvalidInputError("delete needs exactly one of: ids, --source, conditions (--where, --since), --all")
    with Place(store, keys, plaintext, embedder, offline).open() as memory:
        what = "everything" if everything else ", ".join(map(repr, sources)) if sources else "these memories"
        _ask(f"Delete {what} from {whose}?", yes=yes)
        number = memory.delete(
            wanted, identities or None, source=sources or None, filter=filter_, everything=everything
        )
    if as_json:
        show.emit({"deleted": number})
    else:
        show.say(f"{number} memories deleted")


def forget(
    whose: NamespaceOption,
    yes: YesOption = False,
    as_json: JsonOption = False,
    store: StoreOption = None,
    keys: KeysOption = None,
    plaintext: PlaintextOption = False,
    embedder: EmbedderOption = EMBEDDER,
    offline: OfflineOption = False,
) -> None:
    """Destroy the key of a data subject and delete its memories; nobody can read them again."""
    wanted = namespace(whose)
    with Place(store, keys, plaintext, embedder, offline).open() as memory:
        _ask(f"Forget {whose} for good: destroy the key, delete {memory.count(wanted)} memories?", yes=yes)
        done = memory.forget(wanted)
    if as_json:
        show.emit(
            {"memories": done.memories, "keys": done.keys, "gone": list(done.gone), "remains": list(done.remains)}
        )
        return
    show.say(f"{done.memories} memories deleted, {done.keys} keys destroyed")
    for title, lines in (("Gone", done.gone), ("What remains", done.remains)):
        for text in lines:
            show.say(f"{title}: {text}")


def rotate(
    whose: NamespaceOption,
    as_json: JsonOption = False,
    store: StoreOption = None,
    keys: KeysOption = None,
    plaintext: PlaintextOption = False,
    embedder: EmbedderOption = EMBEDDER,
    offline: OfflineOption = False,
) -> None:
    """Seal everything of a data subject under a new key and destroy the old one."""
    with Place(store, keys, plaintext, embedder, offline).open() as memory:
        done = memory.rotate(namespace(whose))
    if as_json:
        show.emit({"resealed": done.resealed, "keys": done.keys})
        return
    show.say(f"{done.resealed} memories sealed anew, {done.keys} old keys destroyed")


def _ask(question: str, *, yes: bool) -> None:
    """Ask, where somebody is there to answer; leave unless the answer is yes."""
    if yes or not show.can_ask() or typer.confirm(show.clean(question), err=True):
        return
    show.note("nothing was deleted")
    raise typer.Exit(1)
