"""What leaves this machine: asked of providers before they are given a text.  Pure."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit


def leaves_machine(provider: object) -> bool:
    """Whether a provider sends texts elsewhere; one that does not say is taken to (see ``protocols.Located``)."""
    return bool(getattr(provider, "leaves_machine", True))


def may_see(provider: object, *, local_only: bool) -> bool:
    """Whether a provider may be given a text: one that leaves the machine gets none that is ``local_only``."""
    return not (local_only and leaves_machine(provider))


def is_loopback(url: str) -> bool:
    """Whether an address is this machine's own: localhost, 127.0.0.0/8, ::1."""
    try:
        host = urlsplit(url if "://" in url else f"//{url}").hostname or ""
        return host == "localhost" or host.endswith(".localhost") or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
