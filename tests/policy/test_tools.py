"""Tools that a provider runs are stripped or refused, wherever they are (S22 to S29)."""

from __future__ import annotations

from typing import Any

import pytest

from modelplex.policy.verdict import Allow
from tests.policy.judging import (
    Json,
    Place,
    amended,
    assert_allowed,
    chat,
    facts,
    gemini,
    judge_body,
    messages,
    ollama,
    refused,
    responses,
)

FUNCTION: Json = {"type": "function", "name": "f", "parameters": {"type": "object"}}
CHAT_FUNCTION: Json = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CLIENT: Json = {"name": "f", "input_schema": {"type": "object"}}
DECLARED: Json = {"functionDeclarations": [{"name": "f"}]}

# --- which dialects, which tools, which rules -----------------------------------------------------

STRIPPED: dict[str, list[tuple[Json, str]]] = {
    "openai_responses": [
        (
            {"type": "web_search", "external_web_access": True, "filters": {"allowed_domains": ["e"]}},
            "web-search",
        ),
        ({"type": "web_search_2025_08_26"}, "web-search"),
        ({"type": "web_search_preview"}, "web-search"),
        ({"type": "web_search_preview_2025_03_11", "user_location": {"type": "approximate"}}, "web-search"),
        ({"type": "web_search_2099_01_01"}, "web-search"),
        (
            {"type": "image_generation", "model": "x", "input_image_mask": {"image_url": "https://e"}},
            "image-generation",
        ),
        ({"type": "programmatic_tool_calling"}, "code-execution"),
        ({"type": "multi_agent"}, "provider-agents"),
        ({"type": "brand_new"}, "unknown-tool"),
        ({"type": "openrouter:web_search"}, "provider-switch"),
        ({"name": "untyped"}, "unknown-tool"),
    ],
    "openai_chat": [
        ({"type": "web_search"}, "web-search"),
        ({"type": "builtin_function", "function": {"name": "$web_search"}}, "web-search"),
        ({"type": "web_search_premium"}, "web-search"),
        ({"type": "code_interpreter"}, "code-execution"),
        ({"type": "image_generation"}, "image-generation"),
        ({"type": "document_library", "library_ids": ["x"]}, "stored-file"),
        ({"type": "web_extractor"}, "web-fetch"),
        ({"type": "web_search_2025_08_26"}, "web-search"),
        ({"type": "openrouter:web_search"}, "provider-switch"),
        ({"type": "orq:anything"}, "provider-switch"),
        ({"type": "brand_new"}, "unknown-tool"),
        ({"google_search": {}}, "unknown-tool"),
    ],
    "anthropic_messages": [
        *(
            ({"type": f"web_search_{date}", "name": "web_search", "allowed_domains": ["e"]}, "web-search")
            for date in ("20250305", "20260209", "20260318", "20990101")
        ),
        *(
            ({"type": f"web_fetch_{date}", "name": "web_fetch", "url_sources": {}}, "web-fetch")
            for date in ("20250910", "20260209", "20260309", "20260318")
        ),
        *(
            ({"type": f"code_execution_{date}", "name": "code_execution"}, "code-execution")
            for date in ("20250522", "20250825", "20260120", "20260521")
        ),
        ({"type": "advisor_20260301", "name": "advisor", "model": "other"}, "second-model"),
        ({"type": "brand_new", "name": "n"}, "unknown-tool"),
    ],
    "gemini": [
        ({"googleSearch": {}}, "web-search"),
        ({"google_search": {}}, "web-search"),
        ({"googleSearchRetrieval": {}}, "web-search"),
        ({"google_search_retrieval": {}}, "web-search"),
        ({"enterpriseWebSearch": {}}, "web-search"),
        ({"urlContext": {}}, "web-fetch"),
        ({"url_context": {}}, "web-fetch"),
        ({"googleMaps": {}}, "web-search"),
        ({"google_maps": {"enable_widget": True}}, "web-search"),
        ({"codeExecution": {}}, "code-execution"),
        ({"code_execution": {}}, "code-execution"),
        ({"brandNew": {}}, "unknown-tool"),
    ],
    "ollama": [({"type": "web_search"}, "unknown-tool")],
}
REFUSED: dict[str, list[tuple[Json, str]]] = {
    "openai_responses": [
        ({"type": "mcp", "server_url": "https://e", "server_label": "x"}, "remote-mcp"),
        ({"type": "mcp", "connector_id": "connector_gmail", "authorization": "k"}, "remote-mcp"),
        ({"type": "mcp", "tunnel_id": "t"}, "remote-mcp"),
        ({"type": "shell"}, "code-execution"),
        ({"type": "shell", "environment": None}, "code-execution"),
        ({"type": "shell", "environment": {"type": "container_auto"}}, "code-execution"),
        (
            {"type": "shell", "environment": {"type": "container_reference", "container_id": "c"}},
            "code-execution",
        ),
        ({"type": "code_interpreter", "container": "cntr_1"}, "code-execution"),
        ({"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["f"]}}, "code-execution"),
        ({"type": "file_search", "vector_store_ids": ["vs"]}, "stored-file"),
    ],
    "openai_chat": [({"type": "mcp", "server_url": "https://e"}, "remote-mcp")],
    "anthropic_messages": [({"type": "mcp_toolset", "mcp_server_name": "s"}, "remote-mcp")],
    "gemini": [
        ({"mcpServers": [{"streamableHttpTransport": {"url": "https://e"}}]}, "remote-mcp"),
        ({"mcp_servers": [{"streamable_http_transport": {"url": "https://e"}}]}, "remote-mcp"),
        ({"retrieval": {"externalApi": {"endpoint": "https://e"}}}, "remote-data"),
        ({"retrieval": {"vertexAiSearch": {"datastore": "d"}}}, "remote-data"),
        ({"fileSearch": {"fileSearchStoreNames": ["s"]}}, "stored-file"),
        ({"file_search": {"file_search_store_names": ["s"]}}, "stored-file"),
        ({"parallelAiSearch": {"apiKey": "k"}}, "remote-data"),
        ({"exa_ai_search": {"api_key": "k"}}, "remote-data"),
        ({"googleMaps": {"authConfig": {"apiKey": "k"}}}, "remote-data"),
    ],
}
CLIENTS: dict[str, list[Json]] = {
    "openai_responses": [
        FUNCTION,
        {
            "type": "custom",
            "name": "c",
            "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"},
        },
        *({"type": kind} for kind in ("apply_patch", "local_shell", "computer", "tool_search")),
        {"type": "computer_use_preview", "display_width": 1, "display_height": 1, "environment": "linux"},
        {"type": "shell", "environment": {"type": "local"}},
        {
            "type": "namespace",
            "name": "n",
            "description": "d",
            "tools": [FUNCTION, {"type": "custom", "name": "c"}],
        },
    ],
    "openai_chat": [CHAT_FUNCTION, {"type": "custom", "custom": {"name": "c"}}, {"function": {"name": "f"}}],
    "anthropic_messages": [
        CLIENT,
        {
            **CLIENT,
            "type": "custom",
            "input_examples": [{"url": "https://e"}],
            "cache_control": {"type": "ephemeral"},
        },
        {"type": "bash_20250124", "name": "bash"},
        {"type": "text_editor_20250728", "name": "str_replace_based_edit_tool", "max_characters": 9},
        {
            "type": "computer_20251124",
            "name": "computer",
            "display_width_px": 1,
            "display_height_px": 1,
            "enable_zoom": True,
        },
        {"type": "memory_20250818", "name": "memory"},
        {"type": "browser_toolset_20260801"},
        {"type": "computer_toolset_20260801", "configs": {}},
        {"type": "tool_search_tool_bm25_20251119", "name": "tool_search_tool_bm25"},
        {"type": "tool_search_tool_regex", "name": "tool_search_tool_regex"},
    ],
    "gemini": [
        DECLARED,
        {"function_declarations": [{"name": "f"}]},
        {"computerUse": {"environment": "BROWSER"}},
    ],
    "ollama": [CHAT_FUNCTION],
}


def _rows(table: dict[str, list[tuple[Json, str]]]) -> list[Any]:
    return [
        pytest.param(dialect, tool, rule, id=f"{dialect}-{rule}-{index}")
        for dialect, rows in table.items()
        for index, (tool, rule) in enumerate(rows)
    ]


def _with(dialect: str, tools: list[Json], **more: Any) -> Json:
    bodies = {
        "openai_chat": chat,
        "openai_responses": responses,
        "anthropic_messages": messages,
        "gemini": gemini,
        "ollama": ollama,
    }
    return bodies[dialect](tools=tools, **more)


# --- S22, S26: stripped, and the others keep their order ------------------------------------------


@pytest.mark.parametrize(("dialect", "tool", "rule"), _rows(STRIPPED))
def test_a_tool_that_the_provider_would_run_is_gone_and_the_others_stay(
    dialect: str, tool: Json, rule: str
) -> None:
    first, last = CLIENTS[dialect][0], CLIENTS[dialect][-1]
    body, stripped = amended(_with(dialect, [first, tool, last]), dialect)
    assert body["tools"] == [first, last]
    (pointer,) = stripped
    assert pointer.startswith("/tools/1")
    assert stripped[pointer] == rule


@pytest.mark.parametrize(("dialect", "tool", "rule"), _rows(STRIPPED))
def test_an_opened_rule_lets_its_tool_pass(dialect: str, tool: Json, rule: str) -> None:
    everything = facts(rule, "remote-url")
    assert judge_body(_with(dialect, [tool]), dialect, everything) == Allow()


def test_one_tool_of_several_in_an_entry_goes_alone() -> None:
    body, stripped = amended(gemini(tools=[{**DECLARED, "googleSearch": {}}]), "gemini")
    assert body["tools"] == [DECLARED]
    assert stripped == {"/tools/0/googleSearch": "web-search"}


# --- S23: refused at their paths ------------------------------------------------------------------


@pytest.mark.parametrize(("dialect", "tool", "rule"), _rows(REFUSED))
def test_a_tool_that_names_a_destination_is_refused_at_its_path(dialect: str, tool: Json, rule: str) -> None:
    found, path = refused(_with(dialect, [CLIENTS[dialect][0], tool]), dialect)
    assert found == rule
    assert path.startswith("tools[1]")


@pytest.mark.parametrize("dialect", sorted(CLIENTS))
def test_tools_that_the_client_runs_pass_untouched(dialect: str) -> None:
    assert_allowed(_with(dialect, CLIENTS[dialect]), dialect)


# --- S24: where tools hide ------------------------------------------------------------------------

_RESPONSES_PLACES: dict[str, Place] = {
    "namespace": lambda tools: responses(tools=[{"type": "namespace", "name": "n", "tools": tools}]),
    "additional_tools": lambda tools: responses(
        input=[{"type": "additional_tools", "role": "developer", "tools": tools}]
    ),
    "tool_search_output": lambda tools: responses(input=[{"type": "tool_search_output", "tools": tools}]),
    "nested namespace": lambda tools: responses(
        input=[{"type": "tool_search_output", "tools": [{"type": "namespace", "name": "n", "tools": tools}]}]
    ),
    "websocket": lambda tools: responses(type="response.create", stream_id="s", generate=False, tools=tools),
}


def _added(role: str) -> Place:
    def body(tool: Any) -> Json:
        addition = {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": tool}}
        content = [{"type": "text", "text": "x"}, addition]
        return messages(messages=[{"role": "user", "content": "hi"}, {"role": role, "content": content}])

    return body


_ANTHROPIC_PLACES = {role: _added(role) for role in ("user", "assistant", "system")}
_ANTHROPIC_PLACES["compaction"] = lambda tool: messages(
    messages=[
        {
            "role": "assistant",
            "content": [
                {
                    "type": "compaction",
                    "content": "c",
                    "tool_changes": [
                        {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": CLIENT}},
                        {"type": "tool_addition", "tool": {"type": "tool_definition", "definition": tool}},
                    ],
                }
            ],
        }
    ]
)


@pytest.mark.parametrize("place", sorted(_RESPONSES_PLACES))
@pytest.mark.parametrize(("tool", "rule"), STRIPPED["openai_responses"])
def test_a_stripped_tool_is_gone_from_each_hiding_place(place: str, tool: Json, rule: str) -> None:
    make = _RESPONSES_PLACES[place]
    body, stripped = amended(make([FUNCTION, tool, FUNCTION]), "openai_responses")
    assert body == make([FUNCTION, FUNCTION])
    assert set(stripped.values()) == {rule}


@pytest.mark.parametrize("place", sorted(_RESPONSES_PLACES))
@pytest.mark.parametrize(("tool", "rule"), REFUSED["openai_responses"])
def test_a_refused_tool_is_refused_in_each_hiding_place(place: str, tool: Json, rule: str) -> None:
    found, path = refused(_RESPONSES_PLACES[place]([FUNCTION, tool]), "openai_responses")
    assert found == rule
    assert "tools[1]" in path


@pytest.mark.parametrize("place", sorted(_ANTHROPIC_PLACES))
@pytest.mark.parametrize(("tool", "rule"), STRIPPED["anthropic_messages"])
def test_a_tool_that_is_added_in_a_message_is_stripped_with_its_block(
    place: str, tool: Json, rule: str
) -> None:
    body, stripped = amended(_ANTHROPIC_PLACES[place](tool), "anthropic_messages")
    content = body["messages"][-1]["content"]
    assert "tool_definition" not in str(content) or place == "compaction"
    assert str(tool["type"]) not in str(content)
    if place == "compaction":
        assert [change["tool"]["definition"] for change in content[0]["tool_changes"]] == [CLIENT]
    assert set(stripped.values()) == {rule}


@pytest.mark.parametrize("place", sorted(_ANTHROPIC_PLACES))
def test_a_tool_that_a_client_runs_may_be_added_in_a_message(place: str) -> None:
    assert_allowed(_ANTHROPIC_PLACES[place](CLIENT), "anthropic_messages")


@pytest.mark.parametrize("place", sorted(_ANTHROPIC_PLACES))
def test_a_toolset_of_another_server_is_refused_where_messages_add_tools(place: str) -> None:
    rule, path = refused(
        _ANTHROPIC_PLACES[place]({"type": "mcp_toolset", "mcp_server_name": "s"}), "anthropic_messages"
    )
    assert rule == "remote-mcp"
    assert path.endswith("tool.definition")


@pytest.mark.parametrize("kind", ["mcp_tool_reference", "mcp_toolset_reference"])
@pytest.mark.parametrize("change", ["tool_addition", "tool_removal"])
def test_a_reference_to_another_servers_tool_is_refused(kind: str, change: str) -> None:
    body = messages(
        messages=[
            {"role": "system", "content": [{"type": change, "tool": {"type": kind, "server_name": "s"}}]}
        ]
    )
    assert refused(body, "anthropic_messages") == ("remote-mcp", "messages[0].content[0].tool")


def test_a_message_that_was_nothing_but_stripped_tools_is_gone() -> None:
    gone = {
        "type": "tool_addition",
        "tool": {"type": "tool_definition", "definition": {"type": "web_search_20250305", "name": "w"}},
    }
    body, _ = amended(
        messages(messages=[{"role": "user", "content": "hi"}, {"role": "system", "content": [gone]}]),
        "anthropic_messages",
    )
    assert body["messages"] == [{"role": "user", "content": "hi"}]


@pytest.mark.parametrize("count", ["generateContentRequest", "generate_content_request"])
def test_a_count_of_a_whole_gemini_request_is_judged_like_the_request(count: str) -> None:
    body, stripped = amended({count: gemini(tools=[DECLARED, {"googleSearch": {}}])}, "gemini_count")
    assert body == {count: gemini(tools=[DECLARED])}
    assert stripped == {f"/{count}/tools/1/googleSearch": "web-search"}


# --- S27: choices ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dialect", "tools", "choice", "rule"),
    [
        ("openai_responses", [FUNCTION, {"type": "web_search"}], {"type": "web_search"}, "web-search"),
        ("openai_responses", [FUNCTION], {"type": "web_search_preview"}, "web-search"),
        ("openai_responses", [FUNCTION], {"type": "file_search"}, "stored-file"),
        ("openai_responses", [FUNCTION], {"type": "mcp", "server_label": "x"}, "remote-mcp"),
        ("openai_responses", [FUNCTION], {"type": "code_interpreter"}, "code-execution"),
        ("openai_responses", [FUNCTION], {"type": "brand_new"}, "unknown-tool"),
        ("openai_responses", [{"type": "web_search"}], {"type": "web_search"}, "web-search"),
        ("openai_chat", [CHAT_FUNCTION, {"type": "web_search"}], {"type": "web_search"}, "web-search"),
        (
            "openai_chat",
            [CHAT_FUNCTION, {"type": "builtin_function", "function": {"name": "$web_search"}}],
            {"type": "function", "function": {"name": "$web_search"}},
            "web-search",
        ),
        (
            "anthropic_messages",
            [CLIENT, {"type": "web_search_20250305", "name": "web_search"}],
            {"type": "tool", "name": "web_search"},
            "web-search",
        ),
        (
            "openai_responses",
            [FUNCTION, {"type": "web_search"}],
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "web_search"}]},
            "web-search",
        ),
    ],
)
def test_a_choice_that_forces_a_stripped_tool_is_refused(
    dialect: str, tools: list[Json], choice: Json, rule: str
) -> None:
    assert refused(_with(dialect, tools, tool_choice=choice), dialect) == (rule, "tool_choice")


