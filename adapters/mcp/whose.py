"""Whose memories a request reaches: what the server was started for, or what the request's token says.

Never what a model says: no tool takes a namespace.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import secrets
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from memory_plugin import ConfigurationError, InvalidInputError
from memory_plugin.adapters.extras import needs
from memory_plugin.ids import NamespaceLike
from memory_plugin.ids import namespace as checked
from memory_plugin.types import Namespace

if TYPE_CHECKING:
    from mcp.server.auth.provider import AccessToken

with needs("mcp", "the MCP server"):
    from mcp.server.auth.middleware.auth_context import get_access_token
    from mcp.server.auth.provider import AccessToken

PREFIX = "mpt_"
SHORTEST = 32
"""Characters that a token has at least: its hash is not salted, so it must not be guessable."""

log = logging.getLogger(__name__)


class Whose(Protocol):
    """Tells whose memories the request at hand may reach."""

    def namespace(self) -> Namespace:
        """That namespace, and those below it.

        Raises:
            PermissionError: The request may reach none.
        """


class One:
    """Everybody who can talk to the server shares one namespace: for a server of one user."""

    def __init__(self, namespace: NamespaceLike) -> None:
        self._namespace = checked(namespace)

    def namespace(self) -> Namespace:
        """It."""
        return self._namespace


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token as it is kept: not itself, its hash.

    Args:
        name: What people call it, for instance the machine that holds it.
        sha256: Of the token, in hex.
        namespace: What it opens.
    """

    name: str
    sha256: str
    namespace: Namespace

    @classmethod
    def of(cls, token: str, namespace: NamespaceLike, name: str) -> Token:
        """A token to keep.

        Raises:
            InvalidInputError: It could be guessed.
        """
        if len(token) < SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
            raise InvalidInputError(
                f"a token has at least {SHORTEST} printable ASCII characters without blanks: "
                "let `memory-plugin mcp token` make one"
            )
        return cls(name, _digest(token), checked(namespace))


class Tokens:
    """Bearer tokens and what each opens: a file, read again when it changes, or a fixed few.

    Args:
        source: The file, as ``memory-plugin mcp token`` writes it, or tokens.

    Raises:
        ConfigurationError: The file cannot be read, or others may write it.
    """

    def __init__(self, source: str | os.PathLike[str] | Sequence[Token]) -> None:
        self._path = Path(source) if isinstance(source, str | os.PathLike) else None
        self._known: tuple[Token, ...] = () if isinstance(source, str | os.PathLike) else tuple(source)
        self._seen: tuple[int, ...] = ()
        if self._path is not None:
            self._read(self._path)

    def __len__(self) -> int:
        """How many there are."""
        return len(self._known)

    def find(self, presented: str) -> Token | None:
        """The token, if it is one; takes as long whichever it is."""
        self._refresh()
        digest = _digest(presented)
        found = None
        for one in self._known:
            if hmac.compare_digest(one.sha256, digest):
                found = one
        return found

    async def verify_token(self, token: str) -> AccessToken | None:
        """What the SDK asks of every request; its answer does not hold the token."""
        found = self.find(token)
        if found is None:
            return None
        # Not the namespace alone: another token of the same namespace does not take over a session.
        return AccessToken(token="", client_id=found.sha256[:16], scopes=[], subject=json.dumps(found.namespace))

    def namespace(self) -> Namespace:
        """What the token of this request opens.

        Raises:
            PermissionError: It has none.
        """
        access = get_access_token()
        if access is None or access.subject is None:
            raise PermissionError("this server answers requests with a bearer token only")
        return checked(tuple(json.loads(access.subject)))

    def _refresh(self) -> None:
        """Read a changed file; one that cannot be read opens nothing."""
        if self._path is None:
            return
        try:
            if self._stamp(self._path) != self._seen:
                self._read(self._path)
        except (OSError, ConfigurationError) as error:
            self._known, self._seen = (), ()
            log.error("no token is accepted: %s", error)

    def _read(self, path: Path) -> None:
        try:
            self._seen = self._stamp(path)
            self._known = tuple(load(path))
        except OSError as error:
            raise ConfigurationError(f"the tokens in {path} cannot be read: {error.strerror}") from error

    @staticmethod
    def _stamp(path: Path) -> tuple[int, ...]:
        status = path.stat()
        if os.name == "posix" and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise ConfigurationError(f"others may write {path}, and so let themselves in: chmod 600 {path}")
        return status.st_mtime_ns, status.st_size, status.st_ino


def make_token() -> str:
    """A new token: 256 random bits."""
    return PREFIX + secrets.token_urlsafe(32)


def load(path: Path) -> list[Token]:
    """The tokens of a file.

    Raises:
        OSError: It cannot be read.
        ConfigurationError: It is no such file.
    """
    try:
        rows = json.loads(path.read_bytes())["tokens"]
        return [Token(str(row["name"]), bytes.fromhex(row["sha256"]).hex(), _parts(row["namespace"])) for row in rows]
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(
            f"{path} is no file of tokens ({type(error).__name__}): let `memory-plugin mcp token` make it"
        ) from None


def save(path: Path, tokens: Sequence[Token]) -> None:
    """Write a file of tokens, for its owner alone, whole or not at all."""
    rows = [{"name": one.name, "namespace": list(one.namespace), "sha256": one.sha256} for one in tokens]
    made = {"version": 1, "written": datetime.now(UTC).isoformat(timespec="seconds"), "tokens": rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(made, file, indent=2, ensure_ascii=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def _parts(value: object) -> Namespace:
    if not isinstance(value, list):
        raise TypeError("a namespace is a list")
    return checked(tuple(value))


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
