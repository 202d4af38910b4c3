"""Paths, the operations that they name, and the dialects of their clients."""

from __future__ import annotations

import pytest

from modelplex.core.errors import BadRequest
from modelplex.dialects.registry import DEFAULT
from modelplex.server.routes import (
    below_base,
    below_own_base,
    check_method,
    check_unambiguous,
    client_headers,
    dialect_of,
    find_operation,
    is_base,
)


@pytest.mark.parametrize(
    ("path", "endpoint", "dialect"),
    [
        ("/v1/chat/completions", "chat/completions", "openai_chat"),
        ("/models/v1/chat/completions", "chat/completions", "openai_chat"),
        ("/chat/completions", "chat/completions", "openai_chat"),
        ("/v1/messages", "messages", "anthropic_messages"),
        ("/messages", "messages", "anthropic_messages"),
        ("/v1/responses", "responses", "openai_responses"),
        ("/api/chat", "api/chat", "ollama"),
        ("/models/api/generate", "api/generate", "ollama_generate"),
    ],
)
def test_a_path_names_an_operation(path: str, endpoint: str, dialect: str) -> None:
    found = find_operation(path)
    assert found is not None
    assert (found.endpoint, found.dialect, found.model) == (endpoint, dialect, None)
    assert dialect_of(path) == dialect


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/",
        "/v1/chat/completions/",
        "/v1/chat",
        "/v2/chat/completions",
        "/api/v1/chat/completions",
        "/v1/files",
        "/_internal/status",
        "/v1beta/models/m",
        "/v1beta/models/:generateContent",
        "/v1beta/models/a b:generateContent",
        "/v1beta/models/m:unknown",
        "/v1beta/tunedModels/m:generateContent",
    ],
)
def test_other_paths_name_none(path: str) -> None:
    assert find_operation(path) is None


@pytest.mark.parametrize("base", ["/v1beta/", "/models/v1beta/", "/v1alpha/", "/v1/"])
@pytest.mark.parametrize(
    ("method", "query", "dialect", "stream"),
    [
        ("generateContent", b"", "gemini", False),
        ("generateContent", b"alt=sse", "gemini", False),
        ("streamGenerateContent", b"alt=sse", "gemini", True),
        ("streamGenerateContent", b"key=k&alt=sse", "gemini", True),
        ("streamGenerateContent", b"alt=sse2", "gemini_array", True),
        ("streamGenerateContent", b"", "gemini_array", True),
    ],
)
def test_a_path_with_a_model_names_model_and_stream(
    base: str, method: str, query: bytes, dialect: str, stream: bool
) -> None:
    found = find_operation(f"{base}models/up/m.1:latest:{method}", query)
    assert found is not None
    assert (found.dialect, found.model, found.stream) == (dialect, "up/m.1:latest", stream)


def test_only_some_operations_accept_forms() -> None:
    transcription, chat = find_operation("/v1/audio/transcriptions"), find_operation("/v1/chat/completions")
    assert transcription is not None
    assert chat is not None
    assert (transcription.form, chat.form) == (True, False)


@pytest.mark.parametrize("path", ["/v1beta/models/m:unknown", "/v1beta/models/m", "/v1beta/models/a%20b:x"])
def test_an_unknown_method_is_an_error_that_lists_the_methods(path: str) -> None:
    with pytest.raises(BadRequest) as refused:
        check_method(path)
    assert refused.value.code == "unknown_method"
    assert "generateContent" in refused.value.message
    assert "alt=sse" not in refused.value.message


@pytest.mark.parametrize("path", ["/v1beta/models/m:generateContent", "/v1/models/m:unknown", "/v1beta/x"])
def test_other_paths_pass_the_check_of_methods(path: str) -> None:
    check_method(path)


@pytest.mark.parametrize(
    "path",
    [
        b"/v1/%2e%2e/x",
        b"/v1/../x",
        b"/v1/./x",
        b"/v1/..",
        b"/v1//chat/completions",
        b"/v1/chat%2Fcompletions",
        b"/v1\\chat",
        b"/v1/chat%5Ccompletions",
        b"/v1/%00",
        b"/v1/%252e",
        b"/%2E/v1",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_path_with_two_readings_is_refused(path: bytes, method: str) -> None:
    with pytest.raises(BadRequest) as refused:
        check_unambiguous(path, method=method)
    assert (refused.value.status, refused.value.code) == (400, "ambiguous_path")


@pytest.mark.parametrize(
    "path", [b"/v1/models/openai%2Fm", b"/models/openai%2fm", b"/models/v1/models/a%2Fb"]
)
def test_a_slash_of_a_model_name_may_be_encoded_where_one_model_is_read(path: bytes) -> None:
    check_unambiguous(path, method="GET")
    check_unambiguous(path, method="HEAD")
    with pytest.raises(BadRequest):
        check_unambiguous(path, method="POST")


@pytest.mark.parametrize("path", [b"/v1/models/a%2F..%2Fb", b"/v1/models/a%2F%2Fb", b"/models/v1%2Fchat"])
def test_a_model_name_that_is_ambiguous_itself_is_refused(path: bytes) -> None:
    with pytest.raises(BadRequest):
        check_unambiguous(path, method="GET")


def test_dots_within_a_segment_are_unambiguous() -> None:
    check_unambiguous(b"/v1/models/gpt-4.1...", method="POST")


@pytest.mark.parametrize(
    ("path", "client", "dialect"),
    [
        ("/v1/models", DEFAULT, DEFAULT),
        ("/v1/models", "anthropic_messages", "anthropic_messages"),
        ("/v1/messages/batches", DEFAULT, "anthropic_messages"),
        ("/v1/responses/r-1", DEFAULT, "openai_responses"),
        ("/api/unknown", DEFAULT, "ollama"),
        ("/v1beta/unknown", DEFAULT, "gemini"),
        ("/nothing", DEFAULT, DEFAULT),
    ],
)
def test_the_dialect_of_an_error_follows_the_path_and_then_the_headers(
    path: str, client: str, dialect: str
) -> None:
    assert dialect_of(path, client=client) == dialect


def test_some_headers_identify_a_client() -> None:
    assert client_headers()[b"anthropic-version"] == "anthropic_messages"
    assert client_headers()[b"x-goog-api-key"] == "gemini"
    assert b"authorization" not in client_headers()


@pytest.mark.parametrize(
    ("path", "rest"),
    [
        ("/v1/models", "models"),
        ("/models/v1/models/m", "models/m"),
        ("/models", "models"),
        ("/models/", "models/"),
        ("/models/m", "models/m"),
        ("/responses/r-1", "responses/r-1"),
        ("/models/v1", None),
        ("/api/tags", None),
        ("/health", None),
    ],
)
def test_the_rest_below_the_openai_compatible_bases(path: str, rest: str | None) -> None:
    assert below_base(path) == rest


def test_the_rest_below_a_base_of_one_dialect() -> None:
    own = below_own_base("/models/api/tags")
    assert own == ("ollama", "tags")
    assert below_own_base("/v1/models") is None


@pytest.mark.parametrize(("path", "base"), [("/v1", True), ("/api/", True), ("/", False), ("/v1/x", False)])
def test_a_base_url_itself(path: str, base: bool) -> None:
    assert is_base(path) is base
