"""The vendors' formats: a request's JSON to an answer's, their limits, and how they word an error."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from memory_plugin.testing.wire import chats
from memory_plugin.testing.wire.asks import Ask, Format, Refused
from memory_plugin.testing.wire.vectors import tokens, written

# ── OpenAI, Azure, Ollama ─────────────────────────────────────────────────────────────────────────


def _openai_embed(ask: Ask) -> Any:
    texts = ask.texts("input", most=2048, window=8192, total=300_000)
    rows = ask.vectors(texts, "", ask.body.get("dimensions"))
    encoding = ask.encoding(str(ask.body.get("encoding_format") or "float"))
    data = [{"object": "embedding", "index": place, "embedding": ask.write(one, encoding)} for place, one in rows]
    used = sum(map(tokens, texts))
    return {
        "object": "list",
        "data": data,
        "model": ask.body.get("model", ""),
        "usage": {"prompt_tokens": used, "total_tokens": used},
    }


def _openai_error(status: int, message: str, code: str) -> Any:
    kind = {429: "requests", 401: "invalid_request_error"}.get(status, "server_error" if status >= 500 else "api_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": code or None}}


def _azure_embed(ask: Ask) -> Any:
    deployment = ask.path.split("/")[3]
    return _openai_embed(Ask(ask.path, {**ask.body, "model": deployment}, ask.fault, ask.seed, ask.dimension))


def _ollama_embed(ask: Ask) -> Any:
    texts = ask.texts("input", most=10**6, window=10**9)
    rows = ask.vectors(texts, "", ask.body.get("dimensions"))
    vectors = [written(one, "float") for _, one in rows]
    return {"model": ask.body.get("model"), "embeddings": vectors, "prompt_eval_count": sum(map(tokens, texts))}


def _ollama_tags(ask: Ask) -> Any:
    digest = hashlib.sha256(f"ollama {ask.seed}".encode()).hexdigest()
    names = ("nomic-embed-text:latest", "mxbai-embed-large:latest")
    return {"models": [{"name": name, "model": name, "digest": digest} for name in names]}


# ── Cohere ────────────────────────────────────────────────────────────────────────────────────────

_COHERE_TYPES = ("search_document", "search_query", "classification", "clustering", "image")


def _cohere_embed(ask: Ask) -> Any:
    body = ask.body
    told, kinds = body.get("input_type"), body.get("embedding_types") or ["float"]
    if told not in _COHERE_TYPES:
        raise Refused(400, f"invalid request: input_type must be one of {', '.join(_COHERE_TYPES)}")
    if body.get("images") is not None:
        texts = _cohere_images(body["images"], str(body.get("model")))
    else:
        v3 = "v3.0" in str(body.get("model"))
        texts = ask.texts("texts", most=96, window=512 if v3 else 128_000)
    rows = ask.vectors(texts, str(told), body.get("output_dimension"), default=1024)
    found = {kind: [ask.write(one, _cohere_kind(ask, kind)) for _, one in rows] for kind in kinds}
    if ask.fault.kind in ("float", "base64") and kinds != ["int8"]:
        found = {ask.fault.kind: [written(one, ask.fault.kind) for _, one in rows]}
    used = sum(map(tokens, texts))
    return {
        "id": "wire",
        "embeddings": found,
        "texts": [] if body.get("images") else texts,
        "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": used}},
        "response_type": "embeddings_by_type",
    }


def _cohere_kind(ask: Ask, kind: str) -> str:
    return "base64" if ask.fault.kind == "bad-base64" and kind == "float" else kind


def _cohere_images(images: Any, model: str) -> list[str]:
    if not isinstance(images, list) or not all(str(one).startswith("data:image/") for one in images):
        raise Refused(400, "invalid request: images must be data URIs")
    if "v3.0" in model and len(images) > 1:
        raise Refused(400, "invalid request: at most 1 image per call")
    if sum(map(len, images)) > 28 * 2**20:
        raise Refused(400, "invalid request: images exceed 20MB")
    return [str(one)[-400:] for one in images]


def _cohere_rerank(ask: Ask) -> Any:
    results = ask.ranked("documents")
    return {
        "id": "wire",
        "results": results[: ask.body.get("top_n") or len(results)] if ask.fault.kind != "extra" else results,
        "meta": {"api_version": {"version": "2"}, "billed_units": {"search_units": -(-len(results) // 100)}},
    }


# ── Voyage, Jina, ZeroEntropy ─────────────────────────────────────────────────────────────────────


def _voyage_embed(ask: Ask) -> Any:
    body = ask.body
    if body.get("input_type") not in (None, "query", "document"):
        raise Refused(400, "input_type must be null, 'query' or 'document'")
    window = 10**9 if body.get("truncation", True) else 32_000
    texts = ask.texts("input", most=1000, window=window, total=120_000)
    rows = ask.vectors(texts, str(body.get("input_type") or ""), body.get("output_dimension"), default=1024)
    encoding = ask.encoding(str(body.get("encoding_format") or "float"))
    if body.get("output_dtype") == "int8":
        encoding = f"int8 {encoding}"
    data = [{"object": "embedding", "embedding": ask.write(one, encoding), "index": place} for place, one in rows]
    return {
        "object": "list",
        "data": data,
        "model": body.get("model"),
        "usage": {"total_tokens": sum(map(tokens, texts))},
    }


def _voyage_rerank(ask: Ask) -> Any:
    results = ask.ranked("documents")
    return {
        "object": "list",
        "data": results[: ask.body.get("top_k") or len(results)],
        "model": ask.body.get("model"),
        "usage": {"total_tokens": _pair_tokens(ask)},
    }


def _pair_tokens(ask: Ask) -> int:
    texts = ask.body["documents"]
    return tokens(str(ask.body["query"])) * len(texts) + sum(map(tokens, texts))


_JINA_KEYS = frozenset(
    "model input task dimensions embedding_type normalized late_chunking truncate encoding_format".split()  # noqa: SIM905
)


def _jina_embed(ask: Ask) -> Any:
    body = ask.body
    unknown = set(body) - _JINA_KEYS
    if unknown:
        raise Refused(422, f"extra fields not permitted: {', '.join(sorted(unknown))}")
    texts = ask.texts("input", most=512, window=8192)
    rows = ask.vectors(texts, str(body.get("task") or ""), body.get("dimensions"), default=1024)
    encoding = ask.encoding(str(body.get("embedding_type") or body.get("encoding_format") or "float"))
    data = [{"object": "embedding", "index": place, "embedding": ask.write(one, encoding)} for place, one in rows]
    used = sum(map(tokens, texts))
    return {"object": "list", "model": body.get("model"), "data": data, "usage": {"total_tokens": used}}


def _jina_rerank(ask: Ask) -> Any:
    results = ask.ranked("documents")
    return {"model": ask.body.get("model"), "results": results, "usage": {"total_tokens": _pair_tokens(ask)}}


def _zeroentropy_embed(ask: Ask) -> Any:
    body = ask.body
    if body.get("input_type") not in ("query", "document"):
        raise Refused(422, "input_type: Input should be 'query' or 'document'")
    texts = ask.texts("input", most=2048, window=32_768)
    rows = ask.vectors(texts, str(body["input_type"]), body.get("dimensions"))
    encoding = ask.encoding(str(body.get("encoding_format") or "float"))
    used = {"total_bytes": sum(len(one.encode()) for one in texts), "total_tokens": sum(map(tokens, texts))}
    return {"results": [{"embedding": ask.write(one, encoding)} for _, one in rows], "usage": used}


def _zeroentropy_rerank(ask: Ask) -> Any:
    results = ask.ranked("documents")
    return {
        "results": results,
        "actual_latency_mode": "fast",
        "e2e_latency": 0.01,
        "inference_latency": 0.01,
        "total_bytes": 0,
        "total_tokens": _pair_tokens(ask),
    }


def _detail(status: int, message: str, code: str) -> Any:
    return {"detail": f"[{code}] {message}" if code else message}


# ── text-embeddings-inference ─────────────────────────────────────────────────────────────────────

TEI_MODEL = "BAAI/bge-small-en-v1.5"
TEI_TEXTS = 32
TEI_WINDOW = 512


def _tei_limits(ask: Ask, key: str) -> list[str]:
    given = ask.body.get(key)
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts:
        raise Refused(422, f"`{key}` cannot be empty", "Validation")
    if len(texts) > TEI_TEXTS:
        raise Refused(413, f"batch size {len(texts)} > maximum allowed batch size {TEI_TEXTS}", "Validation")
    longest = max(map(tokens, texts)) + 2
    if longest > TEI_WINDOW and not ask.body.get("truncate"):
        message = f"Input validation error: `{key}` must have less than {TEI_WINDOW} tokens. Given: {longest}"
        raise Refused(413, message, "Validation")
    return [str(one) for one in texts]


def _tei_embed(ask: Ask) -> Any:
    texts = _tei_limits(ask, "inputs")
    return [ask.write(one, "float") for _, one in ask.vectors(texts, "", ask.body.get("dimensions"), default=384)]


def _tei_rerank(ask: Ask) -> Any:
    _tei_limits(ask, "texts")
    return ask.ranked("texts", "score")


def _tei_info(ask: Ask) -> Any:
    return {
        "model_id": TEI_MODEL,
        "model_sha": f"{ask.seed}c9745ed1d9f207416be6d2e6f8de32d1f16199bf"[:40],
        "model_dtype": "float32",
        "model_type": {"embedding": {"pooling": "cls"}},
        "max_concurrent_requests": 512,
        "max_input_length": TEI_WINDOW,
        "max_batch_tokens": 16_384,
        "max_client_batch_size": TEI_TEXTS,
        "auto_truncate": False,
        "tokenization_workers": 2,
        "version": "1.7.1",
    }


def _tei_error(status: int, message: str, code: str) -> Any:
    return {"error": message, "error_type": code or ("Overloaded" if status == 429 else "Backend")}


_LIMITED = (429, "You exceeded your current quota, please check your plan and billing details.", "insufficient_quota")
_UNPAID = (402, "Insufficient account balance", "")

FORMATS: Mapping[str, Format] = {
    "openai": Format(
        "/v1",
        {
            "POST /v1/embeddings": ("embed", _openai_embed),
            "POST /v1/chat/completions": ("chat", chats.chat_completions),
            "POST /v1/responses": ("chat", chats.responses),
        },
        _openai_error,
        _LIMITED,
    ),
    "anthropic": Format(
        "",
        {"POST /v1/messages": ("chat", chats.messages)},
        chats.anthropic_error,
        (400, "Your credit balance is too low to access the Anthropic API.", ""),
        request_id="request-id",
    ),
    "azure": Format(
        "",
        {
            "POST /openai/deployments/*/embeddings": ("embed", _azure_embed),
            "POST /openai/deployments/*/chat/completions": ("chat", chats.chat_completions),
        },
        _openai_error,
        _LIMITED,
        request_id="apim-request-id",
    ),
    "ollama": Format(
        "/v1",
        {
            "POST /v1/embeddings": ("embed", _openai_embed),
            "POST /api/embed": ("embed", _ollama_embed),
            "GET /api/tags": ("info", _ollama_tags),
        },
        _openai_error,
        _LIMITED,
        auth=False,
    ),
    "cohere": Format(
        "",
        {"POST /v2/embed": ("embed", _cohere_embed), "POST /v2/rerank": ("rerank", _cohere_rerank)},
        lambda status, message, code: {"message": message, "id": "wire"},
        (429, "You are using a Trial key, which is limited to 1000 API calls / month.", ""),
        request_id="x-debug-trace-id",
    ),
    "voyage": Format(
        "/v1",
        {"POST /v1/embeddings": ("embed", _voyage_embed), "POST /v1/rerank": ("rerank", _voyage_rerank)},
        _detail,
        _UNPAID,
    ),
    "jina": Format(
        "/v1",
        {"POST /v1/embeddings": ("embed", _jina_embed), "POST /v1/rerank": ("rerank", _jina_rerank)},
        _detail,
        (403, "Insufficient account balance", "AUTHZ_INSUFFICIENT_BALANCE"),
    ),
    "zeroentropy": Format(
        "/v1",
        {
            "POST /v1/models/embed": ("embed", _zeroentropy_embed),
            "POST /v1/models/rerank": ("rerank", _zeroentropy_rerank),
        },
        _detail,
        _UNPAID,
    ),
    "tei": Format(
        "",
        {
            "POST /embed": ("embed", _tei_embed),
            "POST /rerank": ("rerank", _tei_rerank),
            "GET /info": ("info", _tei_info),
        },
        _tei_error,
        _UNPAID,
        auth=False,
    ),
}
"""By the vendor's name in ``registry``."""
