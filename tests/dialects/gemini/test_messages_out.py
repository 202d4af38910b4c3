"""Contents of a Gemini request for a provider."""

from typing import Any

import msgspec
import pytest

from modelplex.core.errors import BadRequest, StatePinned, Unsupported
from modelplex.core.request import (
    Attempt,
    AudioPart,
    CacheBreakpoint,
    Change,
    ChatRequest,
    DocumentPart,
    FileReference,
    ForeignPart,
    ImagePart,
    InlineData,
    Message,
    ModelFacts,
    OpaqueState,
    PlainText,
    ReasoningPart,
    RefusalPart,
    SearchResultPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    UrlReference,
)
from modelplex.dialects.gemini.json import DIALECT, ON_ITS_OWN, ON_TEXT
from modelplex.dialects.gemini.messages_out import MADE_ELSEWHERE, GeminiContentWriter, GeminiLosses
from tests.dialects.sides import with_places

PNG = InlineData("image/png", "AA==")
HI = Message("user", (TextPart("Hi"),))


def state(id_: str | None = None, *, format: str = "google-gemini-v1", provider: str = "p") -> OpaqueState:
    return OpaqueState(format, "c2ln", provider, "k1", id=id_)


def write(
    *messages: Message, client: str = "toy", **facts: Any
) -> tuple[GeminiContentWriter, list[tuple[str, str]]]:
    changes: list[Change] = []
    attempt = Attempt(provider="p", model="m", dialect=DIALECT, account="k1", facts=ModelFacts(**facts))
    losses = GeminiLosses(changes, attempt, native=client == DIALECT)
    writer = GeminiContentWriter(
        with_places(ChatRequest(dialect=client, model="m", messages=messages)), losses
    )
    writer.write()
    return writer, [(change.op, change.path) for change in changes]


def sent(writer: GeminiContentWriter) -> Any:
    contents = [{"role": turn.role, "parts": turn.content} for turn in writer.turns]
    return msgspec.json.decode(msgspec.json.encode(contents))


def parts_of(part: Any, *, client: str = "toy") -> tuple[list[Any], list[tuple[str, str]]]:
    writer, changes = write(Message("user", (TextPart("x"), part)), client=client)
    return sent(writer)[0]["parts"][1:], changes


def model(*parts: Any, client: str = "toy", **facts: Any) -> tuple[list[Any], list[tuple[str, str]]]:
    writer, changes = write(HI, Message("assistant", parts), client=client, **facts)
    return sent(writer)[1]["parts"], changes


@pytest.mark.parametrize(
    ("part", "written", "lost"),
    [
        (TextPart("a", CacheBreakpoint()), {"text": "a"}, ["cache_control"]),
        (RefusalPart("no"), {"text": "no"}, []),
        (
            ImagePart(PNG, detail="low", cache=CacheBreakpoint()),
            {"inlineData": {"mimeType": "image/png", "data": "AA=="}},
            ["detail", "cache_control"],
        ),
        (AudioPart("AA==", "mp3"), {"inlineData": {"mimeType": "audio/mp3", "data": "AA=="}}, []),
        (AudioPart("AA==", "flac"), {"inlineData": {"mimeType": "audio/flac", "data": "AA=="}}, []),
        (
            DocumentPart(PlainText("b"), title="T", context="C", citations=True),
            {"text": "T\nC\nb"},
            ["citations"],
        ),
        (DocumentPart(InlineData("text/csv", "YQ=="), filename="n"), {"text": "n\na"}, []),
        (
            DocumentPart(InlineData("application/pdf", "AA=="), filename="n", title="T", context="C"),
            {"inlineData": {"mimeType": "application/pdf", "data": "AA=="}},
            ["filename", "title", "context"],
        ),
        (SearchResultPart("s", "t", ("x",), citations=True), {"text": "t\ns\nx"}, ["citations"]),
    ],
)
def test_each_part_has_its_form(part: Any, written: Any, lost: list[str]) -> None:
    assert parts_of(part) == ([written], [("drop", f"messages[0].content[1].{name}") for name in lost])


def test_a_client_of_the_dialect_may_have_an_address_fetched() -> None:
    address = ImagePart(UrlReference("https://e.org/a.png"))
    assert parts_of(address, client=DIALECT)[0] == [{"fileData": {"fileUri": "https://e.org/a.png"}}]
    raw = msgspec.Raw(b'{"executableCode":{}}')
    assert parts_of(ForeignPart(DIALECT, "executableCode", raw), client=DIALECT)[0] == [
        {"executableCode": {}}
    ]
    csv = DocumentPart(InlineData("text/csv", "YQ=="))
    assert list(parts_of(csv, client=DIALECT)[0][0]) == ["inlineData"]


