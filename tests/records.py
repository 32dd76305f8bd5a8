"""Records, and Hypothesis strategies for them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from memory_plugin.types import Hit, Json, Record

NOON = datetime(2023, 5, 7, 12, tzinfo=UTC)

json_scalars: st.SearchStrategy[Json] = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8)
)
json_values: st.SearchStrategy[Json] = st.recursive(
    json_scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
moments = st.datetimes(timezones=st.just(UTC))


def record(text: str = "Alice moved to Lisbon.", **fields: Any) -> Record:
    """A record of Alice's."""
    return Record(**{"id": "p", "namespace": ("alice",), "time": NOON, "text": text, **fields})


def hit(
    text: str = "Alice moved to Lisbon.", *, before: tuple[str, ...] = (), after: tuple[str, ...] = (), **fields: Any
) -> Hit:
    """A hit, with neighbours before and after it."""
    return Hit(
        record(text, **fields),
        1.0,
        {},
        "space",
        before=tuple(record(one, start=0, end=1) for one in before),
        after=tuple(record(one, start=90, end=99) for one in after),
    )


# Times around midnights, where day numbers change.
edges = st.builds(
    lambda days, off: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=days, microseconds=off),
    st.sampled_from((-800, -1, 0, 1, 19_483, 19_484, 19_485, 2_000_000, 2_000_001)),
    st.sampled_from((-1, 0, 1, 43_200_000_000, 86_399_999_999)),
)
