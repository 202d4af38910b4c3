"""The sealed policy through a whole gateway, on real sockets: what is stripped from bodies, kept
and refused, with providers of every dialect (docs/reference/isolation-requirements.md).
"""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
import pytest_asyncio
from google.genai import errors

from modelplex.policy.verdict import Allow, Amend, Facts
from tests.gateways import WAIT_S
from tests.gateways import Answer as Got
from tests.pairs import ROWS, Answer, spoken
from tests.policy.judging import judge
from tests.policy.test_agents import CODEX, NAMESPACE, PATCH, SHELL
from tests.sealed import (
    CANARY,
    DIALECTS,
    FORMS,
    FUNCTION,
    NO_RETRIES,
    Sealed,
    bytes_of,
    on_socket,
    path_of,
    plain,
    sealed_world,
    stripped,
    told,
)
from tests.turns import PIXEL
from tests.upstreams import answer

pytestmark = pytest.mark.asyncio(loop_scope="module")
PAIRS = [(form, dialect) for form in FORMS for dialect in DIALECTS]
NATIVE = {"chat": "openai_chat", "responses": "openai_responses", "messages": "anthropic_messages", "gemini": "gemini", "ollama": "ollama"}  # fmt: skip
URL = "https://canary-7c1f.example/x"
AS_SENT = {
    "chat": {**ROWS["chat"], "quirks": {**ROWS["chat"]["quirks"], "system_messages": "anywhere", "developer_role": True}}
}  # fmt: skip
"""A chat provider that takes instructions as they are sent: of others the gateway moves and renames
them (docs/reference/translation.md#instructions-and-roles), which is not the policy's doing.
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def everywhere(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sealed]:
    async with sealed_world(tmp_path_factory.mktemp("w"), rows=AS_SENT) as made:
        yield made


# --- S22, S23, S25, S29: tools --------------------------------------------------------------------


def function(form: str, name: str) -> dict[str, Any]:
    """A tool that the client runs, as an entry of this form's list."""
    match form:
        case "responses":
            return {"type": "function", "name": name, "parameters": FUNCTION, "strict": False}
        case "messages":
            return {"name": name, "input_schema": FUNCTION}
        case "gemini":
            return {"functionDeclarations": [{"name": name, "parametersJsonSchema": FUNCTION}]}
        case _:
            return {"type": "function", "function": {"name": name, "parameters": FUNCTION}}


OFFERED: dict[str, list[dict[str, Any]]] = {
    "chat": [{"type": "web_search"}, {"type": "openrouter:web_search"}, {"type": "invented_20300101"}],
    "responses": [
        {"type": "web_search", "external_web_access": False},
        {"type": "web_search_preview"},
        {"type": "image_generation"},
        {"type": "invented_20300101"},
    ],
    "messages": [
        {"type": "web_search_20250305", "name": "web_search"},
        {"type": "web_fetch_20250910", "name": "web_fetch"},
        {"type": "code_execution_20250825", "name": "code_execution"},
        {"type": "invented_20300101", "name": "x"},
    ],
    "gemini": [{"googleSearch": {}}, {"url_context": {}}, {"codeExecution": {}}, {"inventedTool": {}}],
    "ollama": [{"type": "web_search"}, {"type": "invented_20300101"}],
}
MEANT: dict[str, dict[str, Any]] = {
    "responses": {"type": "mcp", "server_label": "x", "server_url": URL},
    "messages": {"type": "mcp_toolset", "mcp_server_name": "x"},
    "gemini": {"mcpServers": [{"name": "x", "streamableHttpTransport": {"url": URL}}]},
}


def names(body: Any) -> list[str]:
    """The names of all tools that a provider was offered, in their order; a type for one that has
    no name.
    """
    found: list[str] = []
    for tool in body.get("tools", ()):
        declared: Any = tool.get("functionDeclarations") or tool.get("function_declarations")
        if declared:
            found += [each["name"] for each in declared]
        else:
            found.append(tool.get("name") or tool.get("function", {}).get("name") or str(tool))
    return found


