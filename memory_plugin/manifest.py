"""What a collection was built with, kept with the data, and whether a store may open it.  Pure."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from memory_plugin.errors import ManifestMismatchError
from memory_plugin.ids import canonical
from memory_plugin.types import Json, ModelIdentity

FORMAT = 2
"""Version of the payload layout.  A store refuses another."""

FIXED_SETTINGS = ("filterable", "time_index", "vectors", "late_interaction", "language", "chunk_tokens", "quantization")
"""Settings that shape what is written."""


def space(identity: ModelIdentity) -> str:
    """The name of the model's space: 12 hex digits of the SHA-256 of its identity."""
    return hashlib.sha256(canonical(asdict(identity))).hexdigest()[:12]


def lexical_space(tokenizer: str, language: str) -> str:
    """The name of a lexical space."""
    return hashlib.sha256(canonical([tokenizer, language])).hexdigest()[:12]


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a collection was built with.

    Args:
        store: Random identity of the store, bound into every envelope.
        spaces: Every dense space that the collection has, by name.
        active: The space that is searched.
        lexical: The lexical space.
        late: Model of the packed token vectors, or None.
        sealed: False for a store that was made PLAINTEXT.
        settings: The settings that shape what is written.
        target: The space that a migration fills, or None.
        previous: The space that was searched before the last switch, complete and kept for going back, or None.
        canaries: Sealed vectors of the probe texts by space, as each model made them when its space was begun.
        dropping: Spaces whose vectors are being taken away, or were being made when the process was killed.
        format: Version of the payload layout.
    """

    store: str
    spaces: Mapping[str, ModelIdentity]
    active: str
    lexical: str
    late: str | None
    sealed: bool
    settings: Mapping[str, Json] = field(default_factory=dict)
    target: str | None = None
    previous: str | None = None
    canaries: Mapping[str, str] = field(default_factory=dict)
    dropping: tuple[str, ...] = ()
    format: int = FORMAT

    @property
    def other(self) -> str | None:
        """The space beside the active one that writes fill too: the target of a migration, or what it left."""
        return self.target or self.previous

    def to_json(self) -> dict[str, Json]:
        """As kept with the data."""
        return {
            "format": self.format,
            "store": self.store,
            "spaces": {name: asdict(identity) for name, identity in self.spaces.items()},
            "active": self.active,
            "lexical": self.lexical,
            "late": self.late,
            "sealed": self.sealed,
            "settings": dict(self.settings),
            "target": self.target,
            "previous": self.previous,
            "canaries": dict(self.canaries),
            "dropping": list(self.dropping),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Json]) -> Manifest:
        """As read.

        Raises:
            ManifestMismatchError: Another format, or none at all.
        """
        found = value.get("format")
        if found != FORMAT:
            raise ManifestMismatchError(
                f"the store has format {found!r}, this version reads format {FORMAT}: "
                "open it with the version that made it, or export and add again"
            )
        try:
            known: dict[str, Any] = {one.name: value[one.name] for one in fields(cls)}
            spaces = {name: ModelIdentity(**identity) for name, identity in known["spaces"].items()}
            plain = {"settings": dict(known["settings"]), "dropping": tuple(known["dropping"])}
            manifest = cls(**{**known, "spaces": spaces, **plain})
            named = {manifest.active, manifest.target, manifest.previous} - {None}
            fits = named == set(spaces) and all(space(one) == name for name, one in spaces.items())
            fits = fits and set(manifest.canaries) <= named
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ManifestMismatchError(f"the store's manifest is damaged: {type(error).__name__}: {error}") from error
        if not fits:
            raise ManifestMismatchError("the store's manifest is damaged: its spaces do not fit their names")
        return manifest


def check_key_mode(found: Manifest, *, sealed: bool) -> None:
    """Whether a store may be opened with keys, or with PLAINTEXT.

    Raises:
        ManifestMismatchError: It was made the other way.
    """
    if found.sealed and not sealed:
        raise ManifestMismatchError("the store is encrypted: open it with its key ring, not with PLAINTEXT")
    if sealed and not found.sealed:
        raise ManifestMismatchError(
            "the store was made with PLAINTEXT: open it with keyring=PLAINTEXT, or add its texts to a new one"
        )


def check(found: Manifest, wanted: Manifest, *, place: str = "") -> None:
    """Whether a store may be opened with these models.

    Args:
        found: What the store has.
        wanted: What it is being opened with; ``spaces`` are those of every model at hand.
        place: Where the store is, for the commands that the error names.

    Raises:
        ManifestMismatchError: The model, or the lexical or late space differs.
    """
    if found.active not in wanted.spaces:
        raise ManifestMismatchError(other_model(found, wanted.spaces[wanted.active], place))
    for what, have, want in (("lexical", found.lexical, wanted.lexical), ("late", found.late, wanted.late)):
        if have != want and want is not None:
            hint = ": pass late= what it was made with, or late=None to search without it" if what == "late" else ""
            raise ManifestMismatchError(f"the store's {what} space is {have}, this version or model makes {want}{hint}")


def other_model(found: Manifest, want: ModelIdentity, place: str) -> str:
    """Both models side by side, and what to do."""
    have = found.spaces[found.active]
    rows = [
        f"  {one.name:16} {getattr(have, one.name)!s:32} {getattr(want, one.name)!s}"
        + ("" if getattr(have, one.name) == getattr(want, one.name) else "   ←")
        for one in fields(ModelIdentity)
    ]
    return "\n".join(
        [
            "the store's vectors were made by another model; the two must not meet:",
            f"  {'':16} {'the store':32} opened with",
            *rows,
            *_advice(found, want, f" --store {shlex.quote(place)}" if place else ""),
        ]
    )


def _advice(found: Manifest, want: ModelIdentity, at: str) -> list[str]:
    name = space(want)
    if name == found.target:
        return [
            "The store is being moved to this model, and serves with the other until all memories have both.",
            "Open it with the other, and successor= this one; go on, or give it up:",
            f"  memory-plugin migrate --to {shlex.quote(name_of(want, found))}{at}",
            f"  memory-plugin migrate --abandon{at}",
        ]
    if name == found.previous:
        return [
            "The store was moved from this model to the other. Open it with the other, or go back:",
            f"  memory-plugin migrate --rollback{at}",
        ]
    return [
        "Open it with the model it was made with, or change the model while it serves:",
        f"  memory-plugin migrate --to {shlex.quote(name_of(want, found))}{at}",
    ]


def name_of(identity: ModelIdentity, found: Manifest | None = None) -> str:
    """What a model is called on a command line; with its dimension where the store's model differs in that."""
    name = identity.provider if identity.provider == "local" else f"{identity.provider}:{identity.model}"
    have = found.spaces[found.active] if found is not None else identity
    alike = (have.provider, have.model) == (identity.provider, identity.model)
    return f"{name}?dimension={identity.dimension}" if alike and have.dimension != identity.dimension else name
