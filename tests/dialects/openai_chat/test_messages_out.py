"""Messages of a chat completions request for a provider."""

from typing import Any

import msgspec
import pytest

from modelplex.core.errors import Unsupported
from modelplex.core.request import (
    Attempt,
    AudioPart,
    CacheBreakpoint,
    Change,
    ChatRequest,
    DocumentPart,
    FileReference,
    ImagePart,
    InlineData,
    Message,
    OpaqueState,
    PlainText,
    Quirks,
    ReasoningPart,
    RefusalPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    UrlReference,
)
from modelplex.dialects.core.tool_names import ToolAliases
from modelplex.dialects.openai_chat.messages_out import ChatMessageWriter, cache_control
from tests.dialects.sides import with_places

PNG = InlineData("image/png", "AA==")


def write(
    *messages: Message, client: str = "toy", free: frozenset[str] = frozenset(), **quirks: Any
) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    changes: list[Change] = []
    call = with_places(ChatRequest(dialect=client, model="m", messages=messages))
    attempt = Attempt(provider="p", model="m", dialect="openai_chat", account="k1", quirks=Quirks(**quirks))
    names = ToolAliases(changes, native=client == "openai_chat")
    writer = ChatMessageWriter(call, attempt, name_of=names.sent, changes=changes, free=set(free))
    return writer.write(), [(change.op, change.path) for change in changes]


def user(*parts: Any) -> Message:
    return Message("user", tuple(TextPart(part) if isinstance(part, str) else part for part in parts))


def answer(*parts: Any) -> Message:
    return Message("assistant", tuple(TextPart(part) if isinstance(part, str) else part for part in parts))