@pytest.mark.parametrize(("form", "dialect"), PAIRS)
async def test_s22_s26_a_tool_that_the_provider_would_run_is_gone_and_the_turn_succeeds(
    everywhere: Sealed, form: str, dialect: str
) -> None:
    for offered in OFFERED[form]:
        tools = [function(form, "one"), offered, function(form, "two")]
        got, seen = await everywhere.serves(form, dialect, tools=tools)
        assert names(seen.json) == ["one", "two"]
        assert any(pointer.startswith("/tools/1") for pointer in stripped(got)), stripped(got)


@pytest.mark.parametrize(("form", "dialect"), PAIRS)
async def test_s29_where_every_tool_is_gone_there_is_no_list_of_them(
    everywhere: Sealed, form: str, dialect: str
) -> None:
    _, seen = await everywhere.serves(form, dialect, tools=OFFERED[form][:2])
    assert not {"tools", "tool_choice", "toolConfig"} & set(seen.json)


@pytest.mark.parametrize("form", MEANT)
async def test_s23_a_tool_that_names_a_destination_is_refused_before_anybody_is_asked(
    everywhere: Sealed, form: str
) -> None:
    for dialect in DIALECTS:
        message, _ = await everywhere.refuses(form, dialect, tools=[MEANT[form]])
        assert "(rule remote-mcp)" in message
        assert "tools[0]" in message
        assert "canary" not in message


FORCED: dict[str, dict[str, Any]] = {
    "responses": {"tools": OFFERED["responses"][:1], "tool_choice": {"type": "web_search"}},
    "messages": {"tools": OFFERED["messages"][:1], "tool_choice": {"type": "tool", "name": "web_search"}},
    "chat": {"tools": OFFERED["chat"][:1], "tool_choice": {"type": "web_search"}},
}


@pytest.mark.parametrize("form", FORCED)
async def test_s27_a_choice_that_forces_a_tool_that_is_gone_is_refused(everywhere: Sealed, form: str) -> None:
    message, param = await everywhere.refuses(form, "messages", **FORCED[form])
    assert param.startswith("tool_choice")
    assert "tool_choice" in message


async def test_s25_codexs_body_goes_through_the_official_client_without_its_search(
    everywhere: Sealed,
) -> None:
    asked = {name: value for name, value in CODEX.items() if name != "client_metadata"}
    client: Any = everywhere.world.clients.openai
    for dialect in DIALECTS:
        everywhere.forget()
        up = everywhere.world.providers[dialect]
        everywhere.answers(dialect, stream=True)
        stream = await client.responses.create(
            **(asked | {"model": f"m-{dialect}"}), extra_body={"client_metadata": CODEX["client_metadata"]}
        )
        events = [event async for event in stream]
        assert events[-1].type == "response.completed"
        sent = up.seen[-1].json
        assert b"installation" not in up.seen[-1].body
        assert b"web_search" not in up.seen[-1].body
        if dialect == "responses":
            assert sent["tools"] == [SHELL, PATCH, NAMESPACE]
            assert sent["input"] == CODEX["input"]
            assert (sent["store"], sent["include"]) == (False, ["reasoning.encrypted_content"])
            assert stripped_of(everywhere)["/tools/2"] == "web-search"
        else:
            assert "shell_command" in names(sent)
            assert any("read" in name for name in names(sent))


def stripped_of(made: Sealed) -> dict[str, str]:
    text = made.world.clients.last.headers["x-modelplex-stripped"]
    return dict(each.rsplit("=", 1) for each in text.split(","))


# --- S31, S32, S34, S37: content that is elsewhere ------------------------------------------------


def shown(form: str, address: str) -> dict[str, Any] | None:
    """A question with a picture at this address; None where the form has no word for one."""
    match form:
        case "chat":
            part: dict[str, Any] = {"type": "image_url", "image_url": {"url": address}}
            return {"messages": [{"role": "user", "content": [part]}]}
        case "responses":
            return {
                "input": [
                    {
                        "role": "user",
                        "content": [{"type": "input_image", "image_url": address, "detail": "auto"}],
                    }
                ]
            }
        case "messages":
            part = {"type": "image", "source": {"type": "url", "url": address}}
            return {"messages": [{"role": "user", "content": [part]}]}
        case "gemini":
            return {
                "contents": [
                    {"role": "user", "parts": [{"fileData": {"fileUri": address, "mimeType": "image/png"}}]}
                ]
            }
        case _:
            return {"messages": [{"role": "user", "content": "see", "images": [address]}]}


