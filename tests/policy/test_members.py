"""Members besides content: stored state, labels, identity, price, models (S18, S38 to S45)."""

from __future__ import annotations

from typing import Any

import pytest

from modelplex.policy.verdict import Allow
from tests.policy.judging import (
    TABLES,
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

PLAIN: dict[str, Json] = {
    "openai_chat": chat(),
    "openai_completions": {"model": "m", "prompt": "hi"},
    "openai_embeddings": {"model": "m", "input": "hi"},
    "openai_responses": responses(),
    "openai_count": {"model": "m", "input": "hi"},
    "openai_compact": {"model": "m", "input": "hi"},
    "openai_json": {"model": "m", "input": "hi"},
    "anthropic_messages": messages(),
    "anthropic_count": {"model": "m", "messages": [{"role": "user", "content": "hi"}]},
    "gemini": gemini(),
    "gemini_array": gemini(),
    "gemini_count": gemini(),
    "gemini_embed": {"requests": [{"content": {"parts": [{"text": "hi"}]}}]},
    "gemini_embed_one": {"content": {"parts": [{"text": "hi"}]}},
    "ollama": ollama(),
    "ollama_generate": {"model": "m", "prompt": "hi"},
    "ollama_embed": {"model": "m", "input": "hi"},
    "bedrock_converse": {"messages": [{"role": "user", "content": [{"text": "hi"}]}]},
}
OPENAI = [dialect for dialect in PLAIN if dialect.startswith("openai")]
MESSAGES = ["anthropic_messages", "anthropic_count"]
GEMINI = ["gemini", "gemini_array", "gemini_count"]


def test_every_table_is_tried() -> None:
    assert set(PLAIN) == set(TABLES)


@pytest.mark.parametrize("dialect", sorted(PLAIN))
def test_a_plain_body_passes(dialect: str) -> None:
    assert_allowed(PLAIN[dialect], dialect)


# --- S38, S39, S40: nothing is kept, nothing kept is read -----------------------------------------


@pytest.mark.parametrize("said", [True, None, "true", 1])
def test_a_response_is_not_stored_whatever_the_client_says(said: Any) -> None:
    body, stripped = amended(responses(store=said), "openai_responses")
    assert body["store"] is False
    assert stripped == {"/store": "store"}


@pytest.mark.parametrize("said", [True, "true", 1])
@pytest.mark.parametrize("dialect", ["openai_chat", "openai_completions", "openai_count", "openai_compact"])
def test_a_store_flag_is_gone_where_services_have_no_such_member(said: Any, dialect: str) -> None:
    body, stripped = amended({**PLAIN[dialect], "store": said}, dialect)
    assert "store" not in body
    assert stripped == {"/store": "store"}


def test_a_client_that_stores_nothing_is_left_alone() -> None:
    assert_allowed(chat(store=False), "openai_chat")
    assert_allowed(responses(store=False), "openai_responses")
    assert_allowed(gemini(store=False), "gemini")


@pytest.mark.parametrize("dialect", GEMINI)
def test_gemini_does_not_log_the_request_for_later(dialect: str) -> None:
    body, stripped = amended(gemini(store=True), dialect)
    assert body["store"] is False
    assert stripped == {"/store": "store"}


RESPONSE_STATE: tuple[Json, ...] = (
    {"previous_response_id": "resp_1"},
    {"conversation": "conv_1"},
    {"conversation": {"id": "conv_1"}},
    {"prompt": {"id": "pmpt_1", "variables": {}}},
)
KEPT_STATE: list[tuple[str, Json, str]] = [
    *(
        (dialect, member, next(iter(member)))
        for dialect in ("openai_responses", "openai_count", "openai_compact")
        for member in RESPONSE_STATE
    ),
    *(
        (dialect, {"thread": thread}, "thread")
        for dialect in MESSAGES
        for thread in ({"type": "create"}, {"type": "continue", "previous_message_id": "m"})
    ),
    *(
        (dialect, {name: "x"}, name)
        for dialect in GEMINI
        for name in ("cachedContent", "cached_content", "continuationToken", "continuation_token")
    ),
]


CONTEXT: Json = {"v": 1, "user_identity": None, "rules": {"deny": ["x"], "new": [None, {"url": "https://e"}]}}


@pytest.mark.parametrize("dialect", MESSAGES)
def test_a_check_of_calls_passes_whole_without_the_users_name(dialect: str) -> None:
    """Claude Code's usual mode runs nothing without it, and a part of it gives another verdict."""
    checked = {"type": "dangerous_tool_use", "classifier_context": CONTEXT}
    body = {**PLAIN[dialect], "safeguards": [checked]}
    assert_allowed(body, dialect)
    named = {**checked, "classifier_context": {**CONTEXT, "user_identity": "ann@example.com"}}
    other = {"type": "brand_new", "address": "https://e"}
    after, stripped = amended({**body, "safeguards": [named, other]}, dialect)
    assert after == body
    assert stripped == {
        "/safeguards/0/classifier_context/user_identity": "identity",
        "/safeguards/1": "unknown-value",
    }
    assert "safeguards" not in amended({**body, "safeguards": [other]}, dialect)[0]


@pytest.mark.parametrize("dialect", MESSAGES)
def test_what_is_cached_is_dropped_sooner_only_where_retention_is_open(dialect: str) -> None:
    body = {**PLAIN[dialect], "cache_control": {"type": "ephemeral", "evict_on_complete": True}}
    after, stripped = amended(body, dialect)
    assert after["cache_control"] == {"type": "ephemeral"}
    assert stripped == {"/cache_control/evict_on_complete": "cache-retention"}
    assert_allowed(body, dialect, facts("cache-retention"))


@pytest.mark.parametrize(("dialect", "member", "path"), KEPT_STATE)
def test_what_continues_stored_state_is_refused_and_told_to_send_the_whole_history(
    dialect: str, member: Json, path: str
) -> None:
    verdict = judge_body({**PLAIN[dialect], **member}, dialect)
    assert refused({**PLAIN[dialect], **member}, dialect) == ("stored-state", path)
    assert "Send the whole history" in getattr(verdict, "message", "")


@pytest.mark.parametrize(("dialect", "member", "path"), KEPT_STATE)
def test_what_continues_stored_state_passes_where_the_rule_is_open(
    dialect: str, member: Json, path: str
) -> None:
    assert_allowed({**PLAIN[dialect], **member}, dialect, facts("stored-state"))


@pytest.mark.parametrize("dialect", ["openai_responses", "openai_count", "openai_compact"])
def test_no_state_at_all_may_be_said_with_null(dialect: str) -> None:
    assert_allowed(
        {
            **PLAIN[dialect],
            "previous_response_id": None,
            "conversation": None,
            "prompt": None,
            "background": None,
        },
        dialect,
    )


def test_a_prompts_variables_are_judged_where_prompts_are_open() -> None:
    body = responses(
        prompt={
            "id": "p",
            "variables": {"city": "x", "image": {"type": "input_image", "image_url": "https://e"}},
        }
    )
    assert refused(body, "openai_responses", facts("stored-state")) == (
        "remote-url",
        "prompt.variables.image.image_url",
    )


@pytest.mark.parametrize("said", [True, 1, "true"])
def test_a_response_in_the_background_is_refused(said: Any) -> None:
    assert refused(responses(background=said), "openai_responses") == ("background", "background")


def test_a_response_in_the_foreground_passes() -> None:
    assert_allowed(responses(background=False), "openai_responses")


@pytest.mark.parametrize("name", ["generationOutputConfig", "generation_output_config"])
@pytest.mark.parametrize("inner", ["outputUriPrefix", "output_uri_prefix", "somethingNew"])
def test_gemini_writes_to_no_bucket(name: str, inner: str) -> None:
    said = {inner: "gs://bucket/x"}
    assert refused(gemini(**{name: said}), "gemini") == ("bucket-write", f"{name}.{inner}")
    assert refused(gemini(generationConfig={name: said}), "gemini") == (
        "bucket-write",
        f"generationConfig.{name}.{inner}",
    )


def test_a_video_of_geminis_is_not_written_to_a_bucket_either() -> None:
    body = gemini(generationConfig={"responseFormat": [{"video": {"gcsUri": "gs://b"}}]})
    assert refused(body, "gemini") == ("bucket-write", "generationConfig.responseFormat[0].video.gcsUri")


@pytest.mark.parametrize(
    "member",
    [{"mcp_servers": [{"type": "url", "url": "https://e", "name": "n", "authorization_token": "t"}]}],
)
@pytest.mark.parametrize("dialect", MESSAGES)
def test_anthropic_calls_no_server_of_the_agents(member: Json, dialect: str) -> None:
    assert refused({**PLAIN[dialect], **member}, dialect) == ("remote-mcp", "mcp_servers")
    assert_allowed({**PLAIN[dialect], **member}, dialect, facts("remote-mcp"))


def test_azure_asks_no_index_of_the_agents() -> None:
    body = chat(
        data_sources=[{"type": "azure_search", "parameters": {"endpoint": "https://e", "authentication": {}}}]
    )
    assert refused(body, "openai_chat") == ("remote-data", "data_sources")


# --- S41, S44, S45: stripped ----------------------------------------------------------------------

MEMBERS: list[tuple[list[str], Json, str]] = [
    (OPENAI, {"metadata": {"k": "v"}}, "labels"),
    (OPENAI, {"user": "u"}, "labels"),
    (OPENAI, {"client_metadata": {"x": "installation"}}, "labels"),
    (OPENAI, {"service_tier": "priority"}, "price"),
    (OPENAI, {"access_programs": {"cyber": "standard"}}, "price"),
    (OPENAI, {"disable_search": False}, "web-search"),
    (OPENAI, {"prompt_cache_retention": "24h"}, "cache-retention"),
    (OPENAI, {"prompt_cache_options": {"ttl": "12h"}}, "cache-retention"),
    ([d for d in OPENAI if d != "openai_json"], {"moderation": {"model": "m"}}, "second-model"),
    (["openai_json"], {"svg": {"model": "m"}}, "second-model"),
    (["openai_responses"], {"background_options": {"completion_window": "8h"}}, "background"),
    (["openai_responses"], {"multi_agent": {}}, "provider-agents"),
    (MESSAGES, {"fallbacks": [{"model": "x"}]}, "second-model"),
    (MESSAGES, {"fallbacks": "default"}, "second-model"),
    (MESSAGES, {"fallback_credit_token": {"token": "t"}}, "price"),
    (MESSAGES, {"billing_policy": {"type": "billing_policy"}}, "price"),
    (MESSAGES, {"speed": "fast"}, "price"),
    (MESSAGES, {"service_tier": "auto"}, "price"),
    (MESSAGES, {"inference_geo": "us"}, "price"),
    (MESSAGES, {"diagnostics": {"previous_message_id": "m"}}, "stored-state"),
    (MESSAGES, {"betas": ["files-api-2025-04-14"]}, "beta"),
    (MESSAGES, {"anthropic_beta": ["mcp-client-2025-04-04"]}, "beta"),
    (MESSAGES, {"workspace_id": "w"}, "identity"),
    (MESSAGES, {"user_profile_id": "u"}, "identity"),
    (GEMINI, {"labels": {"k": "v"}}, "labels"),
    *((GEMINI, {name: {"x": "y"}}, "provider-switch") for name in ("modelArmorConfig", "model_armor_config")),
    *(
        (GEMINI, {name: {"x": "y"}}, "second-model")
        for name in ("routingConfig", "routing_config", "modelSelectionConfig", "model_selection_config")
    ),
    *((GEMINI, {name: "flex"}, "price") for name in ("serviceTier", "service_tier")),
    *(
        (OPENAI, {name: "x"}, "web-search")
        for name in (
            "web_search_options search_parameters enable_search search_options search_settings search_mode "
            "search_domain_filter return_images web_search"
        ).split()
    ),
    *((OPENAI, {name: ["x"]}, "second-model") for name in ("models", "fallbacks")),
    *(
        (OPENAI, {name: "x"}, "provider-switch")
        for name in (
            "plugins route provider transforms preset api_base base_url api_key user_config model_list callbacks success_callback"
        ).split()
    ),
    (sorted(PLAIN), {"zz_invented": {"url": "https://e"}}, "unknown-field"),
    (sorted(PLAIN), {"extra_body": {"plugins": []}}, "unknown-field"),
]


@pytest.mark.parametrize(
    ("dialect", "member", "rule"),
    [(dialect, member, rule) for dialects, member, rule in MEMBERS for dialect in dialects],
)
def test_a_member_that_is_not_the_agents_to_say_is_gone_and_told(
    dialect: str, member: Json, rule: str
) -> None:
    body, stripped = amended({**PLAIN[dialect], **member}, dialect)
    (name,) = member
    assert body == PLAIN[dialect]
    assert stripped == {f"/{name}": rule}
    assert judge_body({**PLAIN[dialect], **member}, dialect, facts(rule)) == Allow()


@pytest.mark.parametrize("config", ["toolConfig", "tool_config"])
@pytest.mark.parametrize(
    ("inner", "rule"),
    [
        ("retrievalConfig", "web-search"),
        ("retrieval_config", "web-search"),
        ("includeServerSideToolInvocations", "provider-history"),
        ("include_server_side_tool_invocations", "provider-history"),
    ],
)
def test_geminis_tool_config_keeps_only_what_chooses_functions(config: str, inner: str, rule: str) -> None:
    kept = {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}}
    body, stripped = amended(gemini(**{config: {**kept, inner: True}}), "gemini")
    assert body[config] == kept
    assert stripped == {f"/{config}/{inner}": rule}


