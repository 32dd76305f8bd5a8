"""What a store's files hold: most of what the engine makes is zeros, which need not be looked through."""

from __future__ import annotations

from pathlib import Path

import numpy as np

_PAGE = 4096
_PART = 256 * _PAGE


def written(file: Path) -> bytes:
    """A file's content, without the pages of zeros whose neighbours are zeros too.

    Whatever is not zero keeps what stood around it: something to look for is found here if it was in the file, as long
    as it has no page of zeros inside.
    """
    kept, part = [], bytearray(_PART)
    before, edge = False, bytes(_PAGE)  # of the last page of the part before: whether it was kept, and its content
    with file.open("rb") as opened:
        while size := opened.readinto(part):
            part[size:] = bytes(_PART - size)
            if part.count(0) == _PART and not before:
                edge = bytes(_PAGE)
                continue
            pages = np.frombuffer(bytes(part), np.uint8).reshape(-1, _PAGE)
            full = np.asarray(pages.any(axis=1))
            keep = full.copy()
            keep[1:] |= full[:-1]
            keep[:-1] |= full[1:]
            keep[0] |= before
            if full[0] and not before:
                kept.append(edge)
            kept.append(pages[keep].tobytes())
            before, edge = bool(full[-1]), pages[-1].tobytes()
    return b"".join(kept)


def written_below(directory: Path) -> dict[Path, bytes]:
    """The same of all files below a directory."""
    return {path: written(path) for path in sorted(directory.rglob("*")) if path.is_file()}
