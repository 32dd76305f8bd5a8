from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from memory_plugin.engine.entries import Entry, entries, message_of
from memory_plugin.errors import InvalidInputError
from memory_plugin.settings import Settings
from memory_plugin.types import Document, Message
from tests.records import NOON
from tests.wordpiece import pieces

SETTINGS = Settings(max_text_bytes=1000)
LATER = NOON + timedelta(days=1)


def one(item: Any, **given_: Any) -> Entry:
    (made,) = entries(item, SETTINGS, **given_)
    return made


def test_a_string_is_a_document() -> None:
    assert one("text") == Entry("document", "text", None, None, {})
    made = one("# T", source="a.md", time=NOON, metadata={"k": 1}, markdown=True)
    assert made == Entry("document", "# T", "a.md", NOON, {"k": 1}, markdown=True)


def test_what_an_item_says_of_itself_wins() -> None:
    own = Document("text", source="own", time=NOON, metadata={"a": 1}, markdown=True)
    made = one(own, source="other", time=LATER, metadata={"a": 2, "b": 3})
    assert made == Entry("document", "text", "own", NOON, {"a": 1, "b": 3}, markdown=True)
    assert not one(Document("text"), markdown=True).markdown


def test_a_message_keeps_who_and_when() -> None:
    lisbon = timezone(timedelta(hours=1))
    said = Message("user", "hi", name="Ana", time=NOON.astimezone(lisbon), id="m1", metadata={"a": 1})
    made = one(said, markdown=True)
    assert made == Entry("message", "hi", "m1", NOON, {"a": 1}, role="user", name="Ana")
    assert made.time is not None
    assert made.time.tzinfo is UTC


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        ({"role": "user", "content": "hi"}, Message("user", "hi")),
        (
            {"role": "user", "content": "hi", "name": "Ana", "time": NOON, "id": "m1", "metadata": {"a": 1}},
            Message("user", "hi", "Ana", NOON, "m1", {"a": 1}),
        ),
        ({"role": "user", "content": "hi", "metadata": None}, Message("user", "hi")),
        ({"role": "user", "content": "hi", "timestamp": "2023-05-07T12:00:00Z"}, Message("user", "hi", time=NOON)),
        ({"role": "user", "content": "hi", "time": "2023-05-07T13:00:00+01:00"}, Message("user", "hi", time=NOON)),
        (
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "a"},
                    {"type": "image_url", "image_url": "…"},
                    {"type": "input_text", "text": "b"},
                    {"type": "output_text", "text": "c"},
                    {"type": "text", "text": None},
                    "stray",
                ],
            },
            Message("user", "a\nb\nc"),
        ),
    ],
)
def test_chat_messages_as_apis_write_them(mapping: dict[str, Any], expected: Message) -> None:
    assert message_of(mapping) == expected
    assert one(mapping) == one(expected)


def test_a_list_is_in_order_and_of_any_kinds() -> None:
    made = entries(["a", Document("b"), Message("user", "c"), {"role": "user", "content": "d"}], SETTINGS)
    assert [entry.text for entry in made] == ["a", "b", "c", "d"]
    assert [entry.kind for entry in made] == ["document", "document", "message", "message"]
    several: Any = (text for text in ("a", "b"))
    assert [entry.text for entry in entries(several, SETTINGS)] == ["a", "b"]
    assert entries([], SETTINGS) == []


def test_a_source_names_one_thing() -> None:
    assert one(["text"], source="a").source == "a"
    for items in (["a", "b"], []):
        with pytest.raises(InvalidInputError, match=f"but {len(items)} items"):
            entries(items, SETTINGS, source="a")


