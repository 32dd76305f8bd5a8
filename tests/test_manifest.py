from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_plugin.errors import ManifestMismatchError
from memory_plugin.manifest import Manifest, check, check_key_mode, lexical_space, space
from memory_plugin.types import ModelIdentity
from tests.records import json_values

MINI = ModelIdentity("local", "mini", "1", 384)
identities = st.builds(
    ModelIdentity,
    st.text(max_size=5), st.text(max_size=5), st.text(max_size=5), st.integers(1, 4096),
    st.booleans(), st.text(max_size=5), st.text(max_size=5), st.sampled_from(("float32", "int8")),
)  # fmt: skip


def manifest(identity: ModelIdentity = MINI, **fields: Any) -> Manifest:
    base: dict[str, Any] = {
        "store": "ab" * 16, "spaces": {space(identity): identity}, "active": space(identity),
        "lexical": lexical_space("words-1", "english"), "late": "local:maxsim", "sealed": True,
        "settings": {"chunk_tokens": 256},
    }  # fmt: skip
    return Manifest(**{**base, **fields})


def test_a_space_is_named_for_ever_alike() -> None:
    assert space(MINI) == "bb3608573158"
    assert lexical_space("words-1", "english") == "a6c83bf4d500"
    assert lexical_space("words-1", "none") != lexical_space("words-1", "english")


@given(identities, identities)
def test_models_that_differ_in_anything_have_other_spaces(one: ModelIdentity, other: ModelIdentity) -> None:
    assert (space(one) == space(other)) == (one == other)


@pytest.mark.parametrize("field", [one.name for one in dataclasses.fields(ModelIdentity)])
def test_every_field_of_an_identity_counts(field: str) -> None:
    value = getattr(MINI, field)
    change: Any = {field: not value if isinstance(value, bool) else value * 2 or "x"}
    other = dataclasses.replace(MINI, **change)
    assert space(other) != space(MINI)


@given(
    st.lists(identities, min_size=1, max_size=2, unique=True),
    st.sampled_from(["target", "previous"]),
    st.dictionaries(st.text(max_size=4), json_values, max_size=3),
)
def test_a_manifest_reads_back(models: list[ModelIdentity], role: str, settings: dict[str, Any]) -> None:
    spaces = {space(one): one for one in models}
    second = {role: space(models[1])} if len(models) > 1 else {}
    canaries = dict.fromkeys(spaces, "sealed")
    made = manifest(models[0], spaces=spaces, settings=settings, canaries=canaries, **second)
    assert Manifest.from_json(json.loads(json.dumps(made.to_json()))) == made


@pytest.mark.parametrize("found", [None, 0, 1, 3, "2", []])
def test_another_format_is_refused(found: Any) -> None:
    with pytest.raises(ManifestMismatchError, match="reads format 2"):
        Manifest.from_json({**manifest().to_json(), "format": found})


@pytest.mark.parametrize("key", [one.name for one in dataclasses.fields(Manifest) if one.name != "format"])
def test_a_manifest_that_lacks_something_is_damaged(key: str) -> None:
    value = manifest().to_json()
    del value[key]
    with pytest.raises(ManifestMismatchError, match="damaged"):
        Manifest.from_json(value)


@pytest.mark.parametrize(
    "change",
    [
        {"spaces": []}, {"spaces": {"a": {}}}, {"spaces": {"a": None}}, {"spaces": {}}, {"active": "other"},
        {"active": []}, {"active": None}, {"settings": None}, {"settings": 7}, {"settings": [1]}, {"settings": "ab"},
        {"spaces": {space(MINI): {**dataclasses.asdict(MINI), "dimension": 385}}},
        {"spaces": {space(MINI): {**dataclasses.asdict(MINI), "more": 1}}},
        {"target": "other"}, {"previous": space(dataclasses.replace(MINI, revision="2"))}, {"canaries": 7},
        {"spaces": {"000000000000": dataclasses.asdict(MINI)}, "active": "000000000000"},
    ],
    ids=str,
)  # fmt: skip
def test_a_manifest_that_was_changed_is_damaged(change: Any) -> None:
    with pytest.raises(ManifestMismatchError, match="damaged"):
        Manifest.from_json({**manifest().to_json(), **change})


def test_what_else_is_kept_beside_a_manifest_does_not_matter() -> None:
    assert Manifest.from_json({**manifest().to_json(), "proof": "…"}) == manifest()


def test_the_same_models_may_open() -> None:
    check(manifest(), manifest(store="other", settings={}))
    check(manifest(), manifest(late=None))


def test_another_model_may_not_and_the_message_shows_where_they_differ() -> None:
    other = dataclasses.replace(MINI, model="maxi", dimension=768)
    with pytest.raises(ManifestMismatchError) as caught:
        check(manifest(), manifest(other))
    marked = [line.split()[0] for line in str(caught.value).splitlines() if line.endswith("←")]
    assert marked == ["model", "dimension"]


@pytest.mark.parametrize(
    ("what", "change"), [("lexical", {"lexical": "x"}), ("late", {"late": "y"})]
)  # fmt: skip
def test_another_lexical_or_late_space_may_not(what: str, change: Any) -> None:
    with pytest.raises(ManifestMismatchError, match=f"{what} space"):
        check(manifest(), manifest(**change))


def test_the_key_mode_is_what_it_was_made_with() -> None:
    check_key_mode(manifest(), sealed=True)
    check_key_mode(manifest(sealed=False), sealed=False)
    with pytest.raises(ManifestMismatchError, match="is encrypted"):
        check_key_mode(manifest(), sealed=False)
    with pytest.raises(ManifestMismatchError, match="was made with PLAINTEXT"):
        check_key_mode(manifest(sealed=False), sealed=True)
