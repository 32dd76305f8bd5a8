"""Images of unknown origin as the numbers that a vision model reads.

The steps and the numbers are those that CLIP was published with (Radford et al., arXiv:2103.00020, and the
``preprocessor_config.json`` of its checkpoints): the shortest side to 224 by bicubic interpolation, the centre cut out,
then (value / 255 − mean) / deviation for each colour.
"""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from memory_plugin.errors import ConfigurationError, InvalidInputError
from memory_plugin.models import optional

FORMATS = ("PNG", "JPEG", "WEBP", "GIF")
MAX_BYTES = 64 * 2**20
MAX_PIXELS = 2**26
"""A file of some kilobytes may claim to hold billions of pixels."""
_LONGEST = 16
"""Times the short side that of the long side is used: a line of pixels would be scaled to gigabytes."""


class Preparation(NamedTuple):
    """How a model wants its images.

    Args:
        size: What the shortest side is scaled to.
        crop: Height and width of what is cut out of the middle.
        mean: To be taken from red, green and blue.
        deviation: To divide them by.
        resample: Pillow's number of the interpolation; 3 is bicubic.
    """

    size: int = 224
    crop: tuple[int, int] = (224, 224)
    mean: tuple[float, ...] = (0.48145466, 0.4578275, 0.40821073)
    deviation: tuple[float, ...] = (0.26862954, 0.26130258, 0.27577711)
    resample: int = 3


def preparation(told: Mapping[str, Any]) -> Preparation:
    """What a ``preprocessor_config.json`` says; CLIP's numbers where it says nothing.

    Raises:
        ConfigurationError: It makes no sense.
    """
    default = Preparation()
    try:
        crop = _sides(told.get("crop_size", told.get("size", default.crop)))
        size = told.get("size", default.size)
        if isinstance(size, Mapping):
            size = size.get("shortest_edge", min(_sides(size)))
        found = Preparation(
            int(size),
            crop,
            tuple(float(one) for one in told.get("image_mean", default.mean)),
            tuple(float(one) for one in told.get("image_std", default.deviation)),
            int(told.get("resample", default.resample)),
        )
    except (TypeError, ValueError, KeyError) as error:
        raise ConfigurationError(f"preprocessor_config.json cannot be understood: {error!r}") from error
    sides = (found.size, *found.crop)
    if not all(1 <= side <= 4096 for side in sides) or len(found.mean) != 3 or len(found.deviation) != 3:
        raise ConfigurationError(f"preprocessor_config.json cannot be understood: {found}")
    return found


def _sides(value: Any) -> tuple[int, int]:
    if isinstance(value, Mapping):
        edge = value.get("shortest_edge")
        return int(value.get("height", edge)), int(value.get("width", edge))
    if isinstance(value, int):
        return value, value
    height, width = value
    return int(height), int(width)


def pixels(data: bytes, position: int, prepared: Preparation) -> NDArray[np.float32]:
    """An image as a model reads it, shape (3, height, width).

    Only PNG, JPEG, WebP and GIF are decoded (of an animation, the first picture), turned upright as their metadata
    say, and laid on white where they are transparent.

    Args:
        data: The file's content.
        position: Of the image in the call, for errors.
        prepared: How the model wants it.

    Raises:
        InvalidInputError: It is no such file, is damaged, or is too large.
        MissingExtraError: Pillow is not installed.
    """
    image = _upright(_decoded(data, position))
    width, height = image.size
    longest = _LONGEST * min(width, height)
    if max(width, height) > longest:
        image = _centre(image, min(height, longest), min(width, longest))
        width, height = image.size
    scale = prepared.size / min(width, height)
    scaled = (max(prepared.size, int(width * scale)), max(prepared.size, int(height * scale)))
    image = _centre(image.resize(scaled, prepared.resample), *prepared.crop)
    values = np.asarray(image, np.float32) / 255
    values = (values - np.array(prepared.mean, np.float32)) / np.array(prepared.deviation, np.float32)
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def _decoded(data: bytes, position: int) -> Any:
    pillow = optional.load("PIL.Image", what="decoding images", extra="images")
    if not isinstance(data, bytes | bytearray | memoryview):
        raise InvalidInputError(f"images[{position}] is the content of a file as bytes, not {type(data).__name__}")
    if len(data) > MAX_BYTES:
        raise InvalidInputError(f"images[{position}] has {len(data):,} bytes, more than {MAX_BYTES:,}")
    try:
        # Only the beginning is read here; the rest by load().
        image = pillow.open(BytesIO(data), formats=FORMATS)
        width, height = image.size
        if 1 <= width * height <= MAX_PIXELS:
            image.load()
            return image
    except MemoryError:
        raise
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        raise InvalidInputError(
            f"images[{position}] cannot be read as one of {', '.join(FORMATS)}: {type(error).__name__}: {error}"
        ) from error
    raise InvalidInputError(
        f"images[{position}] claims {width:,} × {height:,} pixels, more than {MAX_PIXELS:,}: scale it down first"
    )


def _upright(image: Any) -> Any:
    """Turned as its metadata say, in red, green and blue; what is transparent is white."""
    pillow = optional.load("PIL.Image", what="decoding images", extra="images")
    turned = optional.load("PIL.ImageOps", what="decoding images", extra="images").exif_transpose(image)
    if turned.mode.startswith("I"):  # 16 bits: Pillow would cut them off at 255
        turned = pillow.fromarray((np.asarray(turned, np.float64) / 257).clip(0, 255).astype(np.uint8))
    if turned.has_transparency_data:
        shown = turned.convert("RGBA")
        white = pillow.new("RGBA", shown.size, (255, 255, 255, 255))
        turned = pillow.alpha_composite(white, shown)
    return turned.convert("RGB")


def _centre(image: Any, height: int, width: int) -> Any:
    """The middle of an image; what is not there is black."""
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
