"""Values inside a member that passes are checked too: the tables have a type for everything, at
every depth.
"""

from __future__ import annotations

import pytest

from modelplex.policy.containers import ListRule, ObjectRule, UnionRule, VariantRule
from modelplex.policy.leaves import (
    EnumRule,
    MapRule,
    OpaqueRule,
    PatternRule,
    PlainListRule,
    PlainRule,
    SchemaRule,
    TokenListRule,
)
from modelplex.policy.value_rules import ExceptRule, HashRule, OverwriteRule, RefuseRule, StripRule
from modelplex.policy.walk import ANY_VALUE, AnyValueRule, CustomRule, DeferredRule
from tests.policy.judging import (
    TABLES,
    Json,
    amended,
    assert_allowed,
    block,
    chat,
    chat_part,
    facts,
    gemini,
    item,
    messages,
    nodes,
    refused,
    responses,
)

URL = "https://evil.example/x"
DATA = "data:image/png;base64,iVBORw0KGgo="

# --- the tables themselves ------------------------------------------------------------------------

LEAVES = (
    PlainRule,
    OpaqueRule,
    EnumRule,
    PatternRule,
    PlainListRule,
    SchemaRule,
    HashRule,
    OverwriteRule,
    AnyValueRule,
)
STRUCTURE = (
    ObjectRule,
    ListRule,
    UnionRule,
    VariantRule,
    MapRule,
    TokenListRule,
    DeferredRule,
    CustomRule,
    ExceptRule,
    StripRule,
    RefuseRule,
)
FUNCTIONS = {
    *("_inline_url", "_inline_bytes", "_permitted_model", "_unknown_form", "_direct_only", "_file_uri"),
    "_stored_voice",
}
"""Functions that judge a value to its end, and hand nothing on."""
REVIEWED_DATA = {
    "arguments of a tool call: the model wrote them, the client reads them",
    "what a client's function returned",
    "examples of a tool's arguments",
    "metadata of a part, which Gemini documents as inert",
    "what a classifier of the provider reads beside the conversation",
    "what an SDK parsed from the text beside it",
}
"""All JSON that passes unread. Each of them is words for a model or a client, and no provider acts
on any but by a verdict in its answer.
"""


@pytest.mark.parametrize("dialect", sorted(TABLES))
def test_every_member_of_a_table_names_a_type(dialect: str) -> None:
    found = list(nodes(dialect))
    assert len(found) > 10
    for place, node, _ in found:
        inner = list(node.children())
        if isinstance(node, CustomRule):
            assert inner or node.function.__name__ in FUNCTIONS, f"{place}: a function that hands on nothing"
        elif isinstance(node, STRUCTURE) or inner:
            assert inner, place
        else:
            assert isinstance(node, LEAVES), f"{place}: {type(node).__name__} is no type of a value"


@pytest.mark.parametrize("dialect", sorted(TABLES))
def test_anything_passes_only_where_a_rule_was_opened(dialect: str) -> None:
    assert [
        place for place, node, behind in nodes(dialect) if isinstance(node, AnyValueRule) and not behind
    ] == []


@pytest.mark.parametrize("dialect", sorted(TABLES))
def test_opaque_json_is_of_a_reviewed_kind(dialect: str) -> None:
    assert {
        node.description for _, node, _ in nodes(dialect) if isinstance(node, OpaqueRule)
    } <= REVIEWED_DATA


def test_every_kind_of_opaque_json_is_used() -> None:
    used = {
        node.description
        for dialect in TABLES
        for _, node, _ in nodes(dialect)
        if isinstance(node, OpaqueRule)
    }
    assert used == REVIEWED_DATA
    assert ANY_VALUE.allowed_types >= {dict, list, str}


# --- what reached a provider's fetcher ------------------------------------------------------------