@pytest.mark.parametrize(
    ("dialect", "choice"),
    [
        ("openai_responses", "auto"),
        ("openai_responses", {"type": "function", "name": "f"}),
        ("openai_responses", {"type": "custom", "name": "c"}),
        ("openai_responses", {"type": "apply_patch"}),
        ("openai_responses", {"type": "shell"}),
        ("openai_chat", "required"),
        ("openai_chat", {"type": "function", "function": {"name": "f"}}),
        ("openai_chat", {"type": "custom", "custom": {"name": "c"}}),
        ("anthropic_messages", {"type": "auto", "disable_parallel_tool_use": True}),
        ("anthropic_messages", {"type": "any"}),
        ("anthropic_messages", {"type": "none"}),
        ("anthropic_messages", {"type": "tool", "name": "f"}),
    ],
)
def test_a_choice_among_the_clients_tools_passes(dialect: str, choice: Any) -> None:
    assert_allowed(_with(dialect, [CLIENTS[dialect][0]], tool_choice=choice), dialect)


def test_a_list_of_allowed_tools_loses_only_the_entry_that_is_gone() -> None:
    kept = {"type": "function", "name": "f"}
    choice = {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "web_search"}, kept]}
    body, stripped = amended(
        responses(tools=[{"type": "web_search"}, FUNCTION], tool_choice=choice), "openai_responses"
    )
    assert body["tool_choice"] == {"type": "allowed_tools", "mode": "auto", "tools": [kept]}
    assert stripped == {"/tools/0": "web-search", "/tool_choice/tools/0": "web-search"}


