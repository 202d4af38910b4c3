"""A real llama.cpp server says the same thing twice: in a form that it speaks itself, and in that
form as the gateway translates it from another one.

What is compared is the shape: members and their types, the kinds of events and their order.
Whatever it says must be in ours too, but for what stands in TOLERATED; ours may say more, since the
official types want more, and are held to those types.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, cast

import httpx2
import pytest
import pytest_asyncio

from tests.gateways import WAIT_S, Running, gateway, one
from tests.official import Exchange
from tests.pairs import check

pytestmark = [pytest.mark.real, pytest.mark.slow]

MODEL = "gemma-3-270m"
HI = [{"role": "user", "content": "Hi"}]
ASKED: dict[str, tuple[str, str, dict[str, Any]]] = {
    "messages over chat": ("messages", "chat", {"messages": HI, "max_tokens": 6}),
    "responses over chat": ("responses", "chat", {"input": "Hi", "max_output_tokens": 6, "store": False}),
    "responses over messages": (
        "responses",
        "messages",
        {"input": "Hi", "max_output_tokens": 6, "store": False},
    ),
    "chat over messages": (
        "chat",
        "messages",
        {"messages": HI, "max_tokens": 6, "stream_options": {"include_usage": True}},
    ),
}
PATHS = {"chat": "/v1/chat/completions", "messages": "/v1/messages", "responses": "/v1/responses"}
TOLERATED = {
    "timings": "how fast it was is no member of any of the forms",
    "system_fingerprint": "Messages has none that could be passed on",
}
AT_THE_LIMIT = {"response.completed": "response.incomplete"}
"""It says "completed" of an answer that the limit cut; OpenAI, and the gateway, say "incomplete".
"""


@pytest_asyncio.fixture
async def gw(llama: str, tmp_path: Path) -> AsyncIterator[Running]:
    config = one(llama, name="chat", type="llamacpp", models=f'["{MODEL}"]')
    root = llama.removesuffix("/v1")
    config += one(root, name="messages", type="anthropic", models=f'["{MODEL}"]', api_key="unused")
    async with gateway(config, folder=tmp_path) as running:
        yield running


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("pair", ASKED)
async def test_a_translated_answer_has_the_shape_of_a_native_one(
    gw: Running, llama: str, pair: str, *, streamed: bool
) -> None:
    form, dialect, members = ASKED[pair]
    body = {"temperature": 0, **members, "stream": streamed}
    if not streamed:
        body.pop("stream_options", None)
    async with httpx2.AsyncClient(timeout=WAIT_S) as http:
        native = await http.post(llama.removesuffix("/v1") + PATHS[form], json={**body, "model": MODEL})
        ours = await http.post(gw.base + PATHS[form], json={**body, "model": f"{dialect}/{MODEL}"})
    assert (native.status_code, ours.status_code) == (200, 200)
    assert ours.headers["content-type"].partition(";")[0] == native.headers["content-type"].partition(";")[0]
    check(form, Exchange(ours.request, 200, ours.headers, bytearray(ours.content), complete=True), ours=True)
    theirs, made = _values(native.text, streamed=streamed), _values(ours.text, streamed=streamed)
    assert _order(made) == [AT_THE_LIMIT.get(kind, kind) for kind in _order(theirs)]
    _compare(_shape(theirs), _shape(made))


def _values(text: str, *, streamed: bool) -> list[dict[str, Any]]:
    if not streamed:
        return [json.loads(text)]
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


def _order(values: Sequence[dict[str, Any]]) -> list[str]:
    """The kinds of events, each run of the same kind as one. A chat chunk's kind is what
    is in it.
    """
    return [kind for kind, _ in groupby(_kind(value) for value in values)]


def _kind(value: dict[str, Any]) -> str:
    if "object" not in value or value["object"] != "chat.completion.chunk":
        return str(value["type"]) if "type" in value else "whole"
    if not value["choices"]:
        return "usage"
    choice = value["choices"][0]
    return "end" if choice["finish_reason"] else "role" if "role" in choice["delta"] else "content"


def _shape(values: Sequence[dict[str, Any]]) -> dict[str, set[str]]:
    """The types that occur at each place. A stream's places begin with the kind of the event."""
    found: dict[str, set[str]] = {}
    for value in values:
        kind = _kind(value)
        for place, type_ in _places(value, AT_THE_LIMIT.get(kind, kind)):
            found.setdefault(place, set()).add(type_)
    return found


def _places(value: object, place: str) -> Iterator[tuple[str, str]]:
    match value:
        case dict():
            for name, inner in cast("dict[str, object]", value).items():
                yield from _places(inner, f"{place}.{name}")
        case list():
            yield place, "list"
            for inner in cast("list[object]", value):
                yield from _places(inner, f"{place}[]")
        case _:
            yield place, type(value).__name__


def _compare(theirs: dict[str, set[str]], ours: dict[str, set[str]]) -> None:
    missing = {place for place in theirs if place not in ours}
    assert not {place for place in missing if not any(f".{name}" in place for name in TOLERATED)}, missing
    for place in theirs.keys() & ours.keys():
        told, made = theirs[place] - {"NoneType"}, ours[place] - {"NoneType"}
        assert not told or not made or told == made, (place, told, made)
