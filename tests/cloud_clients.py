"""Clouds' model services, as their users ask: the official client of each form, and its answer."""

from __future__ import annotations

from typing import Any, Final

import anthropic
import openai
from google import genai
from google.genai import types

from tests.gateways import Running

MESSAGE: Final[dict[str, Any]] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "Hello"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 2},
}
"""Of Anthropic's form."""
CONTENT: Final[dict[str, Any]] = {
    "candidates": [{"content": {"role": "model", "parts": [{"text": "Hello"}]}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5},
}
"""Of Gemini's form."""


async def ask_openai(gw: Running) -> str:
    async with openai.AsyncOpenAI(base_url=f"{gw.base}/v1", api_key="unused", max_retries=0) as client:
        answer = await client.chat.completions.create(model="m", messages=[{"role": "user", "content": "Hi"}])
    return answer.choices[0].message.content or ""


async def ask_anthropic(gw: Running) -> str:
    async with anthropic.AsyncAnthropic(base_url=gw.base, api_key="unused", max_retries=0) as client:
        answer = await client.messages.create(
            model="m", max_tokens=9, messages=[{"role": "user", "content": "Hi"}]
        )
    (block,) = answer.content
    return block.text if block.type == "text" else ""


async def ask_gemini(gw: Running) -> str:
    options = types.HttpOptions(base_url=gw.base)
    async with genai.Client(api_key="unused", http_options=options).aio as client:
        answer = await client.models.generate_content(model="m", contents="Hi")
    return answer.text or ""
