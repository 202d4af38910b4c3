"""The conversation as Converse takes it. Each body is checked against AWS's service model."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from modelplex.core.errors import BadRequest, ModelplexError, StatePinned, Unsupported
from modelplex.core.request import (
    AudioPart,
    CacheBreakpoint,
    DocumentPart,
    FileReference,
    ForeignPart,
    ImagePart,
    InlineData,
    Message,
    OpaqueState,
    Part,
    PlainText,
    ReasoningPart,
    RefusalPart,
    SearchResultPart,
    TextPart,
    Tool,
    ToolCallPart,
    ToolReferencePart,
    ToolResultPart,
    UrlReference,
)
from modelplex.dialects.bedrock_converse.messages_out import STATE_FORMAT
from tests.dialects.bedrock_converse.writing import CLAUDE, LLAMA, NOVA, attempt, changes, request, write

PNG = InlineData("image/png", "iVBORw0KGgo=")
PDF = InlineData("application/pdf", "JVBERi0xLjc=")
HI = Message("user", (TextPart("Hi"),))
LOOK = Tool("look")


def content(*parts: Part, model: str = CLAUDE) -> tuple[list[Any], list[tuple[str, str]]]:
    """What a user's message with these parts is sent as, and the report."""
    body, written = write(request(Message("user", parts)), attempt(model))
    (message,) = body["messages"]
    return message["content"], changes(written)


def call(id_: str, **more: Any) -> Message:
    return Message("assistant", (ToolCallPart(id_, "look", '{"at": 1}', **more),))


def result(id_: str, *parts: Part, **more: Any) -> Message:
    return Message("tool", (ToolResultPart(id_, parts, **more),))


def test_texts_images_and_documents_of_a_user() -> None:
    sent, lost = content(
        TextPart("See:"),
        ImagePart(PNG),
        DocumentPart(PDF, title="Report (2026)", context="of the board"),
        AudioPart("AAAA", "mp3"),
    )
    assert sent == [
        {"text": "See:"},
        {"image": {"format": "png", "source": {"bytes": PNG.data}}},
        {
            "document": {
                "name": "Report (2026)",
                "format": "pdf",
                "source": {"bytes": PDF.data},
                "context": "of the board",
            }
        },
        {"audio": {"format": "mp3", "source": {"bytes": "AAAA"}}},
    ]
    assert lost == []


def test_a_document_has_a_name_of_few_characters_and_no_name_twice() -> None:
    text = DocumentPart(PlainText("a"), filename="plan_v1.2.txt")
    sent, lost = content(
        TextPart("x"), text, text, DocumentPart(PlainText("b")), DocumentPart(PlainText("c"))
    )
    assert [block["document"]["name"] for block in sent[1:]] == [
        "plan v1 2 txt",
        "plan v1 2 txt 2",
        "Document",
        "Document 2",
    ]
    assert sent[1]["document"]["source"] == {"bytes": base64.b64encode(b"a").decode()}
    assert lost == [
        ("rename", "messages[0].content[1].filename"),
        ("rename", "messages[0].content[2].filename"),
    ]


def test_a_document_alone_gets_a_text_beside_it() -> None:
    sent, lost = content(DocumentPart(PDF))
    assert sent[1] == {"text": "(See the document.)"}
    assert lost == [("add", "messages[0]")]


@pytest.mark.parametrize(
    ("media_type", "kind"),
    [("text/plain", "txt"), ("text/x-python", "txt"), ("text/markdown", "md"), ("application/msword", "doc")],
)
def test_a_document_has_the_format_of_its_type(media_type: str, kind: str) -> None:
    sent, _ = content(TextPart("x"), DocumentPart(InlineData(media_type, "YQ==")))
    assert sent[1]["document"]["format"] == kind


@pytest.mark.parametrize(
    "part",
    [
        ImagePart(UrlReference("https://example.com/a.png")),
        ImagePart(FileReference("file-1")),
        ImagePart(InlineData("image/tiff", "AAAA")),
        DocumentPart(UrlReference("https://example.com/a.pdf")),
        DocumentPart(FileReference("file-1")),
        DocumentPart(InlineData("application/zip", "AAAA")),
        AudioPart("", "mp3", id="audio_1"),
        AudioPart("AAAA", "midi"),
        ForeignPart("gemini", "executableCode", raw=b"{}"),  # type: ignore[arg-type]
    ],
)
def test_what_converse_cannot_be_sent_is_refused(part: Part) -> None:
    with pytest.raises(Unsupported) as refused:
        content(part)
    assert refused.value.param == "messages[0].content[0]"


