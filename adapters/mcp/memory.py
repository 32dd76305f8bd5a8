"""What all of the server goes through: whose memories, the store off the loop, and errors that a client may see."""

from __future__ import annotations

import hmac
import logging
import os
import secrets
import time
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

from memory_plugin import (
    AsyncMemoryStore,
    InvalidInputError,
    MemoryNotFoundError,
    MemoryPluginError,
    MemoryStore,
    ProviderError,
    Record,
    StoreLockedError,
)
from memory_plugin.adapters.extras import needs
from memory_plugin.adapters.mcp.lease import Lease
from memory_plugin.adapters.mcp.whose import Whose
from memory_plugin.flow import OnLoop
from memory_plugin.types import Namespace

with needs("mcp", "the MCP server"):
    from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError, ToolError

AllowForget: TypeAlias = Literal["never", "ask", "always"]
CODE_SECONDS = 300
"""How long a confirmation code holds."""

log = logging.getLogger("memory_plugin.mcp")


class RefusedError(ToolError, ResourceError):
    """What a client is told when something cannot be done: our words, no path, no key, no trace."""


class NotFoundError(RefusedError, ResourceNotFoundError):
    """No memory of that id."""


class Memory:
    """A store, as one server reaches it.

    Args:
        store: Either store, which stays its owner's to close, or a ``Lease``.
        whose: Whose memories a request reaches.
        read_only: Whether nothing is written.
        allow_forget: Whether a model may delete, and who is asked first.
    """

    def __init__(
        self,
        store: MemoryStore | AsyncMemoryStore | Lease,
        whose: Whose,
        *,
        read_only: bool = False,
        allow_forget: AllowForget = "ask",
    ) -> None:
        self._store, self._whose = store, whose
        self.read_only, self.allow_forget = read_only, allow_forget
        self._secret = secrets.token_bytes(32)

    @property
    def namespace(self) -> Namespace:
        """Of the request at hand.

        Raises:
            RefusedError: It may reach none.
        """
        try:
            return self._whose.namespace()
        except PermissionError as error:
            raise RefusedError(str(error)) from None

    async def call(self, verb: str, /, *args: Any, **kwargs: Any) -> Any:
        """A verb of the store, which never runs on the loop's thread.

        Raises:
            RefusedError: It failed; the reason is in the log, and in the message as far as a client may know it.
        """
        io = OnLoop()
        try:
            if isinstance(self._store, Lease):
                return await io.call(self._store.call, verb, *args, **kwargs)
            return await io.call(getattr(self._store, verb), *args, **kwargs)
        except MemoryPluginError as error:
            raise self._refusal(verb, error) from None
        except Exception as error:
            # The SDK would log a traceback, which may hold texts.
            log.error("%s failed: %s", verb, type(error).__name__, exc_info=_debug(error))
            raise RefusedError("the memory failed; its owner finds more in the server's log") from None

    async def records(self, ids: Sequence[str]) -> list[Record]:
        """The memories of these ids, each once.

        Raises:
            NotFoundError: One is not there, or is another's: that is the same to who asks.
        """
        whose = self.namespace
        return [await self.call("get", one, whose) for one in dict.fromkeys(ids)]

    async def close(self) -> None:
        """Let go of a leased store; another one is its owner's."""
        if isinstance(self._store, Lease):
            await OnLoop().call(self._store.close)

    def code(self, records: Sequence[Record], *, expires: int | None = None) -> str:
        """What confirms that these memories may be deleted; holds for some minutes."""
        expires = expires if expires is not None else int(time.time()) + CODE_SECONDS
        # An id names a text: once that is replaced, there is no such memory.
        said = "\n".join((str(expires), repr(self.namespace), *sorted(one.id for one in records)))
        return f"{expires:x}-{hmac.digest(self._secret, said.encode(), 'sha256').hex()[:16]}"

    def confirms(self, code: str, records: Sequence[Record]) -> bool:
        """Whether a code is the one for these memories, and has not expired."""
        head = code.strip().partition("-")[0]
        try:
            expires = int(head, 16)
        except ValueError:
            return False
        right = self.code(records, expires=expires)
        return hmac.compare_digest(right.encode(), code.strip().encode()) and time.time() < expires

    def _refusal(self, verb: str, error: MemoryPluginError) -> RefusedError:
        if isinstance(error, MemoryNotFoundError):
            return NotFoundError("no memory of that id: ids come from search and list")
        if isinstance(error, InvalidInputError):
            return RefusedError(str(error))
        log.warning("%s failed: %s: %s", verb, type(error).__name__, error, exc_info=_debug(error))
        if isinstance(error, StoreLockedError):
            who = f"process {error.pid}" if error.pid else "another program"
            waited = f" for {self._store.wait:g} seconds" if isinstance(self._store, Lease) else ""
            return RefusedError(f"the memory was in use by {who}{waited}: try again later, or end that program")
        kind = type(error).__name__
        if isinstance(error, ProviderError) and error.retryable:
            return RefusedError(f"the memory did not answer ({kind}): try again in a moment")
        return RefusedError(f"the memory cannot be used ({kind}); its owner finds the reason in the server's log")


def _debug(error: BaseException) -> BaseException | None:
    return error if os.environ.get("MEMORY_PLUGIN_DEBUG") else None
