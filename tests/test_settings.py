from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from memory_plugin.errors import ConfigurationError
from memory_plugin.manifest import FIXED_SETTINGS
from memory_plugin.settings import Settings


def test_the_defaults_stand() -> None:
    assert Settings() == Settings(filterable=())


@pytest.mark.parametrize(
    "bad",
    [
        *({name: 0} for name in ("candidates", "leg_limit", "rerank_candidates", "batch", "staging", "max_text_bytes")),
        {"chunk_tokens": 31},
        *({name: value} for name in ("rrf_k", "lexical_weight", "rerank_weight") for value in (-0.1, float("nan"))),
        *({"half_life_days": value} for value in (0, -1.0, float("nan"))),
        *({"duplicate_similarity": value} for value in (0, 95, -1, float("nan"))),
        *({"filterable": value} for value in (("a", "a"), ("a", ""), "city", ["a"], ("$rolle",))),
        {"time_index": "hour"},
        {"vectors": "rotate"},
        {"language": "german"},
        {"on_rerank_error": "ignore"},
    ],
    ids=str,
)
def test_what_cannot_work_is_refused_by_name(bad: dict[str, Any]) -> None:
    name = next(iter(bad))
    with pytest.raises(ConfigurationError, match=re.escape(name) if name != "filterable" else "settings: "):
        Settings(**bad)


@pytest.mark.parametrize(
    "good",
    [
        {"candidates": 1, "leg_limit": 1, "rerank_candidates": 1, "batch": 1, "staging": 1, "max_text_bytes": 1},
        {"chunk_tokens": 32},
        {"rrf_k": 0, "lexical_weight": 0, "rerank_weight": 0},
        {"half_life_days": 0.5, "duplicate_similarity": 1.0},
        {"half_life_days": None, "duplicate_similarity": None},
        {"filterable": ("topic", "$role", "$name", "$source", "$kind")},
        {"time_index": None, "vectors": "plain", "language": "none", "on_rerank_error": "keep_fused"},
    ],
)
def test_the_borders_are_accepted(good: dict[str, Any]) -> None:
    made = Settings(**good)
    assert {name: getattr(made, name) for name in good} == good


def test_the_first_group_is_what_a_manifest_keeps() -> None:
    positional = [one.name for one in dataclasses.fields(Settings) if not one.kw_only]
    assert set(positional) == set(FIXED_SETTINGS)


def test_every_setting_is_explained() -> None:
    for one in dataclasses.fields(Settings):
        assert f"        {one.name}: " in (Settings.__doc__ or "")