def test_a_list_of_allowed_tools_in_the_form_of_chat_loses_only_that_entry() -> None:
    kept = {"type": "function", "function": {"name": "f"}}
    choice = {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "auto", "tools": [kept, {"type": "web_search"}]},
    }
    body, _ = amended(chat(tools=[CHAT_FUNCTION, {"type": "web_search"}], tool_choice=choice), "openai_chat")
    assert body["tool_choice"]["allowed_tools"]["tools"] == [kept]


# --- S28: who may call ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "callers", [["code_execution_20250825"], ["direct", "code_execution_20260120"], [], ["direct", "direct"]]
)
def test_no_tool_of_anthropics_form_may_be_called_by_code_of_the_provider(callers: list[str]) -> None:
    body, stripped = amended(messages(tools=[{**CLIENT, "allowed_callers": callers}]), "anthropic_messages")
    assert body["tools"][0]["allowed_callers"] == ["direct"]
    assert stripped == {"/tools/0/allowed_callers": "code-execution"}


@pytest.mark.parametrize("kind", ["function", "custom", "apply_patch"])
def test_no_tool_of_the_responses_form_may_be_called_by_code_of_the_provider(kind: str) -> None:
    body, _ = amended(
        responses(tools=[{"type": kind, "name": "f", "allowed_callers": ["programmatic"]}]),
        "openai_responses",
    )
    assert body["tools"][0]["allowed_callers"] == ["direct"]


