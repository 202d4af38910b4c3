"""What goes wrong, told to each client in its own words, whatever the provider's were; and the next
provider, of another dialect, tried first.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.official import Exchange
from tests.pairs import CLIENTS, SPEAKERS, Answer, Broken, World, played, spoken, world
from tests.upstreams import Act, answer, hang_up, raw

pytestmark = pytest.mark.asyncio(loop_scope="module")

DIALECTS = ["chat", "messages", "gemini", "ollama"]
PAIRS = [(form, dialect) for form in CLIENTS for dialect in DIALECTS] + [("responses", "responses")]
RULES = "\n[failover]\nretries = 0\nbreaker_failures = 100000\n"
FINE = Answer(text=("Fine.",))
GOOGLES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    413: "TOO_LARGE",
    503: "UNAVAILABLE",
}
ANTHROPICS = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


def _openai_wrong(_: int) -> dict[str, Any]:
    return {"error": {"message": "told so", "type": "x", "param": None, "code": None}}


WRONG: dict[str, Callable[[int], dict[str, Any]]] = {
    "chat": _openai_wrong,
    "messages": lambda status: {
        "type": "error",
        "error": {"type": ANTHROPICS.get(status, "api_error"), "message": "told so"},
        "request_id": "r",
    },
    "gemini": lambda status: {
        "error": {"code": status, "message": "told so", "status": GOOGLES.get(status, "INTERNAL")}
    },
    "ollama": lambda _: {"error": "told so"},
    "responses": _openai_wrong,
}
CLASSES = {400: 400, 404: 404, 413: 413, 500: 502, 503: 503}
"""The status that a provider gave, and the one that a client is given
(docs/reference/translation.md#error-mapping).
"""
BUSY = {("messages", "messages", 503): 529}
"""By form, dialect and status: a provider that calls itself overloaded. A bare 503 says nothing of
the kind.
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def everywhere(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    async with world(tmp_path_factory.mktemp("w"), *SPEAKERS, rules=RULES) as made:
        yield made


def wrong(dialect: str, status: int, **headers: str) -> Act:
    return answer(WRONG[dialect](status), status=status, **headers)


def is_in_shape(form: str, exchange: Exchange) -> str:
    """The message of an error that is all that the form says an error is
    (docs/reference/wire-formats.md#errors-and-retry-headers).
    """
    told = json.loads(bytes(exchange.body))
    error = told["error"]
    match form:
        case "messages":
            assert set(told) == {"type", "error", "request_id"}
            assert told["type"] == "error"
            assert {"type", "message"} <= set(error) <= {"type", "message", "details"}
        case "gemini":
            assert set(told) == {"error"}
            assert {"code", "message", "status"} <= set(error) <= {"code", "message", "status", "details"}
            assert error["code"] == exchange.status
        case "ollama":
            assert set(told) == {"error"}
            return str(error)
        case _:
            assert set(told) == {"error"}
            assert set(error) == {"message", "type", "param", "code"}
    return str(error["message"])


@pytest.mark.parametrize("streamed", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize(("form", "dialect"), PAIRS)
async def test_each_class_of_error_is_the_clients_own(
    everywhere: World, form: str, dialect: str, *, streamed: bool
) -> None:
    for given, due in CLASSES.items():
        with pytest.raises(Broken) as caught:
            await everywhere.ask(form, dialect, wrong(dialect, given), stream=streamed)
        exchange = everywhere.clients.last
        assert exchange.status == BUSY.get((form, dialect, due), due)
        assert _status_in_the_client(caught.value) == exchange.status
        assert "told so" in is_in_shape(form, exchange)
        assert "retry-after" not in exchange.headers
        assert "x-should-retry" not in exchange.headers


@pytest.mark.parametrize("dialect", SPEAKERS)
async def test_limits_and_rejected_keys_are_told_as_what_they_are(dialect: str, tmp_path: Path) -> None:
    """Each of these opens a breaker at once, so that each has a gateway of its own."""
    for given, due in ((401, 502), (429, 429)):
        for form in CLIENTS if dialect != "responses" else ("responses",):
            folder = tmp_path / f"{given}{form}"
            folder.mkdir()
            async with world(folder, dialect, rules=RULES) as made:
                more = {"retry_after": "7"} if given == 429 else {}
                with pytest.raises(Broken):
                    await made.ask(form, dialect, wrong(dialect, given, **more))
                assert made.clients.last.status == due
                headers = made.clients.last.headers
                assert headers.get("x-should-retry") == ("false" if due == 502 else None)
                assert headers.get("retry-after") == more.get("retry_after")
                is_in_shape(form, made.clients.last)


def _status_in_the_client(broken: Broken) -> int:
    cause: Any = broken.__cause__
    status: int = getattr(cause, "status_code", None) or cause.code
    return status


@pytest.mark.parametrize("form", CLIENTS)
async def test_no_answer_at_all_is_an_error_of_the_clients_own(everywhere: World, form: str) -> None:
    broken: list[Act] = [
        hang_up,
        raw(b"HTTP/1.1 200 OK\r\n"),
        answer(b"<html>", label="text/html"),
        answer(b'{"a"'),
    ]
    for dialect in DIALECTS:
        for act in broken:
            for streamed in (True, False):
                with pytest.raises(Broken):
                    await everywhere.ask(form, dialect, act, stream=streamed)
                assert everywhere.clients.last.status == 502
                is_in_shape(form, everywhere.clients.last)


@pytest.mark.parametrize("form", CLIENTS)
async def test_a_model_that_nobody_has_is_not_found(everywhere: World, form: str) -> None:
    with pytest.raises(Broken):
        await everywhere.ask(form, "chat", model="nobodys")
    assert everywhere.clients.last.status == 404
    assert "nobodys" in is_in_shape(form, everywhere.clients.last)


# --- what a provider cannot be told ---------------------------------------------------------------

HI = [{"role": "user", "content": "Hi"}]
LOSSES: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "chat": ("/v1/chat/completions", {"messages": HI, "logit_bias": {"1": 1}}, "messages", "logit_bias"),
    "messages": (
        "/v1/messages",
        {"messages": HI, "max_tokens": 9, "inference_geo": "us"},
        "chat",
        "inference_geo",
    ),
    "gemini": (
        "/v1beta/models/m-chat:generateContent",
        {
            "contents": [{"role": "user", "parts": [{"text": "Hi"}]}],
            "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        },
        "chat",
        "safetySettings",
    ),
    "ollama": (
        "/api/chat",
        {"messages": HI, "stream": False, "options": {"mirostat": 2}},
        "chat",
        "options.mirostat",
    ),
    "responses": (
        "/v1/responses",
        {"input": "Hi", "store": False, "max_tool_calls": 3},
        "messages",
        "max_tool_calls",
    ),
}
"""For each form a body, a provider that has no word for one of its members, and the member."""


@pytest.mark.parametrize("form", LOSSES)
async def test_a_loss_is_named_and_where_told_so_refused(
    everywhere: World, form: str, tmp_path: Path
) -> None:
    path, members, dialect, lost = LOSSES[form]
    body = {"model": f"m-{dialect}", **members} if form != "gemini" else members
    everywhere.providers[dialect].scripts[:] = [spoken(dialect, FINE, stream=False)]
    got = await everywhere.gw.ask("POST", path, body)
    assert got.status == 200
    assert f"drop={lost}" in got.headers["x-modelplex-changes"].split(",")
    async with world(
        tmp_path, dialect, rules=RULES.replace("\n[fail", '\n[server]\non_loss = "refuse"\n[fail')
    ) as strict:
        got = await strict.gw.ask("POST", path, body)
        assert got.status == 400
        assert lost in got.body.decode()
        assert strict.providers[dialect].seen == []


# --- the next one ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("first", "second"), list(zip(DIALECTS, DIALECTS[1:] + DIALECTS[:1], strict=True)))
async def test_a_provider_of_another_dialect_takes_over_unseen(
    first: str, second: str, tmp_path: Path
) -> None:
    rows = {first: {"models": '["any"]', "priority": 1}, second: {"models": '["any"]', "priority": 2}}
    async with world(tmp_path, first, second, rules=RULES, rows=rows) as both:
        failing = SPEAKERS[first](Answer(broken="error"), "any")[0]
        for form in CLIENTS:
            for streamed, fault in ((True, played(first, failing)), (False, wrong(first, 503))):
                both.providers[second].scripts[:] = [spoken(second, FINE, stream=streamed)]
                told = await both.ask(form, first, fault, stream=streamed, model="any")
                assert (told.said, told.end) == ("Fine.", "stop")
                headers = both.clients.last.headers
                assert (headers["x-modelplex-provider"], headers["x-modelplex-attempts"]) == (second, "2")


@pytest.mark.parametrize("form", CLIENTS)
async def test_a_rejected_key_makes_way_to_the_next_key(form: str, tmp_path: Path) -> None:
    rows = {"messages": {"api_key": ["sk-one", "sk-two"]}}
    async with world(tmp_path, "messages", rules=RULES, rows=rows) as made:
        acts = [wrong("messages", 401), spoken("messages", FINE, stream=True)]
        assert (await made.ask(form, "messages", *acts)).said == "Fine."
        seen = made.providers["messages"].seen
        assert [each.headers["x-api-key"] for each in seen] == ["sk-one", "sk-two"]
        assert not any(name in each.headers for each in seen for name in ("authorization", "x-goog-api-key"))


async def test_an_open_breaker_is_told_in_each_clients_words_with_what_is_left_of_the_wait(
    tmp_path: Path,
) -> None:
    """Nobody is asked before the provider said, and the client is told as much as it was told
    itself: that it may come again, and when.
    """
    for form in CLIENTS:
        folder = tmp_path / form
        folder.mkdir()
        async with world(folder, "chat", rules=RULES) as made:
            for given in ("900", "600"):  # the second one is never told: nobody is asked
                with pytest.raises(Broken):
                    await made.ask(form, "chat", wrong("chat", 429, retry_after=given))
            assert made.providers["chat"].seen == []
            headers = made.clients.last.headers
            assert made.clients.last.status == 429
            assert 800 < int(headers["retry-after"]) <= 900
            assert "x-should-retry" not in headers
            is_in_shape(form, made.clients.last)


# --- counts and lists -----------------------------------------------------------------------------


async def test_a_prompt_is_counted_by_its_provider_or_estimated_and_said_to_be(everywhere: World) -> None:
    async def by_messages(model: str) -> int:
        counted = await everywhere.clients.anthropic.messages.count_tokens(
            model=model, messages=[{"role": "user", "content": "How long is this, please?"}]
        )
        return counted.input_tokens

    async def by_gemini(model: str) -> int:
        counted = await everywhere.clients.genai.aio.models.count_tokens(
            model=model, contents="How long is this, please?"
        )
        return counted.total_tokens or 0

    async def by_responses(model: str) -> int:
        counted = await everywhere.clients.openai.responses.input_tokens.count(
            model=model, input="How long is this, please?"
        )
        return counted.input_tokens

    native = {"messages": {"input_tokens": 4242}, "gemini": {"totalTokens": 4242}}
    for form, count in (("messages", by_messages), ("gemini", by_gemini), ("responses", by_responses)):
        for dialect in DIALECTS:
            up = everywhere.providers[dialect]
            up.seen.clear()
            up.scripts[:] = [answer(native.get(form, {}))]
            tokens = await count(f"m-{dialect}")
            changes = everywhere.clients.last.headers.get("x-modelplex-changes")
            if form == dialect:
                assert (tokens, changes, len(up.seen)) == (4242, None, 1)
            else:
                assert 3 <= tokens <= 20
                assert (changes, up.seen) == ("lower=input_tokens", [])


async def test_the_models_are_listed_in_each_clients_form(everywhere: World) -> None:
    clients = everywhere.clients
    due = {f"m-{dialect}" for dialect in SPEAKERS}
    assert {model.id async for model in clients.openai.models.list()} == due
    assert {model.id async for model in clients.anthropic.models.list()} == due
    listed = await clients.genai.aio.models.list()
    assert {(model.name or "").removeprefix("models/") async for model in listed} == due
    assert {model.model for model in (await clients.ollama.list()).models} == due
    assert (await clients.openai.models.retrieve("m-gemini")).id == "m-gemini"
    assert (await clients.anthropic.models.retrieve("m-chat")).id == "m-chat"
    assert (await clients.genai.aio.models.get(model="m-chat")).name == "models/m-chat"
    assert "completion" in ((await clients.ollama.show("m-chat")).capabilities or ())
