"""Solid pictures, and a model that puts their colours where it puts the colours' names."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np

from memory_plugin.testing.doubles import HashEmbedder
from memory_plugin.types import Embeddings, InputType

COLOURS = {"red": (255, 0, 0), "green": (0, 160, 0), "blue": (0, 0, 255), "yellow": (255, 220, 0), "black": (0, 0, 0)}

JPEG = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00"
WEBP = b"RIFF\x24\x00\x00\x00WEBPVP8 "
GIF = b"GIF89a\x01\x00\x01\x00"


def png(colour: str, size: int = 4) -> bytes:
    """A square of one colour as a PNG file."""
    row = b"\0" + bytes(COLOURS[colour]) * size
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(row * size)),
        (b"IEND", b""),
    )
    made = b"\x89PNG\r\n\x1a\n"
    for name, data in parts:
        made += struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return made


def colour_of(image: bytes) -> tuple[int, ...]:
    """The colour of the first point of a PNG file that ``png`` made."""
    start = image.index(b"IDAT") + 4
    (length,) = struct.unpack(">I", image[start - 8 : start - 4])
    return tuple(zlib.decompress(image[start : start + length])[1:4])


class ColourEmbedder(HashEmbedder):
    """A joint space: a picture lies at its colour's name; texts lie where their words are, colours among them."""

    def __init__(self, dimension: int = 64, revision: str = "colours") -> None:
        super().__init__(dimension, revision)
        self.images: list[bytes] = []

    def embed_images(self, images: Sequence[bytes], /) -> Embeddings:
        """One vector an image."""
        assert images, "a call with nothing in it"
        self.images.extend(images)
        names = [next((name for name, colour in COLOURS.items() if colour == colour_of(one)), "?") for one in images]
        texts, kept = list(self.texts), super().embed(names, input_type="document")
        self.texts[:] = texts  # these were no texts
        return kept


class AsyncColourEmbedder(ColourEmbedder):
    """The same for event loops."""

    async def embed(self, texts: Sequence[str], /, *, input_type: InputType) -> Embeddings:  # type: ignore[override]
        """One vector a text."""
        return super().embed(texts, input_type=input_type)

    async def embed_images(self, images: Sequence[bytes], /) -> Embeddings:  # type: ignore[override]
        """One vector an image."""
        names = [next((name for name, colour in COLOURS.items() if colour == colour_of(one)), "?") for one in images]
        return super().embed(names, input_type="document")


class BadPictures(HashEmbedder):
    """Makes vectors of another length for images."""

    def embed_images(self, images: Sequence[bytes], /) -> Embeddings:
        """Too short."""
        return Embeddings(np.ones((len(images), 3), np.float32))