ADDRESSES = (URL, URL.upper(), " " + URL, "//canary.example/x", "file:///etc/passwd", "gs://canary/x", "s3://canary/x", "ftp://canary.example/x", "h\tttps://canary.example/x", "/etc/passwd")  # fmt: skip


@pytest.mark.parametrize(("form", "dialect"), PAIRS)
async def test_s31_s32_an_address_is_refused_whoever_would_be_sent_it(
    everywhere: Sealed, form: str, dialect: str
) -> None:
    for address in ADDRESSES:
        message, _ = await everywhere.refuses(form, dialect, **(shown(form, address) or {}))
        assert "(rule remote-url)" in message or ("fileUri" in message and "(rule stored-file)" in message)
        assert "canary" not in message.lower()


INLINE: dict[str, dict[str, Any]] = {
    "chat": shown("chat", f"data:image/png;base64,{PIXEL}") or {},
    "responses": shown("responses", f"data:image/png;base64,{PIXEL}") or {},
    "messages": {
        "messages": [
            {"role": "user", "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}]}
        ]
    },
    "gemini": {"contents": [{"role": "user", "parts": [{"inlineData": {"mimeType": "image/png", "data": PIXEL}}]}]},
    "ollama": {"messages": [{"role": "user", "content": "see", "images": [PIXEL]}]},
}  # fmt: skip


@pytest.mark.parametrize(("form", "dialect"), PAIRS)
async def test_s31_a_picture_that_comes_along_passes(everywhere: Sealed, form: str, dialect: str) -> None:
    got, seen = await everywhere.serves(form, dialect, **INLINE[form])
    assert PIXEL.encode() in seen.body
    assert stripped(got) == {}


STORED: dict[str, tuple[dict[str, Any], ...]] = {
    "chat": (
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}]},
        {"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}, {"role": "user", "content": "x"}]},
    ),
    "responses": (
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]}]},
        {"tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]},
        {"tools": [{"type": "code_interpreter", "container": "cntr_1"}]},
    ),
    "messages": (
        {"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]}]},
        {"container": "c_1"},
        {"messages": [{"role": "user", "content": [{"type": "container_upload", "file_id": "f"}]}]},
    ),
    "gemini": (
        {"cachedContent": "cachedContents/1"},
        {"tools": [{"fileSearch": {"fileSearchStoreNames": ["fileSearchStores/1"]}}]},
        {"generationOutputConfig": {"outputUriPrefix": "gs://canary/x"}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", STORED)
async def test_s34_what_is_stored_at_a_provider_is_refused(everywhere: Sealed, form: str) -> None:
    for members in STORED[form]:
        for dialect in DIALECTS:
            message, _ = await everywhere.refuses(form, dialect, **members)
            assert "file-1" not in message


UNKNOWN_PARTS: dict[str, dict[str, Any]] = {
    "chat": {"messages": [{"role": "user", "content": [{"type": "invented", "x": URL}]}]},
    "responses": {"input": [{"type": "invented", "x": URL}]},
    "messages": {"messages": [{"role": "user", "content": [{"type": "invented", "x": URL}]}]},
    "gemini": {"contents": [{"role": "user", "parts": [{"invented": {"x": URL}}]}]},
}


@pytest.mark.parametrize("form", UNKNOWN_PARTS)
async def test_s37_content_of_an_invented_type_is_refused(everywhere: Sealed, form: str) -> None:
    for dialect in DIALECTS:
        message, _ = await everywhere.refuses(form, dialect, **UNKNOWN_PARTS[form])
        assert "(rule unknown-part)" in message


# --- S36, S50: words are words, and bytes stay ----------------------------------------------------

WORDS = f'file_id server_url {URL} {{"type":"mcp"}} \\u00fc 😀'
RICH: dict[str, dict[str, Any]] = {
    "chat": {
        "messages": [
            {"role": "system", "content": WORDS, "name": "s"},
            {"role": "developer", "content": [{"type": "text", "text": WORDS, "cache_control": {"type": "ephemeral"}}]},
            {"role": "user", "content": [{"type": "text", "text": WORDS}, {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"}}]},
            {"role": "assistant", "content": None, "refusal": None, "reasoning_content": WORDS, "reasoning_details": [{"type": "reasoning.encrypted", "data": "gAAA"}],
             "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": json.dumps({"file_id": URL, "server_url": URL})}}]},
            {"role": "tool", "tool_call_id": "c1", "content": WORDS},
        ],
        "tools": [function("chat", "f")],
        "tool_choice": {"type": "function", "function": {"name": "f"}}, "parallel_tool_calls": False, "temperature": 1.0, "top_p": 0.50, "seed": 7, "logprobs": True,
        "top_logprobs": 2, "n": 1, "stop": ["x"], "max_tokens": 99, "reasoning_effort": "low", "presence_penalty": 0, "logit_bias": {"5": 1},
        "response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": {"type": "object", "properties": {"file_id": {"const": URL}}}}},
    },
    "messages": {
        "system": [{"type": "text", "text": WORDS, "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": WORDS}, {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
             {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": WORDS}, "citations": {"enabled": True}, "title": "t"}]},
            {"role": "assistant", "content": [{"type": "thinking", "thinking": WORDS, "signature": "EqQB+/=="}, {"type": "redacted_thinking", "data": "Emw"},
             {"type": "tool_use", "id": "t1", "name": "f", "input": {"file_id": URL, "url": URL}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "is_error": False, "content": [{"type": "text", "text": WORDS},
             {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}]}]},
        ],
        "tools": [{"name": "f", "description": WORDS, "input_schema": FUNCTION, "cache_control": {"type": "ephemeral"}, "input_examples": [{"url": URL}]}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}, "thinking": {"type": "enabled", "budget_tokens": 1024}, "stop_sequences": ["x"],
        "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}, "output_config": {"effort": "low"}, "temperature": 1.0, "top_k": 5,
    },
    "responses": {
        "instructions": WORDS,
        "input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": WORDS}, {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"},
            ]},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": WORDS}], "encrypted_content": "gAAAA+/=="},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": json.dumps({"file_id": URL})},
            {"type": "function_call_output", "call_id": "c1", "output": WORDS},
        ],
        "tools": [function("responses", "f"), PATCH], "tool_choice": {"type": "function", "name": "f"}, "parallel_tool_calls": True, "include": ["reasoning.encrypted_content"],
        "reasoning": {"effort": "low", "summary": "auto"}, "max_output_tokens": 99, "top_logprobs": 2, "truncation": "disabled",
        "text": {"format": {"type": "json_schema", "name": "n", "strict": True, "schema": {"type": "object", "properties": {"url": {"const": URL}}}}, "verbosity": "low"},
    },
    "gemini": {
        "systemInstruction": {"parts": [{"text": WORDS}]},
        "contents": [
            {"role": "user", "parts": [{"text": WORDS}, {"inlineData": {"mimeType": "image/png", "data": PIXEL}}]},
            {"role": "model", "parts": [{"text": WORDS, "thought": True}, {"functionCall": {"name": "f", "args": {"file_uri": URL}}, "thoughtSignature": "EqQB"}]},
            {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"output": WORDS}}}]},
        ],
        "tools": [function("gemini", "f")], "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
        "generationConfig": {"temperature": 1.0, "seed": 5, "maxOutputTokens": 99, "responseMimeType": "application/json", "responseJsonSchema": FUNCTION,
         "thinkingConfig": {"includeThoughts": True, "thinkingBudget": 128}, "stopSequences": ["x"]},
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
    },
    "ollama": {
        "messages": [
            {"role": "system", "content": WORDS}, {"role": "user", "content": WORDS, "images": [PIXEL]},
            {"role": "assistant", "content": "", "thinking": WORDS, "tool_calls": [{"function": {"name": "f", "arguments": {"url": URL}}}]},
            {"role": "tool", "tool_name": "f", "content": WORDS},
        ],
        "tools": [function("ollama", "f")], "options": {"seed": 5, "temperature": 1.0, "num_ctx": 2048}, "keep_alive": "5m", "format": FUNCTION, "think": True,
    },
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
async def test_s36_s50_what_agents_do_passes_to_its_own_dialect_byte_for_byte(
    everywhere: Sealed, form: str
) -> None:
    body = plain(form, f"m-{form}", **RICH[form])
    for data in (
        json.dumps(body, ensure_ascii=False).encode(),
        json.dumps(body, separators=(",", ":")).encode(),
        b" " + json.dumps(body, indent=3).encode().replace(b": 1.0", b": 1.00e0") + b"\n",
    ):
        got, seen = await everywhere.send(form, form, data)
        assert (got.status, stripped(got)) == (200, {}), got.body
        assert seen is not None
        assert seen.body == data