@pytest.mark.parametrize("name", ["routingConfig", "model_selection_config", "modelConfig", "brandNew"])
def test_geminis_generation_config_chooses_no_model(name: str) -> None:
    body, _ = amended(gemini(generationConfig={"temperature": 1, name: {"modelName": "x"}}), "gemini")
    assert body["generationConfig"] == {"temperature": 1}


SHAPES_RESPONSES: Json = {
    "include": ["reasoning.encrypted_content", "message.output_text.logprobs"],
    "context_management": [{"type": "compaction", "compact_threshold": 1000}],
    "truncation": "auto",
    "text": {
        "format": {"type": "json_schema", "name": "n", "schema": {}, "strict": True},
        "verbosity": "low",
    },
    "reasoning": {"effort": "xhigh", "summary": "auto", "context": "all_turns", "mode": "pro"},
    "image": {"context_compression": "auto"},
    "stream_options": {"include_obfuscation": False},
    "generate": False,
    "stream_id": "s_1",
}
SHAPES_MESSAGES: Json = {
    "cache_control": {"type": "ephemeral", "ttl": "1h"},
    "context_management": {
        "edits": [
            {
                "type": "clear_tool_uses_20250919",
                "trigger": {"type": "input_tokens", "value": 9},
                "keep": {"type": "tool_uses", "value": 3},
                "clear_at_least": {"type": "input_tokens", "value": 9},
                "exclude_tools": ["f"],
                "clear_tool_inputs": False,
            },
            {"type": "clear_thinking_20251015", "keep": "all"},
            {"type": "compact_20260112", "instructions": "Keep names.", "pause_after_compaction": True},
        ]
    },
    "compaction": {"type": "summarize", "instructions": "Keep names."},
    "output_config": {
        "effort": "max",
        "format": {"type": "json_schema", "schema": {"type": "object"}},
        "task_budget": {"type": "tokens", "total": 9, "remaining": 1},
    },
    "thinking": {"type": "enabled", "budget_tokens": 1024, "display": "omitted"},
}


