"""Images of unknown origin: read as published, or refused."""

from __future__ import annotations

import io
import random
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from memory_plugin.errors import ConfigurationError, InvalidInputError, MissingExtraError
from memory_plugin.models.images import MAX_PIXELS, Preparation, pixels, preparation

CLIP = Preparation()


def encoded(image: Image.Image, format_: str = "PNG", **how: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, format_, **how)
    return file.getvalue()


def painted(width: int, height: int) -> Image.Image:
    """Something that differs everywhere."""
    across = np.linspace(0, 255, width)[None, :, None] * np.array([1, 0.5, 0])
    down = np.linspace(0, 255, height)[:, None, None] * np.array([0, 0.5, 1])
    return Image.fromarray((across + down).clip(0, 255).astype(np.uint8))


def shown(values: Any, prepared: Preparation = CLIP) -> Any:
    """Back to colours from 0 to 255."""
    return ((values.transpose(1, 2, 0) * prepared.deviation + prepared.mean) * 255).round()


# ── as published ──────────────────────────────────────────────────────────────────────────────────


def test_the_published_steps_one_by_one() -> None:
    image = painted(640, 480)
    found = pixels(encoded(image), 0, CLIP)
    # 480 → 224 on the shortest side, 640 → int(640 · 224 / 480) = 298; then columns 37 to 261.
    scaled = np.asarray(image.resize((298, 224), Image.Resampling.BICUBIC), np.float64)[:, 37:261] / 255
    expected = (scaled - [0.48145466, 0.4578275, 0.40821073]) / [0.26862954, 0.26130258, 0.27577711]
    assert found.shape == (3, 224, 224)
    assert found.dtype == np.float32
    assert found == pytest.approx(expected.transpose(2, 0, 1), abs=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (224, 224), (10, 900), (900, 10), (225, 223), (1, 5000)])
def test_any_shape_comes_out_as_the_model_wants_it(size: tuple[int, int]) -> None:
    found = pixels(encoded(painted(*size)), 0, CLIP)
    assert found.shape == (3, 224, 224)
    assert np.isfinite(found).all()


def test_a_line_of_pixels_takes_no_room() -> None:
    found = pixels(encoded(Image.new("RGB", (2_000_000, 1), (255, 0, 0))), 0, CLIP)
    assert (shown(found) == [255, 0, 0]).all()


HELD = {"PNG": ["RGB", "L", "P", "1", "LA", "RGBA", "I;16"], "JPEG": ["RGB", "L", "CMYK"], "WEBP": ["RGB", "RGBA"]}


@pytest.mark.parametrize(("format_", "mode"), [(name, mode) for name, modes in HELD.items() for mode in modes])
def test_every_mode_is_read(format_: str, mode: str) -> None:
    grey = Image.new("L", (40, 30), 200)
    if mode == "I;16":
        image = Image.fromarray(np.full((30, 40), 200 * 257, np.uint16))
    elif mode == "CMYK":
        image = Image.new("CMYK", (40, 30), (0, 0, 0, 55))
    else:
        image = grey.convert(mode)
    found = shown(pixels(encoded(image, format_), 0, CLIP))
    if mode == "1":
        assert {0, 255} >= set(shown(pixels(encoded(image), 0, Preparation(resample=0))).flatten().tolist())
    else:
        assert found[100, 100] == pytest.approx([200] * 3, abs=3)


def test_what_is_transparent_is_white() -> None:
    clear = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    assert (shown(pixels(encoded(clear), 0, CLIP)) == 255).all()
    half = Image.new("RGBA", (20, 20), (255, 0, 0, 128))
    assert shown(pixels(encoded(half), 0, CLIP))[0, 0] == pytest.approx([255, 127, 127], abs=1)


def test_it_is_turned_upright() -> None:
    image = Image.new("RGB", (40, 20), (255, 0, 0))
    image.paste((0, 0, 255), (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    turned = shown(pixels(encoded(image, "JPEG", exif=exif, quality=100, subsampling=0), 0, CLIP))
    assert turned[5, 112] == pytest.approx([0, 0, 255], abs=12), "what was left is above"
    assert turned[218, 112] == pytest.approx([255, 0, 0], abs=12)


def test_of_an_animation_the_first_picture() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 255, 0))]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (shown(pixels(data, 0, CLIP)) == [255, 0, 0]).all()


# ── what is refused ───────────────────────────────────────────────────────────────────────────────

GOOD = encoded(painted(30, 20))


def png(width: int, height: int, data: bytes) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "data",
    [b"", b"not an image", GOOD[: len(GOOD) // 2], b"\x89PNG\r\n\x1a\n", png(4, 4, b"nothing compressed")],
)
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInputError, match=r"images\[3\] cannot be read as one of PNG, JPEG, WEBP, GIF"):
        pixels(data, 3, CLIP)


