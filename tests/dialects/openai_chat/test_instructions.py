"""Instructions of a chat body that passes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from modelplex.core.request import Attempt, Quirks
from modelplex.dialects.core.turns import SYSTEM_NOTE
from modelplex.dialects.openai_chat.dialect import amend
from modelplex.dialects.openai_chat.instructions import amended_instructions
from tests.dialects.openai_chat.peer import make_ask

PLAIN = Quirks()
STRICT = Quirks(system_messages="first", developer_role=True)
USER = {"role": "user", "content": "x"}


def amended(messages: Any, quirks: Quirks) -> Any:
    found = amended_instructions(make_ask({"model": "m", "messages": messages}), quirks)
    return found and (msgspec.json.decode(found[0]), [(each.op, each.path) for each in found[1]])


def test_developer_becomes_system_where_it_is_not_known() -> None:
    messages: list[Any] = [{"role": "developer", "content": [{"type": "text", "text": "d"}], "n": 1.0}, USER]
    assert amended(messages, PLAIN) == (
        [{**messages[0], "role": "system"}, USER],
        [("lower", "messages[0].role")],
    )
    assert amended(messages, Quirks(developer_role=True)) is None


def test_one_system_message_begins_the_conversation() -> None:
    parts = [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}]
    messages = [{"role": "system", "content": "a"}, {"role": "system", "content": parts}, USER]
    later = {"role": "developer", "content": "d"}
    assert amended([*messages, later], STRICT) == (
        [{"role": "system", "content": "a\n\nb\n\nc"}, USER, {"role": "user", "content": SYSTEM_NOTE + "d"}],
        [("move", "messages[1]"), ("lower", "messages[3]")],
    )
    assert amended([USER, {"content": "d", "role": "system"}], STRICT) is not None


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "content": 'the words "role" and "system" in a text'}, USER],
        [{"content": "a", "role": "system"}, USER],
        [USER],
        [{"role": 1}],
        [{"role": "system", "content": 3}, {"role": "system", "content": "a"}],
        "text",
    ],
)
def test_a_body_that_is_in_order_or_broken_passes_as_it_is(messages: Any) -> None:
    assert amended(messages, STRICT) is None


def test_ids_and_instructions_are_amended_together() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages: list[Any] = [
        {"role": "developer", "content": "d"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "ok"},
    ]
    attempt = Attempt(provider="p", model="m", dialect="openai_chat", quirks=Quirks(call_ids="nine"))
    found = amend(make_ask({"model": "m", "messages": messages}), attempt)
    assert found is not None
    written = msgspec.json.decode(found.members["messages"] or b"")
    assert written[0]["role"] == "system"
    assert len(written[2]["tool_call_id"]) == 9
    assert [change.path for change in found.changes] == [
        "messages[0].role",
        "messages[1].tool_calls[0].id",
        "messages[2].tool_call_id",
    ]
