"""What the tests of Gemini's form share: Google's own client as the judge of what we read and
write. It talks to a function instead of a network.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import httpx2
import msgspec
from google import genai
from google.genai import types

from modelplex.core.events import Event
from modelplex.core.request import Attempt, ChatRequest, ModelFacts, ProviderRequest, RawRequest
from modelplex.dialects.gemini import dialect as gemini
from modelplex.dialects.openai_chat import dialect as openai_chat
from modelplex.dialects.raw_request import read_request
from modelplex.dialects.registry import write_request

ATTEMPT = Attempt(
    provider="google",
    model="gemini-3-pro",
    dialect="gemini",
    account="k1",
    facts=ModelFacts(max_output=65536, thinking="adaptive", can_disable_thinking=False),
)
BUDGETED = msgspec.structs.replace(
    ATTEMPT, model="gemini-2.5-flash", facts=ModelFacts(max_output=65536, thinking="manual")
)


def make_ask(
    body: dict[str, Any] | bytes, *, stream: bool = False, model: str = "gemini-3-pro"
) -> RawRequest:
    """An Ask as it is made of a path and a body: the model is not in the body."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    return RawRequest("generate_content", "gemini", model, data, fields, stream=stream)


def make_call(*contents: Any, stream: bool = False, **more: Any) -> ChatRequest:
    return gemini.read_call(make_ask({"contents": list(contents), **more}, stream=stream))


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "parts": [{"text": part} if isinstance(part, str) else part for part in parts]}


def model(*parts: Any) -> dict[str, Any]:
    return {**user(*parts), "role": "model"}


def chat_call(messages: list[Any], **more: Any) -> ChatRequest:
    body = json.dumps({"model": "m", "messages": messages, **more}).encode()
    return openai_chat.read_call(read_request(body, endpoint="chat/completions", dialect="openai_chat"))


def sent(call: ChatRequest, attempt: Attempt = ATTEMPT) -> tuple[dict[str, Any], ProviderRequest]:
    """The body for a provider, each of its parts accepted by Google's types."""
    written = write_request(call, attempt)
    body: dict[str, Any] = json.loads(written.body)
    for content in body["contents"]:
        types.Content.model_validate(content)
    if "systemInstruction" in body:
        types.Content.model_validate(body["systemInstruction"])
    for tool in body.get("tools", []):
        types.Tool.model_validate(tool)
    if "toolConfig" in body:
        types.ToolConfig.model_validate(body["toolConfig"])
    if "generationConfig" in body:
        types.GenerationConfig.model_validate(body["generationConfig"])
    return body, written


def official_client(answer: Callable[[httpx2.Request], httpx2.Response]) -> genai.Client:
    options = types.HttpOptions(
        base_url="http://modelplex", client_args={"transport": httpx2.MockTransport(answer)}
    )
    return genai.Client(api_key="unused", http_options=options)


def write_stream(events: Iterable[Event], call: ChatRequest) -> bytes:
    writer = gemini.GeminiStreamWriter(call, id="ours", created=7, model="asked-for")
    out = b"".join(writer.send(event) for event in events)
    return out + writer.end()


def read_by_official_client(stream: bytes) -> list[types.GenerateContentResponse]:
    """The chunks of a stream, as Google's library reads them. Raises google.genai.errors.APIError
    where it holds an error.
    """
    reply = httpx2.Response(200, content=stream, headers={"content-type": "text/event-stream"})
    client = official_client(lambda _: reply)
    return list(client.models.generate_content_stream(model="gemini-3-pro", contents="Hi"))
