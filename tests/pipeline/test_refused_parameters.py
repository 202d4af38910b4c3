"""A request is asked again without a parameter that the provider named, and the next is sent
without it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelplex.core.errors import BadRequest, UpstreamReply
from modelplex.core.request import Attempt
from modelplex.pipeline.refused_parameters import MAX_REMEMBERED, REMEMBERED_S, RefusedParameters
from tests.gateways import gateway, one
from tests.upstreams import answer, chat_answer, provider

ATTEMPT = Attempt(provider="p", model="m", dialect="openai_chat")
ERROR = BadRequest(
    "Unsupported parameter: 'seed' is not supported with this model.", upstream=UpstreamReply(status=400)
)


def refusal(message: str, status: int = 400, **more: Any) -> Any:
    return answer({"error": {"message": message, "type": "invalid_request_error", **more}}, status=status)


def unsupported(name: str) -> Any:
    message = f"Unsupported parameter: '{name}' is not supported with this model."
    return refusal(message, param=name, code="unsupported_parameter")


async def test_it_is_asked_again_without_and_remembered(tmp_path: Path) -> None:
    async with (
        provider(unsupported("seed"), answer(chat_answer())) as up,
        gateway(one(up.url), folder=tmp_path) as gw,
    ):
        first = await gw.chat("m", seed=1, temperature=0.5)
        assert (first.status, first.headers["x-modelplex-changes"]) == (200, "drop=seed")
        assert [("seed" in each.json, each.json["temperature"]) for each in up.seen] == [
            (True, 0.5),
            (False, 0.5),
        ]
        record = await gw.record()
        assert len(record.attempts) == 2
        second = await gw.chat("m", seed=1)
        assert (second.status, len(up.seen), "seed" in up.seen[-1].json) == (200, 3, False)


async def test_it_is_reported_by_its_place_in_the_clients_body(tmp_path: Path) -> None:
    async with (
        provider(unsupported("top_p"), answer(chat_answer())) as up,
        gateway(one(up.url), folder=tmp_path) as gw,
    ):
        body = {"model": "m", "messages": [{"role": "user", "content": "x"}], "options": {"top_p": 0.5}}
        got = await gw.ask("POST", "/api/chat", {**body, "stream": False})
        assert (got.status, got.headers["x-modelplex-changes"]) == (200, "drop=options.top_p")


async def test_a_stream_is_asked_again_too_and_only_once(tmp_path: Path) -> None:
    async with (
        provider(unsupported("seed"), unsupported("temperature")) as up,
        gateway(one(up.url), folder=tmp_path) as gw,
    ):
        got = await gw.chat("m", stream=True, seed=1, temperature=0)
        assert (got.status, got.error["param"], len(up.seen)) == (400, "temperature", 2)


async def test_what_changes_the_meaning_is_refused_to_the_client(tmp_path: Path) -> None:
    async with (
        provider(unsupported("response_format")) as up,
        gateway(one(up.url), folder=tmp_path) as gw,
    ):
        got = await gw.chat("m", response_format={"type": "json_object"})
        assert (got.status, got.error["param"], len(up.seen)) == (400, "response_format", 1)


async def test_a_caller_that_wants_no_losses_gets_the_error(tmp_path: Path) -> None:
    async with (
        provider(unsupported("seed")) as up,
        gateway('[server]\non_loss = "refuse"\n' + one(up.url), folder=tmp_path) as gw,
    ):
        got = await gw.chat("m", seed=1)
        assert (got.status, got.error["param"], len(up.seen)) == (400, "seed", 1)


async def test_a_strict_template_gets_one_system_message(tmp_path: Path) -> None:
    said = "Jinja Exception: System message must be at the beginning."
    async with (
        provider(refusal(said, 500), answer(chat_answer())) as up,
        gateway(one(up.url), folder=tmp_path) as gw,
    ):
        body = {
            "model": "m",
            "messages": [{"role": role, "content": role[0]} for role in ("system", "user", "system")],
        }
        for asked in (2, 3):
            got = await gw.ask("POST", "/v1/chat/completions", body)
            assert (got.status, len(up.seen)) == (200, asked)
            assert [each["role"] for each in up.seen[-1].json["messages"]] == ["system", "user", "user"]


def test_it_is_forgotten_and_is_one_callers() -> None:
    refused = RefusedParameters()
    assert refused.learn(ERROR, ATTEMPT, b'{"seed":1}', caller="a", now=5.0)
    assert [each.path for each in refused.of(ATTEMPT, caller="a", now=5.0)] == ["seed"]
    assert refused.of(ATTEMPT, caller="b", now=5.0) == []
    assert refused.of(ATTEMPT, caller="a", now=5.0 + REMEMBERED_S) == []
    for n in range(MAX_REMEMBERED):
        refused.learn(ERROR, ATTEMPT, b'{"seed":1}', caller=str(n), now=5.0)
    assert repr(refused) == "<RefusedParameters 1 models, 0 strict>"
    for n in range(50):
        named = BadRequest(f"Unsupported parameter: 'x{n}' is", upstream=UpstreamReply(status=400))
        refused.learn(named, ATTEMPT, b'{"x%d":1}' % n, caller="a", now=6.0)
    assert 0 < len(refused.of(ATTEMPT, caller="a", now=6.0)) <= 33
