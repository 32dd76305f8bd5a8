"""Pictures: which files are some, and what ``add_image`` was given as an entry."""

from __future__ import annotations

import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from memory_plugin import ids
from memory_plugin.engine.core import Model
from memory_plugin.engine.entries import Entry, Image, flag, source_of
from memory_plugin.errors import ConfigurationError, InvalidInputError
from memory_plugin.network import may_see
from memory_plugin.settings import Settings
from memory_plugin.types import Metadata

ImageLike: TypeAlias = "str | os.PathLike[str] | bytes"
"""The path of a picture, or the content of its file."""

MAX_IMAGE_BYTES = 32 * 2**20

_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
)


def media_type(data: bytes) -> str:
    """What an image is, by its first bytes.

    Raises:
        InvalidInputError: It is none that models take.
    """
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    for beginning, name in _BEGINNINGS:
        if data.startswith(beginning):
            return name
    raise InvalidInputError("no PNG, JPEG, WebP or GIF image, by its first bytes: convert it to one of these")


def require_images(model: Model) -> None:
    """Whether the model's images lie in the space of its texts.

    Raises:
        ConfigurationError: It embeds texts only.
    """
    if not hasattr(model.embedder, "embed_images"):
        raise ConfigurationError(
            f"{model.name} embeds no images: the store needs a model that puts texts and images into one space, "
            "such as 'clip:DIRECTORY' (on this machine) or 'cohere:embed-v4.0'"
        )


def image_entry(
    model: Model,
    image: ImageLike,
    settings: Settings,
    *,
    caption: str | None,
    source: str | None,
    time: datetime | None,
    metadata: Metadata | None,
    local_only: bool,
) -> Entry:
    """An image as an entry.  A file's path names it, and its date is when it was written.

    Raises:
        InvalidInputError: It cannot be read, is no image, or something said of it cannot be used.
    """
    modified = None
    if isinstance(image, bytes | bytearray | memoryview):
        data = bytes(image)
    else:
        data, modified = _read(image)
        source = source if source is not None else Path(image).as_posix()
    if len(data) > MAX_IMAGE_BYTES:
        raise InvalidInputError(f"the image is {len(data):,} bytes long; at most {MAX_IMAGE_BYTES:,} are accepted")
    text = caption if caption is not None else ""
    ids.utf8(text, "the caption", limit=settings.max_text_bytes)
    if text and not ids.visible(text):
        raise InvalidInputError("the caption is empty: leave it out")
    if not text and not may_see(model.embedder, local_only=flag(local_only, "local_only")):
        raise InvalidInputError(
            f"{model.name} may not see an image that is local_only: give it a caption to find it by"
        )
    return Entry(
        kind="image",
        text=text,
        source=source_of(source),
        time=ids.moment(time),
        metadata=ids.metadata(metadata if metadata is not None else {}),
        modified=modified if time is None else None,
        local_only=flag(local_only, "local_only"),
        image=Image(data, media_type(data), hashlib.sha256(data).hexdigest()),
    )


def _read(path: object) -> tuple[bytes, datetime | None]:
    """A file's content, and when it was written."""
    if not isinstance(path, str | os.PathLike) or "\x00" in os.fspath(path):
        raise InvalidInputError(f"add_image takes the path of an image or its bytes, not {path!r:.80}")
    place = Path(path)
    try:
        found = place.stat()
        if found.st_size > MAX_IMAGE_BYTES:
            raise InvalidInputError(
                f"{place} is {found.st_size:,} bytes long; at most {MAX_IMAGE_BYTES:,} are accepted"
            )
        return place.read_bytes(), datetime.fromtimestamp(found.st_mtime, UTC)
    except InvalidInputError:
        raise
    except OSError as error:
        raise InvalidInputError(f"{place} cannot be read: {error.strerror or error}") from error
    except (OverflowError, ValueError) as error:
        raise InvalidInputError(f"{place} was written at a time that no calendar has: give time=") from error
