"""The cross-encoder, in torch.

A MiniLM (6 layers, 384 wide) reads "[CLS] query [SEP] passage [SEP]" and a *joint MaxSim* head scores the pair:

    score = exp(s) · Σ_t w_t · max_d cos(h_t, h_d) + v · gelu(W h_CLS)        w = softmax_t(a · ln idf_t + u · h_t)

t runs over the query's word pieces, d over the passage's; h are the last hidden states.  idf comes from the training
texts.  a = 1, u = 0 and v = 0 at the start, so that training starts from late interaction, which ranks well already,
instead of from chance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional

from scripts.minilm import CLS, EPSILON, HEADS, LAYERS, SEP, VOCABULARY, WIDTH

QUERY_PIECES, PAIR_PIECES = 48, 208
"""Cuts while training; inference allows 64 and 256."""

Pair = tuple[list[int], list[int]]
"""Vocabulary ids and segment numbers of a query and a passage, one behind the other."""


def bf16() -> bool:
    return torch.is_autocast_enabled("cpu")


class Layer(nn.Module):
    """A BERT layer over packed tokens (no padding outside of attention)."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.norm1 = nn.LayerNorm(WIDTH, eps=EPSILON)
        self.up = nn.Linear(WIDTH, 4 * WIDTH)
        self.down = nn.Linear(4 * WIDTH, WIDTH)
        self.norm2 = nn.LayerNorm(WIDTH, eps=EPSILON)

    def forward(self, x: Tensor, mask: Tensor, where: Tensor, dropout: float) -> Tensor:
        """Hidden states of packed tokens; ``where`` tells their places in the padded batch."""
        batch, length = mask.shape
        qkv = self.qkv(x)
        padded = qkv.new_zeros(batch * length, 3 * WIDTH).index_copy(0, where, qkv)
        q, k, v = padded.view(batch, length, 3, HEADS, WIDTH // HEADS).permute(2, 0, 3, 1, 4)
        # By hand: on a CPU the backward pass of scaled_dot_product_attention takes as long as all the rest.
        seen = (q * (WIDTH // HEADS) ** -0.5) @ k.transpose(-1, -2)
        y = seen.masked_fill(~mask[:, None, None, :], -1e4).softmax(-1, dtype=torch.bfloat16 if bf16() else None) @ v
        y = self.out(y.transpose(1, 2).reshape(batch * length, WIDTH)[where])
        x = self.norm1(x + functional.dropout(y, dropout, self.training))
        y = self.down(functional.gelu(self.up(x)))
        return self.norm2(x + functional.dropout(y, dropout, self.training))


class CrossEncoder(nn.Module):
    """MiniLM with a joint MaxSim head.  Parameters carry the names that scripts/cross_encoder/build.py reads."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Embedding(512, WIDTH)
        self.types = nn.Embedding(2, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, eps=EPSILON)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.register_buffer("log_idf", torch.zeros(VOCABULARY))
        self.idf_power = nn.Parameter(torch.ones(()))
        self.weight = nn.Linear(WIDTH, 1)
        self.cls_in = nn.Linear(WIDTH, 128)
        self.cls_out = nn.Linear(128, 1, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(math.log(20.0)))
        nn.init.zeros_(self.weight.weight)
        nn.init.zeros_(self.weight.bias)
        nn.init.zeros_(self.cls_out.weight)
        self.words.weight.requires_grad_(requires_grad=False)
        self.dropout = dropout

    def load_base(self, tensors: dict[str, Tensor]) -> None:
        """Take the encoder of a BERT checkpoint."""

        def take(module: nn.Module, *names: str) -> None:
            for kind in ("weight", "bias"):
                if hasattr(module, kind):
                    getattr(module, kind).data = torch.cat([tensors[f"{name}.{kind}"].float() for name in names])

        take(self.words, "embeddings.word_embeddings")
        take(self.positions, "embeddings.position_embeddings")
        take(self.types, "embeddings.token_type_embeddings")
        take(self.norm, "embeddings.LayerNorm")
        for i, layer in enumerate(self.layers):
            at = f"encoder.layer.{i}"
            take(layer.qkv, *(f"{at}.attention.self.{part}" for part in ("query", "key", "value")))
            take(layer.out, f"{at}.attention.output.dense")
            take(layer.norm1, f"{at}.attention.output.LayerNorm")
            take(layer.up, f"{at}.intermediate.dense")
            take(layer.down, f"{at}.output.dense")
            take(layer.norm2, f"{at}.output.LayerNorm")

    def hidden(self, ids: Tensor, types: Tensor, mask: Tensor) -> Tensor:
        """Last hidden states, shape (batch, length, width); zeros where there is padding."""
        batch, length = ids.shape
        where = mask.flatten().nonzero().squeeze(1)
        x = self.words(ids) + self.positions(torch.arange(length)) + self.types(types)
        x = functional.dropout(self.norm(x.view(-1, WIDTH)[where]), self.dropout, self.training)
        for layer in self.layers:
            x = layer(x, mask, where, self.dropout)
        return x.new_zeros(batch * length, WIDTH).index_copy(0, where, x).view(batch, length, WIDTH)

    def forward(self, ids: Tensor, types: Tensor, mask: Tensor) -> Tensor:
        """One score a pair, shape (batch,)."""
        hidden = self.hidden(ids, types, mask).float()
        with torch.autocast("cpu", enabled=False):
            passage = mask & (types == 1) & (ids != SEP)
            query = mask & (types == 0) & (ids != SEP) & (ids != CLS)
            unit = functional.normalize(hidden, dim=-1)
            length = int(query.sum(1).max()) + 1
            query, asked = query[:, :length], hidden[:, :length]
            cosines = unit[:, :length] @ unit.transpose(1, 2)
            best = cosines.masked_fill(~passage[:, None, :], -1.0).amax(-1)
            logits = self.idf_power * self.log_idf[ids[:, :length]] + self.weight(asked).squeeze(-1)
            weights = logits.masked_fill(~query, -1e9).softmax(-1)
            similar = (weights * best).sum(-1)
            return self.log_scale.exp() * similar + self.cls_out(functional.gelu(self.cls_in(hidden[:, 0]))).squeeze(-1)


class Encoder:
    """The base model as a bi-encoder (mean of token vectors), to mine hard negatives."""

    def __init__(self, model: CrossEncoder, tokenizer: Tokenizer) -> None:
        self._model, self._tokenizer = model, tokenizer

    @torch.no_grad()
    def encode(self, texts: Sequence[str], pieces: int = 80) -> np.ndarray:
        """Unit vectors, shape (n, width)."""
        self._model.eval()
        ids = [[*encoding.ids[: pieces - 1], SEP] for encoding in self._tokenizer.encode_batch_fast(list(texts))]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        out = np.empty((len(ids), WIDTH), np.float32)
        for start in range(0, len(order), 64):
            part = order[start : start + 64]
            batch, types, mask = pad([(ids[i], [0] * len(ids[i])) for i in part])
            with torch.autocast("cpu", torch.bfloat16):
                hidden = self._model.hidden(batch, types, mask)
            out[part] = functional.normalize(hidden.float().sum(1), dim=-1).numpy()
        return out


def pad(pairs: Sequence[Pair]) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, segments and mask of a batch, shape (batch, length) each."""
    length = max(len(ids) for ids, _ in pairs)
    ids = torch.zeros(len(pairs), length, dtype=torch.long)
    types, mask = torch.zeros_like(ids), torch.zeros(len(pairs), length, dtype=torch.bool)
    for row, (pieces, kinds) in enumerate(pairs):
        ids[row, : len(pieces)] = torch.tensor(pieces)
        types[row, : len(pieces)] = torch.tensor(kinds)
        mask[row, : len(pieces)] = True
    return ids, types, mask


class Pairs:
    """Makes a pair's word pieces."""

    def __init__(self, tokenizer: Tokenizer, query: int = QUERY_PIECES, pair: int = PAIR_PIECES) -> None:
        self._tokenizer, self._query, self._pair = tokenizer, query, pair

    def __call__(self, query: str, texts: Sequence[str]) -> list[Pair]:
        """The query with each text."""
        encoded = self._tokenizer.encode_batch_fast([query, *(text[:6000] for text in texts)])
        first = [*encoded[0].ids[:-1][: self._query - 1], SEP]
        out = []
        for item in encoded[1:]:
            second = [*item.ids[1:-1][: self._pair - len(first) - 1], SEP]
            out.append((first + second, [0] * len(first) + [1] * len(second)))
        return out


def idf_table(texts: Iterable[str], tokenizer: Tokenizer) -> Tensor:
    """Ln of the inverse document frequency of each word piece."""
    seen, count = np.zeros(VOCABULARY), 0
    for encoding in tokenizer.encode_batch_fast(list(texts)):
        seen[np.unique(encoding.ids)] += 1
        count += 1
    return torch.tensor(np.log(np.log1p((count - seen + 0.5) / (seen + 0.5)) + 0.05), dtype=torch.float32)
