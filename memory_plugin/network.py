"""What leaves this machine: asked of providers before they are made part of a store, or given a text.  Pure."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from memory_plugin.errors import NetworkForbiddenError


def leaves_machine(provider: object) -> bool:
    """Whether a provider sends texts elsewhere; one that does not say is taken to (see ``protocols.Located``)."""
    return bool(getattr(provider, "leaves_machine", True))


def may_see(provider: object, *, local_only: bool) -> bool:
    """Whether a provider may be given a text: one that leaves the machine gets none that is ``local_only``."""
    return not (local_only and leaves_machine(provider))


def require_local(provider: object, what: str) -> None:
    """Refuse a provider that leaves the machine, or does not tell that it stays.

    Args:
        provider: An embedder, a reranker, late interaction, or an index.
        what: Which of these, for the message.

    Raises:
        NetworkForbiddenError: It says what to do.
    """
    if not leaves_machine(provider):
        return
    name = type(provider).__name__
    if hasattr(provider, "leaves_machine"):
        raise NetworkForbiddenError(
            f"{what}: {name} reaches another machine, and allow_network is False: use one that works on this machine"
        )
    raise NetworkForbiddenError(
        f"{what}: {name} does not tell whether it reaches another machine, and allow_network is False: "
        "where it does not, say so by an attribute of it, leaves_machine = False"
    )


def is_loopback(url: str) -> bool:
    """Whether an address is this machine's own: localhost, 127.0.0.0/8, ::1."""
    try:
        host = urlsplit(url if "://" in url else f"//{url}").hostname or ""
        return host == "localhost" or host.endswith(".localhost") or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