@pytest.mark.parametrize(("form", "dialect"), PAIRS)
async def test_what_agents_do_is_served_in_every_dialect_and_the_words_arrive(
    everywhere: Sealed, form: str, dialect: str
) -> None:
    got, seen = await everywhere.serves(form, dialect, **RICH[form])
    assert not stripped(got), stripped(got)
    assert json.dumps(URL)[1:-1].encode() in seen.body


# --- S38 to S45: what is kept, and who is told ----------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
async def test_s38_s49_a_provider_of_responses_is_always_told_to_store_nothing(
    everywhere: Sealed, form: str
) -> None:
    for said in ({"store": True}, {"store": False}, {}):
        body = plain(form, "m-responses")
        body.pop("store", None)
        got, seen = await everywhere.send(form, "responses", body | said)
        assert seen is not None, got.body
        assert seen.json["store"] is False
        assert seen.body.count(b'"store"') == 1


@pytest.mark.parametrize(
    "members",
    [
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"conversation": {"id": "conv_1"}},
        {"prompt": {"id": "pmpt_1"}},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
        {"input": [{"id": "msg_1"}]},
        {"background": True},
    ],
)
async def test_s39_s40_what_goes_on_from_stored_state_is_a_400(
    everywhere: Sealed, members: dict[str, Any]
) -> None:
    for dialect in DIALECTS:
        got, seen = await everywhere.ask("responses", dialect, **members)
        message, _, param = told("responses", got)
        assert (got.status, seen) == (400, None)
        assert param.startswith(next(iter(members)))
        if "background" not in members and "prompt" not in members:
            assert "history" in message or "send the" in message, message


