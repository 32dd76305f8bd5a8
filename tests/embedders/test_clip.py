"""CLIP on a tiny pair of models that know three colours: words find pictures."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from memory_plugin import MemoryStore, registry
from memory_plugin.embedders.clip import ClipEmbedder
from memory_plugin.errors import ConfigurationError, InvalidInputError, MissingExtraError
from memory_plugin.index.edge import EdgeIndex
from memory_plugin.manifest import space
from memory_plugin.network import leaves_machine
from memory_plugin.protocols import Embedder, ImageEmbedder
from memory_plugin.settings import Settings
from memory_plugin.testing.providers import EmbedderTests
from tests import tiny

COLOURS = {"red": (250, 10, 10), "green": (10, 250, 10), "blue": (10, 10, 250)}


def picture(colour: tuple[int, int, int], size: tuple[int, int] = (60, 40)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tiny.write_clip(tmp_path / "colours")


@pytest.fixture
def embedder(place: Path) -> ClipEmbedder:
    return ClipEmbedder(place)


class TestClip(EmbedderTests):
    tolerance = 1e-6

    @pytest.fixture
    def embedder(self, place: Path) -> Embedder:
        return registry.embedder(f"clip:{place}")


def test_words_find_pictures(embedder: ClipEmbedder) -> None:
    joint: ImageEmbedder = embedder
    made = joint.embed_images([picture(colour) for colour in COLOURS.values()])
    assert made.vectors.shape == (3, embedder.identity.dimension)  # type: ignore[union-attr]
    assert np.linalg.norm(made.vectors, axis=1) == pytest.approx(np.ones(3), abs=1e-5)  # type: ignore[union-attr]
    for place, colour in enumerate(COLOURS):
        for text in (colour, f"a picture of something {colour}"):
            query = embedder.embed([text], input_type="query").vectors[0]
            assert int((made.vectors @ query).argmax()) == place  # type: ignore[union-attr]


def test_pictures_come_out_in_order_and_alone_as_together(embedder: ClipEmbedder) -> None:
    images = [picture(colour) for colour in (*COLOURS.values(), (120, 130, 140), (255, 255, 255))]
    together = embedder.embed_images(images).vectors
    back = embedder.embed_images(images[::-1]).vectors[::-1]
    assert together.tobytes() == back.tobytes()
    assert embedder.embed_images(images[3:4]).vectors.tobytes() == together[3].tobytes()
    assert embedder.embed_images([]).vectors.shape == (0, 32)
    assert embedder.embed([], input_type="document").vectors.shape == (0, 32)


@pytest.mark.parametrize("damage", [b"", b"no picture", picture((1, 2, 3))[:60]])
def test_one_damaged_picture_is_named(embedder: ClipEmbedder, damage: bytes) -> None:
    with pytest.raises(InvalidInputError, match=r"images\[1\] cannot be read as one of PNG, JPEG, WEBP, GIF"):
        embedder.embed_images([picture((1, 2, 3)), damage])


def test_one_directory_or_two_are_the_same_model(tmp_path: Path, embedder: ClipEmbedder) -> None:
    tiny.write_clip(tmp_path / "apart" / "colours", apart=True)
    apart = ClipEmbedder(tmp_path / "apart" / "colours")
    assert apart.identity == embedder.identity
    named = ClipEmbedder(
        tmp_path / "apart" / "colours" / "tiny-text", vision=tmp_path / "apart" / "colours" / "tiny-vision"
    )
    assert named.identity.revision == embedder.identity.revision
    images = [picture(colour) for colour in COLOURS.values()]
    for one in (apart, named):
        assert one.embed_images(images).vectors == pytest.approx(embedder.embed_images(images).vectors, abs=1e-6)


def change_text(place: Path) -> None:
    tiny.write_clip_text(place / "onnx" / "text_model.onnx", seed_of=1)


def change_vision(place: Path) -> None:
    tiny.write_clip_vision(place / "onnx" / "vision_model.onnx", name="image_embedding")


def change_tokenizer(place: Path) -> None:
    path = place / "tokenizer.json"
    path.write_text(path.read_text("utf-8").replace('"<unk>"', '"<none>"'), "utf-8")


def change_preparation(place: Path) -> None:
    path = place / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"image_mean": [0.5, 0.5, 0.5]}))


@pytest.mark.parametrize("change", [change_text, change_vision, change_tokenizer, change_preparation])
def test_identity_covers_both_models_and_what_goes_before_them(
    place: Path, embedder: ClipEmbedder, change: Callable[[Path], None]
) -> None:
    identity = embedder.identity
    assert (identity.provider, identity.model, identity.dimension) == ("clip", "colours", 32)
    change(place)
    assert space(ClipEmbedder(place).identity) != space(identity)


def test_prefixes_are_part_of_it(place: Path, embedder: ClipEmbedder) -> None:
    photo = ClipEmbedder(place, query_prefix="a picture of ")
    assert photo.identity.query_prefix == "a picture of "
    assert space(photo.identity) != space(embedder.identity)
    made = photo.embed(["red"], input_type="query").vectors
    assert made == pytest.approx(embedder.embed(["a picture of red"], input_type="query").vectors, abs=1e-6)
    assert ClipEmbedder(place, document_prefix="a picture of ").max_tokens < embedder.max_tokens


def test_its_window_is_77_word_pieces(embedder: ClipEmbedder) -> None:
    assert embedder.max_tokens == 77
    assert registry.pieces(embedder).count("red") == 3
    fits = ("red " * 75).strip()
    assert embedder.count(fits) == 77
    whole = embedder.embed([fits], input_type="document").vectors
    with pytest.raises(InvalidInputError, match="more than the 77 that the model reads"):
        embedder.embed([fits + " red"], input_type="document")
    cut = embedder.embed([fits + " blue" * 50], input_type="query").vectors
    assert cut == pytest.approx(whole, abs=1e-6)


def test_an_export_of_a_fixed_length_is_padded(place: Path, embedder: ClipEmbedder) -> None:
    texts = ["red", "a picture of something blue"]
    expected = embedder.embed(texts, input_type="document").vectors
    tiny.write_clip_text(place / "onnx" / "text_model.onnx", length=77)
    assert ClipEmbedder(place).embed(texts, input_type="document").vectors == pytest.approx(expected, abs=1e-6)


def no_vision(place: Path) -> None:
    (place / "onnx" / "vision_model.onnx").unlink()


def two_vectors(place: Path) -> None:
    tiny.write_m3(place, file="onnx/text_model.onnx", names=("one", "two", "three"))


def no_vector(place: Path) -> None:
    tiny.write_encoder(place, file="onnx/text_model.onnx")


def no_pair(place: Path) -> None:
    tiny.write_clip_vision(place / "onnx" / "vision_model.onnx", dimension=16)


def no_onnx(place: Path) -> None:
    (place / "onnx" / "text_model.onnx").write_bytes(b"nothing")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (no_vision, r"holds no CLIP: neither text_model\.onnx with vision_model\.onnx"),
        (no_vector, r"has the outputs last_hidden_state: which is the vector\? One called text_embeds"),
        (no_pair, "the two models are no pair: texts have 32 dimensions, images 16"),
        (no_onnx, "onnxruntime cannot load"),
    ],
)
def test_a_directory_that_is_no_clip_says_what_is_wrong(place: Path, spoil: Callable[[Path], None], says: str) -> None:
    spoil(place)
    with pytest.raises(ConfigurationError, match=says):
        _ = ClipEmbedder(place).identity


def test_where_two_outputs_could_be_the_vector_the_name_decides(place: Path, embedder: ClipEmbedder) -> None:
    expected = embedder.embed(["red"], input_type="query").vectors
    two_vectors(place)
    made = ClipEmbedder(place).embed(["red"], input_type="query").vectors
    assert made.shape == (1, 64), "the only one of two axes"
    assert expected.shape == (1, 32)


def test_half_a_pair_says_which_half(tmp_path: Path) -> None:
    place = tiny.write_clip(tmp_path / "apart", apart=True)
    (place / "tiny-vision" / "model.onnx").unlink()
    with pytest.raises(ConfigurationError, match="tiny-vision holds no ONNX model"):
        ClipEmbedder(place)
    with pytest.raises(ConfigurationError, match="tiny-vision holds no ONNX model"):
        ClipEmbedder(place / "tiny-text", vision=place / "tiny-vision")


def test_arguments_are_checked_at_once(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInputError, match="no directory 'openai/clip' to read CLIP from"):
        ClipEmbedder("openai/clip")
    with pytest.raises(InvalidInputError, match="no directory"):
        ClipEmbedder(place, vision="nowhere/else")
    with pytest.raises(InvalidInputError, match="at least 1"):
        ClipEmbedder(place, workers=0)
    monkeypatch.setattr("memory_plugin.models.optional.importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingExtraError, match=r"memory-plugin\[images\]"):
        ClipEmbedder(place)


def test_it_stays_on_the_machine(embedder: ClipEmbedder, place: Path) -> None:
    assert not leaves_machine(embedder)
    assert repr(embedder) == f"ClipEmbedder({str(place)!r})"


def test_in_a_store_words_find_pictures(tmp_path: Path, embedder: ClipEmbedder) -> None:
    index = EdgeIndex(tmp_path / "memory", durability="process")
    settings = Settings(chunk_tokens=77)
    keys = tmp_path / "keys.json"
    with MemoryStore(index, embedder, reranker=None, keyring=keys, settings=settings) as store:
        for colour, values in COLOURS.items():
            store.add_image(picture(values), "alice", source=f"{colour}.png")
        store.add("The meeting is on Friday.", "alice")
        for colour in COLOURS:
            (hit,) = store.search(f"a picture of something {colour}", "alice", limit=1)
            assert (hit.record.kind, hit.record.source) == ("image", f"{colour}.png")
        assert store.search("when is the meeting?", "alice", limit=1)[0].text == "The meeting is on Friday."
        with pytest.raises(InvalidInputError):
            store.add_image(picture((1, 2, 3))[:60], "alice")
        assert store.count("alice") == 4
