"""Responses to every other form and back: each transcript of each provider, told to OpenAI's
Responses client, and ours to the other clients.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from modelplex.core.events import (
    Event,
    MediaOutput,
    OpaqueStateReceived,
    ReasoningDelta,
    ResponseFailed,
    TextDelta,
)
from modelplex.core.request import Attempt, ModelFacts, ProviderRequest, ReasoningPart, ToolCallPart
from modelplex.dialects.dialect import ProviderDialect
from modelplex.dialects.openai_chat import dialect as openai_chat
from modelplex.dialects.openai_chat.dialect import ChatWriter
from modelplex.dialects.openai_responses import dialect as openai_responses
from modelplex.dialects.registry import provider_dialect, write_request
from tests.dialects.openai_chat import peer as openai_chat_peer
from tests.dialects.openai_chat.peer import fold, pieces
from tests.dialects.openai_responses import peer as openai_responses_peer
from tests.dialects.openai_responses.peer import (
    accepted_by_the_official_client,
    final,
    make_call,
    read_stream,
    whole,
    write_stream,
)

TRANSCRIPTS = Path(__file__).parents[2] / "transcripts"
READERS: dict[str, ProviderDialect] = {
    name: provider_dialect(name) for name in ("openai_chat", "anthropic_messages", "gemini", "ollama")
}
CALL = make_call(stream=True)
WRITTEN = ProviderRequest(
    b"{}", aliases={"mcp_files_read_42": "mcp.files/read"}, free=frozenset({"patch"}), answer_tool=None
)


def _streams() -> Iterable[tuple[str, str]]:
    for dialect in READERS:
        for case in sorted((TRANSCRIPTS / dialect).iterdir()):
            found = [each for each in ("stream.sse", "response.ndjson") if (case / each).exists()]
            yield from ((dialect, f"{case.name}/{each}") for each in found)


def read(dialect: str, case: str, *, size: int = 10**9) -> list[Event]:
    data = (TRANSCRIPTS / dialect / case).read_bytes()
    attempt = Attempt(provider="acme", model="m-up", dialect=dialect, account="k1")
    reader = READERS[dialect].reader(attempt, WRITTEN)
    chunks = pieces(data, range(size, len(data), size))
    return [event for chunk in chunks for event in reader.feed(chunk)] + reader.end()


@pytest.mark.parametrize(("dialect", "case"), list(_streams()))
@pytest.mark.parametrize("size", [7, 10**9])
def test_the_streams_of_others_are_accepted_by_openais_responses_client(
    dialect: str, case: str, size: int
) -> None:
    events = read(dialect, case, size=size)
    writer = openai_responses.ResponsesWriter(CALL, id="resp_ours", created=7, model="m")
    stream = b"".join(writer.send(event) for event in events) + writer.end()
    told = accepted_by_the_official_client(stream)
    if isinstance(events[-1], ResponseFailed):
        assert told[-1]["type"] == "response.failed"
        return
    assert told[-1]["type"] in {"response.completed", "response.incomplete"}
    assert told[-1]["response"] == whole(events, CALL)
    first_choice = [event for event in events if not getattr(event, "choice", 0)]
    if not any(isinstance(event, MediaOutput) for event in events):
        assert _calls_and_texts(fold(read_stream([stream]))) == _calls_and_texts(fold(first_choice))


def _calls_and_texts(said: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """What was said, thought and called, and why it ended, in order: states, citations and refusals
    have tests of their own.
    """
    kept: list[tuple[Any, ...]] = []
    is_cut = ("ended", 0, "length") in said
    for part in said:
        if part[0] == "ended":
            kept.append(("ended", _ENDS.get(part[2], part[2])))
        elif part[1] == "ToolCallStarted" and not part[5] and not is_cut:
            kept.append(("ToolCallStarted", *part[2:5], "{}"))
        elif part[0] != "usage" and part[1] not in {"Redacted", "Hidden"}:
            kept.append(
                (
                    "ReasoningDelta" if part[1] == "Summary" else part[1],
                    *part[2 : 3 if part[1] != "ToolCallStarted" else 6],
                )
            )
    return [part for part in kept if part[0] != "RefusalDelta" and part != ("TextDelta", "")]


_ENDS = {"stop_sequence": "stop", "context": "length", "paused": "length", "refusal": "filter"}


@pytest.mark.parametrize("case", [case for case in openai_responses_peer.GOOD if case != "custom_tool"])
def test_responses_streams_are_accepted_by_openais_chat_client(case: str) -> None:
    call = openai_chat_peer.make_call(stream=True, stream_options={"include_usage": True})
    events = read_stream([openai_responses_peer.transcript(case)])
    writer: ChatWriter = openai_chat.ChatWriter(call, id="c", created=1, model="m")
    stream = b"".join(writer.send(event) for event in events) + writer.end()
    answer = openai_chat_peer.accepted_by_the_official_client(stream)
    said = "".join(event.text for event in events if isinstance(event, TextDelta))
    assert (answer.choices[0].message.content or "") == said


@pytest.mark.parametrize("redacted", [False, True])
def test_anthropics_thinking_comes_home_byte_for_byte_through_a_responses_client(*, redacted: bool) -> None:
    case = "redacted_thinking" if redacted else "thinking_text_two_tools"
    events = read("anthropic_messages", f"{case}/stream.sse")
    answer = final(write_stream(events, CALL))
    results = [
        {"type": "function_call_output", "call_id": item["call_id"], "output": "x"}
        for item in answer["output"]
        if item["type"] == "function_call"
    ]
    asked = [
        {"role": "user", "content": "Hi"},
        *answer["output"],
        *results,
        {"role": "user", "content": "So?"},
    ]
    facts = ModelFacts(thinking="adaptive")
    attempt = Attempt(provider="acme", model="m-up", dialect="anthropic_messages", account="k1", facts=facts)
    body = json.loads(write_request(make_call(input=asked), attempt).body)
    thinking = [
        block.get("signature") or block.get("data")
        for block in body["messages"][1]["content"]
        if "thinking" in block["type"]
    ]
    assert thinking == [event.state.data for event in events if isinstance(event, OpaqueStateReceived)]
    texts = "".join(block.get("thinking", "") for block in body["messages"][1]["content"])
    assert texts == "".join(event.text for event in events if isinstance(event, ReasoningDelta))


@pytest.mark.parametrize(
    "case",
    ["signature_on_text", "signature_on_a_part_of_its_own", "thought_text_two_calls", "signed_thought"],
)
def test_geminis_signatures_come_home_on_their_parts_through_a_responses_client(case: str) -> None:
    events = read("gemini", f"{case}/stream.sse")
    answer = final(write_stream(events, CALL))
    parts = [part for message in make_call(input=answer["output"]).messages for part in message.parts]
    back = [
        part.state
        for part in parts
        if isinstance(part, ReasoningPart | ToolCallPart) and part.state is not None
    ]
    assert back == [event.state for event in events if isinstance(event, OpaqueStateReceived)]
    assert back