BAD: list[Any] = [
    None, 7, b"text", object(),
    "", "  \n\t", "\u200b \u200b \u200b", "\ufeff", "\u00ad\u3000", "\ud800", "x" * 1001, "é" * 501,
    Document(""), Document("a", source=""), Document("a", source="x" * 4097), Document("a", metadata={"a": object()}),  # type: ignore[dict-item]
    Document("a", time=datetime(2023, 5, 7)), Document(b"a"),  # type: ignore[arg-type]
    Message("user", ""), Message("user", "a", id=""), Message("x" * 257, "a"), Message("u", "a", name="x" * 1025),
    Message(7, "a"), Message("user", "a", name=7),  # type: ignore[arg-type]
    {}, {"role": "user"}, {"content": "a"}, {"role": "user", "content": "a", "tool_calls": [{"id": "c1"}]},
    {"role": "user", "content": None},
    {"role": None, "content": "a"}, {"role": "user", "content": []},
    {"role": "user", "content": "a", "time": "yesterday"},
    {"role": "user", "content": "a", "time": "2023-05-07T12:00:00"},
    {"role": "user", "content": "a", "time": 1683460800},
    {"role": "user", "content": "a", "metadata": [1]}, {"role": "user", "content": "a", 7: 8},
]  # fmt: skip


@pytest.mark.parametrize("item", BAD, ids=map(str, range(len(BAD))))
def test_what_cannot_be_used_is_refused_alone_and_by_its_number_among_others(item: Any) -> None:
    with pytest.raises(InvalidInputError):
        entries(item, SETTINGS)
    with pytest.raises(InvalidInputError, match=r"item 1 of 2: .*nothing was written"):
        entries(["fine", item], SETTINGS)


@pytest.mark.parametrize("shared", [{"time": datetime(2023, 5, 7)}, {"metadata": {"a": object()}}, {"source": ""}])
def test_what_is_shared_is_checked_too(shared: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        entries("text", SETTINGS, **shared)


@given(st.text(alphabet=" \n\t\u3000\u200b\u200d\ufeff\u00ad\u200ea", max_size=12))
def test_a_text_is_accepted_when_there_is_something_to_see(text: str) -> None:
    if "a" in text:
        assert one(text).text == text
    else:
        with pytest.raises(InvalidInputError, match="the text is empty"):
            one(text)


def test_identity_is_the_source_or_the_content() -> None:
    assert one("a", source="s").identity() == one("b", source="s", metadata={"k": 1}).identity() == ("source", "s")
    base = one(Message("user", "a", name="n", time=NOON))
    others = [
        one("a"),
        one(Message("user", "a", name="n")),
        one(Message("user", "a", time=NOON)),
        one(Message("tool", "a", name="n", time=NOON)),
        one(Message("user", "b", name="n", time=NOON)),
        one(Message("user", "a", name="n", time=LATER)),
        one(Message("user", "a", name="n", time=NOON, id="m")),
    ]
    assert len({base.identity(), *(other.identity() for other in others)}) == 1 + len(others)
    assert base.identity() == one(Message("user", "a", name="n", time=NOON, metadata={"k": 1})).identity()


def test_a_revision_is_all_that_is_written() -> None:
    base = one("a", source="s")
    assert base.revision(256) == one("a", source="t").revision(256)
    others = [
        one("b", source="s"), one("a", source="s", metadata={"k": 1}), one("a", source="s", markdown=True),
        one("a", source="s", time=NOON), one(Message("user", "a", id="s")), one(Message("user", "a", name="n", id="s")),
    ]  # fmt: skip
    revisions = {base.revision(256), base.revision(128), *(other.revision(256) for other in others)}
    assert len(revisions) == 2 + len(others)


def test_chunks_of_a_message_carry_speaker_and_day_and_those_of_a_document_its_headings() -> None:
    said = one(Message("user", "hi", name="Ana"))
    (chunk,) = said.chunks(pieces(), NOON, max_tokens=64)
    assert chunk.passage == "Ana, 7 May 2023: hi"
    (chunk,) = one(Message("user", "hi", time=LATER)).chunks(pieces(), NOON, max_tokens=64)
    assert chunk.passage == "user, 8 May 2023: hi"
    text = "# Guide\n\n" + "the old house. " * 30
    plain, marked = (one(text, markdown=markdown).chunks(pieces(), NOON, max_tokens=64) for markdown in (False, True))
    assert {chunk.context for chunk in plain} == {""}
    assert marked[-1].context == "Guide\n"