@pytest.mark.parametrize("name", sorted(SHAPES_RESPONSES))
def test_what_shapes_an_answer_of_the_responses_form_passes(name: str) -> None:
    assert_allowed(responses(**{name: SHAPES_RESPONSES[name]}), "openai_responses")


@pytest.mark.parametrize("name", sorted(SHAPES_MESSAGES))
def test_what_shapes_an_answer_of_anthropics_form_passes(name: str) -> None:
    assert_allowed(messages(**{name: SHAPES_MESSAGES[name]}), "anthropic_messages")


@pytest.mark.parametrize(
    ("dialect", "name"),
    [
        *(("openai_responses", name) for name in ("text", "reasoning", "image", "stream_options")),
        *(("anthropic_messages", name) for name in SHAPES_MESSAGES),
        *(
            ("openai_chat", name)
            for name in "reasoning thinking usage stream_options cache_control chat_template_kwargs".split()
        ),
        ("ollama", "options"),
        ("gemini", "generationConfig"),
    ],
)
def test_what_shapes_an_answer_takes_no_member_that_is_not_known(dialect: str, name: str) -> None:
    """Issue 9: these took any object, whatever stood inside."""
    body, stripped = amended({**PLAIN[dialect], name: {"zz_invented": {"url": "https://e"}}}, dialect)
    assert body[name] == {}
    assert stripped == {f"/{name}/zz_invented": "unknown-field"}
    assert refused({**PLAIN[dialect], name: "https://e"}, dialect) == ("unknown-form", name)
    assert refused({**PLAIN[dialect], name: [["https://e"]]}, dialect) == ("unknown-form", name)


