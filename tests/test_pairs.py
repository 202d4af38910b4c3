"""Every client form before every provider dialect, through a whole gateway, with the forms'
official clients as judges.

Warnings are errors in these tests, so that a client that grumbles fails them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from modelplex.core import events as hub
from modelplex.core.events import ReasoningDelta, RefusalDelta, ResponseEnded, ResponseFailed, ToolCallStarted
from modelplex.core.request import Attempt, ProviderRequest
from modelplex.dialects.registry import provider_dialect
from tests.official import Exchange
from tests.pairs import (
    CACHED,
    CLIENTS,
    FRESH,
    OUTPUT,
    SIGNATURE,
    SPEAKERS,
    Answer,
    Broken,
    Said,
    Told,
    World,
    check,
    played,
    spoken,
    world,
)

TRANSCRIPTS = Path(__file__).parent / "transcripts"
pytestmark = pytest.mark.asyncio(loop_scope="module")

FORMS = list(CLIENTS)
DIALECTS = list(SPEAKERS)
# A provider that has Responses has chat too, and every other form is told to it in that.
PAIRS = [(form, dialect) for form in FORMS for dialect in DIALECTS]
RULES = "\n[failover]\nretries = 0\nbreaker_failures = 100000\n"

CASES: dict[str, Answer] = {
    "text in many scripts": Answer(text=("Grü", "ße 😀", "! 日本", "語\n\u2028", 'e\u0301 "quoted"\\')),
    "nothing": Answer(),
    "thoughts before text": Answer(
        thought=("They want ", "it — Zürich"), signature=SIGNATURE, text=("Ja", ".")
    ),
    "parallel calls": Answer(
        text=("Ich schaue. 🌦",),
        calls=(
            Said("call_1", "get_weather", ('{"ci', 'ty": "Zü', 'rich", "days": 3}')),
            Said("call_2", "get_time", ("{}",)),
        ),
        end="calls",
    ),
    "thoughts, text and a call": Answer(
        thought=("Look",),
        signature=SIGNATURE,
        text=("Well",),
        calls=(Said("call_1", "get_weather", ('{"city":', '"Bern"}')),),
        end="calls",
    ),
    "a call alone": Answer(calls=(Said("call_9", "get_time", ("{}",)),), end="calls"),
    "a refusal": Answer(refusal=("I can", "not."), end="refusal"),
    "cut at the limit": Answer(text=("It begins", " and"), end="length"),
}
BROKEN = {
    "an error after text": Answer(text=("Half an", " answer"), broken="error"),
    "an end after text": Answer(text=("Half an", " answer"), broken="cut"),
    "an error after thoughts": Answer(thought=("Hm",), broken="error"),
    "an end after a call": Answer(calls=(Said("call_1", "get_time", ("{}",)),), end="calls", broken="cut"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def everywhere(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world(tmp_path_factory.mktemp("w"), *DIALECTS, rules=RULES) as made:
        yield made


def due(answer: Answer, form: str, dialect: str) -> Told:
    """What the client must be told: what the provider said, but for what its words, or the
    client's, cannot tell apart.
    """
    end = answer.end
    if end == "refusal" and "ollama" in (dialect, form):
        end = "stop"  # Ollama has no word for it (docs/reference/translation.md#finish-reasons)
    thought = "".join(answer.thought)
    said = "".join(answer.text + answer.refusal)
    calls = [(call.id, call.name, call.arguments) for call in answer.calls]
    return Told(said, thought, calls, end, (FRESH + CACHED, OUTPUT))


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("form", "dialect"), PAIRS)
async def test_each_client_is_told_what_each_provider_says(
    everywhere: World, form: str, dialect: str, case: str, *, streamed: bool
) -> None:
    answer = CASES[case]
    told = await everywhere.ask(form, dialect, spoken(dialect, answer, stream=streamed), stream=streamed)
    told.message = None
    assert told == due(answer, form, dialect)
    exchange = everywhere.clients.last
    check(form, exchange, ours=form != dialect)
    if form == dialect:
        assert bytes(exchange.body) == SPEAKERS[dialect](answer, f"m-{dialect}")[not streamed]
        assert _members(everywhere.providers[dialect].seen[-1].body) == _members(exchange.request.content)


def _members(body: bytes) -> list[tuple[str, bytes]]:
    """Each top-level member's bytes. White space between them may change, and does where there is
    any (R40).
    """
    return [
        (name, bytes(value)) for name, value in msgspec.json.decode(body, type=dict[str, msgspec.Raw]).items()
    ]


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize(("form", "dialect"), PAIRS)
async def test_no_client_takes_a_broken_stream_for_a_whole_one(
    everywhere: World, form: str, dialect: str, case: str
) -> None:
    data, _ = SPEAKERS[dialect](BROKEN[case], f"m-{dialect}")
    for end in (True, False):
        with pytest.raises(Broken):
            await everywhere.ask(form, dialect, played(dialect, data, end=end))
        _has_no_end(form, everywhere.clients.last)


def _has_no_end(form: str, exchange: Exchange) -> None:
    """No word that says that it was a whole one, whatever its client's library makes of it
    (docs/reference/translation.md#rules).
    """
    body = bytes(exchange.body)
    marks = {
        "chat": (b"[DONE]", b'"finish_reason":"'),
        "messages": (b"event: message_stop", b"event: message_delta"),
        "gemini": (b"finishReason",),
        "ollama": (b'"done":true', b'"done": true'),
        "responses": (b"event: response.completed", b"event: response.incomplete"),
    }[form]
    assert exchange.status != 200 or not any(mark in body for mark in marks), body


# --- recorded streams -----------------------------------------------------------------------------

RECORDED = {
    "chat": ("openai_chat", "stream.sse"),
    "messages": ("anthropic_messages", "stream.sse"),
    "gemini": ("gemini", "stream.sse"),
    "ollama": ("ollama", "response.ndjson"),
}
"""The dialect, and the file of each recorded stream, which tests/dialects reads too."""
SLIPS = {"arguments_that_do_not_parse"}
"""Of which a tool's arguments are no JSON at a normal finish."""
ODD = {"generate", "two_choices_with_logprobs", "two_candidates", "prompt_blocked", "limit_before_any_text"}
"""Another endpoint's answer, more than one choice, and answers without any part."""
ENDS = {
    "stop": "stop",
    "stop_sequence": "stop",
    "tool_calls": "calls",
    "length": "length",
    "context": "length",
    "paused": "length",
    "refusal": "refusal",
    "filter": "refusal",
}
SAME_END = {"model_context_window_exceeded": "length", "pause_turn": "length", "stop_sequence": "stop"}
"""What Messages has words of its own for."""


def recorded(dialect: str) -> list[tuple[str, bytes]]:
    folder, name = RECORDED[dialect]
    return [
        (each.name, (each / name).read_bytes())
        for each in sorted((TRANSCRIPTS / folder).iterdir())
        if (each / name).exists() and not (each / "written.json").exists() and each.name not in ODD
    ]


@pytest.mark.parametrize("dialect", RECORDED)
@pytest.mark.parametrize("form", CLIENTS)
async def test_recorded_streams_reach_every_other_client(everywhere: World, form: str, dialect: str) -> None:
    if form == dialect:
        return  # it passes, as its provider's own peer would see it
    for case, data in recorded(dialect):
        name, _ = RECORDED[dialect]
        reader = provider_dialect(name).reader(Attempt("p", "m", name), ProviderRequest(b"{}"))
        events = [*reader.feed(data), *reader.end()]
        asked = everywhere.ask(form, dialect, played(dialect, data))
        if any(isinstance(event, ResponseFailed) for event in events):
            with pytest.raises(Broken):
                await asked
            _has_no_end(form, everywhere.clients.last)
            continue
        told = await asked
        if case in SLIPS:
            continue  # its arguments are handed on as the model wrote them
        check(form, everywhere.clients.last, ours=True)
        end = next(ENDS[event.reason] for event in events if isinstance(event, ResponseEnded))
        text = "".join(e.text for e in events if isinstance(e, hub.TextDelta | RefusalDelta))
        assert told.said.startswith(text), case
        assert told.said == text or end == "refusal", case
        assert told.thought.replace("\n\n", "") == "".join(
            e.text for e in events if isinstance(e, ReasoningDelta)
        ).replace("\n\n", ""), case
        if end == "refusal" and form == "ollama":
            end = "stop"
        assert SAME_END.get(told.end, told.end) == end, case
        calls = [(e.id, e.name) for e in events if isinstance(e, ToolCallStarted)]
        if end != "length":
            assert [(id_, name) for id_, name, _ in told.calls] == calls, case
