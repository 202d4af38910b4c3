"""Opaque state and stored objects go only to the provider and account that made them."""

from __future__ import annotations

import pytest

from modelplex.core.errors import StatePinned
from modelplex.core.request import (
    Attempt,
    AudioPart,
    ChatRequest,
    FileReference,
    ImagePart,
    Message,
    OpaqueState,
    Part,
    ReasoningPart,
    TextPart,
    ToolCallPart,
)
from modelplex.routing.affinity import (
    Origin,
    attempts_for_state,
    opaque_states_in,
    origin_of,
    stored_references,
    without_foreign_state,
)
from tests.dialects.sides import with_places

A, A_2, B = (
    Attempt(provider=provider, model="m", dialect="d", account=account)
    for provider, account in (("a", "1"), ("a", "2"), ("b", "1"))
)


def state(data: str = "s", provider: str | None = None, account: str | None = None) -> OpaqueState:
    return OpaqueState("unknown", data, provider=provider, account=account)


def call(*parts: Part) -> ChatRequest:
    return with_places(ChatRequest(dialect="d", model="m", messages=(Message("assistant", parts),)))


def unknown(_: str) -> Origin | None:
    return None


def test_states_are_found_in_reasoning_and_tool_calls() -> None:
    one, two = state("1"), state("2")
    parts = (
        TextPart("t"),
        ReasoningPart("r", state=one),
        ToolCallPart("id", "f", "{}", state=two),
        ReasoningPart("x"),
    )
    assert list(opaque_states_in(call(*parts))) == [
        ("messages[0].content[1]", one),
        ("messages[0].content[2]", two),
    ]


def test_a_state_that_names_its_origin_needs_no_look_up() -> None:
    assert origin_of(state(provider="a", account="1"), unknown) == ("a", "1")
    assert origin_of(state(provider="a"), unknown) == ("a", "")
    assert origin_of(state("s"), {"s": ("b", "1")}.get) == ("b", "1")
    assert origin_of(state("s"), unknown) is None


def test_a_conversation_without_state_may_go_anywhere() -> None:
    assert attempts_for_state([A, B], call(TextPart("t")), unknown) == [A, B]


def test_a_state_goes_to_its_provider_and_account_only() -> None:
    made_by_a = call(ReasoningPart("r", state=state(provider="a", account="2")))
    assert attempts_for_state([A, A_2, B], made_by_a, unknown) == [A_2]
    with pytest.raises(StatePinned, match="made by a, which may go only to") as refused:
        attempts_for_state([A, B], made_by_a, unknown)
    assert refused.value.param == "messages[0].content[0]"


def test_two_states_of_different_origins_fit_nowhere() -> None:
    mixed = call(
        ReasoningPart("r", state=state(provider="a", account="1")),
        ReasoningPart("r", state=state(provider="b", account="1")),
    )
    with pytest.raises(StatePinned, match="made by b"):
        attempts_for_state([A, B], mixed, unknown)


def test_a_state_of_unknown_origin_may_go_to_the_only_candidate() -> None:
    lost = call(ReasoningPart("r", state=state()))
    assert attempts_for_state([A], lost, unknown) == [A]
    assert attempts_for_state([A, other_key(A)], lost, unknown) == [A, other_key(A)]
    with pytest.raises(StatePinned, match="of unknown origin"):
        attempts_for_state([A, B], lost, unknown)


def other_key(attempt: Attempt) -> Attempt:
    """Another key of the same account."""
    return Attempt(provider=attempt.provider, model="m", dialect="d", account=attempt.account, key=1)


def test_a_known_origin_settles_that_of_the_whole_conversation() -> None:
    mixed = call(ReasoningPart("r", state=state("lost")), ReasoningPart("r", state=state("known")))
    assert attempts_for_state([A, B], mixed, {"known": ("b", "1")}.get) == [B]


@pytest.mark.parametrize("part", [ImagePart(FileReference("file-1")), AudioPart("", "", id="audio-1")])
def test_what_is_stored_at_a_provider_may_go_to_the_only_candidate(part: Part) -> None:
    assert list(stored_references(call(TextPart("t"), part))) == ["messages[0].content[1]"]
    assert attempts_for_state([A], call(part), unknown) == [A]
    with pytest.raises(StatePinned, match="names something stored at a provider"):
        attempts_for_state([A, B], call(part), unknown)


def test_foreign_state_is_removed_and_reported_and_readable_text_stays() -> None:
    foreign, own = state(provider="b", account="1"), state("own", provider="a", account="1")
    parts = (
        ReasoningPart("readable", state=foreign),
        ReasoningPart("", state=foreign),
        ToolCallPart("id", "f", "{}", state=foreign),
        ReasoningPart("kept", state=own),
        TextPart("t"),
    )
    left, changes = without_foreign_state(call(*parts), A, unknown)
    assert left.messages[0].parts == (
        ReasoningPart("readable"),
        ToolCallPart("id", "f", "{}"),
        ReasoningPart("kept", state=own),
        TextPart("t"),
    )
    assert [(change.op, change.path, change.reason) for change in changes] == [
        ("drop", f"messages[0].content[{n}]", "opaque state of another provider") for n in range(3)
    ]
