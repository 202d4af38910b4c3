"""Writes what the demo provider (providers/demo.py) answers as bytes in OpenAI's form."""

from __future__ import annotations

import msgspec

from modelplex.core.errors import BadRequest, ClientError
from modelplex.core.request import ChatRequest, CompletionRequest, RawRequest
from modelplex.dialects.openai_chat import completions
from modelplex.dialects.openai_chat import dialect as chat
from modelplex.dialects.openai_chat.errors import error_object
from modelplex.providers import demo

STREAMED = frozenset({"chat/completions", "completions"})


def answer(ask: RawRequest, *, created: int) -> tuple[int, bytes]:
    """Status and JSON body of a whole response; an invalid request gets an error in OpenAI's
    form.
    """
    try:
        if ask.endpoint == "embeddings":
            return 200, demo.embed(ask)
        response = demo.respond(ask, created=created)
    except ClientError as error:
        return error.status, msgspec.json.encode({"error": error_object(error)})
    if ask.endpoint == "completions":
        request = _completion_request(response)
        return 200, completions.write_response(response.events, request, id="", created=created, model="")[0]
    chat_request = _chat_request(response)
    return 200, chat.write_response(response.events, chat_request, id="", created=created, model="")[0]


def stream(ask: RawRequest, *, created: int) -> list[bytes]:
    """The bytes of a streamed response, `[DONE]` the last event. Raises ClientError for an invalid
    request.
    """
    if ask.endpoint not in STREAMED:
        raise BadRequest(f"The demo does not stream {ask.endpoint}.", param="stream")
    response = demo.respond(ask, created=created)
    writer = (
        completions.writer(_completion_request(response), id="", created=created, model="")
        if ask.endpoint == "completions"
        else chat.writer(_chat_request(response), id="", created=created, model="")
    )
    return [*filter(None, map(writer.send, response.events)), writer.end()]


def _chat_request(response: demo.DemoResponse) -> ChatRequest:
    """What a writer needs to know of the request."""
    return ChatRequest(dialect=chat.DIALECT, model="", messages=(), include_usage=response.include_usage)


def _completion_request(response: demo.DemoResponse) -> CompletionRequest:
    return CompletionRequest(
        dialect=completions.DIALECT, model="", prompts=(), include_usage=response.include_usage
    )
