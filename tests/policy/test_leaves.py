"""Types of single values: what they accept, and what they strip or refuse."""

from __future__ import annotations

from typing import Any

import pytest

from modelplex.policy import leaves
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
from tests.policy.judging import (
    TABLES,
    Json,
    amended,
    assert_allowed,
    chat,
    facts,
    gemini,
    messages,
    nodes,
    ollama,
    refused,
    responses,
)

URL = "https://evil.example/x"

LONGEST_PATTERN = 130
"""Characters that a bounded pattern may let pass."""


@pytest.mark.parametrize("dialect", sorted(TABLES))
def test_no_pattern_lets_an_address_or_a_message_pass(dialect: str) -> None:
    for place, node, _ in nodes(dialect):
        if isinstance(node, PatternRule):
            assert all(map(node.fullmatch, node.allowed_words)), place
            for said in (
                URL,
                "//evil.example",
                "evil.example/x",
                "a b c d e f g h i j k l m n o p q r s t u",
                "",
            ):
                assert said == "" or not node.fullmatch(said), (place, said)
            for letter in "aA0_-. ":
                assert not node.fullmatch(letter * LONGEST_PATTERN), (place, letter)


def test_a_leaf_passes_null_and_nothing_of_another_type() -> None:
    for leaf in vars(leaves).values():
        if not isinstance(leaf, OpaqueRule) and isinstance(
            leaf,
            PlainRule | EnumRule | PatternRule | PlainListRule | MapRule | TokenListRule | SchemaRule,
        ):
            assert type(None) in leaf.allowed_types, leaf
            assert dict not in leaf.allowed_types, leaf
            assert list not in leaf.allowed_types, leaf


@pytest.mark.parametrize("said", [URL, "file-4242ABCD", "resp_0123456789", "A B", "x" * 25])
@pytest.mark.parametrize(
    ("dialect", "place"),
    [
        ("openai_chat", ("reasoning_effort",)),
        ("openai_chat", ("reasoning", "effort")),
        ("openai_chat", ("thinking", "type")),
        ("openai_chat", ("verbosity",)),
        ("openai_responses", ("reasoning", "summary")),
        ("openai_responses", ("text", "verbosity")),
        ("openai_responses", ("truncation",)),
        ("anthropic_messages", ("thinking", "type")),
        ("anthropic_messages", ("output_config", "effort")),
        ("anthropic_messages", ("cache_control", "ttl")),
        ("openai_json", ("size",)),
        ("openai_json", ("quality",)),
        ("openai_embeddings", ("encoding_format",)),
    ],
)
def test_a_word_of_an_api_is_no_place_for_an_address_or_an_id(
    dialect: str, place: tuple[str, ...], said: str
) -> None:
    bodies: dict[str, Json] = {
        "openai_chat": chat(),
        "openai_responses": responses(),
        "anthropic_messages": messages(),
        "openai_json": {"model": "m", "prompt": "p"},
        "openai_embeddings": {"model": "m", "input": "i"},
    }
    value: Any = said
    for name in reversed(place):
        value = {name: value}
    _, stripped = amended({**bodies[dialect], **value}, dialect)
    assert stripped == {"/" + "/".join(place): "unknown-value"}


def test_an_unknown_word_passes_where_the_rule_is_open() -> None:
    assert_allowed(chat(reasoning_effort="level-11 please"), "openai_chat", facts("unknown-value"))


@pytest.mark.parametrize(
    ("dialect", "tool"),
    [
        ("anthropic_messages", {"type": "bash_20250124 and a message", "name": "bash"}),
        ("anthropic_messages", {"type": "computer_2025112", "name": "computer"}),
        ("anthropic_messages", {"type": "text_editor_20250728\n", "name": "e"}),
        ("anthropic_messages", {"type": "web_search_free text", "name": "w"}),
        ("openai_responses", {"type": "web_search_2025_08_26_free_text"}),
        ("openai_chat", {"type": "openrouter:free text of mine"}),
    ],
)
def test_a_version_of_a_tool_has_no_room_for_text(dialect: str, tool: Json) -> None:
    bodies = {"anthropic_messages": messages, "openai_responses": responses, "openai_chat": chat}
    body, stripped = amended(bodies[dialect](tools=[tool]), dialect)
    assert "tools" not in body
    assert set(stripped.values()) == {"unknown-tool"}