def test_everything_that_ollama_knows_passes() -> None:
    assert_allowed(
        ollama(
            stream=True,
            format="json",
            options={"num_ctx": 9},
            keep_alive="5m",
            think="high",
            logprobs=True,
            top_logprobs=2,
        ),
        "ollama",
    )
    assert_allowed(
        {
            **PLAIN["ollama_generate"],
            "suffix": "s",
            "system": "s",
            "template": "t",
            "raw": True,
            "context": [1],
        },
        "ollama_generate",
    )
    assert_allowed(
        {**PLAIN["ollama_embed"], "truncate": True, "dimensions": 8, "options": {}}, "ollama_embed"
    )


def test_bodies_without_a_conversation_pass_with_all_that_they_know() -> None:
    assert_allowed(
        {
            "model": "m",
            "prompt": "p",
            "n": 1,
            "size": "1x1",
            "quality": "low",
            "moderation": "low",
            "response_format": "b64_json",
        },
        "openai_json",
    )
    assert_allowed(
        {"model": "m", "query": "q", "documents": ["d"], "top_n": 3, "return_documents": True}, "openai_json"
    )
    assert_allowed(
        {"model": "m", "input": "hi", "voice": "alloy", "response_format": "mp3", "speed": 1.0}, "openai_json"
    )
    assert_allowed(
        {"model": "m", "input": [[1, 2], [3]], "dimensions": 8, "encoding_format": "base64"},
        "openai_embeddings",
    )