LABELS: dict[str, dict[str, Any]] = {
    "chat": {"metadata": {"a": CANARY}, "user": CANARY, "safety_identifier": CANARY, "prompt_cache_key": CANARY, "store": True, "service_tier": CANARY,
             "prompt_cache_retention": CANARY, "moderation": {"model": CANARY}, "made_up": CANARY, "plugins": [{"id": CANARY}], "models": [CANARY], "provider": {"order": [CANARY]},
             "transforms": [CANARY], "search_parameters": {"mode": CANARY}, "enable_search": True, "search_options": {"x": CANARY}, "api_base": URL, "fallbacks": [CANARY],
             "web_search_options": {"user_location": CANARY}},
    "responses": {"metadata": {"a": CANARY}, "user": CANARY, "client_metadata": {"a": CANARY}, "safety_identifier": CANARY, "prompt_cache_key": CANARY, "store": True,
                  "service_tier": CANARY, "prompt_cache_options": {"x": CANARY}, "access_programs": [CANARY], "moderation": {"model": CANARY}, "multi_agent": {"x": CANARY}, "made_up": CANARY},
    "messages": {"metadata": {"user_id": CANARY}, "fallbacks": [{"model": CANARY}], "service_tier": CANARY, "inference_geo": CANARY, "speed": CANARY, "billing_policy": CANARY,
                 "diagnostics": {"previous_message_id": CANARY}, "made_up": CANARY},
    "gemini": {"labels": {"a": CANARY}, "modelArmorConfig": {"x": CANARY}, "routingConfig": {"x": CANARY}, "serviceTier": CANARY, "made_up": CANARY,
               "toolConfig": {"retrievalConfig": {"languageCode": CANARY}}, "store": True},
    "ollama": {"made_up": CANARY, "metadata": {"a": CANARY}, "user": CANARY},
}  # fmt: skip


