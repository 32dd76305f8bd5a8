"""Directories of tiny models that transformers and sentence-transformers load.  Needs torch, which CI does not have."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests import tiny


def tokenizer(window: int = 64) -> Any:
    """The tiny tokenizer as transformers have theirs."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(tiny.tokenizer_json()),
        model_max_length=window,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
    )


def config(width: int = 64) -> dict[str, Any]:
    return {
        "vocab_size": tiny.vocabulary(),
        "hidden_size": width,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": 128,
        "pad_token_id": tiny.PAD,
    }


def bert(place: Path, *, seed: int = 0, window: int = 64) -> Path:
    """A BERT of one layer whose states are close to what its word pieces are."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(seed)
    model = BertModel(BertConfig(**config()))
    with torch.no_grad():
        model.embeddings.word_embeddings.weight.copy_(torch.from_numpy(tiny.table(64, seed=seed)))
        model.embeddings.position_embeddings.weight.zero_()
        model.embeddings.token_type_embeddings.weight.zero_()
    model.save_pretrained(str(place))
    tokenizer(window).save_pretrained(str(place))
    return place


def sentence_transformer(
    place: Path, *, prompts: Mapping[str, str] | None = None, seed: int = 0, window: int = 64, **how: Any
) -> Path:
    """A directory as sentence-transformers saves it: a BERT, pooled."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import Pooling, Transformer

    inner = Transformer(str(bert(place.parent / f"{place.name}-bert", seed=seed, window=window)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = SentenceTransformer(
            modules=[inner, Pooling(64, pooling_mode="mean")], prompts=dict(prompts or {}), device="cpu", **how
        )
        model.save_pretrained(str(place), create_model_card=False)
    return place


def cross_encoder(place: Path, *, labels: int = 1) -> Path:
    """A cross-encoder that was taught, in a few steps, which of three texts answer a question."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from memory_plugin.testing.providers import TEXTS

    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(**config(), num_labels=labels))
    reader = tokenizer()
    if labels == 1:
        query = "Where does the cat sleep?"
        given = reader([query] * 3, list(TEXTS[:3]), padding=True, return_tensors="pt")
        given = {name: given[name] for name in ("input_ids", "attention_mask")}
        wanted = torch.tensor([[4.0], [4.0], [-4.0]])
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        model.train()
        for _ in range(30):
            loss = torch.nn.functional.mse_loss(model(**given).logits, wanted)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    model.eval().save_pretrained(str(place))
    reader.save_pretrained(str(place))
    return place


def m3(place: Path) -> Path:
    """A checkpoint as bge-m3's: an encoder, and two heads beside it."""
    import torch

    bert(place)
    torch.manual_seed(1)
    for name, rows in (("sparse_linear.pt", 1), ("colbert_linear.pt", 64)):
        head = torch.nn.Linear(64, rows)
        torch.save(head.state_dict(), str(place / name))
    return place


def clip(place: Path) -> Path:
    """A checkpoint as CLIP's, with random weights."""
    import json

    import torch
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**small, "vocab_size": tiny.vocabulary(), "max_position_embeddings": 77, "eos_token_id": tiny.EOS}
    vision = {**small, "image_size": 32, "patch_size": 16}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24))
    model.save_pretrained(str(place))
    tokenizer(77).save_pretrained(str(place))
    told = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    (place / "preprocessor_config.json").write_text(json.dumps(told))
    return place
