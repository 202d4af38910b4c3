"""What the tests of the Responses form share: its requests, its transcripts, and OpenAI's own
client library as the judge of ours.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import msgspec
from openai import omit
from openai._models import construct_type
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from modelplex.core.events import Event
from modelplex.core.request import Attempt, ChatRequest, ProviderRequest, RawRequest
from modelplex.dialects.core.sse import SseReader
from modelplex.dialects.openai_responses import dialect as openai_responses
from tests import open_responses
from tests.dialects.openai_chat import peer as openai_chat_peer

TRANSCRIPTS = Path(__file__).parents[2] / "transcripts" / "openai_responses"
ATTEMPT = Attempt(provider="acme", model="m-up", dialect="openai_responses", account="k1")
PLAIN = ProviderRequest(b"{}")
CASES = sorted(path.name for path in TRANSCRIPTS.iterdir())
WHOLE = [name for name in CASES if (TRANSCRIPTS / name / "response.json").exists()]
BROKEN = {"failed_after_output", "failed_before_output", "error_event", "broken_off", "half_arguments"}
GOOD = [name for name in CASES if name not in BROKEN]

_EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)

ECHOES = set(
    "tools tool_choice parallel_tool_calls metadata text temperature top_p presence_penalty frequency_penalty "
    "top_logprobs truncation store background service_tier instructions previous_response_id reasoning "
    "max_output_tokens max_tool_calls safety_identifier prompt_cache_key completed_at error incomplete_details usage".split()
)
NEVER_NULL = set(
    "tools tool_choice parallel_tool_calls metadata text temperature top_p presence_penalty frequency_penalty "
    "top_logprobs truncation store background service_tier".split()
)


def transcript(case: str, name: str = "stream.sse") -> bytes:
    return (TRANSCRIPTS / case / name).read_bytes()


def make_ask(**body: Any) -> RawRequest:
    ask = openai_chat_peer.make_ask({"model": "m", "input": "Hi", **body}, endpoint="responses")
    return msgspec.structs.replace(ask, dialect="openai_responses")


def make_call(**body: Any) -> ChatRequest:
    return openai_responses.read_call(make_ask(**body))


def sse_bytes(*events: dict[str, Any]) -> bytes:
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)


def read_stream(
    chunks: Iterable[bytes], written: ProviderRequest = PLAIN, attempt: Attempt = ATTEMPT
) -> list[Event]:
    reader = openai_responses.ResponsesReader(attempt, written)
    return [event for each in chunks for event in reader.feed(each)] + reader.end()


def write_stream(events: Iterable[Event], call: ChatRequest, *, id: str = "resp_ours") -> bytes:
    writer = openai_responses.ResponsesWriter(call, id=id, created=7, model="asked-for")
    return b"".join(writer.send(event) for event in events) + writer.end()


def whole(events: list[Event], call: ChatRequest) -> dict[str, Any]:
    body, _ = openai_responses.write_response(events, call, id="resp_ours", created=7, model="asked-for")
    answer: dict[str, Any] = json.loads(body)
    check_response(answer)
    return answer


def events_of(stream: bytes) -> list[dict[str, Any]]:
    """The data objects of a client's stream, each held to the official types (R34, R48)."""
    reader = SseReader()
    told: list[dict[str, Any]] = []
    for number, event in enumerate(reader.feed(stream) + reader.end()):
        data = cast("dict[str, Any]", json.loads(event.data))
        assert event.event == data["type"]
        assert data["sequence_number"] == number
        parsed = _EVENT.validate_python(_with_known_code(data), strict=True)
        assert not parsed.model_extra, parsed.model_extra
        open_responses.check_event(data)
        if "response" in data:
            check_response(data["response"])
        told.append(data)
    return told


def _with_known_code(event: dict[str, Any]) -> dict[str, Any]:
    """The event with a code of OpenAI's own: a provider's code that is none of them is kept."""
    response: dict[str, Any] = event.get("response") or {}
    error: dict[str, Any] | None = response.get("error")
    if not error:
        return event
    assert isinstance(error["code"], str)
    return {**event, "response": {**response, "error": {**error, "code": "server_error"}}}


def check_response(answer: dict[str, Any]) -> None:
    """R49, the official type, and the schema of Open Responses."""
    open_responses.check_response(answer)
    parsed = Response.model_validate(_with_known_code({"response": answer})["response"], strict=True)
    assert set(parsed.model_extra or {}) <= {"presence_penalty", "frequency_penalty", "store"}
    assert set(answer) >= ECHOES
    assert not [name for name in NEVER_NULL if answer[name] is None]


def accepted_by_the_official_client(stream: bytes) -> list[dict[str, Any]]:
    """The events, once OpenAI's accumulator took them all; it raises for numbers and identities
    that are not right (R47).
    """
    state: Any = ResponseStreamState(input_tools=omit, text_format=omit)
    told = events_of(stream)
    for each in told:
        state.handle_event(construct_type(type_=cast("Any", ResponseStreamEvent), value=each))
    return told


def final(stream: bytes) -> dict[str, Any]:
    """The response object of a stream's last event."""
    last = accepted_by_the_official_client(stream)[-1]
    assert last["type"] in {"response.completed", "response.incomplete", "response.failed"}
    return cast("dict[str, Any]", last["response"])