def without_second_models(form: str) -> dict[str, Any]:
    return {name: value for name, value in LABELS[form].items() if name not in {"models", "fallbacks"}}


@pytest.mark.parametrize(("form", "dialect"), PAIRS)
async def test_s41_s44_s45_s46_labels_prices_and_inventions_go_nowhere_and_are_told_without_their_values(
    everywhere: Sealed, form: str, dialect: str
) -> None:
    known = len(everywhere.gw.records)
    got, seen = await everywhere.serves(form, dialect, **LABELS[form])
    assert CANARY.encode() not in seen.head + seen.body
    assert set(LABELS[form]) - {pointer.split("/")[1] for pointer in stripped(got)} == set()
    assert CANARY not in got.headers["x-modelplex-stripped"]
    record = await everywhere.gw.record(known + 1)
    assert {item.pointer: item.rule for item in record.stripped} == stripped(got)
    assert CANARY not in repr(record)
    line = await line_of(everywhere, got)
    assert CANARY not in json.dumps(line)
    assert {item["pointer"]: item["rule"] for item in line["stripped"]} == stripped(got)


async def line_of(made: Sealed, got: Got) -> dict[str, Any]:
    """The log's line of this answer, once it is there."""
    log = Path(made.gw.socket).parent / "log.json"
    async with asyncio.timeout(WAIT_S):
        while True:
            for text in log.read_text().splitlines():
                if got.headers["x-request-id"] in text:
                    line: dict[str, Any] = json.loads(text)
                    return line
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("form", ["chat", "responses", "messages"])
@pytest.mark.parametrize("dialect", ["chat", "responses", "messages"])
async def test_s42_s43_ids_are_stable_an_agents_own_and_tell_nothing(
    tmp_path: Path, form: str, dialect: str
) -> None:
    sockets = [tmp_path / f"{name}.sock" for name in ("ann", "ben")]
    agents = "".join(f'[[agents]]\nname = "{s.stem}"\nsocket = "{s}"\n' for s in sockets)
    said: dict[str, Any] = {"safety_identifier": CANARY, "prompt_cache_key": CANARY}
    if form == "messages":
        said = {"metadata": {"user_id": CANARY}}
    async with sealed_world(tmp_path, dialect, rules=NO_RETRIES + agents) as made:
        found: list[dict[str, Any]] = []
        for socket in (sockets[0], sockets[0], sockets[1]):
            made.forget()
            made.answers(dialect)
            model = f"m-{dialect}"
            got = await on_socket(made.gw, socket, path_of(form, model), plain(form, model, **said))
            assert got.status == 200
            body = made.world.body(dialect)
            assert CANARY not in json.dumps(body)
            ids = {name: body[name] for name in ("safety_identifier", "prompt_cache_key", "user", "metadata") if name in body}  # fmt: skip
            found.append(ids)
        assert found[0] == found[1]
        assert all(found[0][name] != found[2][name] for name in found[0])
        if form == dialect:
            assert set(found[0]) == set(said)


# --- S47: how it is said --------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("form", FORMS)
async def test_s47_a_refusal_says_policy_field_rule_and_setting_in_the_clients_dialect(
    everywhere: Sealed, form: str, *, streamed: bool
) -> None:
    for dialect in DIALECTS:
        body = plain(form, f"m-{dialect}", **(shown(form, URL) or {}))
        if form != "gemini":
            body["stream"] = streamed
        got, seen = await everywhere.send(form, dialect, body, stream=streamed)
        message, code, param = told(form, got)
        assert (got.status, seen) == (400, None)
        assert message.startswith("Refused by policy: ")
        assert "(rule remote-url)" in message
        assert "[policy.allow]" in message
        assert message.count(". ") <= 1
        assert got.headers["x-should-retry"] == "false"
        assert code == ("" if form == "ollama" else "policy_denied")
        assert any(word in message for word in ("[0].", "[0]"))
        if form in {"chat", "messages", "responses"}:
            assert param
            assert param in message
        assert everywhere.arrived == []


