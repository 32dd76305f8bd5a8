"""What commands share: where the store is, whose memories, which of them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, NoReturn, TypeAlias

import typer

from memory_plugin import ids, registry
from memory_plugin.assembly import LOCAL, KeySource, default_key_file, index_at
from memory_plugin.crypto.keyring import PLAINTEXT
from memory_plugin.dataset import timestamp
from memory_plugin.errors import ConfigurationError, InvalidInputError, NetworkForbiddenError
from memory_plugin.filters import and_, any_of, time_range
from memory_plugin.flow import Blocking, run
from memory_plugin.manifest import Manifest
from memory_plugin.protocols import Embedder, VectorIndex
from memory_plugin.store import MemoryStore
from memory_plugin.types import Filter, InputType, ModelIdentity, Namespace, Scalar

_STORE_PANEL = "Store"

StoreOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--store",
        metavar="PATH|URL",
        envvar="MEMORY_PLUGIN_STORE",
        help="A directory, or a Qdrant server. Default: the user's data directory.",
        show_default=False,
        rich_help_panel=_STORE_PANEL,
    ),
]
KeysOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--keys",
        metavar="PATH|environment",
        envvar="MEMORY_PLUGIN_KEYS",
        help="The key file; 'environment': its key is in MEMORY_PLUGIN_KEK. Default: in the user's data directory.",
        show_default=False,
        rich_help_panel=_STORE_PANEL,
    ),
]
PlaintextOption: TypeAlias = Annotated[
    bool,
    typer.Option("--plaintext", help="The store is not encrypted, on purpose.", rich_help_panel=_STORE_PANEL),
]
EmbedderOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--embedder",
        metavar="NAME",
        envvar="MEMORY_PLUGIN_EMBEDDER",
        help="The store's model. Default: the one that it was made with; for a new store: local.",
        show_default=False,
        rich_help_panel=_STORE_PANEL,
    ),
]
OfflineOption: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--offline",
        envvar="MEMORY_PLUGIN_OFFLINE",
        help="Refuse every model and server that is not on this machine.",
        rich_help_panel=_STORE_PANEL,
    ),
]
NamespaceOption: TypeAlias = Annotated[
    str,
    typer.Option(
        "--namespace", "-n", metavar="NAME[/PART…]", help="Whose: alice, or alice/session-7.", show_default=False
    ),
]
NamespacesOption: TypeAlias = Annotated[
    list[str],
    typer.Option(
        "--namespace",
        "-n",
        metavar="NAME[/PART…]",
        help="Whose: alice, or alice/session-7. Several times for several.",
        show_default=False,
    ),
]
WhereOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="FIELD=VALUE",
        help="Only those whose metadata says so; $role, $name, $source, $kind are their own. All of several.",
        show_default=False,
    ),
]
SinceOption: TypeAlias = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Only from then on, e.g. 2024-05-01.", show_default=False)
]
UntilOption: TypeAlias = Annotated[
    str | None, typer.Option("--until", metavar="TIME", help="Only before then.", show_default=False)
]
JsonOption: TypeAlias = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
YesOption: TypeAlias = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

EMBEDDER = None

Kept: TypeAlias = "dict[str | ModelIdentity, Embedder]"
"""Models by the name that was given, or by what the manifest says."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store is and how it opens."""

    store: str | None
    keys: str | None
    plaintext: bool
    embedder: str | None
    offline: bool = False

    @property
    def location(self) -> str:
        """A directory or an address."""
        return self.store or str(default_key_file("").parents[1] / "store")

    @property
    def served(self) -> bool:
        """Whether it is a server's."""
        return self.location.startswith(("http://", "https://"))

    @property
    def exists(self) -> bool:
        """Whether there is a store; of a server only it can tell.  Its manifest is what is written last."""
        return self.served or (Path(self.location).expanduser() / "manifest.json").is_file()

    def open(
        self,
        *,
        create: bool = False,
        reranks: bool = False,
        successor: str | None = None,
        kept: Kept | None = None,
    ) -> MemoryStore:
        """Open it.

        Args:
            create: Make it where there is none.
            reranks: Whether the cross-encoder will be needed.
            successor: The model of its second space; None: made from the manifest, where that can be.
            kept: Models that earlier openings made, for this one to use; what it makes is put there.

        Raises:
            ConfigurationError: There is none, or the options contradict each other.
            MemoryPluginError: As ``MemoryStore.open``.
        """
        if self.plaintext and self.keys is not None:
            raise ConfigurationError("--plaintext and --keys contradict each other: leave one out")
        if not create and not self.exists:
            raise ConfigurationError(
                f"there is no store at {self.location}: make one with `memory-plugin add`, or name one with --store"
            )
        place = self.location if self.served else Path(self.location).expanduser()
        index = index_at(place, asynchronous=False, collection="memory", api_key=None, allow_network=not self.offline)
        try:
            own, other = self._models(index, {} if kept is None else kept)
            return MemoryStore(
                index,
                own or LOCAL,
                reranker=LOCAL if reranks else None,
                keyring=self._keys(),
                successor=successor or other,
                allow_network=not self.offline,
            )
        except BaseException:
            run(index.close(Blocking()))
            raise

    def _models(self, index: VectorIndex, kept: Kept) -> tuple[Embedder | None, Embedder | None]:
        """What the store was made with: a stand-in that says so where the model cannot be made from its name."""
        found = run(index.read_manifest(Blocking()))
        named = self.embedder
        if named is not None and named not in kept:
            kept[named] = registry.embedder(named, allow_network=not self.offline)
        own = kept[named] if named is not None else None
        if found is None:
            return own, None
        manifest = Manifest.from_json(found)
        active = manifest.spaces[manifest.active]
        if own is None:
            own = kept[active] = kept.get(active) or _made(active, offline=self.offline)
        if manifest.other is None:
            return own, None
        other = manifest.spaces[manifest.other]
        try:
            kept[other] = kept.get(other) or registry.of(other, allow_network=not self.offline)
            return own, kept[other]
        except ConfigurationError:
            return own, None  # writes fill the active space; the migration does the rest

    def key_file(self, store: str | None) -> Path:
        """Where the keys of a store are; the directory of all of them when its id is not known."""
        if self.keys not in (None, "environment"):
            return Path(self.keys).expanduser()
        default = default_key_file(store or "")
        return default if store else default.parent

    def _keys(self) -> KeySource:
        if self.plaintext:
            return PLAINTEXT
        return self.keys if self.keys in (None, "environment") else Path(self.keys).expanduser()