EMBED: Json = {"model": "m"}
ADDRESSES: list[tuple[str, str, Json, str]] = [
    ("openai_embeddings", "remote-url", {"model": "m", "input": [{"image": URL}]}, "input[0].image"),
    ("openai_embeddings", "remote-url", {"model": "m", "input": [{"text": "t", "image_url": URL}]}, "input[0].image_url"),
    ("openai_embeddings", "remote-url", {"model": "m", "input": [{"image_url": {"url": URL}}]}, "input[0].image_url.url"),
    ("openai_embeddings", "remote-url", {"model": "m", "input": ["t", {"image": URL}]}, "input[1].image"),
    ("openai_embeddings", "remote-url", {"model": "m", "input": [{"type": "image_url", "image_url": {"url": URL}}]}, "input[0].image_url.url"),
    ("openai_embeddings", "remote-url", {"model": "m", "input": [{"content": [{"type": "image_url", "image_url": {"url": URL}}]}]}, "input[0].content[0].image_url.url"),
    ("openai_embeddings", "unknown-form", {"model": "m", "input": {"image": URL}}, "input"),
    ("openai_embeddings", "unknown-form", {"model": "m", "input": [[URL]]}, "input[0]"),
    ("openai_embeddings", "unknown-part", {"model": "m", "input": [{"picture": URL}]}, "input[0].picture"),
    ("openai_completions", "unknown-form", {"model": "m", "prompt": [{"image": URL}]}, "prompt[0]"),
    ("openai_completions", "unknown-form", {"model": "m", "prompt": {"url": URL}}, "prompt"),
    ("openai_completions", "unknown-form", {"model": "m", "prompt": [[{"url": URL}]]}, "prompt[0]"),
    ("openai_json", "remote-url", {"model": "m", "query": {"image": URL}, "documents": ["d"]}, "query.image"),
    ("openai_json", "remote-url", {"model": "m", "query": {"content": [{"type": "image_url", "image_url": URL}]}, "documents": ["d"]}, "query.content[0].image_url"),
    ("openai_json", "unknown-form", {"model": "m", "query": [{"type": "image_url", "image_url": URL}], "documents": ["d"]}, "query"),
    ("openai_json", "remote-url", {"model": "m", "query": "q", "documents": [{"text": "t", "image_url": URL}]}, "documents[0].image_url"),
    ("openai_json", "remote-url", {"model": "m", "query": "q", "documents": [{"content": [{"type": "video_url", "video_url": {"url": URL}}]}]}, "documents[0].content[0].video_url.url"),
    ("openai_json", "remote-url", {"model": "m", "prompt": "p", "image": {"b64_json": URL}}, "image.b64_json"),
    (
        "openai_chat",
        "remote-url",
        chat(messages=[{"role": "assistant", "content": "x", "annotations": [{"type": "file", "file": {"hash": "h", "name": "n", "content": [{"type": "image_url", "image_url": {"url": URL}}]}}]}]),
        "messages[0].annotations[0].file.content[0].image_url.url",
    ),
    ("openai_chat", "remote-url", chat_part({"type": "text", "text": "t", "annotations": [{"type": "file", "file": {"content": [{"type": "file", "file": {"file_data": URL}}]}}]}), "messages[0].content[1].annotations[0].file.content[0].file.file_data"),
    ("openai_responses", "remote-url", item({"type": "image_generation_call", "id": "g", "result": URL}), "input[1].result"),
    ("gemini", "unknown-form", gemini(generationConfig={"responseMimeType": {"url": URL}}), "generationConfig.responseMimeType"),
]  # fmt: skip


@pytest.mark.parametrize(("dialect", "rule", "body", "path"), ADDRESSES)
def test_an_address_inside_of_a_member_is_refused(dialect: str, rule: str, body: Json, path: str) -> None:
    assert refused(body, dialect) == (rule, path)


def test_pictures_that_come_along_may_be_embedded_and_ranked() -> None:
    assert_allowed({"model": "m", "input": [{"text": "t", "image": DATA}, "u"]}, "openai_embeddings")
    assert_allowed({"model": "m", "input": [[1, 2], [3]]}, "openai_embeddings")
    assert_allowed({"model": "m", "input": [1, 2, 3]}, "openai_embeddings")
    assert_allowed({"model": "m", "prompt": [[1, 2]]}, "openai_completions")
    ranked = {"text": "t", "image_url": {"url": DATA}}
    assert_allowed({"model": "m", "query": ranked, "documents": [ranked, "d"]}, "openai_json")


BY_ID: list[Json] = [
    {"type": "image_generation_call", "id": "ig_1"},
    {"type": "image_generation_call", "id": "ig_1", "result": None, "status": "completed"},
    {"type": "image_generation_call", "id": "ig_1", "result": ""},
    {"type": "message", "id": "msg_1", "role": "assistant"},
    {"type": "message", "id": "msg_1", "role": "assistant", "content": []},
    {"role": "assistant", "id": "msg_1"},
    {"type": "compaction", "id": "cmp_1"},
    {"type": "compaction_summary", "id": "cmp_1", "encrypted_content": ""},
    {"type": "web_search_call", "id": "ws_1", "status": "completed"},
    {"type": "file_search_call", "id": "fs_1", "status": "completed"},
    {"type": "function_call", "id": "fc_1", "call_id": "c"},
    {"type": "custom_tool_call", "id": "ct_1"},
    {"type": "computer_call", "id": "cc_1", "call_id": "c"},
    {"type": "local_shell_call", "id": "ls_1"},
    {"type": "shell_call", "id": "sh_1"},
    {"type": "apply_patch_call", "id": "ap_1"},
    {"type": "tool_search_call", "id": "ts_1"},
]
"""Items that say no more than their id: the provider would read them from what it keeps for the key
that all agents share.
"""


