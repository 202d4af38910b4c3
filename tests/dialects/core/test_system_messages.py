"""Instructions for services that take one system message, at the beginning."""

from __future__ import annotations

import json
from typing import Any

import pytest

from modelplex.core.request import Attempt, ChatRequest, Quirks
from modelplex.dialects.core.system_messages import BEGUN, JOINED, NOTED, with_system_first
from modelplex.dialects.core.turns import SYSTEM_NOTE
from modelplex.dialects.registry import write_request
from modelplex.providers import all_specs
from tests.dialects.anthropic.peer import make_call as make_messages
from tests.dialects.openai_chat.peer import make_call as make_chat
from tests.dialects.openai_responses.peer import make_call as make_responses

STRICT = Quirks(system_messages="first")


def item(role: str, text: str) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}


CODEX = make_responses(
    instructions="You are Codex.",
    input=[item("developer", "permissions"), item("user", "env"), item("developer", "later")],
)
CLAUDE = make_messages(
    [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "yo"},
        {"role": "user", "content": "more"},
        {"role": "system", "content": "mid"},
    ],
    system="a",
)


def sent(call: ChatRequest, dialect: str, quirks: Quirks = STRICT) -> tuple[list[Any], list[tuple[str, str]]]:
    written = write_request(call, Attempt(provider="acme", model="m", dialect=dialect, quirks=quirks))
    messages = [(each["role"], each["content"]) for each in json.loads(written.body)["messages"]]
    return messages, [
        (each.op, each.path) for each in written.changes if each.reason in {BEGUN, JOINED, NOTED}
    ]


@pytest.mark.parametrize("dialect", ["openai_chat", "ollama"])
def test_leading_instructions_are_joined_and_later_ones_are_notes(dialect: str) -> None:
    assert sent(CODEX, dialect) == (
        [("system", "You are Codex.\n\npermissions"), ("user", "env"), ("user", SYSTEM_NOTE + "later")],
        [("move", "input[0]"), ("lower", "input[2]")],
    )
    messages, changes = sent(CLAUDE, dialect)
    assert [role for role, _ in messages] == ["system", "user", "assistant", "user", "user"]
    assert messages[-1][1] == SYSTEM_NOTE + "mid"
    assert changes == [("lower", "messages[3]")]


def test_other_services_get_them_where_they_stand() -> None:
    messages, changes = sent(CODEX, "openai_chat", Quirks())
    assert [role for role, _ in messages] == ["system", "system", "user", "system"]
    assert changes == []


def test_a_request_in_order_is_left_alone() -> None:
    call = make_chat(messages=[{"role": "system", "content": "a"}, {"role": "user", "content": "x"}])
    assert with_system_first(call) is call


def test_what_a_joined_message_loses_is_reported() -> None:
    second = {"role": "system", "name": "n", "content": "b", "future": 1}
    call = make_chat(messages=[{"role": "system", "content": "a"}, second])
    lost = [(change.op, change.path) for change in with_system_first(call).changes]
    assert lost == [("move", "messages[1]"), ("drop", "messages[1].future"), ("drop", "messages[1].name")]


def test_servers_that_render_chat_templates_are_strict() -> None:
    strict = {name for name, row in all_specs().items() if row.quirks.system_messages == "first"}
    assert strict == {"llamacpp", "lmstudio", "ollama", "sglang", "vllm"}


NOWHERE = Quirks(system_messages="nowhere", roles="alternate")


@pytest.mark.parametrize("dialect", ["openai_chat", "ollama"])
def test_without_a_system_role_the_instructions_begin_the_users_message(dialect: str) -> None:
    messages, changes = sent(CODEX, dialect, Quirks(system_messages="nowhere"))
    begun = ("user", "You are Codex.\n\npermissions\n\nenv")
    assert messages == [begun, ("user", SYSTEM_NOTE + "later")]
    assert [op for op, _ in changes] == ["move", "lower", "move"]


def test_a_conversation_without_a_user_gets_one() -> None:
    assistant = {"role": "assistant", "content": "yo"}
    system = {"role": "system", "content": "s", "name": "zoe"}
    call = make_chat(messages=[system, assistant])
    messages, changes = sent(call, "openai_chat", NOWHERE)
    assert messages == [("user", "s"), ("assistant", "yo")]
    assert changes == [("move", "messages[0]"), ("drop", "messages[0].name")]
    alone, _ = sent(make_chat(messages=[{"role": "developer", "content": "d"}]), "openai_chat", NOWHERE)
    assert alone == [("user", "d")]
    plain = make_chat(messages=[{"role": "user", "content": "u"}])
    assert sent(plain, "openai_chat", NOWHERE) == ([("user", "u")], [])


def test_a_picture_stays_behind_the_instructions() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    call = make_chat(
        messages=[{"role": "system", "content": "s"}, {"role": "user", "content": [picture]}],
    )
    messages, _ = sent(call, "openai_chat", NOWHERE)
    assert messages == [("user", [{"type": "text", "text": "s"}, picture])]


def test_gemini_gets_no_instruction_where_the_model_takes_none() -> None:
    attempt = Attempt(provider="acme", model="m", dialect="gemini", quirks=NOWHERE)
    body = json.loads(write_request(CLAUDE, attempt).body)
    assert "systemInstruction" not in body
    assert body["contents"][0] == {"role": "user", "parts": [{"text": "a\n\nhi"}]}
