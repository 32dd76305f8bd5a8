"""Where the vendors are, and where their keys are looked for."""

from __future__ import annotations

import os

from memory_plugin.managed.secret import Secret
from memory_plugin.managed.service import Options, Vendor

OPENAI = Vendor(
    name="openai",
    base_url="https://api.openai.com/v1",
    key="OPENAI_API_KEY",
    address="OPENAI_BASE_URL",
    package="openai",
    extra="openai",
)
AZURE = Vendor(
    name="azure",
    base_url="",
    key="AZURE_OPENAI_API_KEY",
    address="AZURE_OPENAI_ENDPOINT",
    package="openai",
    extra="openai",
    self_hosted=True,
)
OLLAMA = Vendor(name="ollama", base_url="http://localhost:11434/v1", package="openai", extra="openai", self_hosted=True)
COHERE = Vendor(
    name="cohere",
    base_url="https://api.cohere.com",
    key="CO_API_KEY",
    address="CO_API_URL",
    api="v2",
    package="cohere",
    extra="cohere",
)
VOYAGE = Vendor(
    name="voyage",
    base_url="https://api.voyageai.com/v1",
    key="VOYAGE_API_KEY",
    also=("https://ai.mongodb.com/v1",),
)
JINA = Vendor(name="jina", base_url="https://api.jina.ai/v1", key="JINA_API_KEY")
ZEROENTROPY = Vendor(
    name="zeroentropy",
    base_url="https://api.zeroentropy.dev/v1",
    key="ZEROENTROPY_API_KEY",
    address="ZEROENTROPY_BASE_URL",
)
TEI = Vendor(name="tei", base_url="http://localhost:8080", key="TEI_API_KEY", self_hosted=True)


def voyage_address(options: Options) -> None:
    """Say where a Voyage key is good: those that MongoDB Atlas gives, which begin with "al-", are for its address."""
    key = Secret.of(options.get("api_key")) or Secret.of(os.environ.get(options.get("key_from") or VOYAGE.key))
    if not options.get("base_url") and key is not None and key.reveal().startswith("al-"):
        options["base_url"] = VOYAGE.also[0]
