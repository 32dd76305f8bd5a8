"""What a collection holds, apart from its points, and the text that keeps it beside the caller's manifest."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from memory_plugin.errors import InvalidInputError, ManifestMismatchError
from memory_plugin.types import Json
from memory_plugin.vectors import QUANTIZATIONS, Quantization

FORMAT = 2
# How many times as many as asked for are scored again by the full vectors; what was measured is in docs/adr/0008.
OVERSAMPLING: Mapping[Quantization, float] = {"none": 1.0, "turbo4": 3.0, "turbo2": 8.0, "int8": 2.0, "binary": 40.0}
# A dot or a bracket in a key would be read as a path into nested values.
_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")


def check_key(key: str) -> str:
    """A payload key or a vector name that means itself in every engine's path language.

    Raises:
        InvalidInputError: It is no plain word.
    """
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise InvalidInputError(f"{key!r} cannot be a key or vector name: 1 to 64 of A-Z a-z 0-9 _ -")
    return key


@dataclass(frozen=True, slots=True)
class Layout:
    """What a collection has.

    Args:
        dense: Dimension by vector name.
        sparse: Names of sparse vectors whose dot products are multiplied by IDF.
        keywords: Payload keys with an exact-match index.
        integers: Payload keys with an exact-match and range index.
        tenant: The one of ``keywords`` that separates data subjects.
        weighted: Names of sparse vectors whose dot products stand as they are.
        quantization: How dense vectors are kept for the first pass of a search.
        leaving: Names of vectors that were dropped and whose bytes may still be somewhere (embedded index only).
    """

    dense: Mapping[str, int]
    sparse: tuple[str, ...]
    keywords: tuple[str, ...]
    integers: tuple[str, ...]
    tenant: str
    weighted: tuple[str, ...] = ()
    quantization: Quantization = "turbo4"
    leaving: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what no engine can make.

        Raises:
            InvalidInputError: A name is no plain word or is used twice, a dimension is not positive, the tenant is
                not among the keywords, or there is no such quantization.
        """
        names, keys = self.vectors, [*self.keywords, *self.integers]
        for name in (*names, *keys, *self.leaving):
            check_key(name)
        if len(set(names)) < len(names) or len(set(keys)) < len(keys):
            raise InvalidInputError("a vector name or a payload key is given twice")
        if not names:
            raise InvalidInputError("a collection needs at least one vector")
        if any(size < 1 for size in self.dense.values()):
            raise InvalidInputError("a dense vector's dimension must be 1 or more")
        if self.tenant not in self.keywords:
            raise InvalidInputError(f"the tenant key {self.tenant!r} must be one of the keywords")
        check_quantization(self.quantization)

    @property
    def vectors(self) -> list[str]:
        """The names of all vectors."""
        return [*self.dense, *self.sparse, *self.weighted]

    def with_vectors(self, dense: Mapping[str, int], weighted: Sequence[str]) -> Layout:
        """The layout that has these vectors, too.

        Raises:
            InvalidInputError: A name is taken by a vector of another dimension or kind, or cannot be used.
        """
        for name in {*dense, *weighted} & set(self.vectors):
            if dense.get(name) != self.dense.get(name) or (name in weighted) != (name in self.weighted):
                raise InvalidInputError(
                    f"there is a vector {name!r} of another dimension or kind: choose another name, or drop it first"
                )
        further = tuple(name for name in dict.fromkeys(weighted) if name not in self.weighted)
        return replace(self, dense={**self.dense, **dense}, weighted=(*self.weighted, *further))

    def without(self, names: Collection[str]) -> Layout:
        """The layout that lacks these vectors; those that it has are now leaving.

        Raises:
            InvalidInputError: None would be left.
        """
        gone = [name for name in self.vectors if name in names]
        return replace(
            self,
            dense={name: size for name, size in self.dense.items() if name not in names},
            sparse=tuple(name for name in self.sparse if name not in names),
            weighted=tuple(name for name in self.weighted if name not in names),
            leaving=tuple(dict.fromkeys((*self.leaving, *gone))),
        )


def described(layout: Layout) -> dict[str, dict[str, Json]]:
    """By vector, what people are told of it."""
    quantization = layout.quantization
    found: dict[str, dict[str, Json]] = {
        name: {
            "kind": "dense",
            "dimension": size,
            "distance": "cosine",
            "quantization": quantization,
            "oversampling": OVERSAMPLING[quantization],
        }
        for name, size in layout.dense.items()
    }
    found |= {name: {"kind": "sparse", "modifier": "idf"} for name in layout.sparse}
    return found | {name: {"kind": "sparse", "modifier": "none"} for name in layout.weighted}


def check_quantization(quantization: Quantization) -> Quantization:
    """A quantization that there is.

    Raises:
        InvalidInputError: There is no such.
    """
    if quantization not in QUANTIZATIONS:
        raise InvalidInputError(f"quantization must be one of {', '.join(QUANTIZATIONS)}, not {quantization!r}")
    return quantization


def pack_manifest(layout: Layout, manifest: Mapping[str, Json]) -> str:
    """The layout and the caller's manifest as one JSON text.

    Raises:
        InvalidInputError: The manifest is not JSON.
    """
    shape = {
        "dense": dict(layout.dense),
        "sparse": list(layout.sparse),
        "weighted": list(layout.weighted),
        "keywords": list(layout.keywords),
        "integers": list(layout.integers),
        "tenant": layout.tenant,
        "quantization": layout.quantization,
        "leaving": list(layout.leaving),
    }
    try:
        return json.dumps({"index_format": FORMAT, "layout": shape, "manifest": dict(manifest)}, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"a manifest must be JSON: {error}") from error


def unpack_manifest(text: str, where: str) -> tuple[Layout, dict[str, Json]]:
    """What ``pack_manifest`` packed.

    Raises:
        ManifestMismatchError: The text is damaged, or comes from something else or another version.
    """
    try:
        whole = json.loads(text)
        version = whole["index_format"]
        shape = whole["layout"] if version == FORMAT else {}
        manifest = whole["manifest"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ManifestMismatchError(
            f"the manifest at {where} is damaged or was not written by this library: restore it from a backup, "
            "or choose another place"
        ) from error
    if version != FORMAT:
        raise ManifestMismatchError(
            f"the manifest at {where} has format {version!r}, this version reads {FORMAT}: upgrade memory-plugin, "
            "or make the store anew if an unreleased version made it"
        )
    try:
        layout = Layout(
            dense=dict(shape["dense"]),
            sparse=tuple(shape["sparse"]),
            keywords=tuple(shape["keywords"]),
            integers=tuple(shape["integers"]),
            tenant=shape["tenant"],
            weighted=tuple(shape["weighted"]),
            quantization=shape["quantization"],
            leaving=tuple(shape["leaving"]),
        )
        return layout, dict(manifest)
    except (KeyError, TypeError, ValueError) as error:
        raise ManifestMismatchError(f"the manifest at {where} is damaged: restore it from a backup") from error
