"""The tools: search, context, list, add, forget.  None takes a namespace."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import UTC, date, datetime
from datetime import time as clock
from typing import Annotated, Any

from memory_plugin.adapters.extras import needs
from memory_plugin.adapters.mcp import results
from memory_plugin.adapters.mcp.memory import Memory, RefusedError
from memory_plugin.filters import and_, any_of, time_range
from memory_plugin.types import Filter

with needs("mcp", "the MCP server"):
    from mcp.server import MCPServer
    from mcp.server.elicitation import AcceptedElicitation, ElicitationResult
    from mcp.server.mcpserver import Context
    from mcp.server.mcpserver.resolve import Elicit, Resolve
    from mcp_types import CallToolResult, ToolAnnotations
    from pydantic import BaseModel, Field

MAX_QUERY, MAX_TEXT, MAX_IDS, SHOWN = 2_000, 100_000, 20, 300
RECENT = "memory://recent"
ORIGIN = "mcp"
"""The metadata ``origin`` of what a model wrote: ``memory-plugin delete --where origin=mcp`` takes all of it back."""

MODERN = "2026-07-28"
"""From this revision on a tool asks the user by its result; before, by a request of its own."""

Query = Annotated[
    str,
    Field(
        description="A question or words, in the user's own words and with names, numbers and identifiers as they are.",
        min_length=1,
        max_length=MAX_QUERY,
    ),
]
Since = Annotated[date | None, Field(description="Only what is from this day (UTC, YYYY-MM-DD) or later.")]
Until = Annotated[date | None, Field(description="Only what is from before this day (UTC, YYYY-MM-DD).")]
Ctx = Context[Memory, Any]


class Decision(BaseModel):
    """What the user is asked before memories are deleted."""

    delete: Annotated[bool, Field(title="Delete them", description="They cannot be brought back.")] = False


class NotAsked(BaseModel):
    """The user was not asked: it is not needed, or the client cannot; then a code confirms."""

    needed: bool


async def search(
    query: Query,
    ctx: Ctx,
    limit: Annotated[int, Field(description="Memories at most.", ge=1, le=50)] = 10,
    since: Since = None,
    until: Until = None,
) -> Annotated[CallToolResult, results.SearchResult]:
    """Find what the user said or gave you earlier that answers a query, best first, with ids.

    Use it before you say that you do not know something about the user, their work or earlier conversations.
    """
    memory = _memory(ctx)
    found = await memory.call("search", query, memory.namespace, limit=limit, filter=_between(since, until))
    return results.searched(found)


async def context(
    query: Query,
    ctx: Ctx,
    max_tokens: Annotated[int, Field(description="Length of the text at most, in tokens.", ge=50, le=8_000)] = 1_000,
) -> Annotated[CallToolResult, results.ContextResult]:
    """Gather the memories that answer a query as one text within a budget, with numbers to cite.

    Use it to answer a question from memory; use search where you need ids.
    """
    memory = _memory(ctx)
    return results.packed(await memory.call("context", query, memory.namespace, max_tokens=max_tokens))


async def list_memories(
    ctx: Ctx,
    limit: Annotated[int, Field(description="Memories a page.", ge=1, le=100)] = 20,
    newest_first: Annotated[bool, Field(description="False for the oldest first.")] = True,
    after: Annotated[str | None, Field(description="`next` of the page before.", max_length=400)] = None,
    since: Since = None,
    until: Until = None,
) -> Annotated[CallToolResult, results.ListResult]:
    """List memories by time, without a query: what is new, or all of them page by page."""
    memory = _memory(ctx)
    page = await memory.call(
        "list",
        memory.namespace,
        limit=limit,
        after=after,
        newest_first=newest_first,
        filter=readable(_between(since, until)),
    )
    return results.listed(page)


async def add(
    text: Annotated[
        str,
        Field(
            description="One fact or note in whole sentences that make sense on their own: names instead of pronouns, "
            "dates instead of 'yesterday'.",
            min_length=1,
            max_length=MAX_TEXT,
        ),
    ],
    ctx: Ctx,
    when: Annotated[
        datetime | date | None, Field(description="When it was said or happened, ISO 8601; default now.")
    ] = None,
) -> Annotated[CallToolResult, results.AddResult]:
    """Remember something the user told you or asked you to keep, for later conversations.

    Adding the same text again changes nothing. Do not add passwords, or what the user did not mean to be kept.
    """
    memory = _memory(ctx)
    done = await memory.call("add", text, memory.namespace, time=_moment(when), metadata={"origin": ORIGIN})
    await ctx.notify_resource_updated(RECENT)
    return results.added(done)


async def ask(ctx: Context, ids: list[str]) -> NotAsked | Elicit[Decision]:
    """Ask the user before memories are deleted, where that is wanted and the client can."""
    memory = _memory(ctx)
    if memory.allow_forget == "always":
        return NotAsked(needed=False)
    if not _can_ask(ctx):
        return NotAsked(needed=True)
    records = await memory.records(ids)
    lines = [f"• {_shortened(one.text)}" for one in map(results.item, records)]
    return Elicit(f"Delete {len(records)} memories for good?\n" + "\n".join(lines), Decision)


async def forget(
    ids: Annotated[
        list[Annotated[str, Field(max_length=64)]],
        Field(description="Ids from search or list.", min_length=1, max_length=MAX_IDS),
    ],
    decision: Annotated[ElicitationResult[Any], Resolve(ask)],
    ctx: Ctx,
    confirmation: Annotated[
        str | None, Field(description="The code of the first call, once the user agreed.", max_length=64)
    ] = None,
) -> Annotated[CallToolResult, results.ForgetResult]:
    """Delete memories for good, by id. Only when the user asks for it.

    The user is asked first. Where your client cannot ask, the first call deletes nothing and returns a code: show the
    user what would be deleted, and call again with the code when they agree.
    """
    memory = _memory(ctx)
    records = await memory.records(ids)
    said = decision.data if isinstance(decision, AcceptedElicitation) else None
    if isinstance(said, NotAsked):
        if said.needed and confirmation is None:
            return results.forgotten("confirmation_required", records, memory.code(records))
        if said.needed and not memory.confirms(confirmation or "", records):
            raise RefusedError("that code has expired or is for other memories: call forget without confirmation again")
    elif not (isinstance(said, Decision) and said.delete):
        return results.forgotten("kept", records)
    await memory.call("delete", memory.namespace, [one.id for one in records])
    await ctx.notify_resource_updated(RECENT)
    return results.forgotten("deleted", records)


def register(server: MCPServer[Memory], memory: Memory, *, open_world: bool) -> None:
    """Give a server the tools that it may have."""

    def hints(*, reads: bool = False, destroys: bool = False) -> ToolAnnotations:
        return ToolAnnotations(
            read_only_hint=reads, destructive_hint=destroys, idempotent_hint=True, open_world_hint=open_world
        )

    def give(tool: Callable[..., Any], name: str, title: str, annotations: ToolAnnotations) -> None:
        server.add_tool(tool, name=name, title=title, description=inspect.getdoc(tool), annotations=annotations)

    give(search, "search", "Search memories", hints(reads=True))
    give(context, "context", "Recall for a question", hints(reads=True))
    give(list_memories, "list", "List memories", hints(reads=True))
    if not memory.read_only:
        give(add, "add", "Remember", hints())
        if memory.allow_forget != "never":
            give(forget, "forget", "Forget memories", hints(destroys=True))


def readable(further: Filter | None = None) -> Filter:
    """What people read: without the values that programs keep beside texts."""
    texts = any_of("$kind", ("document", "message", "image"))
    return and_(texts, further) if further is not None else texts


def _memory(ctx: Context[Any, Any]) -> Memory:
    memory = ctx.request_context.lifespan_context
    assert isinstance(memory, Memory)
    return memory


def _can_ask(ctx: Context[Any, Any]) -> bool:
    """Whether the client shows forms, and there is a way to send it one."""
    capabilities = ctx.client_capabilities
    asks = capabilities.elicitation if capabilities is not None else None
    if asks is None or (asks.form is None and asks.url is not None):
        return False
    return bool(ctx.session.can_send_request) or (ctx.protocol_version or "") >= MODERN


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else line[: SHOWN - 1] + "…"


def _moment(value: datetime | date | None) -> datetime | None:
    """In UTC, where it names no zone."""
    if value is None:
        return None
    whole = value if isinstance(value, datetime) else datetime.combine(value, clock(), UTC)
    return whole if whole.tzinfo is not None else whole.replace(tzinfo=UTC)


def _between(since: date | None, until: date | None) -> Filter | None:
    return time_range(_moment(since), _moment(until)) if since or until else None
