"""Which endpoint and dialect of a provider serve a request."""

from __future__ import annotations

import pytest

from modelplex.core.request import Endpoint
from modelplex.dialects.endpoints import endpoint_for, is_count, is_free


@pytest.mark.parametrize(
    ("dialect", "endpoint", "serves", "result"),
    [
        ("openai_chat", "chat/completions", ["chat/completions"], ("openai_chat", "chat/completions")),
        # The client's own dialect, where the provider has it too.
        ("openai_chat", "responses", ["chat/completions", "responses"], ("openai_responses", "responses")),
        ("openai_chat", "responses", ["chat/completions"], ("openai_chat", "chat/completions")),
        ("openai_chat", "messages", ["chat/completions", "messages"], ("anthropic_messages", "messages")),
        (
            "anthropic_messages",
            "chat/completions",
            ["chat/completions"],
            ("anthropic_messages", "chat/completions"),
        ),
        ("openai_chat", "completions", ["completions"], ("openai_completions", "completions")),
        ("openai_chat", "embeddings", [], ("", "embeddings")),
        ("openai_chat", "embeddings", ["embeddings"], ("openai_embeddings", "embeddings")),
        # A prompt is a conversation where the provider has no such endpoint.
        (
            "openai_chat",
            "api/generate",
            ["chat/completions", "completions"],
            ("openai_chat", "chat/completions"),
        ),
        # Counting is not translated.
        ("openai_chat", "messages/count_tokens", [], ("", "messages/count_tokens")),
        (
            "anthropic_messages",
            "messages/count_tokens",
            ["messages/count_tokens"],
            ("anthropic_count", "messages/count_tokens"),
        ),
        # Without chat completions, a conversation goes to another endpoint for them, or nowhere.
        ("openai_chat", "chat/completions", ["responses"], ("openai_responses", "responses")),
        ("openai_chat", "messages", ["embeddings", "responses"], ("openai_responses", "responses")),
        ("openai_chat", "api/generate", ["responses"], ("openai_responses", "responses")),
        ("openai_chat", "chat/completions", ["embeddings"], ("", "chat/completions")),
        ("openai_chat", "moderations", ["moderations"], ("openai_json", "moderations")),
    ],
)
def test_the_clients_own_form_is_preferred(
    dialect: str, endpoint: Endpoint, serves: list[Endpoint], result: tuple[str, str]
) -> None:
    assert endpoint_for(dialect, endpoint, serves=serves) == result


def test_a_provider_may_prefer_another_endpoint_for_conversations() -> None:
    serves: list[Endpoint] = ["chat/completions", "responses"]
    found = endpoint_for("openai_chat", "messages", serves=serves, prefers="responses")
    assert found == ("openai_responses", "responses")
    found = endpoint_for("openai_chat", "messages", serves=["chat/completions"], prefers="responses")
    assert found == ("openai_chat", "chat/completions")


def test_counts_and_moderations_are_free() -> None:
    assert is_count("messages/count_tokens")
    assert is_free("messages/count_tokens")
    assert is_free("moderations")
    assert not is_count("moderations")
    assert not is_free("chat/completions")
