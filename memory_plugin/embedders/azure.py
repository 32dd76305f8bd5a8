"""OpenAI's embedding models as deployed in Azure."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Unpack

from memory_plugin.embedders.openai import LIMITS, OpenAIEmbedder, sdk_options
from memory_plugin.errors import ConfigurationError
from memory_plugin.managed.limits import Facts, TooLong
from memory_plugin.managed.service import Connection, Options, Service, Vendor, hide_key
from memory_plugin.managed.vendors import AZURE

API_VERSION = "2024-10-21"
"""Of Azure's interface, sent along; it does not change what vectors are."""


class AzureEmbedder(OpenAIEmbedder):
    """A deployment of an OpenAI embedding model in Azure, through OpenAI's SDK.

    Args:
        model: The deployment's name.
        deploys: The model that is deployed, where the deployment is not called like it: it names the space, so that
            a renamed deployment keeps it.
        dimension: See ``OpenAIEmbedder``.
        too_long: "pool" or "refuse".
        api_version: Of Azure's interface.
        token_provider: Gives Entra ID tokens, instead of a key.
        options: See ``managed.service.Options``; ``base_url`` is the resource's endpoint, by default that in
            AZURE_OPENAI_ENDPOINT, and the key that in AZURE_OPENAI_API_KEY.
    """

    vendor: ClassVar[Vendor] = AZURE
    unknown: ClassVar[Facts] = Facts(sizes=None, **LIMITS)

    def __init__(
        self,
        model: str = "text-embedding-3-small",
        *,
        deploys: str | None = None,
        dimension: int | None = None,
        too_long: TooLong = "pool",
        api_version: str = API_VERSION,
        token_provider: Callable[[], str] | None = None,
        **options: Unpack[Options],
    ) -> None:
        hide_key(options)
        if deploys is not None and dimension is not None:
            self.models.get(deploys, self.unknown).check_dimension(deploys, dimension)
        super().__init__(model, dimension=dimension, too_long=too_long, **options)
        self._deploys = str(deploys or model)
        self._api_version = str(api_version)
        self._token_provider = token_provider

    def _connect(self, service: Service) -> Connection:
        import openai

        key = service.key()
        if key is None and self._token_provider is None:
            raise ConfigurationError(f"{service.name}: no key: set {AZURE.key}, or pass api_key= or token_provider=")
        return openai.AzureOpenAI(
            api_key=None if key is None else key.reveal(),
            azure_ad_token_provider=self._token_provider if key is None else None,
            azure_endpoint=service.base_url,
            api_version=self._api_version,
            **sdk_options(service),
        )

    def _facts(self) -> Facts:
        return self.models.get(self._deploys, self.unknown)

    def _model(self) -> str:
        return self._deploys