def _schemas(schema: Json) -> list[tuple[str, Json, str]]:
    named = {"name": "f", "parameters": schema}
    shape = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    return [
        (
            "openai_chat",
            chat(tools=[{"type": "function", "function": named}]),
            "tools[0].function.parameters",
        ),
        ("openai_chat", chat(functions=[named]), "functions[0].parameters"),
        ("openai_chat", chat(response_format=shape), "response_format.json_schema.schema"),
        ("openai_responses", responses(tools=[{"type": "function", **named}]), "tools[0].parameters"),
        (
            "openai_responses",
            responses(text={"format": {"type": "json_schema", "name": "n", "schema": schema}}),
            "text.format.schema",
        ),
        (
            "anthropic_messages",
            messages(tools=[{"name": "f", "input_schema": schema}]),
            "tools[0].input_schema",
        ),
        (
            "anthropic_messages",
            messages(output_config={"format": {"type": "json_schema", "schema": schema}}),
            "output_config.format.schema",
        ),
        (
            "gemini",
            gemini(tools=[{"functionDeclarations": [{"name": "f", "parametersJsonSchema": schema}]}]),
            "tools[0].functionDeclarations[0].parametersJsonSchema",
        ),
        (
            "gemini",
            gemini(generationConfig={"response_json_schema": schema}),
            "generationConfig.response_json_schema",
        ),
        ("ollama", ollama(format=schema), "format"),
        ("ollama", ollama(tools=[{"type": "function", "function": named}]), "tools[0].function.parameters"),
    ]


@pytest.mark.parametrize("key", ["$ref", "$dynamicRef", "$recursiveRef"])
@pytest.mark.parametrize(
    "said", [URL, "other.json", "//evil.example/s", "file:///etc/passwd", " #/$defs/x", ""]
)
def test_a_schema_that_refers_to_another_document_is_refused(key: str, said: str) -> None:
    schema = {"type": "object", "properties": {"a": {"anyOf": [{"type": "null"}, {key: said}]}}}
    for dialect, body, path in _schemas(schema):
        assert refused(body, dialect) == ("remote-url", f"{path}.properties.a.anyOf[1].{key}")
        assert_allowed(body, dialect, facts("remote-url"))


def test_what_a_schema_says_of_itself_passes() -> None:
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "#root",
        "$defs": {"x": {"type": "string", "format": "uri", "default": URL, "pattern": "^https://"}},
        "properties": {
            "$ref": {"type": "string"},
            "ref": {"type": "string", "examples": ["main"]},
            "id": {"$ref": "#/$defs/x"},
        },
        "examples": [{"ref": "refs/heads/main", "id": URL}],
    }
    for dialect, body, _ in _schemas(schema):
        assert_allowed(body, dialect)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("$schema", URL),
        ("$schema", "http://json-schema.org/draft-04/schema#"),
        ("$schema", "https://json-schema.org.evil.example/draft-07/schema"),
        ("$id", URL),
        ("$id", "relative.json"),
    ],
)
def test_a_base_for_references_is_stripped(key: str, said: str) -> None:
    schema = {"type": "object", "properties": {"a": {key: said, "type": "string"}}}
    for dialect, body, path in _schemas(schema):
        _, stripped = amended(body, dialect)
        (pointer,) = stripped
        assert pointer.replace("/", ".").replace("..", ".").endswith(f"properties.a.{key}"), path
        assert stripped == {pointer: "remote-url"}


def test_a_schema_is_an_object() -> None:
    for dialect, body, path in _schemas(URL):  # type: ignore[arg-type]
        if dialect == "ollama" and path == "format":
            continue  # a string is the other form of it
        assert refused(body, dialect) == ("unknown-form", path)
