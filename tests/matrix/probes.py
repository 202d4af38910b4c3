"""What the matrix asks: for each form that clients speak, one small request for each thing that it
can say.

A probe is the least body that says it, in that form's own words. `mark` is what must still stand in
a body that carries it, where that can be told by a word; without one, the body must at least be
another than it is without the probe. `beside` is what must be there for the probe to mean
something, and is no part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from modelplex.core.events import (
    CitationAdded,
    Event,
    MediaOutput,
    OpaqueStateReceived,
    PartEnded,
    Reason,
    ReasoningDelta,
    RefusalDelta,
    ResponseEnded,
    TextDelta,
    ToolArgumentsDelta,
    ToolCallStarted,
)
from modelplex.core.request import Endpoint, OpaqueState

Body = dict[str, Any]

PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
PDF = "JVBERi0xLjQKJQ=="
SOUND = "UklGRiQAAABXQVZF"
ADDRESS = "https://example.com/a.png"
SCHEMA: Body = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}


@dataclass(frozen=True)
class Probe:
    says: str
    body: Body
    mark: str | None = None
    beside: Body = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Form:
    """`dialect` is what the route table calls it, `least` a body that asks for nothing but an
    answer.
    """

    title: str
    dialect: str
    endpoint: Endpoint
    least: Body
    probes: tuple[Probe, ...]


# --- OpenAI chat ----------------------------------------------------------------------------------

HI: Body = {"role": "user", "content": "Hi"}
F: Body = {"type": "function", "function": {"name": "look", "parameters": SCHEMA}}
G: Body = {"type": "function", "function": {"name": "ask", "parameters": SCHEMA}}
NAMED: Body = {"type": "function", "function": {"name": "look"}}
TOOLS: Body = {"tools": [F, G]}


def _chat_part(part: Body) -> Body:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "What?"}, part]}]}


def _chat_turn(turn: Body, *after: Body) -> Body:
    return {"messages": [HI, {"role": "assistant", **turn}, *after]}


_CHAT_CALL: Body = {
    "content": None,
    "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{}"}}],
}


def _chat_result(content: object) -> Body:
    return _chat_turn(_CHAT_CALL, {"role": "tool", "tool_call_id": "call_1", "content": content})


_THREE = {"role": "assistant", "content": "Said."}
CHAT = Form(
    "OpenAI chat completions",
    "openai_chat",
    "chat/completions",
    {"messages": [HI]},
    (
        Probe(
            "a system or developer message at the start",
            {"messages": [{"role": "developer", "content": "Brief."}, HI]},
            "Brief.",
        ),
        Probe("one later", {"messages": [HI, _THREE, {"role": "system", "content": "Brief."}, HI]}, "Brief."),
        Probe(
            "a last assistant message, to be continued",
            {"messages": [HI, {"role": "assistant", "content": "So far"}]},
            "So far",
        ),
        Probe("`name` of a speaker", {"messages": [{**HI, "name": "zoe"}]}, "zoe"),
        Probe(
            "an image as data",
            _chat_part({"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}),
            PICTURE,
        ),
        Probe("an image's URL", _chat_part({"type": "image_url", "image_url": {"url": ADDRESS}}), ADDRESS),
        Probe(
            "an image's `detail`",
            _chat_part(
                {
                    "type": "image_url",
                    "image_url": {"url": f"data:image/png;base64,{PICTURE}", "detail": "low"},
                }
            ),
            beside=_chat_part(
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}}
            ),
        ),
        Probe(
            "a PDF",
            _chat_part(
                {
                    "type": "file",
                    "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"},
                }
            ),
            PDF,
        ),
        Probe(
            "a text file",
            _chat_part(
                {"type": "file", "file": {"filename": "a.txt", "file_data": "data:text/plain;base64,aGk="}}
            ),
        ),
        Probe("a file's id", _chat_part({"type": "file", "file": {"file_id": "file-1"}}), "file-1"),
        Probe(
            "audio",
            _chat_part({"type": "input_audio", "input_audio": {"data": SOUND, "format": "wav"}}),
            SOUND,
        ),
        Probe("the id of an earlier answer's audio", _chat_turn({"audio": {"id": "audio-1"}}, HI), "audio-1"),
        Probe(
            "`cache_control`",
            _chat_part({"type": "text", "text": "Long.", "cache_control": {"type": "ephemeral"}}),
            beside=_chat_part({"type": "text", "text": "Long."}),
        ),
        Probe("`tools`", {"tools": [F]}, "look"),
        Probe(
            "`tools` with `strict`",
            {"tools": [{"type": "function", "function": {**F["function"], "strict": True}}]},
            beside={"tools": [F]},
        ),
        Probe("`tools` of free form", {"tools": [{"type": "custom", "custom": {"name": "look"}}]}, "look"),
        Probe(
            "`tools` with a grammar",
            {
                "tools": [
                    {
                        "type": "custom",
                        "custom": {
                            "name": "look",
                            "format": {
                                "type": "grammar",
                                "grammar": {"syntax": "regex", "definition": "[a-z]+"},
                            },
                        },
                    }
                ]
            },
            "[a-z]+",
        ),
        Probe("`functions`, the form before `tools`", {"functions": [{"name": "look"}]}, "look"),
        Probe('`tool_choice` "none"', {"tool_choice": "none"}, beside=TOOLS),
        Probe('`tool_choice` "required"', {"tool_choice": "required"}, beside=TOOLS),
        Probe(
            '`tool_choice` "required" while reasoning',
            {"tool_choice": "required"},
            beside={**TOOLS, "reasoning_effort": "high"},
        ),
        Probe("`tool_choice` of one function", {"tool_choice": NAMED}, beside=TOOLS),
        Probe(
            "`tool_choice` of some functions",
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {"mode": "auto", "tools": [NAMED]},
                }
            },
            beside=TOOLS,
        ),
        Probe("`parallel_tool_calls` false", {"parallel_tool_calls": False}, beside=TOOLS),
        Probe("calls and their results", _chat_result("Rain."), "Rain.", beside=TOOLS),
        Probe(
            "`response_format` of a schema",
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "place", "strict": True, "schema": SCHEMA},
                }
            },
            "city",
        ),
        Probe("`response_format` of any JSON", {"response_format": {"type": "json_object"}}),
        Probe('`reasoning_effort` "none"', {"reasoning_effort": "none"}),
        Probe('`reasoning_effort` "minimal"', {"reasoning_effort": "minimal"}),
        Probe('`reasoning_effort` "high"', {"reasoning_effort": "high"}),
        Probe('`reasoning_effort` "xhigh"', {"reasoning_effort": "xhigh"}),
        Probe("`thinking` with a budget", {"thinking": {"type": "enabled", "budget_tokens": 4321}}),
        Probe(
            "earlier reasoning, readable",
            _chat_turn({"content": "Said.", "reasoning_content": "Mused."}, HI),
            "Mused.",
        ),
        Probe("`max_tokens`, `max_completion_tokens`", {"max_completion_tokens": 4711}, "4711"),
        Probe("`temperature`", {"temperature": 0.25}, "0.25"),
        Probe("`temperature` above 1", {"temperature": 1.75}),
        Probe("`top_p`", {"top_p": 0.875}, "0.875"),
        Probe("`top_k`", {"top_k": 47}, "47"),
        Probe("`min_p`", {"min_p": 0.125}, "0.125"),
        Probe("`seed`", {"seed": 4711}, "4711"),
        Probe("`stop`", {"stop": ["halt"]}, "halt"),
        Probe("`presence_penalty`", {"presence_penalty": 0.375}, "0.375"),
        Probe("`frequency_penalty`", {"frequency_penalty": 0.375}, "0.375"),
        Probe("`logit_bias`", {"logit_bias": {"47": 11}}, "47"),
        Probe("`logprobs`", {"logprobs": True, "top_logprobs": 2}),
        Probe("`n` above 1", {"n": 2}),
        Probe("`verbosity`", {"verbosity": "low"}),
        Probe("`user`, `safety_identifier`", {"safety_identifier": "zoe"}, "zoe"),
        Probe("`metadata`", {"metadata": {"job": "zoe"}}, "zoe"),
        Probe("`store`", {"store": True}),
        Probe('`service_tier` "auto"', {"service_tier": "auto"}),
        Probe('`service_tier` "flex"', {"service_tier": "flex"}),
        Probe("`prompt_cache_key`", {"prompt_cache_key": "zoe"}, "zoe"),
        Probe("`prediction`", {"prediction": {"type": "content", "content": "zoe"}}, "zoe"),
        Probe("`web_search_options`", {"web_search_options": {}}),
        Probe(
            "`modalities`, `audio`",
            {"modalities": ["text", "audio"], "audio": {"voice": "zoe", "format": "wav"}},
            "zoe",
        ),
        Probe("a field that nobody knows", {"invented": "zoe"}, "zoe"),
    ),
)


# --- OpenAI Responses -----------------------------------------------------------------------------

ITEM: Body = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "Hi"}]}
RF: Body = {"type": "function", "name": "look", "parameters": SCHEMA, "strict": False}
RG: Body = {"type": "function", "name": "ask", "parameters": SCHEMA, "strict": False}
RTOOLS: Body = {"tools": [RF, RG]}


def _item(*items: Body) -> Body:
    return {"input": [ITEM, *items]}


def _input(part: Body) -> Body:
    return {
        "input": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "What?"}, part]}
        ]
    }


_RCALL: Body = {"type": "function_call", "call_id": "call_1", "name": "look", "arguments": "{}"}
_RSAID: Body = {
    "type": "message",
    "role": "assistant",
    "id": "msg_1",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Said.", "annotations": []}],
}
_RFREE: Body = {"type": "custom_tool_call", "call_id": "call_1", "name": "patch", "input": "+ rain"}

RESPONSES = Form(
    "OpenAI Responses",
    "openai_responses",
    "responses",
    {"input": [ITEM]},
    (
        Probe("`input` as a text", {"input": "Rain?"}, "Rain?"),
        Probe("`instructions`", {"instructions": "Brief."}, "Brief."),
        Probe(
            "a developer message later",
            _item(_RSAID, {"type": "message", "role": "developer", "content": "Brief."}, ITEM),
            "Brief.",
        ),
        Probe("a last assistant message, to be continued", _item(_RSAID), "Said."),
        Probe(
            "an image as data",
            _input({"type": "input_image", "image_url": f"data:image/png;base64,{PICTURE}"}),
            PICTURE,
        ),
        Probe("an image's URL", _input({"type": "input_image", "image_url": ADDRESS}), ADDRESS),
        Probe("an image's id", _input({"type": "input_image", "file_id": "file-1"}), "file-1"),
        Probe(
            "an image's `detail`",
            _input(
                {
                    "type": "input_image",
                    "image_url": f"data:image/png;base64,{PICTURE}",
                    "detail": "low",
                }
            ),
            beside=_input({"type": "input_image", "image_url": f"data:image/png;base64,{PICTURE}"}),
        ),
        Probe(
            "a PDF",
            _input(
                {
                    "type": "input_file",
                    "filename": "a.pdf",
                    "file_data": f"data:application/pdf;base64,{PDF}",
                }
            ),
            PDF,
        ),
        Probe(
            "a PDF's URL",
            _input({"type": "input_file", "file_url": "https://example.com/a.pdf"}),
            "https://example.com/a.pdf",
        ),
        Probe("a file's id", _input({"type": "input_file", "file_id": "file-1"}), "file-1"),
        Probe(
            "audio",
            _input({"type": "input_audio", "input_audio": {"data": SOUND, "format": "wav"}}),
            SOUND,
        ),
        Probe("`tools`", {"tools": [RF]}, "look"),
        Probe("`tools` with `strict`", {"tools": [{**RF, "strict": True}]}, beside={"tools": [RF]}),
        Probe("`tools` of free form", {"tools": [{"type": "custom", "name": "patch"}]}, "patch"),
        Probe(
            "`tools` with a grammar",
            {
                "tools": [
                    {
                        "type": "custom",
                        "name": "patch",
                        "format": {"type": "grammar", "syntax": "regex", "definition": "[a-z]+"},
                    }
                ]
            },
            "[a-z]+",
        ),
        Probe(
            "`tools` in a namespace",
            {"tools": [{"type": "namespace", "name": "files", "description": "Files.", "tools": [RF]}]},
            "look",
        ),
        Probe("a hosted tool (`web_search`)", {"tools": [{"type": "web_search"}]}, "web_search"),
        Probe("a tool that the client runs (`local_shell`)", {"tools": [{"type": "local_shell"}]}),
        Probe(
            "`tool_choice` of a hosted tool",
            {"tool_choice": {"type": "web_search"}},
            beside={"tools": [RF, {"type": "web_search"}]},
        ),
        Probe('`tool_choice` "none"', {"tool_choice": "none"}, beside=RTOOLS),
        Probe('`tool_choice` "required"', {"tool_choice": "required"}, beside=RTOOLS),
        Probe(
            "`tool_choice` of one function",
            {"tool_choice": {"type": "function", "name": "look"}},
            beside=RTOOLS,
        ),
        Probe(
            "`tool_choice` of some functions",
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "mode": "auto",
                    "tools": [{"type": "function", "name": "look"}],
                }
            },
            beside=RTOOLS,
        ),
        Probe("`parallel_tool_calls` false", {"parallel_tool_calls": False}, beside=RTOOLS),
        Probe(
            "calls and their outputs",
            {
                **RTOOLS,
                **_item(_RCALL, {"type": "function_call_output", "call_id": "call_1", "output": "Rain."}),
            },
            "Rain.",
        ),
        Probe(
            "an output with an image",
            {
                **RTOOLS,
                **_item(
                    _RCALL,
                    {
                        "type": "function_call_output",
                        "call_id": "call_1",
                        "output": [
                            {
                                "type": "input_image",
                                "image_url": f"data:image/png;base64,{PICTURE}",
                            }
                        ],
                    },
                ),
            },
            PICTURE,
        ),
        Probe(
            "free-form calls and their outputs",
            {
                "tools": [{"type": "custom", "name": "patch"}],
                **_item(_RFREE, {"type": "custom_tool_call_output", "call_id": "call_1", "output": "Rain."}),
            },
            "+ rain",
            beside={"tools": [{"type": "custom", "name": "patch"}]},
        ),
        Probe(
            "a shell of the client (`shell`)",
            {"tools": [{"type": "shell", "environment": {"type": "local"}}]},
        ),
        Probe(
            "calls of `local_shell` and their outputs",
            _item(
                {
                    "type": "local_shell_call",
                    "id": "lsh_1",
                    "call_id": "call_1",
                    "status": "completed",
                    "action": {"type": "exec", "command": ["ls"], "env": {}},
                },
                {"type": "local_shell_call_output", "id": "call_1", "output": "Rain."},
            ),
            "Rain.",
            beside={"tools": [{"type": "local_shell"}]},
        ),
        Probe(
            "calls of `shell` and their outputs",
            _item(
                {"type": "shell_call", "call_id": "call_1", "action": {"commands": ["ls"]}},
                {
                    "type": "shell_call_output",
                    "call_id": "call_1",
                    "output": [
                        {"stdout": "Rain.", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}
                    ],
                },
            ),
            "Rain.",
            beside={"tools": [{"type": "shell", "environment": {"type": "local"}}]},
        ),
        Probe(
            "calls of `apply_patch` and their outputs",
            _item(
                {
                    "type": "apply_patch_call",
                    "call_id": "call_1",
                    "status": "completed",
                    "operation": {"type": "delete_file", "path": "a"},
                },
                {
                    "type": "apply_patch_call_output",
                    "call_id": "call_1",
                    "status": "completed",
                    "output": "Rain.",
                },
            ),
            "Rain.",
            beside={"tools": [{"type": "apply_patch"}]},
        ),
        Probe(
            "a record of a hosted call",
            _item(
                {
                    "type": "web_search_call",
                    "id": "ws_1",
                    "status": "completed",
                    "action": {"type": "search", "query": "rain"},
                },
                _RSAID,
                ITEM,
            ),
            "ws_1",
        ),
        Probe(
            "earlier reasoning, readable",
            _item(
                {
                    "type": "reasoning",
                    "id": "rs_1",
                    "summary": [],
                    "content": [{"type": "reasoning_text", "text": "Mused."}],
                },
                _RSAID,
                ITEM,
            ),
            "Mused.",
        ),
        Probe(
            "earlier reasoning, sealed",
            _item(
                {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "c2VhbA=="},
                _RSAID,
                ITEM,
            ),
            "c2VhbA==",
        ),
        Probe(
            "a compacted conversation",
            _item({"type": "compaction", "id": "cmp_1", "encrypted_content": "c2VhbA=="}, ITEM),
            "c2VhbA==",
        ),
        Probe("an item's id alone", _item({"type": "item_reference", "id": "msg_1"}), "msg_1"),
        Probe(
            "`text.format` of a schema",
            {"text": {"format": {"type": "json_schema", "name": "place", "strict": True, "schema": SCHEMA}}},
            "city",
        ),
        Probe("`text.format` of any JSON", {"text": {"format": {"type": "json_object"}}}),
        Probe("`text.verbosity`", {"text": {"verbosity": "low"}}),
        Probe('`reasoning.effort` "none"', {"reasoning": {"effort": "none"}}),
        Probe('`reasoning.effort` "minimal"', {"reasoning": {"effort": "minimal"}}),
        Probe('`reasoning.effort` "high"', {"reasoning": {"effort": "high"}}),
        Probe(
            "`reasoning.summary`",
            {"reasoning": {"effort": "high", "summary": "auto"}},
            beside={"reasoning": {"effort": "high"}},
        ),
        Probe("`include` of sealed reasoning", {"include": ["reasoning.encrypted_content"]}),
        Probe("`include` of what searches found", {"include": ["web_search_call.action.sources"]}),
        Probe("`max_output_tokens`", {"max_output_tokens": 4711}, "4711"),
        Probe("`max_tool_calls`", {"max_tool_calls": 4711}, "4711"),
        Probe("`temperature`", {"temperature": 0.25}, "0.25"),
        Probe("`temperature` above 1", {"temperature": 1.75}),
        Probe("`top_p`", {"top_p": 0.875}, "0.875"),
        Probe("`top_logprobs`", {"top_logprobs": 2}),
        Probe('`truncation` "auto"', {"truncation": "auto"}),
        Probe("`user`, `safety_identifier`", {"safety_identifier": "zoe"}, "zoe"),
        Probe("`metadata`", {"metadata": {"job": "zoe"}}, "zoe"),
        Probe('`service_tier` "auto"', {"service_tier": "auto"}),
        Probe('`service_tier` "flex"', {"service_tier": "flex"}),
        Probe("`prompt_cache_key`", {"prompt_cache_key": "zoe"}, "zoe"),
        Probe("`store` true", {"store": True}),
        Probe("`store` false", {"store": False}),
        Probe("`previous_response_id`", {"previous_response_id": "resp_1"}, "resp_1"),
        Probe("`conversation`", {"conversation": "conv_1"}, "conv_1"),
        Probe("`prompt` that is kept", {"prompt": {"id": "pmpt_1"}}, "pmpt_1"),
        Probe("`background`", {"background": True}),
        Probe("a field that nobody knows", {"invented": "zoe"}, "zoe"),
    ),
)


# --- Anthropic Messages ---------------------------------------------------------------------------

AF: Body = {"name": "look", "input_schema": SCHEMA}
AG: Body = {"name": "ask", "input_schema": SCHEMA}
ATOOLS: Body = {"tools": [AF, AG]}


def _block(block: Body) -> Body:
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": "What?"}, block]}]}


def _spoken(*blocks: Body) -> Body:
    return {"messages": [HI, {"role": "assistant", "content": list(blocks)}, HI]}


def _given_back(result: Body) -> Body:
    call = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"city": "Bern"}}
    answer = {"type": "tool_result", "tool_use_id": "toolu_1", **result}
    return {
        **ATOOLS,
        "messages": [
            HI,
            {"role": "assistant", "content": [call]},
            {"role": "user", "content": [answer]},
        ],
    }


_ASAID: Body = {"type": "text", "text": "Said."}
_AIMAGE: Body = {
    "type": "image",
    "source": {"type": "base64", "media_type": "image/png", "data": PICTURE},
}
MESSAGES = Form(
    "Anthropic Messages",
    "anthropic_messages",
    "messages",
    {"max_tokens": 8000, "messages": [HI]},
    (
        Probe("`system`", {"system": "Brief."}, "Brief."),
        Probe(
            "`cache_control` of `system`",
            {"system": [{"type": "text", "text": "Brief.", "cache_control": {"type": "ephemeral"}}]},
            beside={"system": [{"type": "text", "text": "Brief."}]},
        ),
        Probe(
            "a system message later",
            {"messages": [HI, _THREE, HI, {"role": "system", "content": "Brief."}]},
            "Brief.",
        ),
        Probe(
            "a last assistant message, to be continued",
            {"messages": [HI, {"role": "assistant", "content": "So far"}]},
            "So far",
        ),
        Probe("an image as data", _block(_AIMAGE), PICTURE),
        Probe(
            "an image's URL", _block({"type": "image", "source": {"type": "url", "url": ADDRESS}}), ADDRESS
        ),
        Probe(
            "an image's id",
            _block({"type": "image", "source": {"type": "file", "file_id": "file_1"}}),
            "file_1",
        ),
        Probe(
            "a PDF",
            _block(
                {
                    "type": "document",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
                }
            ),
            PDF,
        ),
        Probe(
            "a PDF's URL",
            _block({"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}}),
            "https://example.com/a.pdf",
        ),
        Probe(
            "a document of text",
            _block(
                {
                    "type": "document",
                    "source": {"type": "text", "media_type": "text/plain", "data": "Rain."},
                }
            ),
        ),
        Probe(
            "`citations` of a document",
            _block(
                {
                    "type": "document",
                    "source": {"type": "text", "media_type": "text/plain", "data": "Rain."},
                    "citations": {"enabled": True},
                }
            ),
            beside=_block(
                {
                    "type": "document",
                    "source": {"type": "text", "media_type": "text/plain", "data": "Rain."},
                }
            ),
        ),
        Probe(
            "a search result",
            _block(
                {
                    "type": "search_result",
                    "source": "https://example.com",
                    "title": "Weather",
                    "content": [{"type": "text", "text": "Rain."}],
                }
            ),
            "Rain.",
        ),
        Probe(
            "`cache_control` of a block",
            _block({"type": "text", "text": "Long.", "cache_control": {"type": "ephemeral"}}),
            beside=_block({"type": "text", "text": "Long."}),
        ),
        Probe("`tools`", {"tools": [AF]}, "look"),
        Probe("`tools` with `strict`", {"tools": [{**AF, "strict": True}]}, beside={"tools": [AF]}),
        Probe(
            "a hosted tool (`web_search`)",
            {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
            "web_search",
        ),
        Probe(
            "a typed tool that the client runs (`bash`)",
            {"tools": [{"type": "bash_20250124", "name": "bash"}]},
            "bash",
        ),
        Probe('`tool_choice` "none"', {"tool_choice": {"type": "none"}}, beside=ATOOLS),
        Probe('`tool_choice` "any"', {"tool_choice": {"type": "any"}}, beside=ATOOLS),
        Probe("`tool_choice` of one tool", {"tool_choice": {"type": "tool", "name": "look"}}, beside=ATOOLS),
        Probe(
            "`disable_parallel_tool_use`",
            {"tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
            beside={**ATOOLS, "tool_choice": {"type": "auto"}},
        ),
        Probe("calls and their results", _given_back({"content": "Rain."}), "Rain."),
        Probe("a result with an image", _given_back({"content": [_AIMAGE]}), PICTURE),
        Probe(
            "a result with a PDF",
            _given_back(
                {
                    "content": [
                        {
                            "type": "document",
                            "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
                        }
                    ]
                }
            ),
            PDF,
        ),
        Probe(
            "a result that is an error",
            _given_back({"content": "Rain.", "is_error": True}),
            beside=_given_back({"content": "Rain."}),
        ),
        Probe(
            "a hosted call and its result",
            _spoken(
                {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}},
                {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
                _ASAID,
            ),
            "srvtoolu_1",
        ),
        Probe(
            "earlier thinking, unsigned",
            _spoken({"type": "thinking", "thinking": "Mused."}, _ASAID),
            "Mused.",
        ),
        Probe(
            "earlier thinking with its signature",
            _spoken({"type": "thinking", "thinking": "Mused.", "signature": "c2VhbA=="}, _ASAID),
            "c2VhbA==",
        ),
        Probe(
            "earlier thinking, redacted",
            _spoken({"type": "redacted_thinking", "data": "c2VhbA=="}, _ASAID),
            "c2VhbA==",
        ),
        Probe(
            "`output_config.format`",
            {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
            "city",
        ),
        Probe('`output_config.effort` "low"', {"output_config": {"effort": "low"}}),
        Probe('`output_config.effort` "max"', {"output_config": {"effort": "max"}}),
        Probe("`thinking` with a budget", {"thinking": {"type": "enabled", "budget_tokens": 4321}}),
        Probe("`thinking`, adaptive", {"thinking": {"type": "adaptive"}}),
        Probe("`thinking`, between tools", {"thinking": {"type": "between_tools"}}),
        Probe("`thinking`, disabled", {"thinking": {"type": "disabled"}}),
        Probe(
            "`thinking.display`",
            {"thinking": {"type": "adaptive", "display": "omitted"}},
            beside={"thinking": {"type": "adaptive"}},
        ),
        Probe("`max_tokens`", {"max_tokens": 4711}, "4711"),
        Probe("`temperature`", {"temperature": 0.25}, "0.25"),
        Probe("`top_p`", {"top_p": 0.875}, "0.875"),
        Probe("`top_k`", {"top_k": 47}, "47"),
        Probe("`stop_sequences`", {"stop_sequences": ["halt"]}, "halt"),
        Probe("`metadata.user_id`", {"metadata": {"user_id": "zoe"}}, "zoe"),
        Probe('`service_tier` "auto"', {"service_tier": "auto"}),
        Probe('`service_tier` "standard_only"', {"service_tier": "standard_only"}),
        Probe("`cache_control` of the whole", {"cache_control": {"type": "ephemeral"}}),
        Probe("`container`", {"container": "container_1"}, "container_1"),
        Probe(
            "`mcp_servers`",
            {"mcp_servers": [{"type": "url", "name": "zoe", "url": "https://example.com/mcp"}]},
            "zoe",
        ),
        Probe("`context_management`", {"context_management": {"edits": [{"type": "zoe"}]}}, "zoe"),
        Probe(
            "`safeguards` of Claude Code",
            {"safeguards": [{"type": "dangerous_tool_use", "classifier_context": {"v": "zoe"}}]},
            "zoe",
        ),
        Probe("a field that nobody knows", {"invented": "zoe"}, "zoe"),
    ),
)


# --- Gemini ---------------------------------------------------------------------------------------

ASKS: Body = {"role": "user", "parts": [{"text": "Hi"}]}
GTOOLS: Body = {
    "tools": [
        {
            "functionDeclarations": [
                {"name": "look", "parametersJsonSchema": SCHEMA},
                {"name": "ask", "parametersJsonSchema": SCHEMA},
            ]
        }
    ]
}


def _said_part(part: Body) -> Body:
    return {"contents": [{"role": "user", "parts": [{"text": "What?"}, part]}]}


def _model_parts(*parts: Body) -> Body:
    return {"contents": [ASKS, {"role": "model", "parts": list(parts)}, ASKS]}


def _responded(response: Body, **more: object) -> Body:
    call = {"functionCall": {"id": "call_1", "name": "look", "args": {"city": "Bern"}}}
    answer = {"functionResponse": {"id": "call_1", "name": "look", "response": response, **more}}
    return {
        **GTOOLS,
        "contents": [ASKS, {"role": "model", "parts": [call]}, {"role": "user", "parts": [answer]}],
    }


def _config(**members: object) -> Body:
    return {"generationConfig": members}


def _calling(**members: object) -> Body:
    return {"toolConfig": {"functionCallingConfig": members}}


GEMINI = Form(
    "Gemini",
    "gemini",
    "generate_content",
    {"contents": [ASKS]},
    (
        Probe("`systemInstruction`", {"systemInstruction": {"parts": [{"text": "Brief."}]}}, "Brief."),
        Probe(
            "a last turn of the model, to be continued",
            {"contents": [ASKS, {"role": "model", "parts": [{"text": "So far"}]}]},
            "So far",
        ),
        Probe(
            "an image as data",
            _said_part({"inlineData": {"mimeType": "image/png", "data": PICTURE}}),
            PICTURE,
        ),
        Probe(
            "an image's URL",
            _said_part({"fileData": {"mimeType": "image/png", "fileUri": ADDRESS}}),
            ADDRESS,
        ),
        Probe("a PDF", _said_part({"inlineData": {"mimeType": "application/pdf", "data": PDF}}), PDF),
        Probe(
            "a PDF's URL",
            _said_part({"fileData": {"mimeType": "application/pdf", "fileUri": "https://example.com/a.pdf"}}),
            "https://example.com/a.pdf",
        ),
        Probe(
            "a file that Google keeps",
            _said_part(
                {
                    "fileData": {
                        "mimeType": "application/pdf",
                        "fileUri": "https://generativelanguage.googleapis.com/v1beta/files/zoe",
                    }
                }
            ),
            "files/zoe",
        ),
        Probe("audio", _said_part({"inlineData": {"mimeType": "audio/wav", "data": SOUND}}), SOUND),
        Probe("a video", _said_part({"inlineData": {"mimeType": "video/mp4", "data": SOUND}}), SOUND),
        Probe("`functionDeclarations`", GTOOLS, "look"),
        Probe(
            "`parameters` in Google's schema",
            {
                "tools": [
                    {
                        "functionDeclarations": [
                            {
                                "name": "look",
                                "parameters": {
                                    "type": "OBJECT",
                                    "properties": {"city": {"type": "STRING", "nullable": True}},
                                },
                            }
                        ]
                    }
                ]
            },
            "city",
        ),
        Probe("a hosted tool (`googleSearch`)", {"tools": [{"googleSearch": {}}]}, "googleSearch"),
        Probe("a tool that the client runs (`computerUse`)", {"tools": [{"computerUse": {}}]}, "computerUse"),
        Probe("calling mode NONE", _calling(mode="NONE"), beside=GTOOLS),
        Probe("calling mode ANY", _calling(mode="ANY"), beside=GTOOLS),
        Probe("ANY of one function", _calling(mode="ANY", allowedFunctionNames=["look"]), beside=GTOOLS),
        Probe(
            "ANY of some functions",
            _calling(mode="ANY", allowedFunctionNames=["look", "ask"]),
            beside=GTOOLS,
        ),
        Probe("calling mode VALIDATED", _calling(mode="VALIDATED"), beside=GTOOLS),
        Probe("calls and their responses", _responded({"output": "Rain."}), "Rain."),
        Probe("a response that is an error", _responded({"error": "Rain."}), "Rain."),
        Probe(
            "a response with an image",
            _responded(
                {"output": "See."}, parts=[{"inlineData": {"mimeType": "image/png", "data": PICTURE}}]
            ),
            PICTURE,
        ),
        Probe(
            "earlier thought, readable",
            _model_parts({"text": "Mused.", "thought": True}, {"text": "Said."}),
            "Mused.",
        ),
        Probe(
            "`thoughtSignature` of a call",
            {
                **GTOOLS,
                "contents": [
                    ASKS,
                    {
                        "role": "model",
                        "parts": [
                            {
                                "functionCall": {"id": "call_1", "name": "look", "args": {}},
                                "thoughtSignature": "c2VhbA==",
                            }
                        ],
                    },
                    {
                        "role": "user",
                        "parts": [
                            {
                                "functionResponse": {
                                    "id": "call_1",
                                    "name": "look",
                                    "response": {"output": "Rain."},
                                }
                            }
                        ],
                    },
                ],
            },
            "c2VhbA==",
        ),
        Probe(
            "`executableCode` that Google ran",
            _model_parts(
                {"executableCode": {"language": "PYTHON", "code": "zoe"}},
                {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1"}},
            ),
            "zoe",
        ),
        Probe(
            "`responseJsonSchema`",
            _config(responseMimeType="application/json", responseJsonSchema=SCHEMA),
            "city",
        ),
        Probe("any JSON", _config(responseMimeType="application/json")),
        Probe(
            "one word of some (`text/x.enum`)",
            _config(responseMimeType="text/x.enum", responseSchema={"type": "STRING", "enum": ["zoe"]}),
            "zoe",
        ),
        Probe("`thinkingBudget`", _config(thinkingConfig={"thinkingBudget": 4321})),
        Probe("`thinkingBudget` 0", _config(thinkingConfig={"thinkingBudget": 0})),
        Probe("`thinkingBudget` -1", _config(thinkingConfig={"thinkingBudget": -1})),
        Probe("`thinkingLevel` MINIMAL", _config(thinkingConfig={"thinkingLevel": "MINIMAL"})),
        Probe("`thinkingLevel` HIGH", _config(thinkingConfig={"thinkingLevel": "HIGH"})),
        Probe(
            "`includeThoughts`",
            _config(thinkingConfig={"thinkingLevel": "HIGH", "includeThoughts": True}),
            beside=_config(thinkingConfig={"thinkingLevel": "HIGH"}),
        ),
        Probe("`maxOutputTokens`", _config(maxOutputTokens=4711), "4711"),
        Probe("`temperature`", _config(temperature=0.25), "0.25"),
        Probe("`temperature` above 1", _config(temperature=1.75)),
        Probe("`topP`", _config(topP=0.875), "0.875"),
        Probe("`topK`", _config(topK=47), "47"),
        Probe("`seed`", _config(seed=4711), "4711"),
        Probe("`stopSequences`", _config(stopSequences=["halt"]), "halt"),
        Probe("`presencePenalty`", _config(presencePenalty=0.375), "0.375"),
        Probe("`frequencyPenalty`", _config(frequencyPenalty=0.375), "0.375"),
        Probe("`responseLogprobs`", _config(responseLogprobs=True, logprobs=2)),
        Probe("`candidateCount` above 1", _config(candidateCount=2)),
        Probe("`mediaResolution`", _config(mediaResolution="MEDIA_RESOLUTION_LOW")),
        Probe("`responseModalities` with images", _config(responseModalities=["TEXT", "IMAGE"])),
        Probe(
            "`safetySettings`",
            {"safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}]},
        ),
        Probe("`cachedContent`", {"cachedContent": "cachedContents/zoe"}, "cachedContents/zoe"),
        Probe("`labels`", {"labels": {"job": "zoe"}}, "zoe"),
        Probe("a field that nobody knows", {"invented": "zoe"}, "zoe"),
    ),
)


# --- Ollama ---------------------------------------------------------------------------------------


def _options(**members: object) -> Body:
    return {"options": members}


_OCALL: Body = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"function": {"name": "look", "arguments": {"city": "Bern"}}}],
}
_OTHERS = (
    Probe("`format` of a schema", {"format": SCHEMA}, "city"),
    Probe('`format` "json"', {"format": "json"}),
    Probe("`think` true", {"think": True}),
    Probe("`think` false", {"think": False}),
    Probe('`think` "high"', {"think": "high"}),
    Probe("`num_predict`", _options(num_predict=4711), "4711"),
    Probe("`temperature`", _options(temperature=0.25), "0.25"),
    Probe("`temperature` above 1", _options(temperature=1.75)),
    Probe("`top_p`", _options(top_p=0.875), "0.875"),
    Probe("`top_k`", _options(top_k=47), "47"),
    Probe("`min_p`", _options(min_p=0.125), "0.125"),
    Probe("`seed`", _options(seed=4711), "4711"),
    Probe("`stop`", _options(stop=["halt"]), "halt"),
    Probe("`presence_penalty`", _options(presence_penalty=0.375), "0.375"),
    Probe("`frequency_penalty`", _options(frequency_penalty=0.375), "0.375"),
    Probe("`repeat_penalty`", _options(repeat_penalty=1.125), "1.125"),
    Probe("`num_ctx`", _options(num_ctx=4711), "4711"),
    Probe("`logprobs`", {"logprobs": True, "top_logprobs": 2}),
    Probe("`keep_alive`", {"keep_alive": "5m"}, "5m"),
    Probe("a field that nobody knows", {"invented": "zoe"}, "zoe"),
)
OLLAMA = Form(
    "Ollama chat",
    "ollama",
    "api/chat",
    {"stream": False, "messages": [HI]},
    (
        Probe(
            "a system message at the start",
            {"messages": [{"role": "system", "content": "Brief."}, HI]},
            "Brief.",
        ),
        Probe("one later", {"messages": [HI, _THREE, {"role": "system", "content": "Brief."}, HI]}, "Brief."),
        Probe(
            "a last assistant message, to be continued",
            {"messages": [HI, {"role": "assistant", "content": "So far"}]},
            "So far",
        ),
        Probe("`images`", {"messages": [{**HI, "images": [PICTURE]}]}, PICTURE),
        Probe("`tools`", {"tools": [F]}, "look"),
        Probe(
            "calls and their results",
            {
                **TOOLS,
                "messages": [HI, _OCALL, {"role": "tool", "tool_name": "look", "content": "Rain."}],
            },
            "Rain.",
        ),
        Probe(
            "a result with an image",
            {
                **TOOLS,
                "messages": [
                    HI,
                    _OCALL,
                    {"role": "tool", "tool_name": "look", "content": "See.", "images": [PICTURE]},
                ],
            },
            PICTURE,
        ),
        Probe(
            "earlier `thinking`",
            {"messages": [HI, {"role": "assistant", "content": "Said.", "thinking": "Mused."}, HI]},
            "Mused.",
        ),
        *_OTHERS,
    ),
)
GENERATE = Form(
    "Ollama generate",
    "ollama_generate",
    "api/generate",
    {"stream": False, "prompt": "Hi"},
    (
        Probe("`system`", {"system": "Brief."}, "Brief."),
        Probe("`images`", {"images": [PICTURE]}, PICTURE),
        Probe("`suffix`", {"suffix": "The end."}, "The end."),
        Probe("`raw`", {"raw": True}),
        Probe("`template`", {"template": "{{ .Prompt }} zoe"}, "zoe"),
        Probe("`context`", {"context": [47, 11]}, "47"),
        *_OTHERS,
    ),
)

FORMS = (CHAT, RESPONSES, MESSAGES, GEMINI, OLLAMA, GENERATE)


# --- beside conversations -------------------------------------------------------------------------

COMPLETIONS = Form(
    "OpenAI completions",
    "openai_completions",
    "completions",
    {"prompt": "Once"},
    (
        Probe("`prompt`", {"prompt": "Upon"}, "Upon"),
        Probe("several prompts", {"prompt": ["Once", "Upon"]}, "Upon"),
        Probe("token ids", {"prompt": [47, 11]}, "47"),
        Probe("`suffix`", {"suffix": "The end."}, "The end."),
        Probe("`echo`", {"echo": True}),
        Probe("`max_tokens`", {"max_tokens": 4711}, "4711"),
        Probe("`temperature`", {"temperature": 0.25}, "0.25"),
        Probe("`stop`", {"stop": ["halt"]}, "halt"),
        Probe("`seed`", {"seed": 4711}, "4711"),
        Probe("`logprobs`", {"logprobs": 2}),
        Probe("`n` above 1", {"n": 2}),
        Probe("`best_of` above 1", {"best_of": 2}),
        Probe("`user`", {"user": "zoe"}, "zoe"),
    ),
)
OPENAI_VECTORS = Form(
    "OpenAI embeddings",
    "openai_embeddings",
    "embeddings",
    {"input": "Rain"},
    (
        Probe("`input`", {"input": "Snow"}, "Snow"),
        Probe("several inputs", {"input": ["Rain", "Snow"]}, "Snow"),
        Probe("token ids", {"input": [47, 11]}, "47"),
        Probe("`dimensions`", {"dimensions": 4711}, "4711"),
        Probe('`encoding_format` "base64"', {"encoding_format": "base64"}),
        Probe("`user`", {"user": "zoe"}, "zoe"),
    ),
)
GEMINI_VECTORS = Form(
    "Gemini batchEmbedContents",
    "gemini_embed",
    "embed_content",
    {"requests": [{"content": {"parts": [{"text": "Rain"}]}}]},
    (
        Probe(
            "several requests",
            {"requests": [{"content": {"parts": [{"text": word}]}} for word in ("Rain", "Snow")]},
            "Snow",
        ),
        Probe(
            "`outputDimensionality`",
            {
                "requests": [
                    {
                        "content": {"parts": [{"text": "Rain"}]},
                        "outputDimensionality": 4711,
                    }
                ]
            },
            "4711",
        ),
        Probe(
            "`taskType`",
            {
                "requests": [
                    {
                        "content": {"parts": [{"text": "Rain"}]},
                        "taskType": "CLUSTERING",
                    }
                ]
            },
            "CLUSTERING",
        ),
        Probe(
            "an image",
            {
                "requests": [
                    {
                        "content": {"parts": [{"inlineData": {"mimeType": "image/png", "data": PICTURE}}]},
                    }
                ]
            },
            PICTURE,
        ),
    ),
)
OLLAMA_VECTORS = Form(
    "Ollama embed",
    "ollama_embed",
    "api/embed",
    {"input": "Rain"},
    (
        Probe("several inputs", {"input": ["Rain", "Snow"]}, "Snow"),
        Probe("`dimensions`", {"dimensions": 4711}, "4711"),
        Probe("`truncate` false", {"truncate": False}),
        Probe("`truncate` true", {"truncate": True}),
        Probe("`keep_alive`", {"keep_alive": "5m"}, "5m"),
    ),
)
OTHER_FORMS = (COMPLETIONS, OPENAI_VECTORS, GEMINI_VECTORS, OLLAMA_VECTORS)


# --- answers --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answered:
    """What a provider may answer beside plain text: its events, and how the answer ends. What comes
    only where it was asked for says, by form, what asks for it; other forms cannot.
    """

    says: str
    events: tuple[Event, ...] = ()
    reason: Reason = "stop"
    sequence: str | None = None
    mark: str | None = None
    asked: Mapping[str, Body] | None = None


def _raw(value: object) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def _called(part: int, id_: str, *, free: bool = False) -> tuple[Event, ...]:
    arguments = "+ rain" if free else '{"city":"Bern"}'
    return ToolCallStarted(part, id_, "look", free=free), ToolArgumentsDelta(part, arguments), PartEnded(part)


_CLAUDE = OpaqueState("anthropic-claude-v1", "c2VhbA==", provider="claude", account="a")
_GOOGLE = OpaqueState("google-gemini-v1", "c2VhbA==", provider="google", account="a")
_WEB = {
    "type": "url_citation",
    "url": "https://example.com",
    "title": "Rain",
    "start_index": 0,
    "end_index": 2,
}
_PAGE = {
    "type": "char_location",
    "cited_text": "zoe",
    "document_index": 0,
    "start_char_index": 0,
    "end_char_index": 3,
}
ANSWERS = (
    Answered("text", (TextDelta(1, "Rain."),), mark="Rain."),
    Answered("reasoning", (ReasoningDelta(1, "Mused."),), mark="Mused."),
    Answered("a summary of reasoning", (ReasoningDelta(1, "Mused.", summary=True),), mark="Mused."),
    Answered("reasoning with its signature", (ReasoningDelta(1, "Mused."), OpaqueStateReceived(1, _CLAUDE))),
    Answered("redacted reasoning", (OpaqueStateReceived(1, _CLAUDE, redacted=True),)),
    Answered("a call", _called(1, "call_1"), "tool_calls", mark="Bern"),
    Answered("parallel calls", (*_called(1, "call_1"), *_called(2, "call_2")), "tool_calls", mark="Bern"),
    Answered(
        "a call with its signature", (*_called(1, "call_1"), OpaqueStateReceived(1, _GOOGLE)), "tool_calls"
    ),
    Answered("the model's refusal", (RefusalDelta(1, "I will not."),), "refusal", mark="I will not."),
    Answered(
        "`logprobs`",
        (
            TextDelta(
                1, "a", logprobs=_raw([{"token": "a", "logprob": -0.625, "bytes": [97], "top_logprobs": []}])
            ),
        ),
        mark="-0.625",
        asked={
            "openai_chat": {"logprobs": True},
            "openai_responses": {"top_logprobs": 2},
            "gemini": _config(responseLogprobs=True),
            "ollama": {"logprobs": True},
            "ollama_generate": {"logprobs": True},
        },
    ),
    Answered(
        "a citation of a web page (OpenAI's)",
        (TextDelta(1, "Hm"), CitationAdded(1, _raw(_WEB), "openai_chat")),
        mark="https://example.com",
    ),
    Answered(
        "a citation of a document (Anthropic's)",
        (TextDelta(1, "Hm"), CitationAdded(1, _raw(_PAGE), "anthropic_messages")),
        mark="zoe",
    ),
    Answered(
        "an image (Gemini's)",
        (MediaOutput(1, _raw({"inlineData": {"mimeType": "image/png", "data": PICTURE}}), "gemini"),),
        mark=PICTURE,
    ),
    Answered("ended at the output limit", reason="length"),
    Answered("ended at the context's limit", reason="context"),
    Answered("ended by a stop sequence, and which", reason="stop_sequence", sequence="halt", mark="halt"),
    Answered("ended by a filter", reason="filter"),
    Answered(
        "several choices",
        (TextDelta(1, "Snow.", choice=1), ResponseEnded("stop", choice=1)),
        mark="Snow.",
        asked={"openai_chat": {"n": 2}, "gemini": _config(candidateCount=2)},
    ),
)
