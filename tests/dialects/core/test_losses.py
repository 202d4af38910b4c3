"""What a writer does not take of a message or part is reported, in every dialect."""

from typing import Any

import msgspec
import pytest

from modelplex.core.errors import StatePinned, Unsupported
from modelplex.core.request import (
    Attempt,
    AudioPart,
    BasePart,
    CacheBreakpoint,
    Change,
    ChatRequest,
    DocumentPart,
    ForeignPart,
    ImagePart,
    InlineData,
    Message,
    ModelFacts,
    OpaqueState,
    Part,
    Place,
    PlainText,
    ReasoningPart,
    RefusalPart,
    SearchResultPart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from modelplex.dialects.core.losses import Losses
from modelplex.dialects.registry import write_request
from tests.dialects.sides import with_places

DIALECTS = ("openai_chat", "openai_responses", "anthropic_messages", "gemini", "ollama")
PNG = InlineData("image/png", "iVBORw0KGgo=")
HI = Message("user", (TextPart("Hi"),))
TOY = "toy"
"""A client's dialect that is no provider's."""


def changes(provider: str, *messages: Message, client: str = TOY) -> list[tuple[str, str]]:
    call = with_places(ChatRequest(dialect=client, model="m", messages=messages))
    attempt = Attempt(provider="p", model="m", dialect=provider, facts=ModelFacts(thinking="adaptive"))
    written = write_request(call, attempt)
    return [(change.op, change.path) for change in written.changes]


class _TextOfTomorrow(TextPart, frozen=True):
    surprise: float | None = None


class _ImageOfTomorrow(ImagePart, frozen=True):
    surprise: float | None = None


class _DocumentOfTomorrow(DocumentPart, frozen=True):
    surprise: float | None = None


class _SearchResultOfTomorrow(SearchResultPart, frozen=True):
    surprise: float | None = None


class _RefusalOfTomorrow(RefusalPart, frozen=True):
    surprise: float | None = None


class _CallOfTomorrow(ToolCallPart, frozen=True):
    surprise: float | None = None


class _ResultOfTomorrow(ToolResultPart, frozen=True):
    surprise: float | None = None


class _ReasoningOfTomorrow(ReasoningPart, frozen=True):
    surprise: float | None = None


class _MessageOfTomorrow(Message, frozen=True):
    surprise: float | None = None


class _PartOfTomorrow(BasePart, frozen=True):
    """A kind of part that no writer knows."""

    score: float = 1.0


USER_PARTS: list[Part] = [
    _TextOfTomorrow("Hi", surprise=0.5),
    _ImageOfTomorrow(PNG, surprise=0.5),
    _DocumentOfTomorrow(PlainText("Hi"), surprise=0.5),
    _SearchResultOfTomorrow("s", "t", ("x",), surprise=0.5),
]
STATE = OpaqueState("anthropic-claude-v1", "c2ln", provider="p", account="")
ASSISTANT_PARTS: list[Part] = [
    _TextOfTomorrow("Hi", surprise=0.5),
    _RefusalOfTomorrow("No", surprise=0.5),
    _ReasoningOfTomorrow("Hm", STATE, surprise=0.5),
]


@pytest.mark.parametrize("provider", DIALECTS)
@pytest.mark.parametrize("part", USER_PARTS, ids=lambda part: type(part).__name__)
def test_a_member_of_a_users_part_that_no_writer_knows_is_reported(provider: str, part: Part) -> None:
    found = changes(provider, Message("user", (TextPart("See"), part)))
    assert ("drop", "messages[0].content[1].surprise") in found


@pytest.mark.parametrize("provider", DIALECTS)
@pytest.mark.parametrize("part", ASSISTANT_PARTS, ids=lambda part: type(part).__name__)
def test_so_is_one_of_an_assistants_part(provider: str, part: Part) -> None:
    found = changes(provider, HI, Message("assistant", (part, TextPart("So."))), HI)
    assert ("drop", "messages[1].content[0].surprise") in found


@pytest.mark.parametrize("provider", DIALECTS)
def test_so_is_one_of_a_call_a_result_and_a_part_inside_it(provider: str) -> None:
    call = _CallOfTomorrow("a", "f", "{}", surprise=0.5)
    result = _ResultOfTomorrow("a", (TextPart("x"), _TextOfTomorrow("y", surprise=0.5)), surprise=0.5)
    found = changes(provider, HI, Message("assistant", (call,)), Message("tool", (result,)))
    assert {
        ("drop", "messages[1].content[0].surprise"),
        ("drop", "messages[2].content[0].surprise"),
        ("drop", "messages[2].content[0].content[1].surprise"),
    } <= set(found)


@pytest.mark.parametrize("provider", DIALECTS)
@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_so_is_one_of_a_message(provider: str, role: Any) -> None:
    message = _MessageOfTomorrow(role, (TextPart("Hi"),), surprise=0.5)
    found = changes(provider, HI, message, HI) + changes(provider, message, HI)
    assert {("drop", "messages[1].surprise"), ("drop", "messages[0].surprise")} <= set(found)


@pytest.mark.parametrize("provider", DIALECTS)
@pytest.mark.parametrize("role", ["user", "assistant"])
def test_a_kind_of_part_that_no_writer_knows_is_reported(provider: str, role: Any) -> None:
    unknown: Any = _PartOfTomorrow()
    found = changes(provider, HI, Message(role, (TextPart("See"), unknown)), HI)
    assert ("drop", "messages[1].content[1]") in found


@pytest.mark.parametrize("provider", DIALECTS)
def test_unread_members_of_parts_are_reported_unless_they_ask_for_nothing(provider: str) -> None:
    odd = {"odd": msgspec.Raw(b"1"), "empty": msgspec.Raw(b"[ ]"), "inner.odd": msgspec.Raw(b'"x"')}
    found = changes(provider, Message("user", (TextPart("Hi", extra=odd),)))
    assert found == [("drop", "messages[0].content[0].odd"), ("drop", "messages[0].content[0].inner.odd")]


@pytest.mark.parametrize("provider", DIALECTS)
def test_a_part_without_anything_to_lose_is_not_reported(provider: str) -> None:
    call = ToolCallPart("a", "f", "{}")
    result = ToolResultPart("a", (TextPart("x"),), name="f")
    parts = (TextPart("Hi"), ImagePart(PNG, detail="auto"), DocumentPart(PlainText("x"), title="T"))
    messages = (Message("user", parts), Message("assistant", (call,)), Message("tool", (result,)))
    assert [found for found in changes(provider, *messages) if found[0] == "drop"] == []


def losses(report: list[Change], *, native: bool = False) -> Losses:
    attempt = Attempt(provider="p", model="m", dialect="d", account="k1")

    def name_of(name: str, *, path: str) -> str:
        report.append(Change("rename", path, name))
        return name.upper()

    return Losses(report, attempt, native=native, name_of=name_of)


def test_the_members_are_the_optional_ones_that_are_set() -> None:
    found = losses([])
    assert found.members(TextPart("x")) == {}
    assert found.members(Message("user", (), id="i", path="p")) == {}
    assert found.members(AudioPart("", "", id="a")) == {"id": "a"}
    cached = ImagePart(PNG, detail="high", cache=CacheBreakpoint("5m"))
    assert found.members(cached) == {"detail": "high", "cache": CacheBreakpoint("5m")}
    cited = TextPart("x", annotations=msgspec.Raw(b"[]"), annotations_of="d")
    assert found.members(cited) == {}


def test_what_is_popped_is_not_reported() -> None:
    report: list[Change] = []
    found = losses(report)
    place = Place("messages[0]", ".content", 2, {"detail": "image_url.detail", "cache": "/marker"})
    part = ImagePart(PNG, detail="high", cache=CacheBreakpoint("5m"), at=place)
    members = found.members(part)
    found.settle(part, members)
    del members["cache"]
    found.settle(part, members)
    detail, marker = "messages[0].content[2].image_url.detail", "messages[0].marker"
    assert [change.path for change in report] == [detail, marker, detail]


def test_unread_members_go_back_to_their_own_dialect_only() -> None:
    extra = {name: msgspec.Raw(b"1") for name in ("a", "b", "c.d")}
    part = TextPart("x", extra=extra, at=Place("m", ".content"))
    report: list[Change] = []
    members = losses(report).members(part)
    assert losses(report).take_extra(members) == {}
    native = losses(report, native=True)
    members = native.members(part)
    assert native.take_extra(members, "a") == {"a": msgspec.Raw(b"1")}
    assert list(native.take_extra(members)) == ["b"]
    native.settle(part, members)
    assert [change.path for change in report] == ["m.content.c.d"]
    assert native.take_extra({}) == {}


def test_a_tool_is_renamed_and_reported_once() -> None:
    report: list[Change] = []
    found = losses(report)
    calls = [ToolCallPart(id_, "f", "{}", at=Place("m", ".calls", n)) for n, id_ in enumerate("ab")]
    assert [found.tool_name(call) for call in calls] == ["F", "F"]
    assert [change.path for change in report] == ["m.calls[0].name"]


def test_a_part_of_another_dialect_is_refused_at_its_place() -> None:
    part = ForeignPart("d", "x", msgspec.Raw(b"{}"), at=Place("m", ".content", 1))
    assert losses([]).foreign(part, dialect="d") == part.raw
    with pytest.raises(Unsupported) as refused:
        losses([]).foreign(part, dialect="e")
    assert refused.value.param == "m.content[1]"


@pytest.mark.parametrize(
    ("provider", "account", "passes"),
    [(None, None, True), ("p", "k1", True), ("p", None, True), ("q", "k1", False), ("p", "k2", False)],
)
def test_opaque_state_of_another_provider_or_account_is_refused(
    provider: str | None, account: str | None, passes: bool
) -> None:
    state = OpaqueState("f", "x", provider=provider, account=account)
    if passes:
        losses([]).check_origin(state, Place("m"))
        return
    with pytest.raises(StatePinned) as refused:
        losses([]).check_origin(state, Place("m"))
    assert refused.value.param == "m"
