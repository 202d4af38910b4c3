"""Turns of a Messages request for a provider."""

from typing import Any

import msgspec
import pytest

from modelplex.core.errors import BadRequest, Unsupported
from modelplex.core.request import (
    Attempt,
    CacheBreakpoint,
    Change,
    ChatRequest,
    DocumentPart,
    FileReference,
    ImagePart,
    InlineData,
    Message,
    ModelFacts,
    OpaqueState,
    Quirks,
    ReasoningPart,
    SearchResultPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    UrlReference,
)
from modelplex.dialects.anthropic.messages_out import DIALECT, AnthropicLosses, AnthropicMessageWriter
from tests.dialects.sides import with_places

STATE = OpaqueState("anthropic-claude-v1", "c2ln", "p", "k1")
HI = Message("user", (TextPart("Hi"),))


def write(
    *messages: Message, client: str = "toy", version: str = "2023-06-01", **facts: Any
) -> tuple[AnthropicMessageWriter, list[tuple[str, str]]]:
    changes: list[Change] = []
    attempt = Attempt(
        provider="p",
        model="m",
        dialect=DIALECT,
        account="k1",
        quirks=Quirks(api_version=version),
        facts=ModelFacts(**facts),
    )
    losses = AnthropicLosses(changes, attempt, native=client == DIALECT)
    call = with_places(ChatRequest(dialect=client, model="m", messages=messages))
    writer = AnthropicMessageWriter(call, losses)
    writer.write()
    return writer, [(change.op, change.path) for change in changes]


def sent(writer: AnthropicMessageWriter) -> Any:
    turns = [{"role": turn.role, "content": turn.content} for turn in writer.turns]
    return msgspec.json.decode(msgspec.json.encode(turns))


def blocks(part: Any, **more: Any) -> tuple[list[Any], list[tuple[str, str]]]:
    writer, changes = write(Message("user", (TextPart("x"), part)), **more)
    return sent(writer)[0]["content"][1:], changes


def assistant(*parts: Any) -> Message:
    return Message("assistant", parts)


@pytest.mark.parametrize(
    ("part", "block", "lost"),
    [
        (
            ImagePart(InlineData("image/jpg", "AA==")),
            {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "AA=="}},
            [],
        ),
        (
            ImagePart(UrlReference("https://e.org"), detail="low"),
            {"type": "image", "source": {"type": "url", "url": "https://e.org"}},
            ["detail"],
        ),
        (
            DocumentPart(InlineData("text/csv", "YSxi"), filename="a.csv", title="T", context="C"),
            {
                "type": "document",
                "source": {"type": "text", "media_type": "text/plain", "data": "a,b"},
                "title": "T",
                "context": "C",
            },
            ["filename"],
        ),
        (
            DocumentPart(UrlReference("https://e.org"), filename="a.pdf", citations=True),
            {
                "type": "document",
                "source": {"type": "url", "url": "https://e.org"},
                "title": "a.pdf",
                "citations": {"enabled": True},
            },
            [],
        ),
        (
            SearchResultPart("s", "t", (" ", "x"), cache=CacheBreakpoint("5m")),
            {
                "type": "search_result",
                "source": "s",
                "title": "t",
                "content": [{"type": "text", "text": "x"}],
                "cache_control": {"type": "ephemeral", "ttl": "5m"},
            },
            [],
        ),
    ],
)
def test_each_part_has_its_block(part: Any, block: Any, lost: list[str]) -> None:
    assert blocks(part) == ([block], [("drop", f"messages[0].content[1].{name}") for name in lost])


def test_a_part_without_text_is_left_out_with_its_marker() -> None:
    at = "messages[0].content[1]"
    assert blocks(TextPart(" ", CacheBreakpoint())) == ([], [("drop", at), ("drop", f"{at}.cache_control")])
    assert blocks(TextPart("", CacheBreakpoint())) == ([], [("drop", f"{at}.cache_control")])
    assert blocks(SearchResultPart("s", "t", (" ",))) == ([], [("drop", at)])


@pytest.mark.parametrize(
    ("client", "version", "is_sent"),
    [(DIALECT, "2023-06-01", True), (DIALECT, "2026-01-01", False), ("toy", "2023-06-01", False)],
)
def test_citations_go_back_where_they_are_taken(client: str, version: str, is_sent: bool) -> None:
    cited = TextPart("x", annotations=msgspec.Raw(b'[{"a":1}]'), annotations_of=client)
    (block,), changes = blocks(cited, client=client, version=version)
    assert block.get("citations") == ([{"a": 1}] if is_sent else None)
    assert changes == ([] if is_sent else [("drop", "messages[0].content[1].annotations")])