# --- S42, S43: hashes -----------------------------------------------------------------------------

ANN, BOB = facts(agent="ann"), facts(agent="bob")
IDENTITY: list[tuple[str, str, str | None]] = [
    *((dialect, "safety_identifier", None) for dialect in OPENAI),
    *((dialect, "metadata", "user_id") for dialect in MESSAGES),
]


def _hash(dialect: str, name: str, inner: str | None, said: Any, known: Any) -> Any:
    body, stripped = amended(
        {**PLAIN[dialect], name: said if inner is None else {inner: said}}, dialect, known
    )
    assert set(stripped.values()) == {"identity"}
    return body[name] if inner is None else body[name][inner]


@pytest.mark.parametrize(("dialect", "name", "inner"), IDENTITY)
def test_an_agents_id_is_stable_its_own_and_tells_nothing(dialect: str, name: str, inner: str | None) -> None:
    one = _hash(dialect, name, inner, "device-canary", ANN)
    assert one == _hash(dialect, name, inner, "another", ANN)
    assert one != _hash(dialect, name, inner, "device-canary", BOB)
    assert one.startswith("mpx-")
    assert len(one) <= 64
    assert "canary" not in one
    assert "ann" not in one


@pytest.mark.parametrize("dialect", OPENAI)
def test_a_cache_key_is_its_agents_own(dialect: str) -> None:
    one = _hash(dialect, "prompt_cache_key", None, "session-canary", ANN)
    assert one == _hash(dialect, "prompt_cache_key", None, "session-canary", ANN)
    assert one != _hash(dialect, "prompt_cache_key", None, "session-canary", BOB)
    assert one != _hash(dialect, "prompt_cache_key", None, "other", ANN)
    assert "canary" not in one
    assert len(one) <= 64


def test_two_agents_cannot_meet_by_choosing_their_names() -> None:
    ab = _hash("openai_chat", "prompt_cache_key", None, "c", facts(agent="ab"))
    a = _hash("openai_chat", "prompt_cache_key", None, "bc", facts(agent="a"))
    assert a != ab


def test_other_members_of_anthropics_metadata_are_gone() -> None:
    body, stripped = amended(messages(metadata={"user_id": "u", "team": "t"}), "anthropic_messages")
    assert set(body["metadata"]) == {"user_id"}
    assert stripped == {"/metadata/user_id": "identity", "/metadata/team": "labels"}


