"""A local server that speaks the vendors' formats, for tests with the real SDKs and no network.

    with WireServer() as wire:
        embedder = OpenAIEmbedder(base_url=wire.url("openai"), api_key=wire.key)
        wire.fail("openai", "rate-limit", times=2, retry_after=0.1)
        embedder.embed(["a text"], input_type="document")

Its vectors and scores tell texts that share words from others, and are the same on every run.  It keeps to the
vendors' limits, wants a key where they do, and fails on request.  ``python -m memory_plugin.testing.wire`` starts it
for everything else.  What it knows of the formats comes from the vendors' SDKs and specifications.
"""

from memory_plugin.testing.wire.faults import FAULTS, Fault
from memory_plugin.testing.wire.server import Seen, WireServer

__all__ = ["FAULTS", "Fault", "Seen", "WireServer"]