@pytest.mark.parametrize("format_", ["BMP", "TIFF", "PPM", "ICO"])
def test_other_formats_are_not_decoded(format_: str) -> None:
    with pytest.raises(InvalidInputError, match="cannot be read as one of"):
        pixels(encoded(painted(16, 16), format_), 0, CLIP)


@pytest.mark.parametrize(("width", "height"), [(8193, 8192), (20_000, 20_000), (2**31 - 1, 2**31 - 1), (2**31 - 1, 1)])
def test_a_bomb_does_not_go_off(width: int, height: int) -> None:
    assert width * height > MAX_PIXELS
    with pytest.raises(
        InvalidInputError, match=r"images\[0\] (claims [\d,]+ × [\d,]+ pixels, more than|cannot be read)"
    ):
        pixels(png(width, height, zlib.compress(b"\0" * 1000)), 0, CLIP)


def test_the_largest_is_read() -> None:
    flat = Image.new("1", (8192, 8192), 1)
    assert pixels(encoded(flat), 0, CLIP).shape == (3, 224, 224)


def test_a_file_that_is_too_large_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("memory_plugin.models.images.MAX_BYTES", 10)
    with pytest.raises(InvalidInputError, match=r"images\[0\] has [\d,]+ bytes, more than 10"):
        pixels(GOOD, 0, CLIP)


@pytest.mark.parametrize("data", ["picture.png", None, 3, [1, 2]])
def test_only_bytes_are_images(data: Any) -> None:
    with pytest.raises(InvalidInputError, match="is the content of a file as bytes, not"):
        pixels(data, 0, CLIP)
    assert pixels(bytearray(GOOD), 0, CLIP).shape == pixels(memoryview(GOOD), 0, CLIP).shape  # type: ignore[arg-type]


def flipped(data: bytes, seed: int) -> bytes:
    rng = random.Random(seed)
    changed = bytearray(data)
    for _ in range(rng.randint(1, 20)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


@pytest.mark.filterwarnings("ignore")  # decoders warn of what they make up for
@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "GIF"])
def test_damaged_files_are_read_or_refused(format_: str) -> None:
    good = encoded(painted(50, 40), format_)
    for seed in range(150):
        try:
            found = pixels(flipped(good, seed), 0, CLIP)
        except InvalidInputError:
            continue
        assert found.shape == (3, 224, 224)
        assert np.isfinite(found).all()


def test_without_pillow_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: str) -> None:
        raise ModuleNotFoundError("PIL")

    monkeypatch.setattr("memory_plugin.models.optional.importlib.import_module", missing)
    with pytest.raises(MissingExtraError, match=r"pip install 'memory-plugin\[images\]'"):
        pixels(GOOD, 0, CLIP)


# ── what a preprocessor_config.json says ──────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("told", "size", "crop"),
    [
        ({}, 224, (224, 224)),
        ({"size": 336, "crop_size": 336}, 336, (336, 336)),
        ({"size": {"shortest_edge": 256}, "crop_size": {"height": 200, "width": 100}}, 256, (200, 100)),
        ({"size": {"height": 64, "width": 64}}, 64, (64, 64)),
        ({"size": [48, 48]}, 48, (48, 48)),
    ],
)
def test_sizes_in_every_form(told: dict[str, Any], size: int, crop: tuple[int, int]) -> None:
    try:
        found = preparation(told)
    except ConfigurationError:
        assert isinstance(told.get("size"), list)
        return
    assert (found.size, found.crop) == (size, crop)
    assert pixels(GOOD, 0, found).shape == (3, *crop)


def test_colours_and_interpolation() -> None:
    found = preparation({"image_mean": [0, 0, 0], "image_std": [1, 1, 1], "resample": 2})
    assert (found.mean, found.deviation, found.resample) == ((0, 0, 0), (1, 1, 1), 2)
    white = pixels(encoded(Image.new("RGB", (9, 9), (255, 255, 255))), 0, found)
    assert white == pytest.approx(np.ones((3, 224, 224)), abs=1e-6)


BAD: list[Callable[[], dict[str, Any]]] = [
    lambda: {"size": 0},
    lambda: {"size": "large"},
    lambda: {"crop_size": {"height": 10}},
    lambda: {"size": 10**9},
    lambda: {"image_mean": [0.5]},
    lambda: {"image_std": ["a", "b", "c"]},
    lambda: {"crop_size": [1, 2, 3]},
]


@pytest.mark.parametrize("make", BAD)
def test_what_makes_no_sense_is_refused(make: Callable[[], dict[str, Any]]) -> None:
    with pytest.raises(ConfigurationError, match=r"preprocessor_config\.json cannot be understood"):
        preparation(make())
