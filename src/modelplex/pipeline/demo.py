"""Writes the responses of the demo provider (providers/demo.py) with its dialect's writers."""

from __future__ import annotations

from modelplex.core.errors import BadRequest, ClientError
from modelplex.core.request import ChatRequest, CompletionRequest, RawRequest
from modelplex.dialects.registry import DIALECTS, FORMS, write_error
from modelplex.providers import demo


def answer(raw_request: RawRequest, *, created: int) -> tuple[int, bytes]:
    """Status and JSON body of a whole response; an invalid request gets an error."""
    dialect = DIALECTS[raw_request.dialect]
    try:
        if dialect.embeddings_client is not None:
            return 200, demo.embed(raw_request)
        response = _respond(raw_request, created=created)
    except ClientError as error:
        return write_error(raw_request.dialect, error, request_id="")
    if dialect.completions_client is not None:
        request = _completion_request(raw_request, response)
        write = dialect.completions_client.write
        return 200, write(response.events, request, id="", created=created, model="")[0]
    assert dialect.client is not None
    chat = _chat_request(raw_request, response)
    return 200, dialect.client.write_response(response.events, chat, id="", created=created, model="")[0]


def stream(raw_request: RawRequest, *, created: int) -> list[bytes]:
    """The bytes of a streamed response, with the end mark last. Raises ClientError for an invalid
    request.
    """
    dialect = DIALECTS[raw_request.dialect]
    if dialect.client is None and dialect.completions_client is None:
        raise BadRequest(f"The demo does not stream {raw_request.endpoint}.", param="stream")
    response = _respond(raw_request, created=created)
    if dialect.completions_client is not None:
        request = _completion_request(raw_request, response)
        writer = dialect.completions_client.writer(request, id="", created=created, model="")
    else:
        assert dialect.client is not None
        writer = dialect.client.writer(_chat_request(raw_request, response), id="", created=created, model="")
    return [*filter(None, map(writer.send, response.events)), writer.end()]


def _respond(raw_request: RawRequest, *, created: int) -> demo.DemoResponse:
    return demo.respond(raw_request, created=created, usage_of=FORMS[raw_request.dialect].family.name)


def _chat_request(raw_request: RawRequest, response: demo.DemoResponse) -> ChatRequest:
    """What a writer reads of the request."""
    return ChatRequest(
        dialect=raw_request.dialect, model="", messages=(), include_usage=response.include_usage
    )


def _completion_request(raw_request: RawRequest, response: demo.DemoResponse) -> CompletionRequest:
    return CompletionRequest(
        dialect=raw_request.dialect, model="", prompts=(), include_usage=response.include_usage
    )