@pytest.mark.parametrize(
    ("message", "content"),
    [
        (user("a"), "a"),
        (user(), ""),
        (user("a", "b"), [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
        (Message("system", (TextPart("a"), TextPart("b"))), "a\n\nb"),
        (answer("a"), "a"),
        (answer(), ""),
    ],
)
def test_one_text_is_a_plain_string(message: Message, content: Any) -> None:
    (written, *_), _ = write(message, user("x"))
    assert written["content"] == content


def test_what_a_tool_message_cannot_hold_follows_in_a_user_message() -> None:
    call = answer(ToolCallPart("a", "f", "{}"))
    result = ToolResultPart("a", (TextPart("seen"), ImagePart(PNG), DocumentPart(PlainText("d"))))
    written, changes = write(call, Message("tool", (result,)), answer("So."), user("x"))
    assert [message["role"] for message in written] == ["assistant", "tool", "user", "assistant", "user"]
    assert written[1]["content"] == "seen\n[image 1 of call a follows]\nd"
    assert written[2]["content"][0]["type"] == "image_url"
    assert changes == [("move", "messages[1].content[0].content[1]")]


def test_a_failed_result_says_so_in_its_text() -> None:
    call = answer(ToolCallPart("a", "f", "{}"), ToolCallPart("b", "f", "{}"))
    parts = (ToolResultPart("a", (TextPart("x"),), is_error=True), ToolResultPart("b", (), is_error=True))
    (_, first, second), changes = write(call, Message("tool", parts))
    assert (first["content"], second["content"]) == ("[tool error] x", "[tool error] ")
    assert changes == []


def test_refusals_sound_and_calls_have_members_of_their_own() -> None:
    message = answer(
        RefusalPart("No"), RefusalPart("."), AudioPart("", "", id="s"), ToolCallPart("a", "f", "x", free=True)
    )
    (written, *_), changes = write(message, user("x"))
    assert written == {
        "role": "assistant",
        "refusal": "No.",
        "audio": {"id": "s"},
        "content": None,
        "tool_calls": [{"id": "a", "type": "custom", "custom": {"name": "f", "input": "x"}}],
    }
    assert changes == []
    (wrapped, *_), _ = write(answer(ToolCallPart("a", "f", "x", free=True)), user("x"), free=frozenset({"f"}))
    assert wrapped["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"input":"x"}'}


@pytest.mark.parametrize(
    ("state", "client", "is_sent"),
    [
        (OpaqueState("f", "x", provider="p", account="k1"), "toy", True),
        (OpaqueState("f", "x", provider="p"), "toy", True),
        (OpaqueState("f", "x", provider="p", account="k2"), "toy", False),
        (OpaqueState("f", "x", provider="q"), "toy", False),
        (OpaqueState("f", "x"), "toy", False),
        (OpaqueState("f", "x"), "openai_chat", True),
    ],
)
def test_opaque_state_goes_to_its_maker_only(state: OpaqueState, client: str, is_sent: bool) -> None:
    message = answer(ReasoningPart("", state), "So.", ToolCallPart("a", "f", "{}", state=state))
    (written, *_), changes = write(message, user("x"), client=client)
    assert ("reasoning_details" in written, "extra_content" in written["tool_calls"][0]) == (is_sent, is_sent)
    lost = [("drop", "messages[0].content[2].state"), ("drop", "messages[0].content[0].state")]
    assert changes == ([] if is_sent else lost)


@pytest.mark.parametrize(
    ("ttl", "quirks", "member"),
    [
        ("5m", {"cache_control": True}, {"cache_control": {"type": "ephemeral", "ttl": "5m"}}),
        ("12h", {"cache_control": True}, {"cache_control": {"type": "ephemeral", "ttl": "1h"}}),
        ("30m", {}, {}),
        ("5m", {}, {}),
        (None, {}, {}),
    ],
)
def test_a_cache_marker_has_the_form_that_the_service_takes(
    ttl: str | None, quirks: Any, member: Any
) -> None:
    (written,), changes = write(user(TextPart("a", CacheBreakpoint(ttl))), **quirks)
    expected = [{"type": "text", "text": "a", **member}] if member else "a"
    assert written["content"] == expected
    assert changes == ([] if member else [("drop", "messages[0].content[0].cache_control")])
    assert cache_control(None) == {"type": "ephemeral"}


@pytest.mark.parametrize(
    ("part", "client", "written"),
    [
        (ImagePart(UrlReference("https://e.org"), "low"), "toy", {"url": "https://e.org", "detail": "low"}),
        (ImagePart(PNG), "toy", {"url": "data:image/png;base64,AA=="}),
        (DocumentPart(PNG, title="T"), "toy", {"filename": "T", "file_data": "data:image/png;base64,AA=="}),
        (DocumentPart(FileReference("x"), filename="n"), "openai_chat", {"file_id": "x", "filename": "n"}),
        (DocumentPart(UrlReference("https://e.org")), "openai_chat", {"file_data": "https://e.org"}),
    ],
)
def test_images_and_files(part: Any, client: str, written: Any) -> None:
    (message,), changes = write(user(part), client=client)
    assert list(message["content"][0].values())[1] == written
    assert changes == []


@pytest.mark.parametrize(
    "part",
    [
        ImagePart(FileReference("x")),
        DocumentPart(FileReference("x")),
        DocumentPart(UrlReference("https://e.org")),
        ReasoningPart("x"),
        ToolCallPart("a", "f", "{}"),
        ToolResultPart("a", ()),
    ],
)
def test_what_has_no_form_is_refused_at_its_place(part: Any) -> None:
    with pytest.raises(Unsupported) as refused:
        write(user("x", part))
    assert refused.value.param == "messages[0].content[1]"


def test_members_go_back_to_the_dialect_that_they_came_from() -> None:
    extra = {"odd": msgspec.Raw(b"1")}
    message = Message("user", (TextPart("a", extra=extra),), name="Ann", extra=extra)
    (written,), changes = write(message, client="openai_chat")
    text = {"odd": extra["odd"], "type": "text", "text": "a"}
    assert written == {"role": "user", "content": [text], "name": "Ann", "odd": extra["odd"]}
    assert changes == []
    _, changes = write(message)
    assert changes == [("drop", "messages[0].content[0].odd"), ("drop", "messages[0].odd")]
