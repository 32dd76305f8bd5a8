"""The manifest beside the data: what is in the clear, and the sealed proof that nobody without the keys changed it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace

from memory_plugin.errors import DecryptionError
from memory_plugin.ids import canonical
from memory_plugin.manifest import Manifest
from memory_plugin.protocols import Sealer
from memory_plugin.types import Json

PROOF = "proof"
"""Manifest key of the whole manifest, sealed."""

NO_POINT = "00000000-0000-0000-0000-000000000000"


def shown(manifest: Manifest) -> dict[str, Json]:
    """The manifest as it is kept in the clear: without the names of declared fields, which are users' words."""
    return replace(manifest, settings={**manifest.settings, "filterable": []}).to_json()


def proved(sealer: Sealer, manifest: Manifest) -> dict[str, Json]:
    """The manifest as it is kept: what is in the clear, and the proof."""
    return {**shown(manifest), PROOF: sealer.seal(NO_POINT, PROOF, canonical(_whole(manifest).to_json()))}


def proven(sealer: Sealer, found: Mapping[str, Json]) -> Manifest:
    """The whole manifest, once what is in the clear agrees with it: it decides how vectors are protected.

    Raises:
        SealError: It was changed by someone without the keys.
    """
    sealed = Manifest.from_json(json.loads(sealer.open(NO_POINT, PROOF, found.get(PROOF))))
    clear = Manifest.from_json(found)
    if {key: value for key, value in found.items() if key != PROOF} != shown(clear) or shown(_whole(clear)) != shown(
        sealed
    ):
        raise DecryptionError("the store's manifest was changed by someone without its keys: restore it from a backup")
    return replace(sealed, canaries=clear.canaries)


def _whole(manifest: Manifest) -> Manifest:
    """What the proof holds: all of it, with the canaries, which are sealed themselves, by their hashes."""
    hashes = {name: hashlib.sha256(sealed.encode()).hexdigest() for name, sealed in manifest.canaries.items()}
    return replace(manifest, canaries=hashes)
