"""Content must be inline: no URL, no id of a stored object, no unknown type (S30 to S37)."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from modelplex.policy.verdict import Allow
from tests.policy.judging import (
    FACTS,
    TABLES,
    Json,
    Place,
    amended,
    assert_allowed,
    block,
    chat,
    chat_part,
    converse,
    facts,
    gemini,
    gemini_part,
    item,
    judge_body,
    messages,
    ollama,
    refused,
    responses,
)

DATA = "data:image/png;base64,iVBORw0KGgo="
UPPER_DATA = "DATA:image/png;base64,iVBORw0KGgo="
"""The same: a scheme is of either case (RFC 3986, section 3.1)."""
BYTES = base64.b64encode(b"\x89PNG and more").decode()

DISGUISES = [
    "https://evil.example/x.png",
    "http://127.0.0.1:8000/",
    "HTTPS://EVIL.EXAMPLE/x",
    "hTTp://evil.example",
    " https://evil.example",
    "\thttps://evil.example",
    "\x00https://evil.example",
    "\u00a0https://evil.example",
    "ht\ttps://evil.example",
    "https:evil.example",
    "//evil.example/x",
    "//2130706433/x",
    "\n//2130706433/x",
    "\r\n//2130706433",
    "\\\\evil.example\\x",
    "file:///etc/passwd",
    "file:etc",
    "gs://bucket/x",
    "s3://bucket/x",
    "ftp://evil.example/x",
    "/etc/passwd",
    "/etc/passwd.png",
    "./image.png",
    "evil.example",
    " data:image/png;base64,iVBORw0KGgo=",
    "\tDATA:image/png;base64,iVBORw0KGgo=",
    "da\tta:image/png;base64,iVBORw0KGgo=",
    "data://evil.example/x",
    "DATA://evil.example/x",
    "data:https://evil.example",
    "Data:https://evil.example,x",
    "data:",
    "blob:https://evil.example/1",
    "https://evil.example/#data:image/png;base64,AAAA",
]
"""S32: every way to say an address that is not plainly a data: URL."""


def _output(kind: str, content: Any) -> Json:
    return item({"type": kind, "call_id": "c", "output": content})


ADDRESSES: dict[str, tuple[str, Place, str]] = {
    "chat image": (
        "openai_chat",
        lambda v: chat_part({"type": "image_url", "image_url": {"url": v}}),
        "image_url.url",
    ),
    "chat image as a string": (
        "openai_chat",
        lambda v: chat_part({"type": "image_url", "image_url": v}),
        "image_url",
    ),
    "chat video": (
        "openai_chat",
        lambda v: chat_part({"type": "video_url", "video_url": {"url": v}}),
        "video_url.url",
    ),
    "chat video as a string": (
        "openai_chat",
        lambda v: chat_part({"type": "video_url", "video_url": v}),
        "video_url",
    ),
    "chat audio": (
        "openai_chat",
        lambda v: chat_part({"type": "audio_url", "audio_url": {"url": v}}),
        "audio_url.url",
    ),
    "chat document": (
        "openai_chat",
        lambda v: chat_part({"type": "document_url", "document_url": v}),
        "document_url",
    ),
    "chat image of a tool": (
        "openai_chat",
        lambda v: chat_part({"type": "image_url", "image_url": {"url": v}}, role="tool"),
        "image_url.url",
    ),
    "chat image of a system message": (
        "openai_chat",
        lambda v: chat_part({"type": "image_url", "image_url": {"url": v}}, role="system"),
        "image_url.url",
    ),
    "chat prediction": (
        "openai_chat",
        lambda v: chat(
            prediction={"type": "content", "content": [{"type": "image_url", "image_url": {"url": v}}]}
        ),
        "image_url.url",
    ),
    "moderation": (
        "openai_json",
        lambda v: {"model": "m", "input": [{"type": "image_url", "image_url": {"url": v}}]},
        "image_url.url",
    ),
    "image edit": (
        "openai_json",
        lambda v: {"model": "m", "prompt": "p", "images": [{"image_url": v}]},
        "image_url",
    ),
    "image mask": (
        "openai_json",
        lambda v: {"model": "m", "prompt": "p", "mask": {"image_url": v}},
        "mask.image_url",
    ),
    "responses image": (
        "openai_responses",
        lambda v: item({"role": "user", "content": [{"type": "input_image", "image_url": v}]}),
        "image_url",
    ),
    "responses file": (
        "openai_responses",
        lambda v: item(
            {"type": "message", "role": "user", "content": [{"type": "input_file", "file_url": v}]}
        ),
        "file_url",
    ),
    "responses instructions": (
        "openai_responses",
        lambda v: responses(
            instructions=[{"role": "system", "content": [{"type": "input_image", "image_url": v}]}]
        ),
        "image_url",
    ),
    "responses steer": (
        "openai_responses",
        lambda v: {
            "type": "response.steer",
            "input": [{"role": "user", "content": [{"type": "input_image", "image_url": v}]}],
        },
        "image_url",
    ),
    "function output": (
        "openai_responses",
        lambda v: _output("function_call_output", [{"type": "input_image", "image_url": v}]),
        "output[0].image_url",
    ),
    "function output file": (
        "openai_responses",
        lambda v: _output("function_call_output", [{"type": "input_file", "file_url": v}]),
        "output[0].file_url",
    ),
    "custom tool output": (
        "openai_responses",
        lambda v: _output("custom_tool_call_output", [{"type": "input_image", "image_url": v}]),
        "output[0].image_url",
    ),
    "computer output": (
        "openai_responses",
        lambda v: _output("computer_call_output", {"type": "computer_screenshot", "image_url": v}),
        "output.image_url",
    ),
    "count of responses": (
        "openai_count",
        lambda v: {
            "model": "m",
            "input": [{"role": "user", "content": [{"type": "input_image", "image_url": v}]}],
        },
        "image_url",
    ),
    "anthropic image": (
        "anthropic_messages",
        lambda v: block({"type": "image", "source": {"type": "url", "url": v}}),
        "source.url",
    ),
    "anthropic document": (
        "anthropic_messages",
        lambda v: block({"type": "document", "source": {"type": "url", "url": v}}),
        "source.url",
    ),
    "anthropic tool result": (
        "anthropic_messages",
        lambda v: block(
            {
                "type": "tool_result",
                "tool_use_id": "t",
                "content": [{"type": "image", "source": {"type": "url", "url": v}}],
            }
        ),
        "content[0].content[0].source.url",
    ),
    "anthropic search result": (
        "anthropic_messages",
        lambda v: block(
            {
                "type": "search_result",
                "source": "s",
                "title": "t",
                "content": [{"type": "image", "source": {"type": "url", "url": v}}],
            }
        ),
        "content[0].content[0].source.url",
    ),
    "anthropic document of blocks": (  # S35
        "anthropic_messages",
        lambda v: block(
            {
                "type": "document",
                "source": {
                    "type": "content",
                    "content": [{"type": "image", "source": {"type": "url", "url": v}}],
                },
            }
        ),
        "messages[0].content[0].source.content[0].source.url",
    ),
    "anthropic system": (
        "anthropic_messages",
        lambda v: messages(system=[{"type": "document", "source": {"type": "url", "url": v}}]),
        "system[0].source.url",
    ),
    "anthropic count": (
        "anthropic_count",
        lambda v: block({"type": "image", "source": {"type": "url", "url": v}}),
        "source.url",
    ),
}
INLINE: dict[str, tuple[str, Place, str]] = {
    "chat file": (
        "openai_chat",
        lambda v: chat_part({"type": "file", "file": {"file_data": v, "filename": "f"}}),
        "file.file_data",
    ),
    "chat sound": (
        "openai_chat",
        lambda v: chat_part({"type": "input_audio", "input_audio": {"data": v}}),
        "input_audio.data",
    ),
    "responses file": (
        "openai_responses",
        lambda v: item({"role": "user", "content": [{"type": "input_file", "file_data": v}]}),
        "file_data",
    ),
    "responses output": (
        "openai_responses",
        lambda v: _output("function_call_output", [{"type": "input_file", "file_data": v}]),
        "output[0].file_data",
    ),
    "anthropic image": (
        "anthropic_messages",
        lambda v: block(
            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": v}}
        ),
        "source.data",
    ),
    "gemini": (
        "gemini",
        lambda v: gemini_part({"inlineData": {"mimeType": "image/png", "data": v}}),
        "inlineData.data",
    ),
    "gemini in snakes": (
        "gemini",
        lambda v: gemini_part({"inline_data": {"mime_type": "image/png", "data": v}}),
        "inline_data.data",
    ),
    "ollama": (
        "ollama",
        lambda v: ollama(messages=[{"role": "user", "content": "c", "images": [v]}]),
        "images[0]",
    ),
    "converse": (
        "bedrock_converse",
        lambda v: converse({"image": {"format": "png", "source": {"bytes": v}}}),
        "image.source.bytes",
    ),
    "ollama generate": (
        "ollama_generate",
        lambda v: {"model": "m", "prompt": "p", "images": [v]},
        "images[0]",
    ),
    "image edit": ("openai_json", lambda v: {"model": "m", "prompt": "p", "image": v}, "image"),
}

# --- S31, S32 and S35 -----------------------------------------------------------------------------


@pytest.mark.parametrize("place", sorted(ADDRESSES))
@pytest.mark.parametrize("address", DISGUISES)
def test_an_address_is_refused_in_every_place_and_disguise(place: str, address: str) -> None:
    dialect, make, path = ADDRESSES[place]
    rule, found = refused(make(address), dialect)
    assert rule == "remote-url"
    assert found.endswith(path)


@pytest.mark.parametrize("place", sorted(ADDRESSES))
@pytest.mark.parametrize(
    "url",
    [
        DATA,
        UPPER_DATA,
        "data:,text",
        "data:text/plain;charset=utf-8,hello%20there",
        "data:application/pdf;base64,AA==",
    ],
)
def test_a_data_url_passes_in_every_place(place: str, url: str) -> None:
    dialect, make, _ = ADDRESSES[place]
    assert_allowed(make(url), dialect)


@pytest.mark.parametrize("place", sorted(ADDRESSES))
def test_an_address_passes_where_the_rule_is_open(place: str) -> None:
    dialect, make, _ = ADDRESSES[place]
    assert_allowed(make("https://e.example/x.png"), dialect, facts("remote-url"))


@pytest.mark.parametrize("place", sorted(ADDRESSES))
@pytest.mark.parametrize("value", [["https://e"], {"href": "https://e"}, 7, True])
def test_an_address_of_another_type_is_refused(place: str, value: Any) -> None:
    dialect, make, _ = ADDRESSES[place]
    verdict = judge_body(make(value), dialect)
    assert "https" not in str(getattr(verdict, "body", b""))
    if isinstance(value, dict) and place in {
        "chat image as a string",
        "chat video as a string",
        "chat document",
    }:
        return  # an object is the other form of these, and its unknown member is stripped
    assert not isinstance(verdict, Allow)


# --- S33 ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", sorted(INLINE))
@pytest.mark.parametrize("said", [*DISGUISES, "not base64!", "a b", "naïve", "%2F%2Fevil"])
def test_file_data_that_is_neither_base64_nor_a_data_url_is_refused(place: str, said: str) -> None:
    dialect, make, path = INLINE[place]
    rule, found = refused(make(said), dialect)
    assert rule == "remote-url"
    assert found.endswith(path)


@pytest.mark.parametrize("place", sorted(INLINE))
@pytest.mark.parametrize("said", [BYTES, DATA, UPPER_DATA, "/9j/4AAQSkZJRg==", "AA-_", "QUJD\r\nREVG"])
def test_bytes_that_come_along_pass(place: str, said: str) -> None:
    dialect, make, _ = INLINE[place]
    assert_allowed(make(said), dialect)


# --- S34: ids of what is stored -------------------------------------------------------------------

STORED: list[tuple[str, Json, str, str]] = [
    (
        "openai_responses",
        item({"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}),
        "stored-file",
        "file_id",
    ),
    (
        "openai_responses",
        item({"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}),
        "stored-file",
        "file_id",
    ),
    (
        "openai_responses",
        _output("function_call_output", [{"type": "input_file", "file_id": "f"}]),
        "stored-file",
        "output[0].file_id",
    ),
    (
        "openai_responses",
        _output("custom_tool_call_output", [{"type": "input_image", "file_id": "f"}]),
        "stored-file",
        "output[0].file_id",
    ),
    (
        "openai_responses",
        _output("computer_call_output", {"type": "computer_screenshot", "file_id": "f"}),
        "stored-file",
        "output.file_id",
    ),
    (
        "openai_responses",
        item({"type": "code_interpreter_call", "id": "c", "container_id": "c"}),
        "provider-history",
        "input[1]",
    ),
    ("openai_responses", item({"type": "item_reference", "id": "i"}), "stored-state", "input[1]"),
    ("openai_responses", item({"id": "i"}), "stored-state", "input[1]"),
    ("openai_responses", item({"id": "i", "type": None}), "stored-state", "input[1]"),
    ("openai_chat", chat_part({"type": "file", "file": {"file_id": "f"}}), "stored-file", "file.file_id"),
    ("openai_chat", chat_part({"type": "file", "file_id": "f"}), "stored-file", "file_id"),
    (
        "openai_chat",
        chat(messages=[{"role": "assistant", "audio": {"id": "a"}}]),
        "stored-file",
        "messages[0].audio.id",
    ),
    ("openai_chat", chat(audio={"format": "mp3", "voice": {"id": "v"}}), "stored-file", "audio.voice.id"),
    ("openai_json", {"model": "m", "input": "hi", "voice": {"id": "v"}}, "stored-file", "voice.id"),
    (
        "openai_json",
        {"model": "m", "prompt": "p", "images": [{"file_id": "f"}]},
        "stored-file",
        "images[0].file_id",
    ),
    (
        "anthropic_messages",
        block({"type": "image", "source": {"type": "file", "file_id": "f"}}),
        "stored-file",
        "source.file_id",
    ),
    (
        "anthropic_messages",
        block({"type": "document", "source": {"type": "file", "file_id": "f"}}),
        "stored-file",
        "source.file_id",
    ),
    (
        "anthropic_messages",
        block(
            {
                "type": "tool_result",
                "content": [{"type": "document", "source": {"type": "file", "file_id": "f"}}],
            }
        ),
        "stored-file",
        "content[0].content[0].source.file_id",
    ),
    ("anthropic_messages", block({"type": "container_upload", "file_id": "f"}), "stored-file", "content[0]"),
    ("anthropic_messages", messages(container="c"), "code-execution", "container"),
    (
        "anthropic_messages",
        messages(container={"id": None, "skills": [{"skill_id": "s"}]}),
        "code-execution",
        "container",
    ),
    ("gemini", gemini_part({"fileData": {"fileUri": "files/abc"}}), "stored-file", "fileData.fileUri"),
    ("gemini", gemini_part({"file_data": {"file_uri": "gs://b/x"}}), "stored-file", "file_data.file_uri"),
    (
        "gemini",
        gemini_part({"fileData": {"fileUri": "https://www.youtube.com/watch?v=x"}}),
        "remote-url",
        "fileData.fileUri",
    ),
    ("gemini", gemini_part({"file_data": {"fileUri": "https://e"}}), "remote-url", "file_data.fileUri"),
    (
        "gemini",
        gemini(systemInstruction={"parts": [{"fileData": {"fileUri": "https://e"}}]}),
        "remote-url",
        "fileData.fileUri",
    ),
    (
        "gemini",
        gemini(system_instruction={"parts": [{"file_data": {"file_uri": "https://e"}}]}),
        "remote-url",
        "file_uri",
    ),
    (
        "gemini",
        gemini_part(
            {
                "functionResponse": {
                    "name": "f",
                    "response": {},
                    "parts": [{"fileData": {"fileUri": "https://e"}}],
                }
            }
        ),
        "remote-url",
        "functionResponse.parts[0].fileData.fileUri",
    ),
    (
        "gemini",
        gemini_part(
            {
                "function_response": {
                    "name": "f",
                    "response": {},
                    "parts": [{"file_data": {"file_uri": "files/x"}}],
                }
            }
        ),
        "stored-file",
        "function_response.parts[0].file_data.file_uri",
    ),
    (
        "gemini_embed",
        {"requests": [{"content": {"parts": [{"fileData": {"fileUri": "https://e"}}]}}]},
        "remote-url",
        "fileUri",
    ),
    (
        "gemini_embed_one",
        {"content": {"parts": [{"file_data": {"file_uri": "https://e"}}]}},
        "remote-url",
        "file_uri",
    ),
    ("gemini_array", gemini_part({"fileData": {"fileUri": "https://e"}}), "remote-url", "fileUri"),
    (
        "gemini_count",
        {"generateContentRequest": gemini_part({"fileData": {"fileUri": "https://e"}})},
        "remote-url",
        "fileUri",
    ),
    (
        "gemini",
        gemini(generationConfig={"speechConfig": {"voiceConfig": {"voice": "voices/abc"}}}),
        "stored-file",
        "voiceConfig.voice",
    ),
    *(
        (
            "bedrock_converse",
            converse({kind: {"format": "png", "source": {"s3Location": {"uri": "s3://b/k"}}}}),
            "stored-file",
            "source.s3Location",
        )
        for kind in ("image", "document", "audio")
    ),
]


@pytest.mark.parametrize(("dialect", "body", "rule", "path"), STORED)
def test_an_id_of_something_stored_is_refused_in_its_nested_places_too(
    dialect: str, body: Json, rule: str, path: str
) -> None:
    found, where = refused(body, dialect)
    assert found == rule
    assert where.endswith(path)


# --- S30: history ---------------------------------------------------------------------------------

RAN_ITEMS = (
    "mcp_approval_response mcp_approval_request mcp_call mcp_list_tools program program_output agent_message multi_agent_call "
    "multi_agent_call_output code_interpreter_call"
).split()
RAN_BLOCKS = (
    "mcp_tool_use mcp_tool_listing code_execution_tool_result bash_code_execution_tool_result text_editor_code_execution_tool_result "
    "web_search_tool_result web_fetch_tool_result mcp_tool_result advisor_tool_result"
).split()


@pytest.mark.parametrize("kind", RAN_ITEMS)
def test_an_item_of_work_that_a_provider_ran_is_refused(kind: str) -> None:
    assert refused(item({"type": kind, "id": "x"}), "openai_responses") == ("provider-history", "input[1]")


@pytest.mark.parametrize("kind", RAN_BLOCKS)
@pytest.mark.parametrize("dialect", ["anthropic_messages", "anthropic_count"])
def test_a_block_of_work_that_a_provider_ran_is_refused(kind: str, dialect: str) -> None:
    assert refused(block({"type": kind}, role="assistant"), dialect) == (
        "provider-history",
        "messages[0].content[0]",
    )


@pytest.mark.parametrize(
    "name",
    [
        "web_search",
        "web_fetch",
        "code_execution",
        "advisor",
        "bash_code_execution",
        None,
        ["tool_search_tool_bm25"],
    ],
)
def test_a_call_of_a_tool_of_the_providers_is_refused(name: Any) -> None:
    body = block({"type": "server_tool_use", "id": "s", "name": name, "input": {}}, role="assistant")
    assert refused(body, "anthropic_messages") == ("provider-history", "messages[0].content[0]")


@pytest.mark.parametrize("key", ["toolCall", "tool_call", "toolResponse", "tool_response"])
def test_a_part_of_work_that_gemini_ran_is_refused(key: str) -> None:
    rule, path = refused(gemini_part({key: {"toolType": "URL_CONTEXT"}}), "gemini")
    assert (rule, path) == ("provider-history", f"contents[0].parts[0].{key}")


@pytest.mark.parametrize("caller", [{"type": "program", "caller_id": "p"}, "program", {}])
@pytest.mark.parametrize(
    "kind", ["function_call", "function_call_output", "custom_tool_call", "shell_call", "apply_patch_call"]
)
def test_a_call_by_code_of_the_provider_is_refused(kind: str, caller: Any) -> None:
    body = item({"type": kind, "call_id": "c", "caller": caller})
    assert refused(body, "openai_responses") == ("provider-history", "input[1].caller")


def test_a_tool_use_by_code_of_the_provider_is_refused() -> None:
    body = block(
        {
            "type": "tool_use",
            "id": "t",
            "name": "f",
            "input": {},
            "caller": {"type": "code_execution_20250825", "tool_id": "x"},
        }
    )
    assert refused(body, "anthropic_messages") == ("provider-history", "messages[0].content[0].caller")


def test_a_shell_call_in_a_container_is_refused() -> None:
    body = item(
        {
            "type": "shell_call",
            "call_id": "c",
            "action": {},
            "environment": {"type": "container_reference", "container_id": "x"},
        }
    )
    assert refused(body, "openai_responses") == ("provider-history", "input[1].environment")


URL = "https://evil.example/file_id?server_url=x"
KEPT_ITEMS: list[Json] = [
    {"type": "web_search_call", "id": "w", "action": {"type": "open_page", "url": URL}},
    {"type": "file_search_call", "id": "f", "queries": ["q"], "results": [{"file_id": "x"}]},
    {"type": "image_generation_call", "id": "g", "result": "AAAA"},
    {
        "type": "message",
        "role": "assistant",
        "content": [
            {"type": "output_text", "text": "t", "annotations": [{"type": "url_citation", "url": URL}]}
        ],
    },
    {
        "type": "reasoning",
        "id": "r",
        "summary": [{"type": "summary_text", "text": "s"}],
        "encrypted_content": "e",
    },
    {"type": "compaction", "encrypted_content": "e"},
    {
        "type": "function_call",
        "call_id": "c",
        "name": "f",
        "arguments": URL,
        "namespace": "n",
        "caller": {"type": "direct"},
    },
    {"type": "function_call_output", "call_id": "c", "output": URL},
    {"type": "custom_tool_call", "call_id": "c", "name": "f", "input": URL},
    {
        "type": "local_shell_call",
        "call_id": "c",
        "action": {"type": "exec", "command": ["curl", URL]},
        "id": "l",
        "status": "completed",
    },
    {"type": "shell_call", "call_id": "c", "action": {"commands": [URL]}, "environment": {"type": "local"}},
    {
        "type": "shell_call_output",
        "call_id": "c",
        "output": [{"stdout": URL, "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}],
    },
    {
        "type": "apply_patch_call",
        "call_id": "c",
        "operation": {"type": "update_file", "path": URL, "diff": URL},
    },
    {"type": "computer_call", "call_id": "c", "actions": [{"type": "type", "text": URL}]},
    {"type": "tool_search_call", "call_id": "c", "arguments": {"url": URL}, "execution": "client"},
]
KEPT_BLOCKS: list[Json] = [
    {"type": "thinking", "thinking": URL, "signature": "s"},
    {"type": "redacted_thinking", "data": "d"},
    {
        "type": "tool_search_tool_result",
        "tool_use_id": "t",
        "content": {"type": "tool_search_tool_search_result", "tool_references": []},
    },
    {"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}},
    {"type": "compaction", "content": "c", "encrypted_content": "e"},
    {"type": "search_result", "source": URL, "title": "t", "content": [{"type": "text", "text": URL}]},
    {"type": "text", "text": "t", "citations": [{"type": "web_search_result_location", "url": URL}]},
    {"type": "browser_state", "tabs": [{"tab_id": "1", "url": URL, "title": "t"}]},
    {"type": "server_tool_use", "id": "s", "name": "tool_search_tool_regex", "input": {"query": URL}},
    {
        "type": "tool_use",
        "id": "t",
        "name": "f",
        "input": {"file_id": "x", "url": URL},
        "caller": {"type": "direct"},
    },
    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": URL}},
]
KEPT_PARTS: list[Json] = [
    {"executableCode": {"language": "PYTHON", "code": URL}},
    {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": URL}},
    {"text": "t", "partMetadata": {"file_id": "x"}},
    {"text": "t", "thought": True, "thoughtSignature": "AA=="},
    {"functionCall": {"name": "f", "args": {"fileUri": URL}}},
    {"functionResponse": {"name": "f", "response": {"fileData": {"fileUri": URL}}}},
]


@pytest.mark.parametrize("it", KEPT_ITEMS, ids=lambda it: it["type"])
@pytest.mark.parametrize("dialect", ["openai_responses", "openai_count", "openai_compact"])
def test_an_inert_item_of_the_history_passes_unchanged(it: Json, dialect: str) -> None:
    assert_allowed({"model": "m", "input": [{"role": "user", "content": "hi"}, it]}, dialect)


@pytest.mark.parametrize("it", KEPT_BLOCKS, ids=lambda it: it["type"])
def test_an_inert_block_of_the_history_passes_unchanged(it: Json) -> None:
    assert_allowed(block(it, role="assistant"), "anthropic_messages")


@pytest.mark.parametrize("part", KEPT_PARTS)
def test_an_inert_part_of_the_history_passes_unchanged(part: Json) -> None:
    assert_allowed(gemini_part(part), "gemini")


# --- S36: opaque ----------------------------------------------------------------------------------

WORDS = 'file_id server_url previous_response_id "type": "mcp" https://evil.example/x'
SCHEMA: Json = {
    "type": "object",
    "properties": {
        "file_id": {"type": "string"},
        "server_url": {"default": URL, "examples": [URL]},
        "type": {"const": "mcp"},
    },
    "$ref": "#/$defs/local",
    "$schema": "http://json-schema.org/draft-07/schema#",
}
SAID: Json = {**SCHEMA, "$ref": URL, "$id": URL, "$schema": URL}
"""What stands where a model or a function wrote it is no schema, whatever it looks like."""
OPAQUE: list[tuple[str, Json]] = [
    (
        "openai_chat",
        {
            "model": "m",
            "messages": [
                {"role": "system", "content": WORDS},
                {"role": "user", "content": [{"type": "text", "text": WORDS}]},
                {
                    "role": "assistant",
                    "content": None,
                    "reasoning_content": WORDS,
                    "tool_calls": [
                        {"id": "t", "type": "function", "function": {"name": "f", "arguments": WORDS}}
                    ],
                },
                {"role": "tool", "tool_call_id": "t", "content": WORDS},
            ],
            "tools": [
                {"type": "function", "function": {"name": "f", "description": WORDS, "parameters": SCHEMA}}
            ],
            "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}},
        },
    ),
    (
        "openai_responses",
        {
            "model": "m",
            "instructions": WORDS,
            "input": [
                {"role": "user", "content": [{"type": "input_text", "text": WORDS}]},
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": WORDS},
                {"type": "function_call_output", "call_id": "c", "output": WORDS},
            ],
            "tools": [
                {
                    "type": "function",
                    "name": "f",
                    "description": WORDS,
                    "parameters": SCHEMA,
                    "output_schema": SCHEMA,
                }
            ],
            "text": {"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}},
            "store": False,
        },
    ),
    (
        "anthropic_messages",
        {
            "model": "m",
            "max_tokens": 1,
            "system": WORDS,
            "messages": [
                {"role": "user", "content": WORDS},
                {
                    "role": "assistant",
                    "content": [{"type": "tool_use", "id": "t", "name": "f", "input": SAID}],
                },
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": WORDS}]},
            ],
            "tools": [
                {
                    "name": "f",
                    "description": WORDS,
                    "input_schema": SCHEMA,
                    "input_examples": [{"file_id": "x", "url": URL}, SAID],
                }
            ],
            "output_config": {"format": {"type": "json_schema", "schema": SCHEMA}},
        },
    ),
    (
        "gemini",
        {
            "systemInstruction": {"parts": [{"text": WORDS}]},
            "contents": [
                {"role": "user", "parts": [{"text": WORDS}]},
                {"role": "model", "parts": [{"functionCall": {"name": "f", "args": SAID}}]},
                {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": SAID}}]},
            ],
            "tools": [
                {
                    "functionDeclarations": [
                        {"name": "f", "description": WORDS, "parametersJsonSchema": SCHEMA}
                    ]
                }
            ],
            "generationConfig": {"responseJsonSchema": SCHEMA},
        },
    ),
    (
        "ollama",
        {
            "model": "m",
            "messages": [
                {"role": "user", "content": WORDS},
                {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": SAID}}]},
            ],
            "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA}}],
            "format": SCHEMA,
        },
    ),
    (
        "bedrock_converse",
        {
            "system": [{"text": WORDS}],
            "messages": [
                {"role": "user", "content": [{"text": WORDS}]},
                {
                    "role": "assistant",
                    "content": [{"toolUse": {"toolUseId": "a", "name": "f", "input": SAID}}],
                },
                {
                    "role": "user",
                    "content": [{"toolResult": {"toolUseId": "a", "content": [{"text": WORDS}]}}],
                },
            ],
            "toolConfig": {"tools": [{"toolSpec": {"name": "f", "inputSchema": {"json": SCHEMA}}}]},
        },
    ),
    ("openai_compact", {"model": "m", "instructions": WORDS, "input": [{"role": "user", "content": WORDS}]}),
    ("ollama_generate", {"model": "m", "prompt": WORDS, "system": WORDS, "template": WORDS}),
    ("ollama_embed", {"model": "m", "input": [WORDS]}),
    ("openai_completions", {"model": "m", "prompt": [WORDS], "suffix": WORDS}),
    ("openai_embeddings", {"model": "m", "input": [WORDS]}),
    ("openai_json", {"model": "m", "query": WORDS, "documents": [WORDS, {"text": WORDS}]}),
    ("openai_json", {"model": "m", "input": WORDS, "voice": "alloy", "instructions": WORDS}),
    ("gemini_embed", {"requests": [{"model": "models/m", "content": {"parts": [{"text": WORDS}]}}]}),
]


@pytest.mark.parametrize(("dialect", "body"), OPAQUE)
def test_words_that_look_like_fields_pass_byte_for_byte(dialect: str, body: Json) -> None:
    assert_allowed(body, dialect)


# --- S37 ------------------------------------------------------------------------------------------

NEW = {"type": "brand_new", "url": "https://e"}


@pytest.mark.parametrize(
    ("dialect", "body", "path"),
    [
        ("openai_chat", chat_part(NEW), "messages[0].content[1]"),
        ("openai_chat", chat_part({"image": "https://e"}), "messages[0].content[1]"),
        ("openai_chat", chat_part({"type": "IMAGE_URL", "image_url": "https://e"}), "messages[0].content[1]"),
        ("openai_responses", item(NEW), "input[1]"),
        ("openai_responses", item({"content": "x"}), "input[1]"),
        ("openai_responses", item({"role": "user", "content": [NEW]}), "input[1].content[0]"),
        ("openai_responses", _output("function_call_output", [NEW]), "input[1].output[0]"),
        ("openai_responses", responses(type="session.update"), "type"),
        ("anthropic_messages", block(NEW), "messages[0].content[0]"),
        ("anthropic_messages", block({"type": "image", "source": NEW}), "messages[0].content[0].source"),
        (
            "anthropic_messages",
            block({"type": "tool_result", "content": [NEW]}),
            "messages[0].content[0].content[0]",
        ),
        ("gemini", gemini_part({"brandNew": {}}), "contents[0].parts[0].brandNew"),
        ("gemini", gemini_part({"fileData": {"bucket": "x"}}), "contents[0].parts[0].fileData.bucket"),
        ("openai_json", {"model": "m", "input": [NEW]}, "input[0]"),
        ("bedrock_converse", converse({"brandNew": {}}), "messages[0].content[1].brandNew"),
        ("bedrock_converse", converse({"video": {}}), "messages[0].content[1].video"),
        (
            "bedrock_converse",
            {"toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}]}},
            "toolConfig.tools[0].systemTool",
        ),
    ],
)
def test_content_of_an_invented_kind_is_refused(dialect: str, body: Json, path: str) -> None:
    assert refused(body, dialect) == ("unknown-part", path)


@pytest.mark.parametrize(
    ("dialect", "body"),
    [
        ("openai_chat", chat(messages={"role": "user"})),
        ("openai_chat", chat(messages=["https://e"])),
        ("openai_chat", chat_part({"type": ["image_url"], "image_url": "https://e"})),
        ("openai_responses", responses(input={"type": "item_reference"})),
        ("openai_responses", responses(input=["x"])),
        ("anthropic_messages", messages(messages=[{"role": "user", "content": {"type": "image"}}])),
        ("anthropic_messages", messages(system={"type": "document"})),
        ("gemini", gemini(contents=[{"parts": [["x"]]}])),
        ("ollama", ollama(messages={})),
        ("openai_json", {"model": "m", "documents": "https://e"}),
    ],
)
def test_content_of_another_shape_is_refused(dialect: str, body: Json) -> None:
    assert refused(body, dialect)[0] == "unknown-form"


@pytest.mark.parametrize(
    ("dialect", "body", "pointer"),
    [
        (
            "openai_chat",
            chat_part({"type": "text", "text": "t", "image_url": {"url": "https://e"}}),
            "/messages/0/content/1/image_url",
        ),
        (
            "openai_chat",
            chat(messages=[{"role": "user", "content": "c", "images": ["https://e"]}]),
            "/messages/0/images",
        ),
        ("openai_responses", item({"role": "user", "content": "c", "file_id": "f"}), "/input/1/file_id"),
        (
            "anthropic_messages",
            block({"type": "text", "text": "t", "source": {"type": "url", "url": "u"}}),
            "/messages/0/content/0/source",
        ),
        (
            "ollama",
            ollama(messages=[{"role": "user", "content": "c", "videos": ["https://e"]}]),
            "/messages/0/videos",
        ),
    ],
)
def test_a_member_that_its_kind_does_not_have_is_stripped(dialect: str, body: Json, pointer: str) -> None:
    after, stripped = amended(body, dialect)
    assert stripped == {pointer: "unknown-field"}
    assert "https" not in str(after)


def test_every_table_is_asked_for_something_here() -> None:
    asked = (
        {dialect for dialect, _ in OPAQUE}
        | {dialect for dialect, *_ in STORED}
        | {"openai_count", "anthropic_count"}
    )
    assert asked == set(TABLES)
    assert FACTS.allowed == frozenset()