@pytest.mark.parametrize("it", BY_ID, ids=lambda it: f"{it.get('type', 'untyped')} {sorted(it)}")
@pytest.mark.parametrize("dialect", ["openai_responses", "openai_count", "openai_compact"])
def test_an_item_that_is_only_an_id_is_refused(it: Json, dialect: str) -> None:
    body = {"model": "m", "input": [{"role": "user", "content": "hi"}, it]}
    assert refused(body, dialect) == ("stored-state", "input[1]")
    assert_allowed(body, dialect, facts("stored-state"))


@pytest.mark.parametrize(
    "it",
    [
        {"type": "reasoning", "id": "rs_1"},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [], "encrypted_content": None},
    ],
)
def test_thinking_that_is_only_an_id_is_stripped(it: Json) -> None:
    """Whoever sends the output of a response back sends these, where no ciphertext was
    asked for.
    """
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    body, stripped = amended(responses(input=[it, call]), "openai_responses")
    assert body["input"] == [call]
    assert stripped == {"/input/0": "stored-state"}
    assert_allowed(responses(input=[it, call]), "openai_responses", facts("stored-state"))


def test_a_summary_alone_goes_without_the_id_of_its_thinking() -> None:
    said = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "s"}]}
    body, stripped = amended(item(said), "openai_responses")
    assert "id" not in body["input"][1]
    assert stripped == {"/input/1/id": "stored-state"}
    for whole in ({"encrypted_content": "e"}, {"content": [{"type": "reasoning_text", "text": "t"}]}):
        assert_allowed(item({**said, **whole}), "openai_responses")


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("function_call_output", {"output": ""}),
        ("custom_tool_call_output", {"output": ""}),
        ("local_shell_call_output", {"output": ""}),
        ("shell_call_output", {"output": []}),
        ("apply_patch_call_output", {"output": ""}),
        ("computer_call_output", {"output": []}),
        ("tool_search_output", {"tools": []}),
        ("additional_tools", {"tools": []}),
        ("configuration_update", {"reasoning": {"effort": "low"}}),
        ("compaction_trigger", {}),
    ],
)
def test_what_is_told_without_content_loses_its_id(kind: str, content: Json) -> None:
    bare: Json = {"type": kind, "status": "completed"}
    for empty in ({}, dict.fromkeys(content)):
        body, stripped = amended(item({**bare, "id": "x_1", **empty}), "openai_responses")
        assert body["input"][1] == {**bare, **empty}
        assert stripped == {"/input/1/id": "stored-state"}
        assert_allowed(item({**bare, "id": "x_1", **empty}), "openai_responses", facts("stored-state"))
    assert_allowed(item(bare), "openai_responses")
    if content:
        assert_allowed(item({**bare, "id": "x_1", **content}), "openai_responses")


@pytest.mark.parametrize("name", ["chat_template", "tools", "documents", "zz_new"])
def test_no_template_of_the_callers_is_run(name: str) -> None:
    kept = {"enable_thinking": False, "reasoning_effort": "low", "thinking_budget": 9}
    body, stripped = amended(chat(chat_template_kwargs={**kept, name: "{{ x }}"}), "openai_chat")
    assert body["chat_template_kwargs"] == kept
    assert stripped == {f"/chat_template_kwargs/{name}": "unknown-field"}


def test_a_kind_of_edit_or_format_that_is_not_known_is_stripped() -> None:
    body, stripped = amended(
        messages(
            context_management={"edits": [{"type": f"clear_tool_uses_{URL}"}, {"type": "new_20300101"}]}
        ),
        "anthropic_messages",
    )
    assert body["context_management"] == {"edits": []}
    assert set(stripped.values()) == {"unknown-value"}
    _, stripped = amended(chat(response_format={"type": "remote", "url": URL}), "openai_chat")
    assert stripped == {"/response_format": "unknown-value"}


def test_a_change_of_tools_says_nothing_but_what_it_changes() -> None:
    change = {"type": URL, "tool": {"type": "tool_reference", "name": "f"}}
    body = block({"type": "compaction", "content": "c", "tool_changes": [change]}, role="assistant")
    assert refused(body, "anthropic_messages")[0] == "unknown-part"


def test_a_direct_caller_carries_nothing_along() -> None:
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {}, "caller": {"type": "direct", "x": URL}}
    _, stripped = amended(block(call, role="assistant"), "anthropic_messages")
    assert stripped == {"/messages/0/content/0/caller/x": "unknown-field"}


def test_a_model_within_a_body_is_a_name_and_no_object() -> None:
    opened = facts("second-model")
    assert refused(chat(models=[{"model": {"url": URL}}]), "openai_chat", opened)[0] == "unknown-form"
    assert refused(chat(models=["perplexity/sonar"]), "openai_chat", opened)[0] == "self-searching-model"
    vectors = {"requests": [{"model": "models/other", "content": {"parts": [{"text": "t"}]}}]}
    assert refused(vectors, "gemini_embed", facts(models=("mine",)))[0] == "unlisted-model"
    assert_allowed(vectors, "gemini_embed", facts(models=("other",)))
