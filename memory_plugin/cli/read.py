"""Commands that read: search, context, list, get, count, facet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import typer

from memory_plugin.cli import show
from memory_plugin.cli.options import (
    EMBEDDER,
    EmbedderOption,
    JsonOption,
    KeysOption,
    NamespaceOption,
    NamespacesOption,
    OfflineOption,
    Place,
    PlaintextOption,
    SinceOption,
    StoreOption,
    UntilOption,
    WhereOption,
    condition,
    namespace,
    namespaces,
)
from memory_plugin.errors import InvalidInputError, MemoryNotFoundError
from memory_plugin.types import Hit, Record, Results

STAGES = ("dense", "lexical", "learned", "fused", "late", "rerank")

QueryArgument = Annotated[str, typer.Argument(metavar="QUERY", help="A question, or words.", show_default=False)]
NeighboursOption = Annotated[int, typer.Option("--neighbours", help="Chunks to bring along on each side of a hit.")]


def search(
    query: QueryArgument,
    where_to_look: NamespacesOption,
    limit: Annotated[int, typer.Option("--limit", "-k", help="Hits at most.")] = 10,
    legs: Annotated[
        Literal["hybrid", "dense", "lexical", "learned"], typer.Option(help="What proposes candidates.")
    ] = "hybrid",
    rerank: Annotated[
        Literal["none", "late", "full"], typer.Option(help="Last stage: fusion, late interaction, cross-encoder.")
    ] = "full",
    per_document: Annotated[
        int | None, typer.Option("--per-document", help="Hits of one document at most.", show_default=False)
    ] = None,
    neighbours: NeighboursOption = 0,
    where: WhereOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
    keys: KeysOption = None,
    plaintext: PlaintextOption = False,
    embedder: EmbedderOption = EMBEDDER,
    offline: OfflineOption = False,
) -> None:
    """Find the memories that answer a query, with rank and score at every stage."""
    wanted = namespaces(where_to_look)
    filter_ = condition(where, since, until)
    with Place(store, keys, plaintext, embedder, offline).open(reranks=rerank == "full") as memory:
        found = memory.search(
            query,
            wanted,
            limit=limit,
            filter=filter_,
            legs=legs,
            rerank=rerank,
            per_document=per_document,
            neighbours=neighbours,
        )
        used = memory.usage()
    if as_json:
        hits = [show.hit_json(rank, hit) for rank, hit in enumerate(found, 1)]
        show.emit(
            {"query": query, "hits": hits, "seconds": dict(found.seconds), "rerank": found.rerank}
            | show.usage_json(used)
        )
    else:
        _table(found, several=len(wanted) > 1)
        for one in used.values():
            if one.tokens:
                show.note(show.bill(one.tokens, one.cost))


def _table(found: Results, *, several: bool) -> None:
    """Hits under the stages that ran: a stage's column holds the rank that it gave, where there is room."""
    stages = [name for name in STAGES if any(name in hit.stages for hit in found) and not show.is_narrow()]
    owner = ["namespace"] if several else []
    ids = [] if show.is_terminal() else ["id"]
    rows = [
        [rank, show.figure(hit.score), *_ranks(hit, stages), _text(hit), show.place(hit.record), show.when(hit.record)]
        + ["/".join(hit.record.namespace)] * several
        + [hit.id] * len(ids)
        for rank, hit in enumerate(found, 1)
    ]
    show.table(["#", "score", *stages, "text", "source", "time", *owner, *ids], rows, wide="text")
    if not rows:
        show.note("nothing found")


def _text(hit: Hit) -> str:
    """The hit between the neighbours that were asked for."""
    return " ".join(show.words(one) for one in (*hit.before, hit.record, *hit.after))


def _ranks(hit: Hit, stages: list[str]) -> list[object]:
    return [hit.stages[name].rank if name in hit.stages else "–" for name in stages]


def context(
    query: QueryArgument,
    where_to_look: NamespacesOption,
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="Never exceeded.")] = 1000,
    limit: Annotated[int, typer.Option("--limit", "-k", help="Hits to pack at most.")] = 20,
    neighbours: NeighboursOption = 0,
    where: WhereOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
    keys: KeysOption = None,
    plaintext: PlaintextOption = False,
    embedder: EmbedderOption = EMBEDDER,
    offline: OfflineOption = False,
) -> None:
    """Print the memories that answer a query as text for a prompt, with citations."""
    wanted = namespaces(where_to_look)
    filter_ = condition(where, since, until)
    with Place(store, keys, plaintext, embedder, offline).open(reranks=True) as memory:
        packed = memory.context(
            query, wanted, max_tokens=max_tokens, limit=limit, filter=filter_, neighbours=neighbours
        )
    if as_json:
        citations = [
            {
                "number": one.number,
                "id": one.id,
                "namespace": list(one.namespace),
                "source": one.source,
                "start": one.start,
                "end": one.end,
                "time": one.time.isoformat(),
            }
            for one in packed.citations
        ]
        show.emit(
            {
                "query": query,
                "text": packed.text,
                "tokens": packed.tokens,
                "counter": packed.counter,
                "dropped": packed.dropped,
                "citations": citations,
            }
        )
        return
    if packed.text:
        show.say(packed.text)
    show.note(f"{packed.tokens} of {max_tokens} tokens, {len(packed.citations)} passages, {packed.dropped} left out")