def test_search_results_and_citations_are_those_of_claude() -> None:
    found = SearchResultPart("https://a.example", "A", ("one", " "), citations=True)
    document = DocumentPart(PDF, citations=True)
    sent, lost = content(TextPart("x"), found, document)
    assert sent[1] == {
        "searchResult": {
            "source": "https://a.example",
            "title": "A",
            "content": [{"text": "one"}],
            "citations": {"enabled": True},
        }
    }
    assert sent[2]["document"]["citations"] == {"enabled": True}
    assert lost == []
    sent, lost = content(TextPart("x"), found, document, model=NOVA)
    assert sent[1]["text"].startswith("A\nhttps://a.example")
    assert [op for op, _ in lost] == ["lower", "drop", "drop"]


def test_instructions_stand_beside_the_conversation_and_later_ones_are_notes() -> None:
    body, written = write(
        request(
            Message("system", (TextPart("Be brief."),)),
            Message("developer", (TextPart(" "), TextPart("Be kind."))),
            HI,
            Message("system", (TextPart("Be quick."),)),
        )
    )
    assert body["system"] == [{"text": "Be brief."}, {"text": "Be kind."}]
    assert body["messages"] == [
        {
            "role": "user",
            "content": [{"text": "Hi"}, {"text": "[System note, not written by the user]\nBe quick."}],
        }
    ]
    assert changes(written) == [("drop", "messages[1].content[0]"), ("lower", "messages[3]")]


def test_instructions_are_text() -> None:
    with pytest.raises(Unsupported):
        write(request(Message("system", (ImagePart(PNG),)), HI))


def test_the_user_begins() -> None:
    body, written = write(request(Message("assistant", (TextPart("Hello."),)), HI))
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert changes(written) == [("add", "messages[0]")]


def test_calls_and_results() -> None:
    body, written = write(
        request(
            HI,
            call("call 1/ü"),
            result("call 1/ü", TextPart("no"), ImagePart(PNG), is_error=True),
            call("call 1/ü"),
            result("call 1/ü"),
            tools=(LOOK,),
        )
    )
    assert [message["content"] for message in body["messages"][1:]] == [
        [{"toolUse": {"toolUseId": "call_1__", "name": "look", "input": {"at": 1}}}],
        [
            {
                "toolResult": {
                    "toolUseId": "call_1__",
                    "status": "error",
                    "content": [
                        {"text": "no"},
                        {"image": {"format": "png", "source": {"bytes": PNG.data}}},
                    ],
                }
            }
        ],
        [{"toolUse": {"toolUseId": "call_1___2", "name": "look", "input": {"at": 1}}}],
        [{"toolResult": {"toolUseId": "call_1___2", "content": []}}],
    ]
    assert changes(written) == [
        ("rename", "messages[1].content[0].id"),
        ("rename", "messages[3].content[0].id"),
    ]


def test_a_long_id_is_cut_and_stays_unique() -> None:
    long = "c" * 80
    body, _ = write(
        request(HI, call(long), result(long), call(long + "x"), result(long + "x"), tools=(LOOK,))
    )
    ids = [body["messages"][at]["content"][0]["toolUse"]["toolUseId"] for at in (1, 3)]
    assert ids == ["c" * 64, "c" * 62 + "_2"]


@pytest.mark.parametrize(
    "messages",
    [(HI, call("a")), (HI, result("a")), (HI, call("a"), result("b")), (Message("user", (TextPart(" "),)),)],
)
def test_calls_without_results_are_the_callers_fault(messages: tuple[Message, ...]) -> None:
    with pytest.raises(BadRequest):
        write(request(*messages, tools=(LOOK,)))


@pytest.mark.parametrize(
    ("role", "part", "kind"),
    [
        ("user", ReasoningPart("x"), BadRequest),
        ("user", ToolCallPart("a", "look", "{}"), BadRequest),
        ("assistant", ToolResultPart("a", ()), BadRequest),
        ("assistant", ImagePart(PNG), Unsupported),
        ("assistant", ForeignPart("x", "y", raw=b"{}"), Unsupported),  # type: ignore[arg-type]
    ],
)
def test_a_part_in_the_wrong_place_is_refused(role: Any, part: Part, kind: type[ModelplexError]) -> None:
    with pytest.raises(kind):
        write(request(HI, Message(role, (part,)), HI))


def state(**more: Any) -> OpaqueState:
    given = {"format": STATE_FORMAT, "data": "c2ln", "provider": "aws", "account": "acct", "model": CLAUDE}
    return OpaqueState(**{**given, **more})


def reasoned(*parts: Part) -> tuple[list[Any], list[tuple[str, str]]]:
    body, written = write(request(HI, Message("assistant", (*parts, TextPart("So."))), HI))
    return body["messages"][1]["content"], changes(written)


