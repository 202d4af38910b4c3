"""Bodies that real agents send: they work, and lose only what the policy strips (S25, S36, S50)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modelplex.policy.verdict import Allow, Amend, Facts
from tests.policy.judging import FACTS, Json, amended, assert_allowed, judge

CODING_AGENT = (
    Path(__file__).parent.parent / "transcripts" / "messages_requests" / "coding_agent" / "request.json"
)
URL = "https://docs.example/page"


def _schema(*names: str) -> Json:
    return {
        "type": "object",
        "properties": {name: {"type": "string", "format": "uri"} for name in names},
        "additionalProperties": False,
    }


NAMESPACE: Json = {
    "type": "namespace",
    "name": "mcp__files",
    "description": "Tools of the server files.",
    "tools": [
        {
            "type": "function",
            "name": "read",
            "description": "Reads.",
            "strict": False,
            "parameters": _schema("path", "url"),
        }
    ],
}
SHELL: Json = {
    "type": "function",
    "name": "shell_command",
    "description": "Runs.",
    "strict": False,
    "parameters": _schema("command"),
}
PATCH: Json = {
    "type": "custom",
    "name": "apply_patch",
    "description": "Edits files.",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: begin hunk+ end"},
}
CODEX: Json = {
    "model": "gpt-5-codex",
    "instructions": f"You are a coding agent. See {URL}.",
    "input": [
        {
            "type": "message",
            "role": "developer",
            "content": [{"type": "input_text", "text": "<permissions>sandboxed</permissions>"}],
        },
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": f"Fix {URL}"}]},
        {
            "type": "reasoning",
            "summary": [{"type": "summary_text", "text": "**Looking**"}],
            "content": None,
            "encrypted_content": "gAAAA==",
        },
        {
            "type": "function_call",
            "name": "shell_command",
            "arguments": json.dumps({"command": f"curl {URL}"}),
            "call_id": "call_1",
        },
        {
            "type": "function_call_output",
            "call_id": "call_1",
            "output": f"curl: (6) Could not resolve host: {URL}",
        },
        {
            "type": "custom_tool_call",
            "status": "completed",
            "call_id": "call_2",
            "name": "apply_patch",
            "input": "*** Begin Patch",
        },
        {"type": "custom_tool_call_output", "call_id": "call_2", "output": "Success."},
    ],
    "tools": [SHELL, PATCH, {"type": "web_search", "external_web_access": False}, NAMESPACE],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "reasoning": {"effort": "medium", "summary": "auto"},
    "store": False,
    "stream": True,
    "include": ["reasoning.encrypted_content"],
    "prompt_cache_key": "0199f4c2-7f6e-7b12-9d53-aaaaaaaaaaaa",
    "text": {"verbosity": "low"},
    "client_metadata": {"x-codex-installation-id": "5f1d0c1e-installation"},
}


def test_codex_works_without_its_search_and_with_its_namespace() -> None:
    body, stripped = amended(CODEX, "openai_responses")
    assert body["tools"] == [SHELL, PATCH, NAMESPACE]
    assert body["tool_choice"] == "auto"
    assert body["input"] == CODEX["input"]
    assert stripped == {
        "/tools/2": "web-search",
        "/prompt_cache_key": "identity",
        "/client_metadata": "labels",
    }
    assert "installation" not in json.dumps(body)


def test_codex_is_judged_alike_over_a_websocket() -> None:
    body, stripped = amended({"type": "response.create", "generate": False, **CODEX}, "openai_responses")
    assert body["type"] == "response.create"
    assert set(stripped) == {"/tools/2", "/prompt_cache_key", "/client_metadata"}


def _claude_code() -> Json:
    body: Json = json.loads(CODING_AGENT.read_text())
    body["tools"] = [
        {
            "name": f"Tool{index}",
            "description": f"Fetches {URL}",
            "input_schema": _schema("url", "file_id"),
            "eager_input_streaming": True,
        }
        for index in range(24)
    ]
    body["metadata"] = {"user_id": "user_9af_account_device-canary_session_1"}
    body["thinking"] = {"type": "adaptive"}
    body["output_config"] = {"effort": "medium"}
    body["context_management"] = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}
    body.pop("tool_choice", None)
    return body


def test_claude_code_works_and_loses_nothing_but_the_ids_of_its_device() -> None:
    sent = _claude_code()
    body, stripped = amended(sent, "anthropic_messages")
    assert stripped == {"/metadata/user_id": "identity"}
    assert {**body, "metadata": None} == {**sent, "metadata": None}
    assert "canary" not in json.dumps(body)


def test_a_recorded_body_of_a_coding_agent_passes_but_for_its_id_and_the_providers_search() -> None:
    _, stripped = amended(json.loads(CODING_AGENT.read_text()), "anthropic_messages")
    assert stripped == {"/metadata/user_id": "identity", "/tools/2": "web-search"}


OPENCODE: Json = {
    "model": "gpt-5",
    "max_completion_tokens": 32000,
    "messages": [
        {"role": "system", "content": "You are opencode."},
        {"role": "user", "content": [{"type": "text", "text": f"Read {URL}"}]},
        {
            "role": "assistant",
            "content": "",
            "reasoning_content": "Hm.",
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "webfetch", "arguments": json.dumps({"url": URL})},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "no network"},
    ],
    "tools": [
        {
            "type": "function",
            "function": {"name": "webfetch", "description": "d", "parameters": _schema("url")},
        }
    ],
    "tool_choice": "auto",
    "stream": True,
    "stream_options": {"include_usage": True},
    "reasoning_effort": "medium",
    "store": False,
}
GEMINI_CLI: Json = {
    "contents": [
        {"role": "user", "parts": [{"text": f"Setup. {URL}"}]},
        {
            "role": "model",
            "parts": [
                {"text": "Ok", "thought": True},
                {"functionCall": {"name": "read_file", "args": {"url": URL}}, "thoughtSignature": "AA=="},
            ],
        },
        {
            "role": "user",
            "parts": [{"functionResponse": {"id": "x", "name": "read_file", "response": {"output": URL}}}],
        },
    ],
    "systemInstruction": {"role": "user", "parts": [{"text": "You are a CLI agent."}]},
    "tools": [
        {
            "functionDeclarations": [
                {"name": "read_file", "description": "d", "parametersJsonSchema": _schema("path")}
            ]
        }
    ],
    "generationConfig": {
        "temperature": 1,
        "topP": 0.95,
        "topK": 64,
        "thinkingConfig": {"includeThoughts": True, "thinkingBudget": 8192},
    },
}
PI: Json = {
    "model": "m",
    "messages": [
        {"role": "system", "content": "s"},
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
    ],
    "stream": True,
    "stream_options": {"include_usage": True},
    "store": False,
    "max_completion_tokens": 4096,
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "bash",
                "description": "d",
                "parameters": _schema("command"),
                "strict": False,
            },
        }
    ],
}
QWEN: Json = {
    "model": "m",
    "messages": [
        {
            "role": "system",
            "content": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
        },
        {"role": "user", "content": [{"type": "text", "text": "hi"}]},
    ],
    "temperature": 0,
    "top_p": 1,
    "max_tokens": 8000,
    "stream": True,
    "stream_options": {"include_usage": True},
}


@pytest.mark.parametrize(
    ("body", "dialect"),
    [
        (OPENCODE, "openai_chat"),
        (PI, "openai_chat"),
        (QWEN, "openai_chat"),
        (GEMINI_CLI, "gemini"),
        (GEMINI_CLI, "gemini_array"),
    ],
    ids=["opencode", "pi", "qwen-code", "gemini-cli", "gemini-cli as an array"],
)
def test_an_agent_that_sends_nothing_of_the_kind_is_left_alone(body: Json, dialect: str) -> None:
    assert_allowed(body, dialect)


@pytest.mark.parametrize("spacing", [(",", ":"), (", ", ": "), (" ,\n", "\t: ")])
def test_however_it_is_written_a_body_is_judged_alike(spacing: tuple[str, str]) -> None:
    raw = json.dumps(OPENCODE, separators=spacing).encode()
    assert judge(raw, dialect="openai_chat", facts=FACTS) == Allow()


def test_what_was_judged_once_is_judged_the_same_again() -> None:
    """A body is judged again after its translation, for every candidate: no verdict may depend on
    how often.
    """
    for body, dialect in ((CODEX, "openai_responses"), (_claude_code(), "anthropic_messages")):
        once = judge(json.dumps(body).encode(), dialect=dialect, facts=FACTS)
        assert isinstance(once, Amend)
        again = judge(once.body, dialect=dialect, facts=FACTS)
        assert isinstance(again, Amend)
        assert {item.rule for item in again.stripped} == {"identity"}
        opened = Facts(agent="ann", secret=FACTS.secret, allowed=frozenset({"identity"}))
        assert judge(once.body, dialect=dialect, facts=opened) == Allow()


def test_every_agent_of_this_page_may_say_everything_where_everything_is_open() -> None:
    from modelplex.policy.rules import OPENABLE

    everything = Facts(agent="ann", secret=b"", allowed=OPENABLE)
    bodies: list[tuple[Any, str]] = [
        (CODEX, "openai_responses"),
        (_claude_code(), "anthropic_messages"),
        (GEMINI_CLI, "gemini"),
    ]
    for body, dialect in bodies:
        assert judge(json.dumps(body).encode(), dialect=dialect, facts=everything) == Allow()
