"""A provider's stream that never ends costs a bounded amount of memory, and ends as an error: in
every dialect, passing or translated into every other.
"""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from modelplex.core.errors import UpstreamBroken
from modelplex.core.request import Attempt, Endpoint, RawRequest
from modelplex.dialects import exchange
from modelplex.dialects.core import ndjson, quota, sse
from modelplex.dialects.core.ndjson import NdjsonReader
from modelplex.dialects.exchange import Exchange
from modelplex.dialects.ollama.passthrough import OllamaObserver
from modelplex.dialects.ollama.response_in import OllamaStreamReader
from modelplex.dialects.parsed_request import ParsedRequest
from modelplex.dialects.raw_request import read_request
from tests.dialects.floods import FLOODS, PASSES

CAP = 131_072
"""Bytes that are held at most here, instead of the real 32 MiB."""
CHUNK = 8_192
"""Bytes that arrive at a time."""
FED = 8 * CAP
"""Bytes after which a flood that was not ended is one that will not be."""
MEMORY = 6 * CAP
"""Bytes that the whole passage may take: what is held, twice at most, and the chunk and its answer.
"""
ENDPOINTS: dict[str, Endpoint] = {
    "openai_chat": "chat/completions",
    "openai_responses": "responses",
    "anthropic_messages": "messages",
    "gemini": "generate_content",
    "ollama": "api/chat",
}
BODIES = {
    "openai_chat": b'{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true}',
    "openai_responses": b'{"model":"m","input":"x","stream":true,"store":false}',
    "anthropic_messages": b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"x"}],"stream":true}',
    "gemini": b'{"contents":[{"parts":[{"text":"x"}]}]}',
    "ollama": b'{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true}',
}
OFTEN = {"openai_chat": "anthropic_messages"}
"""The client of another dialect that each provider's floods are translated for in every run; the
others are tried in the long one.
"""
CASES = [
    pytest.param(
        provider,
        flood,
        client,
        marks=() if client in {provider, OFTEN.get(provider, "openai_chat")} else pytest.mark.slow,
    )
    for provider, floods in FLOODS.items()
    for flood in floods
    for client in BODIES
]


@pytest.fixture(autouse=True)
def small_caps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "MAX_HELD", CAP)
    monkeypatch.setattr(exchange, "MAX_SILENCE", CAP)
    for module in (sse, ndjson):
        monkeypatch.setattr(module, "IDLE_CAP", CAP)
    for name in ("LINE_CAP", "IDLE_CAP"):
        monkeypatch.setattr(f"modelplex.dialects.core.passthrough.{name}", CAP)
    monkeypatch.setattr(sse, "LINE_CAP", CAP)
    monkeypatch.setattr("modelplex.dialects.ollama.passthrough.IDLE_CAP", CAP)
    limited: tuple[Callable[..., Any], ...] = (
        NdjsonReader.__init__,
        OllamaObserver.__init__,
        OllamaStreamReader.__init__,
    )
    for owner in limited:
        monkeypatch.setattr(owner, "__kwdefaults__", {"limit": CAP})


def asked(client: str) -> RawRequest:
    named = "m" if client == "gemini" else None
    stream = True if client == "gemini" else None
    return read_request(
        BODIES[client], endpoint=ENDPOINTS[client], dialect=client, model=named, stream=stream
    )


def chunks(flood: Iterator[bytes]) -> Iterator[bytes]:
    """The flood, cut as it comes from a socket."""
    held = b""
    for piece in flood:
        held += piece
        while len(held) >= CHUNK:
            yield held[:CHUNK]
            held = held[CHUNK:]


@pytest.mark.parametrize(("provider", "flood", "client"), CASES)
def test_a_stream_without_an_end_is_ended_and_holds_no_more_than_its_cap(
    provider: str, flood: str, client: str
) -> None:
    way = ParsedRequest(asked(client), id="x", created=0).exchange(
        Attempt(provider="p", model="m", dialect=provider, endpoint=ENDPOINTS[provider])
    )
    fed = 0
    tracemalloc.start()
    try:
        for chunk in chunks(FLOODS[provider][flood]()):
            way.feed(chunk)
            fed += len(chunk)
            assert tracemalloc.get_traced_memory()[0] < MEMORY, f"{fed} bytes were fed"
            if way.failed is not None or fed > FED:
                break
    finally:
        tracemalloc.stop()
    if client == provider and (provider, flood) in PASSES:
        assert way.failed is None
        return
    assert isinstance(way.failed, UpstreamBroken), f"it went on after {fed} bytes"
    assert not way.error_was_forwarded
    if way.has_output:
        told = way.in_stream_error(way.failed, "req")
        assert way.failed.message.encode() in told


ROUND = 12
"""Chunks whose work is compared with that of as many later ones."""
GROWTH = 1.25
"""Times as much work for the later ones, whose numbers have a digit more."""


@pytest.mark.parametrize(
    ("provider", "flood"), [(provider, flood) for provider, floods in FLOODS.items() for flood in floods]
)
def test_a_later_chunk_is_no_more_work_than_an_earlier_one(
    provider: str, flood: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quota, "MAX_HELD", 64 * CAP)
    for client in (provider, OFTEN.get(provider, "openai_chat")):
        way = ParsedRequest(asked(client), id="x", created=0).exchange(
            Attempt(provider="p", model="m", dialect=provider, endpoint=ENDPOINTS[provider])
        )
        pieces = chunks(FLOODS[provider][flood]())
        work = [calls_of(way, [next(pieces) for _ in range(ROUND)]) for _ in range(3)]
        if way.failed is None:
            assert work[2] <= GROWTH * work[1], (client, work)


def calls_of(way: Exchange, pieces: list[bytes]) -> int:
    """The functions that are called for these pieces."""
    count = 0

    def note(_frame: object, event: str, _what: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    sys.setprofile(note)
    try:
        for piece in pieces:
            way.feed(piece)
    finally:
        sys.setprofile(None)
    return count
