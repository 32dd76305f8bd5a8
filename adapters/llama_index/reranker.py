"""``MemoryReranker``: a reranker of ours after any retriever of LlamaIndex."""

from __future__ import annotations

from typing import Any

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.callbacks import CBEventType, EventPayload
from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle

from memory_plugin import ConfigurationError, InvalidInputError, RerankError, registry
from memory_plugin.errors import translate
from memory_plugin.flow import IO, Blocking, OnLoop, run
from memory_plugin.protocols import Reranker

_dispatcher = get_dispatcher(__name__)


class MemoryReranker(BaseNodePostprocessor):
    """Puts nodes in the order of a cross-encoder's scores, all of them, and keeps the best.

    Give its retriever a larger ``limit`` or ``similarity_top_k`` than ``top_n``: what it is not given, it cannot lift.
    The nodes that come in stay as they are; those that go out are new ``NodeWithScore`` with the reranker's score.

    Args:
        reranker: A name, as "local" or "cohere:rerank-v3.5", or an object of ours.
        top_n: Nodes to keep.
        callback_manager: As in ``BaseNodePostprocessor``.

    Raises:
        UnknownProviderError: No reranker of that name.
        MissingExtraError: Its package is not installed.
        InvalidInputError: ``top_n`` is not positive.
    """

    top_n: int = Field(description="Nodes to keep.")
    model: str = Field(description="Name of the reranker.")
    by_name: bool = Field(description="Whether the name alone makes it again.")
    _reranker: Any = PrivateAttr(default=None)

    def __init__(self, reranker: Reranker | str = "local", *, top_n: int = 5, **kwargs: Any) -> None:
        if top_n < 1:
            raise InvalidInputError(f"top_n must be at least 1, not {top_n}")
        by_name = isinstance(reranker, str)
        made = registry.reranker(reranker) if isinstance(reranker, str) else reranker
        name = reranker if isinstance(reranker, str) else made.model if made is not None else "unknown"
        super().__init__(top_n=top_n, model=name, by_name=by_name, **kwargs)  # type: ignore[call-arg]
        self._reranker = made

    @classmethod
    def class_name(cls) -> str:
        """Name in what it is written as."""
        return "MemoryReranker"

    @classmethod
    def from_dict(cls, data: dict[str, Any], *, reranker: Reranker | None = None, **kwargs: Any) -> MemoryReranker:
        """Read back what ``to_dict`` wrote.

        Args:
            data: From ``to_dict``.
            reranker: The object, where it was made of one.
            **kwargs: In place of what is in ``data``.

        Raises:
            ConfigurationError: It was made of an object, and none is given.
        """
        given = {**data, **kwargs}
        if reranker is None and not given.get("by_name"):
            raise ConfigurationError(
                f"a MemoryReranker of the object {str(given.get('model'))[:80]!r} was read back without it: "
                "MemoryReranker.from_dict(data, reranker=…)"
            )
        return cls(reranker or str(given["model"]), top_n=given["top_n"])

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (self.to_dict(),)

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        return run(self._ranked(Blocking(), nodes, query_bundle))

    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        return await self._ranked(OnLoop(), nodes, query_bundle)

    async def _ranked(self, io: IO, nodes: list[NodeWithScore], query: QueryBundle | None) -> list[NodeWithScore]:
        if query is None:
            raise InvalidInputError("a reranker needs the query: pass query_str= or query_bundle=")
        if not nodes:
            return []
        _dispatcher.event(ReRankStartEvent(query=query, nodes=nodes, top_n=self.top_n, model_name=self.model))
        payload: dict[str, Any] = {
            EventPayload.NODES: nodes,
            EventPayload.MODEL_NAME: self.model,
            EventPayload.QUERY_STR: query.query_str,
            EventPayload.TOP_K: self.top_n,
        }
        with self.callback_manager.event(CBEventType.RERANKING, payload=payload) as event:
            texts = [one.node.get_content(metadata_mode=MetadataMode.EMBED) for one in nodes]
            with translate(RerankError, provider=self.model):
                scores = list(await io.call(self._reranker.rerank, query.query_str, texts))
            if len(scores) != len(nodes):
                raise RerankError(f"{self.model}: {len(scores)} scores for {len(nodes)} nodes", provider=self.model)
            # Equal scores keep the order that the nodes came in.
            order = sorted(range(len(nodes)), key=lambda place: -scores[place])[: self.top_n]
            best = [NodeWithScore(node=nodes[place].node, score=float(scores[place])) for place in order]
            event.on_end(payload={EventPayload.NODES: best})
        _dispatcher.event(ReRankEndEvent(nodes=best))
        return best


def _again(data: dict[str, Any]) -> MemoryReranker:
    return MemoryReranker.from_dict(data)
