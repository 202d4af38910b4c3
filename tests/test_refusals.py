"""What each type of provider refuses (compatible.toml), refused by a scripted provider: requests of
every client dialect with all that agents send go through.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from modelplex.providers import all_specs
from modelplex.providers.specs import ProviderSpec
from tests.gateways import gateway, one
from tests.upstreams import Act, Scripted, answer, chat_answer, provider

ROWS = all_specs()
STRICT = {
    name: row
    for name, row in ROWS.items()
    if row.dialect == "openai_chat" and any("." not in each for each in row.quirks.refuses)
}
TOOL: dict[str, Any] = {
    "name": "read",
    "description": "d",
    "parameters": {"type": "object", "properties": {}},
}
WORDS = [{"role": "user", "content": "Hi"}]
FULL_CHAT: dict[str, Any] = {
    "frequency_penalty": 0.1, "presence_penalty": 0.1, "logit_bias": {"5": 1}, "logprobs": True, "top_logprobs": 2,
    "seed": 1, "user": "u", "store": False, "metadata": {"a": "b"}, "prompt_cache_key": "k", "safety_identifier": "s",
    "service_tier": "auto", "verbosity": "low", "parallel_tool_calls": True, "reasoning_effort": "low", "top_k": 3,
    "max_completion_tokens": 99, "temperature": 0.5, "stop": ["x"], "web_search_options": {}, "modalities": ["text"],
}  # fmt: skip
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": WORDS, "tools": [{"type": "function", "function": TOOL}], **FULL_CHAT}),
    "codex": ("/v1/responses", {"instructions": "Be brief.", "input": [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}], "tools": [{"type": "function", "strict": False, **TOOL}], "tool_choice": "auto", "parallel_tool_calls": False, "reasoning": {"effort": "medium", "summary": "auto"}, "store": False, "include": ["reasoning.encrypted_content"], "prompt_cache_key": "k", "text": {"verbosity": "low"}, "safety_identifier": "s", "metadata": {"a": "b"}, "service_tier": "auto", "top_logprobs": 1}),
    "claude code": ("/v1/messages", {"max_tokens": 32000, "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}], "messages": WORDS, "tools": [{"name": "read", "input_schema": TOOL["parameters"]}], "metadata": {"user_id": "u"}, "thinking": {"type": "adaptive"}, "temperature": 1, "top_k": 5}),
    "gemini": ("/v1beta/models/m:generateContent", {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}], "tools": [{"functionDeclarations": [TOOL]}], "generationConfig": {"seed": 1, "frequencyPenalty": 0.1, "presencePenalty": 0.1, "topK": 4, "responseLogprobs": True, "logprobs": 2}}),
    "ollama": ("/api/chat", {"messages": WORDS, "stream": False, "tools": [{"type": "function", "function": TOOL}], "options": {"seed": 1, "top_k": 4, "min_p": 0.1, "frequency_penalty": 0.1, "presence_penalty": 0.1}}),
}  # fmt: skip


def refusing(row: ProviderSpec, seen: Scripted) -> Act:
    """Answers as the service does: 400 for a member that it refuses."""

    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        given = [name for name in row.quirks.refuses if name in seen.seen[-1].json]
        error = {"error": {"message": f"Unsupported: {given}", "type": "invalid_request_error", "code": None}}
        await (answer(error, status=400) if given else answer(chat_answer("ok")))(reader, writer)

    return act


@pytest.mark.parametrize("client", ASKED)
@pytest.mark.parametrize("name", STRICT)
async def test_what_agents_send_passes_a_service_that_refuses_members(
    name: str, client: str, tmp_path: Path
) -> None:
    path, body = ASKED[client]
    async with provider() as up:
        up.scripts.append(refusing(STRICT[name], up))
        async with gateway(one(up.url, type=name, api_key="k", lacks=["responses"]), folder=tmp_path) as gw:
            got = await gw.ask("POST", path, {"model": "m", **body})
        assert (got.status, len(up.seen)) == (200, 1), got.body
        if client == "chat":
            lost = {each.partition("=")[2] for each in got.headers["x-modelplex-changes"].split(",")}
            assert lost >= set(STRICT[name].quirks.refuses) & set(FULL_CHAT)


ALTERNATE = "Conversation roles must alternate user/assistant/user/assistant/..."
"""Chat templates of Gemma and Mistral: docs/decisions/0041-lowered-rather-than-refused.md."""
IN_A_ROW: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": [{"role": "system", "content": "s"}, *WORDS, *WORDS]}),
    "codex": ("/v1/responses", {"instructions": "s", "input": [*WORDS, *WORDS, {"role": "developer", "content": "d"}]}),
    "claude code": ("/v1/messages", {"max_tokens": 9, "system": "s", "messages": [*WORDS, *WORDS]}),
    "gemini": ("/v1beta/models/m:generateContent", {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}] * 2}),
    "ollama": ("/api/chat", {"stream": False, "messages": [*WORDS, *WORDS]}),
}  # fmt: skip


def alternating(seen: Scripted) -> Act:
    """Answers as a server does whose template raises for two messages of one role in a row."""

    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        roles = [each["role"] for each in seen.seen[-1].json["messages"]]
        turns = roles[1:] if roles[0] == "system" else roles
        is_good = all(role == ("user", "assistant")[n % 2] for n, role in enumerate(turns))
        error = {"error": {"code": 500, "message": f"Jinja Exception: {ALTERNATE}", "type": "server_error"}}
        await (answer(chat_answer("ok")) if is_good else answer(error, status=500))(reader, writer)

    return act


@pytest.mark.parametrize("client", IN_A_ROW)
@pytest.mark.parametrize("name", ["vllm", "llamacpp", "openai"])
async def test_a_template_that_wants_alternating_roles_gets_them(
    name: str, client: str, tmp_path: Path
) -> None:
    path, body = IN_A_ROW[client]
    async with provider() as up:
        up.scripts.append(alternating(up))
        async with gateway(one(up.url, type=name, api_key="k", lacks=["responses"]), folder=tmp_path) as gw:
            first = await gw.ask("POST", path, {"model": "m", **body})
            tries = len(up.seen)
            then = await gw.ask("POST", path, {"model": "m", **body})
        assert (first.status, then.status) == (200, 200), first.body
        assert "move=" in then.headers["x-modelplex-changes"]
        assert tries <= 2
        assert len(up.seen) == tries + 1, "it is remembered"


NO_SYSTEM = {
    "openai": "System role not supported",
    "gemini": "Developer instruction is not enabled for models/gemma-3-12b-it",
}
"""Gemma 2's template at vLLM (https://github.com/vllm-project/vllm/pull/2964), and Gemma 3 at
Google (https://github.com/google/adk-python/issues/3900).
"""
WITH_SYSTEM: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/v1/chat/completions", {"messages": [{"role": "system", "content": "Be brief."}, *WORDS]}),
    "codex": ("/v1/responses", {"instructions": "Be brief.", "input": [*WORDS, {"role": "developer", "content": "d"}]}),
    "claude code": ("/v1/messages", {"max_tokens": 9, "system": "Be brief.", "messages": WORDS}),
    "gemini": ("/v1beta/models/m:generateContent", {"systemInstruction": {"parts": [{"text": "Be brief."}]}, "contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}),
    "ollama": ("/api/chat", {"stream": False, "messages": [{"role": "system", "content": "Be brief."}, *WORDS]}),
}  # fmt: skip
GEMINI_ANSWER = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "ok"}]}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2},
}


def without_system_role(seen: Scripted) -> Act:
    """Answers as a server does whose model has no system role, and whose turns alternate."""

    async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = seen.seen[-1].json
        is_gemini = "contents" in body
        roles = [each["role"] for each in body["contents" if is_gemini else "messages"]]
        said = NO_SYSTEM["gemini" if is_gemini else "openai"]
        if "systemInstruction" in body or "system" in roles or "developer" in roles:
            refused = {"error": {"code": 400, "message": said, "status": "INVALID_ARGUMENT"}}
            await answer(refused, status=400)(reader, writer)
        elif roles != ["user"]:
            error = {"error": {"code": 400, "message": ALTERNATE, "type": "BadRequestError"}}
            await answer(error, status=400)(reader, writer)
        else:
            await answer(GEMINI_ANSWER if is_gemini else chat_answer("ok"))(reader, writer)

    return act


@pytest.mark.parametrize("client", WITH_SYSTEM)
@pytest.mark.parametrize("name", ["vllm", "llamacpp", "openai", "gemini"])
async def test_a_model_without_a_system_role_reads_the_instructions_in_the_first_message(
    name: str, client: str, tmp_path: Path
) -> None:
    path, body = WITH_SYSTEM[client]
    async with provider() as up:
        up.scripts.append(without_system_role(up))
        row = one(up.url, type=name, api_key="k", lacks=["responses"])
        async with gateway(row, folder=tmp_path) as gw:
            first = await gw.ask("POST", path, {"model": "m", **body})
            tries = len(up.seen)
            then = await gw.ask("POST", path, {"model": "m", **body})
        assert (first.status, then.status) == (200, 200), first.body
        assert "move=" in then.headers["x-modelplex-changes"]
        assert len(up.seen) == tries + 1, "it is remembered"
        sent = up.seen[-1].json
        text = str(sent["contents"] if name == "gemini" else sent["messages"])
        assert text.index("Be brief.") < text.index("Hi")


@pytest.mark.parametrize("client", WITH_SYSTEM)
async def test_the_config_says_that_a_model_has_no_system_role(client: str, tmp_path: Path) -> None:
    path, body = WITH_SYSTEM[client]
    async with provider() as up:
        up.scripts.append(without_system_role(up))
        row = one(up.url, api_key="k", lacks=["responses"])
        row += '[providers.quirks]\nsystem_messages = "nowhere"\nroles = "alternate"\n'
        async with gateway(row, folder=tmp_path) as gw:
            got = await gw.ask("POST", path, {"model": "m", **body})
        assert (got.status, len(up.seen)) == (200, 1), got.body


async def test_groq_gets_no_names_and_one_choice(tmp_path: Path) -> None:
    """https://console.groq.com/docs/openai (2026-12-01): both "will result in a 400 error"."""
    named = [{"role": "user", "content": "Hi", "name": "zoe"}]
    async with (
        provider(answer(chat_answer("ok"))) as up,
        gateway(one(up.url, type="groq", api_key="k"), folder=tmp_path) as gw,
    ):
        got = await gw.ask("POST", "/v1/chat/completions", {"model": "m", "messages": named, "n": 1})
        assert (got.status, up.seen[0].json["messages"]) == (200, WORDS)
        assert got.headers["x-modelplex-changes"] == "drop=messages[0].name"
        two = await gw.ask("POST", "/v1/chat/completions", {"model": "m", "messages": WORDS, "n": 2})
        assert (two.status, two.json["error"]["param"], len(up.seen)) == (400, "n", 1)


@pytest.mark.parametrize("name", STRICT)
def test_what_a_service_refuses_has_a_source(name: str) -> None:
    assert STRICT[name].refusals