def list_(
    whose: NamespaceOption,
    limit: Annotated[int, typer.Option("--limit", "-k", help="Memories at most.")] = 100,
    after: Annotated[
        str | None, typer.Option("--after", help="The `next` of the page before.", show_default=False)
    ] = None,
    newest_first: Annotated[bool, typer.Option("--newest-first", help="The other direction.")] = False,
    where: WhereOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
    keys: KeysOption = None,
    plaintext: PlaintextOption = False,
    embedder: EmbedderOption = EMBEDDER,
    offline: OfflineOption = False,
) -> None:
    """List memories in time order."""
    wanted = namespace(whose)
    filter_ = condition(where, since, until)
    with Place(store, keys, plaintext, embedder, offline).open() as memory:
        page = memory.list(wanted, filter=filter_, limit=limit, after=after, newest_first=newest_first)
    if as_json:
        show.emit({"memories": [show.record_json(one) for one in page.records], "next": page.next})
        return
    source = [] if show.is_narrow() else ["source"]
    rows = [[one.id, show.when(one), show.words(one), *[show.place(one)] * len(source)] for one in page.records]
    show.table(["id", "time", "text", *source], rows, wide="text")
    if page.next:
        show.note(f"there are more: --after {page.next}")


def get(
    whose: NamespaceOption,
    identity: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="As `list` and `search` show it.", show_default=False)
    ] = None,
    sources: Annotated[
        list[str] | None,
        typer.Option("--source", help="Or all of the document of that name; may be repeated.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
    keys: KeysOption = None,
    plaintext: PlaintextOption = False,
    embedder: EmbedderOption = EMBEDDER,
    offline: OfflineOption = False,
) -> None:
    """Print one memory by its id, or documents by their names."""
    wanted = namespace(whose)
    if (identity is None) == (not sources):
        raise InvalidInputError("get needs exactly one of: an id, --source")
    with Place(store, keys, plaintext, embedder, offline).open() as memory:
        found = {identity: (memory.get(identity, wanted),)} if identity else memory.get_sources(sources or [], wanted)
    if not found:
        raise MemoryNotFoundError(f"no document named {', '.join(sources or [])[:60]!r} in namespace {whose!r:.120}")
    if as_json:
        show.emit(_as_json(found, by_id=identity is not None))
        return
    for record in (one for records in found.values() for one in records):
        show.say(record.passage or show.words(record))
        show.note(f"{show.place(record)}  {show.when(record)}  {dict(record.metadata) or ''}".strip())


def _as_json(found: Mapping[str, Sequence[Record]], *, by_id: bool) -> dict[str, Any]:
    made = {name: [show.record_json(one) for one in records] for name, records in found.items()}
    return next(iter(made.values()))[0] if by_id else {"sources": made}


def count(
    whose: NamespaceOption,
    where: WhereOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
    keys: KeysOption = None,
    plaintext: PlaintextOption = False,
    embedder: EmbedderOption = EMBEDDER,
    offline: OfflineOption = False,
) -> None:
    """Count memories (chunks), exactly."""
    wanted = namespace(whose)
    filter_ = condition(where, since, until)
    with Place(store, keys, plaintext, embedder, offline).open() as memory:
        number = memory.count(wanted, filter=filter_)
    if as_json:
        show.emit({"count": number})
    else:
        show.say(str(number))


def facet(
    field: Annotated[str, typer.Argument(metavar="FIELD", help="Of the metadata, or $role, $name, $source, $kind.")],
    whose: NamespaceOption,
    limit: Annotated[int, typer.Option("--limit", "-k", help="Values at most.")] = 100,
    where: WhereOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
    keys: KeysOption = None,
    plaintext: PlaintextOption = False,
    embedder: EmbedderOption = EMBEDDER,
    offline: OfflineOption = False,
) -> None:
    """Count memories by the values of a field, exactly."""
    wanted = namespace(whose)
    filter_ = condition(where, since, until)
    with Place(store, keys, plaintext, embedder, offline).open() as memory:
        found = memory.facet(field, wanted, filter=filter_, limit=limit)
    if as_json:
        show.emit({"field": field, "values": [{"value": value, "count": number} for value, number in found.items()]})
    else:
        show.table([field, "count"], [[str(value), number] for value, number in found.items()])