async def test_s47_official_clients_raise_what_they_raise_for_a_bad_request(everywhere: Sealed) -> None:
    clients: Any = everywhere.world.clients
    with pytest.raises(openai.BadRequestError, match="Refused by policy"):
        await clients.openai.chat.completions.create(model="m-chat", **(shown("chat", URL) or {}))
    with pytest.raises(openai.BadRequestError, match="Refused by policy"):
        await clients.openai.responses.create(model="m-chat", **(shown("responses", URL) or {}))
    with pytest.raises(anthropic.BadRequestError, match="Refused by policy"):
        await clients.anthropic.messages.create(
            model="m-chat", max_tokens=5, **(shown("messages", URL) or {})
        )
    with pytest.raises(errors.ClientError, match="Refused by policy"):
        await clients.genai.aio.models.generate_content(
            model="m-chat", contents=[{"role": "user", "parts": [{"file_data": {"file_uri": URL}}]}]
        )


# --- S49: what is written is judged ---------------------------------------------------------------


@pytest.mark.parametrize(("form", "dialect"), PAIRS)
async def test_s49_what_arrives_is_what_its_own_dialects_table_lets_pass(
    everywhere: Sealed, form: str, dialect: str
) -> None:
    facts = Facts(agent="x", secret=b"s" * 32)
    for members in ({}, RICH[form], LABELS[form], {"tools": OFFERED[form]}):
        _, seen = await everywhere.serves(form, dialect, **members)
        verdict = judge(seen.body, dialect=NATIVE[dialect], facts=facts)
        assert isinstance(verdict, Allow | Amend), verdict
        if isinstance(verdict, Amend):  # hashes are hashed again
            assert {item.rule for item in verdict.stripped} == {"identity"}
        if dialect == "gemini":
            assert not {"store", "labels"} & set(seen.json) or seen.json.get("store") is False


async def test_s49_each_candidate_of_a_failover_is_sent_what_its_own_table_lets_pass(tmp_path: Path) -> None:
    order = ("chat", "messages", "gemini", "ollama", "responses")
    rules = NO_RETRIES + "\n[aliases]\nany = [" + ", ".join(f'"{d}/m-{d}"' for d in order) + "]\n"
    async with sealed_world(tmp_path, *order, rules=rules) as made:
        for form in FORMS:
            made.forget()
            for dialect in order:
                made.world.providers[dialect].scripts[:] = [answer({}, status=500)]
            made.world.providers["responses"].scripts[:] = [
                spoken("responses", Answer(text=("Hello",)), stream=False)
            ]
            body = plain(form, "any", **without_second_models(form), tools=OFFERED[form])
            got = await made.gw.ask("POST", path_of(form, "any"), body, unix=True)
            assert got.status == 200, got.body
            assert [len(made.world.providers[dialect].seen) for dialect in order] == [1] * 5
            assert CANARY.encode() not in bytes_of(*made.world.providers.values())
            for dialect in order:
                sent = made.world.providers[dialect].seen[0]
                verdict = judge(sent.body, dialect=NATIVE[dialect], facts=Facts(agent="x", secret=b"s" * 32))
                assert not isinstance(verdict, Amend) or {i.rule for i in verdict.stripped} == {"identity"}
                assert "tools" not in sent.json
            assert made.world.body("responses")["store"] is False
            assert "store" not in made.world.body("messages")


# --- counts, vectors, Ollama's own ----------------------------------------------------------------


