"""What looks for bytes in a store's files sees what is there."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.on_disk import written

PAGE = 4096
PART = 256 * PAGE


@pytest.mark.parametrize("place", [0, 1, PAGE - 3, PAGE, PART - 3, PART, PART + PAGE - 3, 3 * PART - 7, 5 * PART - 11])
@pytest.mark.parametrize("needle", [b"needle", b"\0\0\0needle\0\0\0", b"\0\0\0\0\0n", b"n\0\0\0\0\0"], ids=range(4))
def test_a_needle_is_found_wherever_it_stands(place: int, needle: bytes, tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.truncate(5 * PART)
        file.seek(place)
        file.write(needle)
    assert needle in written(tmp_path / "file")
    assert len(written(tmp_path / "file")) <= 4 * PAGE


def test_what_is_not_zeros_is_kept_in_order(tmp_path: Path) -> None:
    dice = random.Random(3)
    content = b"".join(
        dice.choice([bytes(PAGE), bytes(PAGE), dice.randbytes(PAGE), bytes(60 * PAGE)]) for _ in range(400)
    )
    (tmp_path / "file").write_bytes(content[:-5])
    found = written(tmp_path / "file")
    assert len(found) < len(content) // 4

    def pages(of: bytes) -> list[bytes]:
        return [page for at in range(0, len(of), PAGE) if any(page := of[at : at + PAGE])]

    assert pages(found) == pages(content[:-5].ljust(len(content), b"\0"))


def test_an_empty_file_and_one_of_zeros(tmp_path: Path) -> None:
    for size in (0, 5, 3 * PART):
        (tmp_path / "file").write_bytes(bytes(size))
        assert written(tmp_path / "file") == b""
