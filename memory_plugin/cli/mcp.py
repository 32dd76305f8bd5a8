"""The MCP server: mcp, mcp token, mcp config."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias
from urllib.parse import urlsplit

import typer

from memory_plugin.cli import show
from memory_plugin.cli.options import (
    EMBEDDER,
    EmbedderOption,
    Kept,
    KeysOption,
    OfflineOption,
    Place,
    PlaintextOption,
    StoreOption,
    namespace,
)
from memory_plugin.errors import ConfigurationError, InvalidInputError, MemoryPluginError
from memory_plugin.manifest import Manifest
from memory_plugin.network import is_loopback
from memory_plugin.registry import embedder as embedder_named
from memory_plugin.registry import of

if TYPE_CHECKING:
    from mcp.server import MCPServer

    from memory_plugin.adapters.mcp import Lease, Token, Tokens

WhoseOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        "-n",
        metavar="NAME[/PART…]",
        envvar="MEMORY_PLUGIN_NAMESPACE",
        help="Whose memories: alice, or alice/session-7. No client can ask for others.",
        show_default=False,
    ),
]
TokensOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--tokens",
        metavar="FILE",
        envvar="MEMORY_PLUGIN_MCP_TOKENS",
        help="Bearer tokens and what each opens, made by `mcp token`.",
        show_default=False,
    ),
]
TOKEN = "MEMORY_PLUGIN_MCP_TOKEN"  # noqa: S105 - the name of a variable
_HTTP = "HTTP"

ReadOnlyOption: TypeAlias = Annotated[bool, typer.Option("--read-only", help="Without the tools add and forget.")]
ForgetOption: TypeAlias = Annotated[
    Literal["never", "ask", "always"],
    typer.Option("--allow-forget", help="Whether models may delete: after the user was asked, or unasked."),
]
WaitOption: TypeAlias = Annotated[
    float, typer.Option("--wait", help="Seconds to wait while another program has the store open.", min=0)
]
VerboseOption: TypeAlias = Annotated[bool, typer.Option("--verbose", help="Log more, on standard error.")]
HttpOption: TypeAlias = Annotated[
    bool, typer.Option("--http", help="Serve streamable HTTP instead.", rich_help_panel=_HTTP)
]
HostOption: TypeAlias = Annotated[str, typer.Option("--host", help="Address to listen on.", rich_help_panel=_HTTP)]
PortOption: TypeAlias = Annotated[
    int, typer.Option("--port", help="0: any free one.", min=0, max=65535, rich_help_panel=_HTTP)
]
AllowHostOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--allow-host", metavar="NAME", help="A name by which clients reach it.", rich_help_panel=_HTTP),
]
AllowOriginOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--allow-origin", metavar="ORIGIN", help="Web pages that may use it.", rich_help_panel=_HTTP),
]
StatelessOption: TypeAlias = Annotated[
    bool, typer.Option("--stateless", help="Every request on its own.", rich_help_panel=_HTTP)
]


def serve(
    ctx: typer.Context,
    whose: WhoseOption = None,
    read_only: ReadOnlyOption = False,
    allow_forget: ForgetOption = "ask",
    wait: WaitOption = 15.0,
    verbose: VerboseOption = False,
    http: HttpOption = False,
    host: HostOption = "127.0.0.1",
    port: PortOption = 8765,
    tokens: TokensOption = None,
    allow_host: AllowHostOption = None,
    allow_origin: AllowOriginOption = None,
    stateless: StatelessOption = False,
    store: StoreOption = None,
    keys: KeysOption = None,
    plaintext: PlaintextOption = False,
    embedder: EmbedderOption = EMBEDDER,
    offline: OfflineOption = False,
) -> None:
    """Serve a memory to MCP clients, on standard input and output or by HTTP.

    Clients start it themselves: `mcp config` prints what to put into their settings.
    """
    if ctx.invoked_subcommand is not None:
        return
    if plaintext and keys is not None:
        raise ConfigurationError("--plaintext and --keys contradict each other: leave one out")
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        stream=sys.stderr,
        format="%(levelname)s %(name)s: %(message)s",
    )
    from memory_plugin.adapters.mcp import memory_server

    place = Place(store, keys, plaintext, embedder, offline)
    opened = _tokens(tokens, whose) if http else None
    if opened is None and whose is None:
        raise InvalidInputError(
            "say whose memories to serve: --namespace alice, or, with --http, a file of --tokens that tells"
        )
    lease = _lease(place, create=not read_only, wait=wait)
    server = memory_server(
        lease,
        opened if opened is not None else namespace(whose or ""),
        read_only=read_only,
        allow_forget=allow_forget,
        open_world=_leaves_machine(place),
    )
    if http:
        _serve_http(
            server, host, port, allow_host or (), allow_origin or (), stateless, authenticated=opened is not None
        )
    else:
        _serve_stdio(server, lease)


def _serve_stdio(server: MCPServer[Any], lease: Lease) -> None:
    if sys.stdin.isatty():
        show.note("speaking MCP on standard input and output; `memory-plugin mcp config` tells clients how to start it")
    with _ended_by_signals(lease):
        server.run()


def _serve_http(
    server: MCPServer[Any],
    host: str,
    port: int,
    allowed_hosts: Sequence[str],
    allowed_origins: Sequence[str],
    stateless: bool,
    *,
    authenticated: bool,
) -> None:
    from memory_plugin.adapters.mcp import http

    application = http.app(
        server,
        host=host,
        allowed_hosts=allowed_hosts,
        allowed_origins=allowed_origins,
        stateless=stateless,
        authenticated=authenticated,
    )
    if not http.is_local(host):
        show.note("tokens and memories travel unencrypted unless a proxy in front of this server speaks https")

    def ready(address: str) -> None:
        show.note(f"serving {address}")
        sys.stderr.flush()

    http.serve(application, host=host, port=port, ready=ready)


def _lease(place: Place, *, create: bool, wait: float) -> Lease:
    """Opens the store when the first call needs it; models are made once."""
    from memory_plugin.adapters.mcp import Lease

    kept: Kept = {}
    idle = None if place.served else 0.2
    return Lease(lambda: place.open(create=create, reranks=True, kept=kept), idle=idle, wait=wait)


def _tokens(file: Path | None, whose: str | None) -> Tokens | None:
    """Tokens out of the file, or the one of the environment; None for none."""
    from memory_plugin.adapters.mcp import Token, Tokens

    given = os.environ.get(TOKEN)
    if file is not None and given:
        raise ConfigurationError(f"--tokens and {TOKEN} contradict each other: leave one out")
    if file is not None:
        if whose is not None:
            raise ConfigurationError("--tokens says what each token opens: leave --namespace out")
        found = Tokens(file)
        if not len(found):
            raise ConfigurationError(f"there is no token in {file}: make one with `memory-plugin mcp token`")
        return found
    if given and whose is not None:
        return Tokens([Token.of(given, namespace(whose), "environment")])
    return None


@contextlib.contextmanager
def _ended_by_signals(lease: Lease) -> Iterator[None]:
    """Ctrl-C and the like close the store and leave at once: a thread waits for input and would hold the process."""

    def leave(number: int, _: object) -> None:
        lease.stop()
        os._exit(128 + number)

    names = ("SIGINT", "SIGTERM", "SIGHUP")
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.signal(number, leave) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leaves_machine(place: Place) -> bool:
    """Whether texts go to a model or a server elsewhere, as far as it can be told without opening the store."""
    if place.offline:
        return False
    if place.served:
        return not is_loopback(urlsplit(place.location).hostname or "")
    try:
        if place.embedder is not None:
            return bool(getattr(embedder_named(place.embedder), "leaves_machine", True))
        if not place.exists:
            return False
        manifest = Manifest.from_json(json.loads((Path(place.location).expanduser() / "manifest.json").read_bytes()))
        identity = manifest.spaces[manifest.active]
        return identity.provider != "local" and bool(getattr(of(identity), "leaves_machine", True))
    except (MemoryPluginError, OSError, ValueError):
        return True


def token(
    tokens: TokensOption = None,
    whose: WhoseOption = None,
    name: Annotated[
        str | None, typer.Option("--name", help="What to call it, e.g. the machine that will hold it.")
    ] = None,
    revoke: Annotated[
        str | None, typer.Option("--revoke", metavar="NAME", help="Take one back; running servers notice.")
    ] = None,
    names: Annotated[bool, typer.Option("--list", help="Show names and what they open.")] = False,
) -> None:
    """Make a bearer token for a namespace; it is shown once, and kept as a hash."""
    from memory_plugin.adapters.mcp import whose as access

    if tokens is None:
        raise InvalidInputError("say which file: --tokens tokens.json")
    known = access.load(tokens) if tokens.exists() else []
    if names:
        show.table(["name", "namespace"], [[one.name, "/".join(one.namespace)] for one in known])
    elif revoke is not None:
        left = [one for one in known if one.name != revoke]
        if len(left) == len(known):
            raise InvalidInputError(f"there is no token called {revoke!r:.80} in {tokens}")
        access.save(tokens, left)
        show.note(f"{revoke} opens nothing any more")
    else:
        _make(tokens, known, whose, name)


def _make(file: Path, known: Sequence[Token], whose: str | None, name: str | None) -> None:
    from memory_plugin.adapters.mcp import whose as access

    if whose is None:
        raise InvalidInputError("say what the token opens: --namespace alice")
    called = name or f"{whose}-{len(known) + 1}"
    if any(one.name == called for one in known):
        raise InvalidInputError(
            f"there is a token called {called!r:.80} already: choose another --name, or --revoke it"
        )
    made = access.make_token()
    access.save(file, [*known, access.Token.of(made, namespace(whose), called)])
    show.say(made)
    show.note(f"{called} opens {whose}; it is not shown again. Clients send it as `Authorization: Bearer …`")


ClientName: TypeAlias = Literal[
    "claude-desktop", "claude-code", "cursor", "vscode", "windsurf", "zed", "codex", "gemini"
]


def config(
    client: Annotated[ClientName, typer.Option("--client", help="Whose settings.")],
    whose: WhoseOption = None,
    read_only: ReadOnlyOption = False,
    url: Annotated[
        str | None,
        typer.Option("--url", help="Of a server that runs already, instead of starting one.", show_default=False),
    ] = None,
    store: StoreOption = None,
    keys: KeysOption = None,
    plaintext: PlaintextOption = False,
    embedder: EmbedderOption = EMBEDDER,
    offline: OfflineOption = False,
) -> None:
    """Print what to put into a client's settings, with the whole path of this installation."""
    from memory_plugin.adapters.mcp import clients

    known = clients.CLIENTS[client]
    if url is not None:
        made = clients.remote_settings(client, url)
        if made is None:
            raise ConfigurationError(f"{known.title} has no place for such servers in its settings: start one by stdio")
    elif whose is None:
        raise InvalidInputError("say whose memories to serve: --namespace alice")
    else:
        namespace(whose)
        options = ["mcp", "--namespace", whose]
        options += [word for flag, on in (("--read-only", read_only), ("--offline", offline)) if on for word in (flag,)]
        options += ["--plaintext"] if plaintext else []
        for flag, value, path in (("--store", store, True), ("--keys", keys, True), ("--embedder", embedder, False)):
            if value is not None:
                options += [flag, _whole(value) if path else value]
        made = clients.settings(client, [*executable(), *options])
    show.say(made)
    show.note(f"for {known.title}: {known.files}")


def executable() -> list[str]:
    """How to start this very installation from anywhere."""
    beside = Path(sys.executable).parent
    for name in ("memory-plugin", "memory-plugin.exe"):
        if (beside / name).is_file():
            return [str(beside / name)]
    return [sys.executable, "-m", "memory_plugin"]


def _whole(place: str) -> str:
    """A path that holds from any directory; addresses and "environment" are as they are."""
    if place == "environment" or place.startswith(("http://", "https://")):
        return place
    return str(Path(place).expanduser().absolute())
