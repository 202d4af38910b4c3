"""A request is asked again without a parameter that the provider named, and the next is sent
without it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from modelplex.core.errors import BadRequest, UpstreamReply
from modelplex.core.request import Attempt
from modelplex.pipeline.refused_parameters import MAX_REMEMBERED, REMEMBERED_S, RefusedParameters
from tests.gateways import Answer, Running, gateway, one
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


LONG = "Extra usage is required for long context requests."
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
BETAS = "claude-code-20250219,context-1m-2025-08-07"


def messages_error(message: str, status: int) -> Any:
    kind = "rate_limit_error" if status == 429 else "invalid_request_error"
    return answer({"type": "error", "error": {"type": kind, "message": message}}, status=status)


async def ask_messages(gw: Running, betas: str = "") -> Answer:
    body = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]}
    headers = [(b"content-type", b"application/json"), (b"anthropic-version", b"2023-06-01")]
    if betas:
        headers.append((b"anthropic-beta", betas.encode()))
    return await gw.ask("POST", "/v1/messages", body, headers=headers)


async def test_a_plan_without_long_context_is_asked_without_its_beta(tmp_path: Path) -> None:
    """Then the provider itself says whether the conversation is too long for 200,000 tokens."""
    too_long = "prompt is too long: 213462 tokens > 200000 maximum"
    async with (
        provider(
            messages_error(LONG, 429), answer(MESSAGE), answer(MESSAGE), messages_error(too_long, 400)
        ) as up,
        gateway(one(up.url.removesuffix("/v1"), type="anthropic", api_key="k"), folder=tmp_path) as gw,
    ):
        first = await ask_messages(gw, betas=BETAS)
        assert (first.status, first.headers["x-modelplex-changes"]) == (
            200,
            "drop=anthropic-beta/context-1m-2025-08-07",
        )
        assert [each.headers["anthropic-beta"] for each in up.seen] == [BETAS, "claude-code-20250219"]
        second = await ask_messages(gw, betas="context-1m-2025-08-07")
        assert (second.status, len(up.seen), up.seen[-1].headers.get("anthropic-beta")) == (200, 3, None)
        third = await ask_messages(gw, betas=BETAS)
        assert (third.status, third.error["message"], len(up.seen)) == (400, too_long, 4)


async def test_long_context_that_a_plan_lacks_is_told_as_too_long_and_closes_nothing(tmp_path: Path) -> None:
    async with (
        provider(messages_error(LONG, 429), answer(MESSAGE)) as up,
        gateway(one(up.url.removesuffix("/v1"), type="anthropic", api_key="k"), folder=tmp_path) as gw,
    ):
        got = await ask_messages(gw)
        assert (got.status, got.error["type"], got.error["message"], len(up.seen)) == (
            400,
            "invalid_request_error",
            f"prompt is too long: {LONG}",
            1,
        )
        assert "retry-after" not in got.headers
        assert (await ask_messages(gw)).status == 200


async def test_a_caller_that_wants_no_losses_keeps_its_betas(tmp_path: Path) -> None:
    async with (
        provider(messages_error("invalid beta flag", 400)) as up,
        gateway(
            '[server]\non_loss = "refuse"\n' + one(up.url.removesuffix("/v1"), type="anthropic", api_key="k"),
            folder=tmp_path,
        ) as gw,
    ):
        got = await ask_messages(gw, betas=BETAS)
        assert (got.status, got.error["message"], len(up.seen)) == (400, "invalid beta flag", 1)


def test_refused_headers_are_bounded_forgotten_and_one_callers() -> None:
    refused, attempt = RefusedParameters(), Attempt(provider="p", model="m", dialect="anthropic_messages")
    error = BadRequest("invalid beta flag", upstream=UpstreamReply(status=400))
    sent = ((b"anthropic-beta", b"a-2025-01-01, b-2025-01-01"),)
    assert refused.learn(error, attempt, b"{}", caller="a", now=5.0, headers=sent)
    assert refused.headers_for(attempt, sent, caller="a", now=5.0)[0] == ()
    assert refused.headers_for(attempt, sent, caller="b", now=5.0) == (sent, ())
    assert refused.headers_for(attempt, sent, caller="a", now=5.0 + REMEMBERED_S) == (sent, ())
    other = ((b"anthropic-beta", b"b-2025-01-01,c-2025-01-01"),)
    assert refused.headers_for(attempt, other, caller="a", now=5.0)[0] == (
        (b"anthropic-beta", b"c-2025-01-01"),
    )
    many = ((b"anthropic-beta", b",".join(b"d%d" % n for n in range(100))),)
    for _ in range(2):
        refused.learn(error, attempt, b"{}", caller="a", now=6.0, headers=many)
    for n in range(MAX_REMEMBERED):
        refused.learn(error, attempt, b"{}", caller=str(n), now=6.0, headers=sent)
    assert refused.headers_for(attempt, sent, caller="a", now=6.0) == (sent, ())


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
