from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_plugin.engine.payload import RECORD, Head, decode, encode, namespace_tag, open_record
from memory_plugin.errors import DecryptionError, UnsealedPayloadError
from memory_plugin.types import Record
from tests.records import json_values, moments, record

optional = st.none() | st.text(max_size=10)
records = st.builds(
    Record,
    id=st.just("p"),
    namespace=st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=3).map(tuple),
    text=st.text(max_size=40),
    time=moments,
    kind=st.sampled_from(("document", "message")),
    context=st.text(max_size=10),
    source=st.none() | st.text(min_size=1, max_size=10),
    role=st.none() | st.text(min_size=1, max_size=10),
    name=st.none() | st.text(min_size=1, max_size=10),
    metadata=st.dictionaries(st.text(max_size=5), json_values, max_size=3),
    start=st.integers(0, 2**40),
    end=st.integers(0, 2**40),
    index=st.integers(0, 2**20),
    chunks=st.integers(1, 2**20),
    document=st.text(max_size=10),
)


@given(records)
def test_a_record_reads_back_to_the_microsecond(found: Record) -> None:
    assert decode("p", encode(found)) == found
    assert encode(found) == encode(decode("p", encode(found)))


@pytest.mark.parametrize("time", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
def test_the_first_and_the_last_moment_read_back(time: datetime) -> None:
    assert decode("p", encode(record(time=time))).time == time


def test_what_is_not_there_takes_no_room() -> None:
    assert set(json.loads(encode(record()))) == {"ns", "text", "time", "kind", "at"}


@pytest.mark.parametrize(
    "change",
    [
        {"at": [1, 2, 3]}, {"at": 7}, {"at": None}, {"ns": None}, {"time": "now"}, {"time": 10**40},
        {"time": float("inf")}, {"time": None},
    ],
    ids=str,
)  # fmt: skip
def test_what_opened_but_is_no_record_is_an_error(change: dict[str, Any]) -> None:
    data = json.dumps({**json.loads(encode(record())), **change}).encode()
    with pytest.raises(DecryptionError, match="point p1"):
        decode("p1", data)


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{}", b"\xff", b'"at"', b"7"])
def test_what_is_no_json_object_is_no_record_nor_head(data: bytes) -> None:
    with pytest.raises(DecryptionError):
        decode("p", data)
    with pytest.raises(DecryptionError):
        Head.decode(data)


class Reversing:
    """Seals by turning round; enough to see what is bound to what."""

    subject = "s"

    def seal(self, point: str, field: str, plaintext: bytes, /) -> str:
        return f"{point}/{field}/{plaintext.hex()}"

    def open(self, point: str, field: str, sealed: object, /) -> bytes:
        if not isinstance(sealed, str):
            raise UnsealedPayloadError(point)
        where, what, data = sealed.split("/")
        if (where, what) != (point, field):
            raise DecryptionError(point)
        return bytes.fromhex(data)

    def tag(self, label: str, /, *values: str) -> str:
        return "/".join((label, *values))


def test_a_record_opens_from_its_own_place_only() -> None:
    sealer: Any = Reversing()
    payload = {RECORD: sealer.seal("p", "record", encode(record()))}
    assert open_record(sealer, "p", payload) == record()
    with pytest.raises(DecryptionError):
        open_record(sealer, "q", payload)
    with pytest.raises(UnsealedPayloadError):
        open_record(sealer, "p", {})


def test_a_namespace_has_a_tag_of_all_its_parts() -> None:
    sealer: Any = Reversing()
    assert namespace_tag(sealer, ("alice", "s")) == "namespace/alice/s"


def test_a_head_grows_by_what_is_written() -> None:
    head = Head().grown([10, 20]).grown([]).grown([0])
    assert (head.passages, head.terms, head.average_length) == (3, 30, 10.0)
    assert Head().average_length == 1.0
    assert Head.decode(head.encode()) == head


@pytest.mark.parametrize(
    "data", [b'{"passages": "x", "terms": 1}', b'{"passages": 1}', b'{"passages": 1e999, "terms": 1}']
)
def test_a_damaged_head_is_an_error(data: bytes) -> None:
    with pytest.raises(DecryptionError, match="head"):
        Head.decode(data)