async def test_counts_and_estimates_are_under_the_policy_too(everywhere: Sealed) -> None:
    everywhere.forget()
    everywhere.world.providers["messages"].scripts[:] = [answer({"input_tokens": 5})]
    body = plain("messages", "m-messages", tools=OFFERED["messages"], metadata={"user_id": CANARY})
    body.pop("max_tokens")
    got = await everywhere.gw.ask("POST", "/v1/messages/count_tokens", body, unix=True)
    assert (got.status, got.json["input_tokens"]) == (200, 5)
    assert CANARY not in everywhere.world.providers["messages"].seen[0].body.decode()
    assert "tools" not in everywhere.world.body("messages")
    for target, form, model in (
        ("/v1/messages/count_tokens", "messages", "m-ollama"),
        ("/v1/messages/count_tokens", "messages", "m-messages"),
        ("/v1/responses/input_tokens", "responses", "m-ollama"),
        ("/v1/responses/input_tokens", "responses", "m-responses"),
        ("/v1beta/models/m-ollama:countTokens", "gemini", "m-ollama"),
        ("/v1beta/models/m-gemini:countTokens", "gemini", "m-gemini"),
    ):
        everywhere.forget()
        asked = plain(form, model, **(shown(form, URL) or {}))
        got = await everywhere.gw.ask("POST", target, asked, unix=True)
        assert got.status == 400, (target, got.body)
        assert told(form, got)[0].startswith("Refused by policy: ")
        assert everywhere.arrived == []


async def test_vectors_are_under_the_policy_too(everywhere: Sealed) -> None:
    vector = {"object": "list", "model": "m", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}], "usage": {"prompt_tokens": 1, "total_tokens": 1}}  # fmt: skip
    everywhere.forget()
    everywhere.world.providers["chat"].scripts[:] = [answer(vector)]
    body = {"model": "m-chat", "input": f"see {URL}", "user": CANARY, "made_up": CANARY}
    got = await everywhere.gw.ask("POST", "/v1/embeddings", body, unix=True)
    assert got.status == 200
    assert everywhere.world.body("chat") == {"model": "m-chat", "input": f"see {URL}"}
    assert stripped(got) == {"/user": "labels", "/made_up": "unknown-field"}
    everywhere.world.providers["ollama"].scripts[:] = [answer({"model": "m", "embeddings": [[0.5]]})]
    for target, asked in (
        ("/api/embed", {"model": "m-ollama", "input": "x", "user": CANARY}),
        ("/v1/embeddings", {"model": "m-ollama", "input": "x", "user": CANARY}),
    ):
        everywhere.forget()
        got = await everywhere.gw.ask("POST", target, asked, unix=True)
        assert got.status == 200, got.body
        assert CANARY.encode() not in everywhere.arrived[0].body
    gemini = {"content": {"parts": [{"fileData": {"fileUri": URL}}]}}
    everywhere.forget()
    got = await everywhere.gw.ask("POST", "/v1beta/models/m-gemini:embedContent", gemini, unix=True)
    assert got.status == 400
    assert told("gemini", got)[1] == "policy_denied"
    assert everywhere.arrived == []


async def test_ollamas_other_form_is_under_the_policy_too(everywhere: Sealed) -> None:
    everywhere.forget()
    asked = {"model": "m-ollama", "prompt": "see", "images": [URL], "stream": False}
    got = await everywhere.gw.ask("POST", "/api/generate", asked, unix=True)
    assert got.status == 400
    assert told("ollama", got)[0].startswith("Refused by policy: ")
    assert everywhere.arrived == []


async def test_a_form_is_refused_since_nobody_reads_it(everywhere: Sealed) -> None:
    everywhere.forget()
    body = b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nm-chat\r\n--b--\r\n'
    label = (b"content-type", b"multipart/form-data; boundary=b")
    got = await everywhere.gw.ask("POST", "/v1/audio/transcriptions", body, headers=[label], unix=True)
    assert got.status == 400
    assert "(rule unread-form)" in got.error["message"]
    assert everywhere.arrived == []


async def test_bytes_of_a_file_are_bytes_and_not_an_address(everywhere: Sealed) -> None:
    bare = base64.b64encode(b"%PDF").decode()
    for data, status in (
        (bare, 200),
        (f"data:application/pdf;base64,{bare}", 200),
        (URL, 400),
        ("%PDF", 400),
    ):
        part = {"type": "file", "file": {"filename": "a.pdf", "file_data": data}}
        got, _ = await everywhere.ask("chat", "chat", messages=[{"role": "user", "content": [part]}])
        assert got.status == status