def test_signed_reasoning_goes_back_unchanged() -> None:
    sent, lost = reasoned(
        ReasoningPart("Hm.", state=state()), ReasoningPart("", state=state(data="cmVk"), redacted=True)
    )
    assert sent == [
        {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "c2ln"}}},
        {"reasoningContent": {"redactedContent": "cmVk"}},
        {"text": "So."},
    ]
    assert lost == []


@pytest.mark.parametrize(
    "part",
    [
        ReasoningPart("Hm."),
        ReasoningPart("Hm.", state=state(format="anthropic-claude-v1")),
        ReasoningPart("Hm.", state=state(model=NOVA)),
    ],
    ids=["unsigned", "another service's", "another model's"],
)
def test_other_reasoning_does_not_go_back(part: Part) -> None:
    sent, lost = reasoned(part)
    assert sent == [{"text": "So."}]
    assert lost == [("drop", "messages[1].content[0]")]


@pytest.mark.parametrize("other", [{"provider": "another"}, {"account": "another"}])
def test_the_reasoning_of_another_account_is_never_sent(other: dict[str, str]) -> None:
    with pytest.raises(StatePinned):
        reasoned(ReasoningPart("Hm.", state=state(**other)))


def test_reasoning_that_led_to_nothing_is_left_out() -> None:
    body, written = write(
        request(HI, Message("assistant", (ReasoningPart("Hm.", state=state()),)), HI, call("a"), result("a"))
    )
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert changes(written) == [("drop", "messages[1].content[0]"), ("add", "messages[3].content[0]")]


def test_a_refusal_and_a_reference_to_a_tool_are_text() -> None:
    body, written = write(
        request(
            HI,
            Message("assistant", (RefusalPart("No."), ToolCallPart("a", "look", "{}"))),
            result("a", RefusalPart("never"), ToolReferencePart("look")),
            tools=(LOOK,),
        )
    )
    assert body["messages"][1]["content"][0] == {"text": "No."}
    assert body["messages"][2]["content"][0]["toolResult"]["content"] == [
        {"text": "never"},
        {"text": "The tool look can be called now."},
    ]
    assert ("lower", "messages[1].content[0]") in changes(written)


def marked(ttl: str | None = None) -> TextPart:
    return TextPart("x", cache=CacheBreakpoint(ttl))


def test_a_cache_point_follows_what_is_cached() -> None:
    body, written = write(
        request(
            Message("system", (marked("1h"),)),
            Message("user", (marked(), TextPart("y"))),
            call("a", cache=CacheBreakpoint("30m")),
            result("a", TextPart("z"), cache=CacheBreakpoint("3d")),
            tools=(LOOK,),
        )
    )
    assert body["system"] == [{"text": "x"}, {"cachePoint": {"type": "default", "ttl": "1h"}}]
    assert body["messages"][0]["content"] == [
        {"text": "x"},
        {"cachePoint": {"type": "default"}},
        {"text": "y"},
    ]
    assert body["messages"][1]["content"][1] == {"cachePoint": {"type": "default", "ttl": "5m"}}
    assert body["messages"][2]["content"][1] == {"cachePoint": {"type": "default"}}
    assert [op for op, _ in changes(written)] == ["clamp", "drop"]


def test_at_most_four_cache_points_are_sent_and_the_last_ones() -> None:
    body, written = write(request(Message("user", tuple(marked() for _ in range(6)))))
    points = [n for n, block in enumerate(body["messages"][0]["content"]) if "cachePoint" in block]
    assert points == [3, 5, 7, 9]
    assert changes(written) == [("drop", f"messages[0].content[{n}].cache_control") for n in (0, 1)]


@pytest.mark.parametrize(("model", "sent"), [(NOVA, True), (LLAMA, False)])
def test_a_model_without_cache_points_gets_none(model: str, sent: bool) -> None:
    blocks, lost = content(marked(), model=model)
    assert any("cachePoint" in block for block in blocks) == sent
    assert lost == ([] if sent else [("drop", "messages[0].content[0].cache_control")])


def test_what_is_shown_for_debugging() -> None:
    from modelplex.dialects.bedrock_converse.families import family_of
    from modelplex.dialects.bedrock_converse.messages_out import ConverseLosses, ConverseMessageWriter

    losses = ConverseLosses([], attempt(), family_of(CLAUDE))
    writer = ConverseMessageWriter(request(HI), losses)
    writer.write()
    assert repr(writer) == "<ConverseMessageWriter system 0; user 1>"
    assert repr(losses) == "<ConverseLosses 0 changes>"
