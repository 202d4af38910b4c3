"""Alternating turns, for chat templates that refuse others."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelplex.core.request import Attempt, ChatRequest, Quirks
from modelplex.dialects.core.alternating_roles import MERGED, OPENED, with_alternating_roles
from modelplex.dialects.core.turns import OPENING
from modelplex.dialects.registry import write_request
from tests.dialects.openai_chat.peer import make_call as make_chat
from tests.dialects.openai_responses.peer import make_call as make_responses

QUIRKS = Quirks(system_messages="first", roles="alternate")
PIXEL = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}


def sent(call: ChatRequest, dialect: str = "openai_chat") -> tuple[list[Any], list[tuple[str, str]]]:
    written = write_request(call, Attempt(provider="acme", model="m", dialect=dialect, quirks=QUIRKS))
    changes: list[tuple[str, str]] = []
    changes += [(each.op, each.path) for each in written.changes if each.reason in {MERGED, OPENED}]
    return json.loads(written.body)["messages"], changes


def chat(*messages: tuple[str, Any]) -> ChatRequest:
    return make_chat(messages=[{"role": role, "content": content} for role, content in messages])


@pytest.mark.parametrize("dialect", ["openai_chat", "ollama"])
def test_messages_of_one_role_become_one(dialect: str) -> None:
    call = make_responses(
        instructions="Be brief.",
        input=[{"role": role, "content": text} for role, text in (("user", "a"), ("user", "b"), ("developer", "c"))],
    )  # fmt: skip
    messages, changes = sent(call, dialect)
    assert [each["role"] for each in messages] == ["system", "user"]
    assert messages[1]["content"].startswith("a\n\nb\n\n")
    assert messages[1]["content"].endswith("c")
    assert changes == [("move", "input[1]"), ("move", "input[2]")]


def test_parts_that_are_no_text_stay_parts() -> None:
    messages, changes = sent(chat(("user", "a"), ("user", [PIXEL]), ("assistant", "x"), ("assistant", "y")))
    assert messages == [
        {"role": "user", "content": [{"type": "text", "text": "a"}, PIXEL]},
        {"role": "assistant", "content": "x\n\ny"},
    ]
    assert changes == [("move", "messages[1]"), ("move", "messages[3]")]


def test_a_name_that_is_lost_is_reported() -> None:
    call = make_chat(
        messages=[{"role": "user", "content": "a"}, {"role": "user", "content": "b", "name": "zoe"}]
    )
    assert ("drop", "messages[1].name") in sent(call)[1]


def test_a_conversation_that_the_assistant_begins_is_opened_by_the_user() -> None:
    messages, changes = sent(chat(("system", "s"), ("assistant", "x"), ("user", "y")))
    assert [(each["role"], each["content"]) for each in messages[1:]] == [
        ("user", OPENING),
        ("assistant", "x"),
        ("user", "y"),
    ]
    assert changes == [("add", "messages[1]")]


def test_a_conversation_in_turns_stays_as_it_is() -> None:
    call = chat(("system", "s"), ("user", "x"), ("assistant", "y"), ("user", "z"))
    assert with_alternating_roles(call) is call