@pytest.mark.parametrize(
    ("dialect", "name"), [("openai_chat", "safety_identifier"), ("openai_responses", "prompt_cache_key")]
)
def test_an_id_that_nobody_sent_is_not_added(dialect: str, name: str) -> None:
    assert_allowed(PLAIN[dialect], dialect)
    assert_allowed({**PLAIN[dialect], name: None}, dialect)
    assert_allowed({**PLAIN[dialect], name: "as it is"}, dialect, facts("identity"))


# --- S18: names of models within bodies -----------------------------------------------------------

MODEL_PLACES: list[tuple[str, str, Place]] = [
    ("anthropic_messages", "second-model", lambda m: messages(fallbacks=[{"model": m}])),
    (
        "anthropic_messages",
        "second-model",
        lambda m: messages(tools=[{"type": "advisor_20260301", "name": "advisor", "model": m}]),
    ),
    (
        "anthropic_messages",
        "second-model",
        lambda m: messages(
            messages=[
                {"role": "user", "content": "x"},
                {
                    "role": "system",
                    "content": [
                        {"type": "text", "text": "t"},
                        {
                            "type": "tool_addition",
                            "tool": {
                                "type": "tool_definition",
                                "definition": {"type": "advisor_20260301", "name": "advisor", "model": m},
                            },
                        },
                    ],
                },
            ]
        ),
    ),
    (
        "openai_responses",
        "image-generation",
        lambda m: responses(tools=[{"type": "image_generation", "model": m}]),
    ),
    (
        "openai_responses",
        "image-generation",
        lambda m: responses(tools=[{"type": "image_generation", "svg": {"model": m}}]),
    ),
    ("openai_responses", "second-model", lambda m: responses(moderation={"model": m})),
    ("openai_chat", "second-model", lambda m: chat(moderation={"model": m})),
    ("openai_json", "second-model", lambda m: {"model": "m", "prompt": "p", "svg": {"model": m}}),
    ("openai_chat", "second-model", lambda m: chat(models=[m])),
    ("openai_chat", "second-model", lambda m: chat(fallbacks=[{"model": m}])),
]


@pytest.mark.parametrize(("dialect", "rule", "make"), MODEL_PLACES)
def test_a_model_named_within_a_body_is_stripped_and_where_it_may_stand_must_be_the_callers(
    dialect: str, rule: str, make: Any
) -> None:
    body, stripped = amended(make("other-model"), dialect, facts(models=("mine-*",)))
    assert "other-model" not in str(body)
    assert set(stripped.values()) == {rule}
    opened = facts(rule, models=("mine-*",))
    found, path = refused(make("other-model"), dialect, opened)
    assert found == "unlisted-model"
    assert path
    assert_allowed(make("mine-1"), dialect, opened)
    assert_allowed(make("other-model"), dialect, facts(rule))


@pytest.mark.parametrize("tool", ["web_search_20250305", "web_fetch_20250910"])
def test_an_opened_tool_is_still_called_by_the_model_alone(tool: str) -> None:
    body, _ = amended(
        messages(tools=[{"type": tool, "name": "w", "allowed_callers": ["code_execution_20250825"]}]),
        "anthropic_messages",
        facts("web-search", "web-fetch"),
    )
    assert body["tools"][0]["allowed_callers"] == ["direct"]


def test_an_opened_interpreter_still_reads_no_stored_file() -> None:
    body = responses(tools=[{"type": "code_interpreter", "container": {"type": "auto", "file_ids": ["f"]}}])
    assert refused(body, "openai_responses", facts("code-execution")) == (
        "stored-file",
        "tools[0].container.file_ids",
    )
    assert_allowed(
        responses(tools=[{"type": "code_interpreter", "container": {"type": "auto"}}]),
        "openai_responses",
        facts("code-execution"),
    )


def test_a_fetched_document_is_looked_into_where_such_history_is_open() -> None:
    fetched = {
        "type": "web_fetch_result",
        "url": "u",
        "content": {"type": "document", "source": {"type": "url", "url": "https://e"}},
    }
    body = messages(
        messages=[
            {
                "role": "assistant",
                "content": [{"type": "web_fetch_tool_result", "tool_use_id": "t", "content": fetched}],
            }
        ]
    )
    rule, path = refused(body, "anthropic_messages", facts("provider-history"))
    assert (rule, path) == ("remote-url", "messages[0].content[0].content.content.source.url")
