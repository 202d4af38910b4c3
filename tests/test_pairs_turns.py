"""What each client sends back of an answer, and with it: calls, results with pictures and errors,
sealed state; before every provider dialect.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
import pytest_asyncio

from tests.official import Exchange
from tests.pairs import CLIENTS, SIGNATURE, SPEAKERS, Answer, Broken, Said, World, spoken, world
from tests.turns import HEARD, PIXEL, TURNS, standard

pytestmark = pytest.mark.asyncio(loop_scope="module")

PAIRS = [(form, dialect) for form in CLIENTS for dialect in SPEAKERS]
RULES = "\n[failover]\nretries = 0\nbreaker_failures = 100000\n"
CALLS = (
    Said("call_1", "get_weather", ('{"city": ', '"Zürich"}')),
    Said("call_2", "get_time", ("{}",)),
)
FIRST = Answer(thought=("Hm — ", "so"), signature=SIGNATURE, text=("Look: ",), calls=CALLS, end="calls")
THEN = Answer(text=("It is sunny.",))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def everywhere(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world(tmp_path_factory.mktemp("w"), *SPEAKERS, rules=RULES) as made:
        yield made


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(("form", "dialect"), PAIRS)
async def test_calls_results_and_seals_find_their_way_back(
    everywhere: World, form: str, dialect: str, *, streamed: bool
) -> None:
    told = await everywhere.ask(form, dialect, spoken(dialect, FIRST, stream=streamed), stream=streamed)
    then = await everywhere.ask(
        form, dialect, spoken(dialect, THEN, stream=streamed), stream=streamed, history=TURNS[form](told)
    )
    assert then.said == "It is sunny."
    sent = everywhere.body(dialect)
    heard = HEARD[dialect](sent)
    assert [(name, arguments) for _, name, arguments in heard.calls] == [
        (call.name, call.arguments) for call in CALLS
    ]
    if "ollama" not in {form, dialect}:  # its official client has no ids
        assert [call_id for call_id, *_ in heard.calls] == ["call_1", "call_2"]
    assert [result.id for result in heard.results] == [
        call_id for call_id, *_ in heard.calls
    ] or dialect == "ollama"
    first, second = heard.results
    assert (first.text, first.pictures, first.failed) == ("Sunny", [PIXEL], False)
    assert (second.text, second.pictures, second.failed) == ("no clock", [], True)
    if form not in {"chat", "ollama"}:
        assert heard.system == "Be brief."
    if "ollama" not in {form, dialect}:
        assert _sealed_places(sent) == [SIGNATURE]


def _sealed_places(body: object) -> list[str]:
    """Every sealed state in the body, as it stands there."""
    match body:
        case dict():
            members = cast("dict[str, Any]", body)
            found = [
                standard(str(value)) if name.startswith("thought") else str(value)
                for name, value in members.items()
                if str(value).startswith(SIGNATURE[:8])
            ]
            return found + [place for value in members.values() for place in _sealed_places(value)]
        case list():
            return [place for value in cast("list[object]", body) for place in _sealed_places(value)]
        case _:
            return []


@pytest.mark.parametrize(("form", "dialect"), [pair for pair in PAIRS if "ollama" not in pair])
async def test_sealed_state_goes_to_nobody_but_its_maker(everywhere: World, form: str, dialect: str) -> None:
    told = await everywhere.ask(form, dialect, spoken(dialect, FIRST, stream=True))
    with pytest.raises(Broken):
        await everywhere.ask(form, "ollama", spoken("ollama", THEN, stream=True), history=TURNS[form](told))
    assert everywhere.providers["ollama"].seen == []
    exchange = everywhere.clients.last
    assert exchange.status == 503
    assert _code(form, exchange) == "state_pinned"
    assert exchange.headers["x-should-retry"] == "false"


def _code(form: str, exchange: Exchange) -> str:
    """Where each form's clients look for the cause."""
    error = json.loads(bytes(exchange.body))["error"]
    match form:
        case "messages":
            return str(error["details"]["error_code"])
        case "gemini":
            return str(error["details"][0]["reason"]).lower()
        case _:
            return str(error["code"])


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
async def test_messages_and_its_own_provider_pass_signed_thoughts_untouched(
    everywhere: World, *, streamed: bool
) -> None:
    told = await everywhere.ask(
        "messages", "messages", spoken("messages", FIRST, stream=streamed), stream=streamed
    )
    await everywhere.ask(
        "messages",
        "messages",
        spoken("messages", THEN, stream=streamed),
        stream=streamed,
        history=TURNS["messages"](told),
    )
    assert everywhere.providers["messages"].seen[-1].body == everywhere.clients.last.request.content