SIGNED: list[tuple[Any, Any]] = [
    ((ReasoningPart("t", state()),), [{"text": "t", "thought": True, "thoughtSignature": "c2ln"}]),
    ((ReasoningPart("", state()),), [{"text": "", "thought": True, "thoughtSignature": "c2ln"}]),
    (
        (ReasoningPart("", state(ON_TEXT)), TextPart("a")),
        [{"text": "a", "thoughtSignature": "c2ln"}],
    ),
    (
        (TextPart("a"), ReasoningPart("", state(ON_TEXT)), ReasoningPart("", state(ON_ITS_OWN))),
        [{"text": "a", "thoughtSignature": "c2ln"}, {"text": "", "thoughtSignature": "c2ln"}],
    ),
    ((ReasoningPart("", state(ON_ITS_OWN)),), [{"text": "", "thoughtSignature": "c2ln"}]),
    (
        (ToolCallPart("a", "f", "{}", state=state()),),
        [{"thoughtSignature": "c2ln", "functionCall": {"id": "a", "name": "f", "args": {}}}],
    ),
]


@pytest.mark.parametrize(("parts", "written"), SIGNED)
def test_a_signature_goes_back_on_the_part_that_it_was_on(parts: Any, written: Any) -> None:
    results = tuple(ToolResultPart(part.id, ()) for part in parts if isinstance(part, ToolCallPart))
    after = [Message("tool", results)] if results else [HI]
    writer, changes = write(HI, Message("assistant", parts), *after)
    assert sent(writer)[1]["parts"] == written
    assert changes == []


def test_other_reasoning_is_left_out_and_reported() -> None:
    other = ReasoningPart("t", OpaqueState("x", "y"))
    parts, changes = model(ReasoningPart("t"), other, TextPart("a"))
    assert parts == [{"text": "a"}]
    assert changes == [("drop", "messages[1].content[0]"), ("drop", "messages[1].content[1]")]
    assert model(ReasoningPart("t"), client=DIALECT)[0] == [{"text": "t", "thought": True}]
    for part in (
        ReasoningPart("", state(provider="q")),
        ToolCallPart("a", "f", "{}", state=state(provider="q")),
    ):
        with pytest.raises(StatePinned) as pinned:
            model(part)
        assert pinned.value.param == "messages[1].content[0]"


def test_results_are_objects_in_a_turn_of_their_own() -> None:
    calls = tuple(ToolCallPart(id_, "9f", "{}") for id_ in "abc")
    results = (
        ToolResultPart("c", (TextPart("x"), TextPart("y"), ImagePart(PNG))),
        ToolResultPart("b", (TextPart("no"),), is_error=True),
        ToolResultPart("a", (TextPart('{"n":1}'),)),
    )
    conversation = (HI, Message("assistant", calls), Message("tool", results), HI)
    for client, first in (("toy", {"output": '{"n":1}'}), (DIALECT, {"n": 1})):
        writer, _ = write(*conversation, client=client)
        assert [turn.role for turn in writer.turns] == ["user", "model", "user", "user"]
        made = [part["functionResponse"] for part in sent(writer)[2]["parts"]]
        assert [(each["id"], each["response"]) for each in made] == [
            ("a", first),
            ("b", {"error": "no"}),
            ("c", {"output": "x\ny"}),
        ]
        assert made[0]["name"] == ("9f" if client == DIALECT else "_9f")
        assert made[2]["parts"] == [{"inlineData": {"mimeType": "image/png", "data": "AA=="}}]


def test_calls_that_another_model_made_are_marked() -> None:
    call, result = ToolCallPart("a", "f", "{}"), Message("tool", (ToolResultPart("a", ()),))
    for facts, marked in (("adaptive", True), ("manual", False)):
        writer, changes = write(HI, Message("assistant", (call,)), result, thinking=facts)
        part = sent(writer)[1]["parts"][0]
        assert part.get("thoughtSignature") == (MADE_ELSEWHERE if marked else None)
        assert changes == ([("add", "messages[1]")] if marked else [])


def test_later_instructions_become_a_note_and_the_opening_is_the_users() -> None:
    system = Message("system", (TextPart("s"),))
    writer, changes = write(
        system, Message("assistant", (TextPart("a"),)), HI, Message("system", (TextPart("b"),))
    )
    assert msgspec.json.encode(writer.system) == b'[{"text":"s"}]'
    assert [content["role"] for content in sent(writer)] == ["user", "model", "user"]
    assert sent(writer)[2]["parts"][1]["text"].endswith("\nb")
    assert changes == [("lower", "messages[3]"), ("add", "messages[1]")]


@pytest.mark.parametrize(
    ("part", "error"),
    [
        (DocumentPart(FileReference("f")), Unsupported),
        (AudioPart("", "", id="a"), Unsupported),
        (ForeignPart("toy", "x", msgspec.Raw(b"{}")), Unsupported),
        (ReasoningPart("x"), BadRequest),
    ],
)
def test_what_has_no_form_is_refused_at_its_place(part: Any, error: type[Exception]) -> None:
    with pytest.raises(error) as refused:
        parts_of(part)
    assert getattr(refused.value, "param", None) == "messages[0].content[1]"