@pytest.mark.parametrize(
    ("ttl", "sent_ttl", "changes"),
    [(None, None, []), ("30m", "5m", ["clamp"]), ("12h", "1h", ["clamp"]), ("7d", None, ["drop"])],
)
def test_a_cache_marker_has_a_lifetime_that_the_service_knows(
    ttl: str | None, sent_ttl: str | None, changes: list[str]
) -> None:
    (block,), found = blocks(TextPart("x", CacheBreakpoint(ttl)))
    assert block["cache_control"].get("ttl") == sent_ttl
    assert found == [(op, "messages[0].content[1].cache_control.ttl") for op in changes]


def test_calls_keep_what_only_this_dialect_has_of_them() -> None:
    extra = {"caller": msgspec.Raw(b'{"type":"direct"}'), "toolset_name": msgspec.Raw(b'"t"')}
    call = ToolCallPart(
        "a:1", "f", "[1]", namespace="n", state=STATE, extra={**extra, "odd": msgspec.Raw(b"1")}
    )
    result = ToolResultPart("a:1", (), is_error=True, extra=extra)
    writer, changes = write(HI, assistant(call), Message("tool", (result,)), client=DIALECT)
    assert sent(writer)[1:] == [
        {
            "role": "assistant",
            "content": [
                {
                    "type": "tool_use",
                    "id": "a_1",
                    "name": "f",
                    "input": {"_raw": "[1]"},
                    "caller": {"type": "direct"},
                    "toolset_name": "t",
                }
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "a_1",
                    "content": [{"type": "text", "text": "The tool failed without saying why."}],
                    "is_error": True,
                    "toolset_name": "t",
                }
            ],
        },
    ]
    at = "messages[1].content[0]"
    assert changes == [
        ("rename", f"{at}.id"),
        ("lower", f"{at}.arguments"),
        ("drop", f"{at}.namespace"),
        ("drop", f"{at}.state"),
        ("drop", f"{at}.odd"),
        ("add", "messages[2].content[0]"),
        ("drop", "messages[2].content[0].caller"),
    ]


def test_thinking_at_the_end_of_a_turn_is_reported_where_it_stood() -> None:
    thought, redacted = ReasoningPart("t", STATE), ReasoningPart("", STATE, redacted=True)
    writer, changes = write(
        HI, assistant(TextPart("x"), thought), assistant(redacted), HI, thinking="adaptive"
    )
    assert sent(writer)[1]["content"] == [{"type": "text", "text": "x"}]
    assert changes == [("drop", "messages[2].content[0]"), ("drop", "messages[1].content[1]")]


def test_manual_thinking_needs_a_turn_that_begins_with_it() -> None:
    call, result = ToolCallPart("a", "f", "{}"), Message("tool", (ToolResultPart("a", ()),))
    for parts, lacks in (((call,), True), ((ReasoningPart("t", STATE), call), False)):
        writer, _ = write(HI, assistant(*parts), result, thinking="manual")
        assert (writer.lacks_thinking, writer.is_prefill) == (lacks, False)


def test_a_begun_answer_has_no_white_space_at_its_end() -> None:
    writer, changes = write(HI, assistant(TextPart("So \n")))
    assert writer.is_prefill
    assert sent(writer)[1]["content"] == [{"type": "text", "text": "So"}]
    assert changes == [("lower", "messages[1]")]
    with pytest.raises(Unsupported) as refused:
        write(HI, assistant(TextPart("So")), prefill=False)
    assert refused.value.param == "messages[1]"


@pytest.mark.parametrize(
    ("part", "error"),
    [
        (ImagePart(InlineData("image/tiff", "AA==")), Unsupported),
        (ImagePart(FileReference("f")), Unsupported),
        (DocumentPart(InlineData("application/zip", "AA==")), Unsupported),
        (DocumentPart(InlineData("text/plain", "!")), BadRequest),
        (ReasoningPart("x"), BadRequest),
    ],
)
def test_what_has_no_form_is_refused_at_its_place(part: Any, error: type[Exception]) -> None:
    with pytest.raises(error) as refused:
        blocks(part)
    assert getattr(refused.value, "param", None) == "messages[0].content[1]"