class Named:
    """Stands for a model that cannot be made from its name: what needs no embedding works.

    Args:
        identity: From the manifest.
        why: What to do about it.
    """

    leaves_machine = True

    def __init__(self, identity: ModelIdentity, why: str) -> None:
        self.identity = identity
        self._why = why

    def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> NoReturn:
        """Refuse.

        Raises:
            ConfigurationError: Always.
        """
        raise ConfigurationError(self._why)


def _made(identity: ModelIdentity, *, offline: bool) -> Embedder:
    try:
        return registry.of(identity, allow_network=not offline)
    except NetworkForbiddenError:
        raise
    except ConfigurationError as error:
        return Named(identity, str(error))


def namespace(text: str) -> Namespace:
    """A namespace as written on a command line: parts between slashes, or a JSON list of them.

    Raises:
        InvalidInputError: A part is empty.
    """
    if text.startswith("["):
        try:
            parts = json.loads(text)
        except ValueError:
            raise InvalidInputError(f"--namespace begins with [ but is no JSON list: {text!r:.80}") from None
        return ids.namespace(tuple(parts) if isinstance(parts, list) else parts)
    return ids.namespace(tuple(text.split("/")))


def namespaces(texts: Sequence[str]) -> list[ids.NamespaceLike]:
    """Several."""
    return [namespace(text) for text in texts]


def moment(text: str | None, option: str) -> datetime | None:
    """A time as written on a command line; UTC where it names no zone.

    Raises:
        InvalidInputError: It cannot be read.
    """
    if text is None:
        return None
    found = timestamp(text)
    if found is None:
        raise InvalidInputError(f"{option} is no time: {text!r:.60}; write 2024-05-01 or 2024-05-01T13:30")
    return found


def condition(where: Sequence[str] | None, since: str | None = None, until: str | None = None) -> Filter | None:
    """The filter that options describe; None for none.

    Raises:
        InvalidInputError: An option cannot be read.
    """
    parts: list[Filter] = []
    for text in where or ():
        field, equals, value = text.partition("=")
        if not field or not equals:
            raise InvalidInputError(f"--where is FIELD=VALUE, not {text!r:.80}")
        parts.append(any_of(field, _values(value)))
    first, last = moment(since, "--since"), moment(until, "--until")
    if first is not None or last is not None:
        parts.append(time_range(first, last))
    return and_(*parts) if parts else None


def _values(text: str) -> list[Scalar]:
    """What a value may mean: 7 is the number or the text, true the truth value or the word."""
    try:
        found = json.loads(text)
    except ValueError:
        return [text]
    return [text, found] if found is None or isinstance(found, str | int | float | bool) else [text]


def pairs(texts: Sequence[str] | None) -> dict[str, str]:
    """Metadata from KEY=VALUE options.

    Raises:
        InvalidInputError: One has no key.
    """
    made = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise InvalidInputError(f"--meta is KEY=VALUE, not {text!r:.80}")
        made[key] = value
    return made


def source_name(path: Path) -> str:
    """What a file is called in its namespace: its path as given, without "./" and the like."""
    return Path(os.path.normpath(path)).as_posix()