def test_callers_within_a_namespace_are_judged_too() -> None:
    tool = {**FUNCTION, "allowed_callers": ["direct", "programmatic"]}
    body, _ = amended(
        responses(tools=[{"type": "namespace", "name": "n", "tools": [tool]}]), "openai_responses"
    )
    assert body["tools"][0]["tools"][0]["allowed_callers"] == ["direct"]


def test_a_tool_that_the_model_alone_calls_passes() -> None:
    assert_allowed(messages(tools=[{**CLIENT, "allowed_callers": ["direct"]}]), "anthropic_messages")


# --- S29: none left -------------------------------------------------------------------------------


@pytest.mark.parametrize(("dialect", "tool", "rule"), _rows(STRIPPED))
def test_when_every_tool_is_gone_so_are_the_list_and_the_choice(dialect: str, tool: Json, rule: str) -> None:
    choices: dict[str, Json] = {
        "openai_chat": {"tool_choice": "auto"},
        "openai_responses": {"tool_choice": "auto"},
        "anthropic_messages": {"tool_choice": {"type": "auto"}},
        "gemini": {"toolConfig": {"functionCallingConfig": {"mode": "AUTO"}}},
        "ollama": {},
    }
    body, stripped = amended(_with(dialect, [tool], **choices[dialect]), dialect)
    assert not {"tools", "tool_choice", "toolConfig"} & set(body)
    assert set(stripped.values()) == {rule}


def test_a_namespace_that_lost_all_its_tools_is_gone() -> None:
    body, _ = amended(
        responses(tools=[FUNCTION, {"type": "namespace", "name": "n", "tools": [{"type": "web_search"}]}]),
        "openai_responses",
    )
    assert body["tools"] == [FUNCTION]


@pytest.mark.parametrize("tools", [{"0": {"type": "web_search"}}, "web_search", [["web_search"]], [1]])
@pytest.mark.parametrize("dialect", ["openai_chat", "openai_responses", "anthropic_messages", "ollama"])
def test_tools_of_another_shape_are_refused(dialect: str, tools: Any) -> None:
    rule, path = refused(_with(dialect, tools), dialect)
    assert rule == "unknown-form"
    assert path.startswith("tools")
