"""Requests that are written for Converse, and the attempts they are written for."""

from __future__ import annotations

import json
from typing import Any

from modelplex.core.request import Attempt, ChatRequest, Message, ProviderRequest
from modelplex.dialects.registry import write_request
from modelplex.providers.model_facts import model_facts
from tests.dialects.bedrock_converse.converse_model import faults
from tests.dialects.sides import with_places

NOVA = "us.amazon.nova-2-lite-v1:0"
LLAMA = "us.meta.llama4-maverick-17b-instruct-v1:0"
CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
ADAPTIVE = "us.anthropic.claude-sonnet-4-6-v1"
OLD_CLAUDE = "anthropic.claude-3-5-haiku-20241022-v1:0"
QWEN = "qwen.qwen3-coder-480b-a35b-v1:0"
GPT_OSS = "openai.gpt-oss-120b-1:0"


def attempt(model: str = CLAUDE) -> Attempt:
    return Attempt(
        provider="aws",
        model=model,
        dialect="bedrock_converse",
        account="acct",
        facts=model_facts(model, "bedrock_converse"),
    )


def request(*messages: Message, **members: Any) -> ChatRequest:
    given: dict[str, Any] = {"dialect": "openai_chat", "model": "m", "messages": messages, **members}
    return with_places(ChatRequest(**given))


def write(call: ChatRequest, to: Attempt | None = None) -> tuple[dict[str, Any], ProviderRequest]:
    """The body, which AWS's service model must find valid, and what it came with."""
    to = to or attempt()
    written = write_request(call, to)
    assert faults(written.body, model=to.model, stream=call.stream) == []
    return json.loads(written.body), written


def changes(written: ProviderRequest) -> list[tuple[str, str]]:
    return [(change.op, change.path) for change in written.changes]
