"""Circuit breakers of a whole gateway: failures of one caller, model or endpoint stay with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest

from modelplex.pipeline import attempt as attempt_module
from modelplex.pipeline import gateway as gateway_module
from tests.gateways import WAIT_S, Answer, Running, gateway, one
from tests.upstreams import (
    Act,
    Scripted,
    Seen,
    answer,
    chat_answer,
    chat_stream,
    chunk,
    hang_up,
    provider,
    stall,
    stream,
)

POISON = "poison"
DOWN = {"error": {"message": "Down.", "type": "server_error", "param": None, "code": None}}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "back"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
}
RULES = "\n[failover]\nretries = 0\nbreaker_failures = 2\nbreaker_cooldown = 600\n"


def responding(decide: Callable[[Seen], Act]) -> Callable[[Scripted], Act]:
    """A provider whose response depends on the request, not on the order."""

    def script(up: Scripted) -> Act:
        async def act(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await decide(up.seen[-1])(reader, writer)

        return act

    return script


def is_poisoned(seen: Seen) -> bool:
    return POISON.encode() in seen.body


@dataclass
class Two:
    """A gateway with two agents, and two providers of the model "m": the first has a script, the
    second always succeeds.
    """

    gw: Running
    first: Scripted
    second: Scripted

    async def ask(
        self, agent: str, text: str = "Hi", *, target: str = "/v1/chat/completions", **more: Any
    ) -> Answer:
        body = {"model": "m", "messages": [{"role": "user", "content": text}], **more}
        head = (
            (b"content-type", b"application/json"),
            (b"authorization", f"Bearer token-of-{agent}".encode()),
        )
        return await self.gw.ask("POST", target, body, headers=head)

    async def served(self, agent: str, text: str = "Hi", **more: Any) -> str | None:
        return (await self.ask(agent, text, **more)).headers.get("x-modelplex-provider")

    async def breakers(self) -> list[dict[str, Any]]:
        status = await self.gw.ask("GET", "/_internal/status")
        found: list[dict[str, Any]] = status.json["providers"][0]["breakers"]
        return found


@asynccontextmanager
async def two_agents(
    decide: Callable[[Seen], Act], folder: Path, *, rules: str = RULES, **more: Any
) -> AsyncGenerator[Two]:
    agents = "".join(f'[[agents]]\nname = "{name}"\ntoken = "token-of-{name}"\n' for name in ("evil", "good"))
    state = f'[server]\nstate_folder = "{folder / "state"}"\n'
    async with provider() as first, provider(answer(chat_answer())) as second:
        first.scripts[:] = [responding(decide)(first)]
        config = one(first.url, name="first", priority=1, **more) + one(second.url, name="second", priority=2)
        async with gateway(state + config + agents + rules, folder=folder) as gw:
            yield Two(gw, first, second)


FAULTS: dict[str, Act] = {
    "a server error": answer(DOWN, status=500),
    "a crash": hang_up,
    "a limit for an hour": answer(DOWN, status=429, retry_after="3600"),
    "a time-out": stall,
    "half an answer": answer(b'{"id"'),
    "a refused key": answer({"error": {"message": "No.", "code": "invalid_api_key"}}, status=401),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_failures_of_one_caller_do_not_affect_another(fault: str, tmp_path: Path) -> None:
    def decide(seen: Seen) -> Act:
        return FAULTS[fault] if is_poisoned(seen) else answer(chat_answer())

    patience = 2.0 if fault == "a time-out" else WAIT_S
    async with two_agents(decide, tmp_path, first_byte_timeout=patience) as two:
        counts: list[int] = []
        for _ in range(4):
            assert await two.served("evil", POISON) == "second"
            assert await two.served("good") == "first"
            counts.append(sum(map(is_poisoned, two.first.seen)))
        assert counts[1] == counts[3]  # the circuit of this caller is open after the second failure
        assert await two.served("evil") == "second"
        assert {breaker["caller"] for breaker in await two.breakers()} == {"agent:evil"}
        seen_by_others = (await two.gw.ask("GET", "/health?detail")).json["providers"][0]["breakers"]
        assert seen_by_others == []


async def test_a_provider_that_fails_for_two_callers_is_skipped_for_all(tmp_path: Path) -> None:
    async with two_agents(lambda _: answer(DOWN, status=500), tmp_path) as two:
        assert await two.served("evil") == "second"
        assert await two.served("good") == "second"
        assert (await two.gw.chat()).headers["x-modelplex-attempts"] == "1"
        assert len(two.first.seen) == 2
        (shared, *_) = await two.breakers()
        assert (shared["caller"], shared["reason"]) == (None, "The provider answered 500: Down.")
        shown = (await two.gw.ask("GET", "/health?detail")).json["providers"][0]["breakers"]
        assert [(breaker["state"], breaker["reason"]) for breaker in shown] == [
            ("open", "")
        ]  # the reason may quote a request of another caller
    events = [
        line
        for line in map(json.loads, (tmp_path / "log.json").read_text().splitlines())
        if "breaker" in line["event"]
    ]
    assert [(line["provider"], line["key"], line["model"], line["caller"]) for line in events] == [
        ("first", 0, "m", "everybody")
    ]


async def test_a_missing_endpoint_does_not_affect_other_endpoints(tmp_path: Path) -> None:
    """An agent that uses Responses, with a provider that has chat only."""

    def decide(seen: Seen) -> Act:
        if seen.target.endswith("chat/completions"):
            return answer(chat_answer())
        return answer(b"Not Found", status=404, label="text/plain")

    async with two_agents(decide, tmp_path) as two:
        for _ in range(5):
            await two.ask("evil", target="/v1/embeddings", input="Hi")
            await two.ask("good", target="/v1/embeddings", input="Hi")
        assert await two.breakers() == []
        assert await two.served("evil") == await two.served("good") == "first"


async def test_failures_of_one_model_do_not_affect_other_models_of_the_key(tmp_path: Path) -> None:
    for status in (429, 500):
        folder = tmp_path / str(status)
        folder.mkdir()

        def decide(seen: Seen, status: int = status) -> Act:
            is_busy = seen.json["model"] == "busy"
            return answer(DOWN, status=status, retry_after="600") if is_busy else answer(chat_answer())

        async with provider() as up:
            up.scripts[:] = [responding(decide)(up)]
            async with gateway(one(up.url, models='["busy", "m"]') + RULES, folder=folder) as gw:
                for _ in range(4):
                    assert (await gw.chat("busy")).status in {429, 502}
                    assert (await gw.chat("m")).status == 200


async def test_a_request_counts_as_one_failure_with_any_number_of_retries(tmp_path: Path) -> None:
    rules = "\n[failover]\nretries = 4\nbackoff = 0.001\nbreaker_failures = 2\nbreaker_cooldown = 600\n"
    async with provider(answer(DOWN, status=500)) as up, gateway(one(up.url) + rules, folder=tmp_path) as gw:
        assert (await gw.chat()).headers["x-modelplex-attempts"] == "5"
        (breaker,) = (await gw.ask("GET", "/health?detail")).json["providers"][0]["breakers"]
        assert (breaker["state"], breaker["failures"]) == ("closed", 1)
        assert (await gw.chat()).headers["x-modelplex-attempts"] == "5"
        (breaker,) = (await gw.ask("GET", "/health?detail")).json["providers"][0]["breakers"]
        assert (breaker["state"], breaker["failures"]) == ("open", 2)


async def test_a_sole_candidate_is_tried_although_its_circuit_is_open(tmp_path: Path) -> None:
    """A short failure of the provider ends when the provider recovers, not after the cooldown."""
    async with provider(*[answer(DOWN, status=500)] * 3, answer(chat_answer())) as up:
        async with gateway(one(up.url) + RULES, folder=tmp_path) as gw:
            for _ in range(3):
                got = await gw.chat()
                assert (got.status, got.error["code"]) == (502, "upstream_error")
                assert "retry-after" not in got.headers
                assert "x-should-retry" not in got.headers
            assert (await gw.chat()).status == 200
            assert (await gw.ask("GET", "/health?detail")).json["providers"][0]["breakers"] == []


async def test_a_short_retry_after_of_a_sole_candidate_is_waited_for(tmp_path: Path) -> None:
    limited = answer(DOWN, status=429, retry_after="0.2")
    async with provider(limited, answer(chat_answer())) as up:
        async with gateway(one(up.url) + RULES, folder=tmp_path) as gw:
            assert (await gw.chat()).status == 429
            got = await gw.chat()
            assert (got.status, len(up.seen)) == (200, 2)
            assert (await gw.record(2)).times.queued > 0


async def test_a_long_retry_after_is_returned_with_the_remaining_time(tmp_path: Path) -> None:
    async with provider(answer(DOWN, status=429, retry_after="600")) as up:
        async with gateway(one(up.url) + RULES, folder=tmp_path) as gw:
            first = await gw.chat()
            assert (first.status, first.headers["retry-after"]) == (429, "600")
            then = await gw.chat()
            assert (then.status, then.error["code"], len(up.seen)) == (429, "circuit_open", 1)
            assert 500 < int(then.headers["retry-after"]) <= 600
            assert "x-should-retry" not in then.headers


async def test_a_probe_closes_the_circuit_at_its_first_output(tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def continue_stream(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await go_on.wait()
        for piece in chat_stream("lo")[1:]:
            writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))

    broken = answer(DOWN, status=500)
    acts = [broken, broken, stream(chunk({"content": "Hel"}), then=continue_stream), answer(chat_answer())]
    rules = RULES.replace("600", "0")
    async with provider(*acts) as up, provider(answer(chat_answer())) as second:
        config = one(up.url, name="first", priority=1) + one(second.url, name="second", priority=2)
        async with gateway(config + rules, folder=tmp_path) as gw:
            for _ in range(2):
                assert (await gw.chat()).headers["x-modelplex-provider"] == "second"
            body = json.dumps({"model": "m", "messages": [], "stream": True}).encode()
            probe = await asyncio.wait_for(gw.send("POST", "/v1/chat/completions", body), WAIT_S)
            assert probe.header(b"x-modelplex-provider") == b"first"
            assert (await gw.chat()).headers["x-modelplex-provider"] == "first"  # during the probe's stream
            go_on.set()
            assert b"[DONE]" in await probe.body(limit=100_000)


async def test_a_probe_of_a_disconnected_client_frees_its_slot(tmp_path: Path) -> None:
    broken = answer(DOWN, status=500)
    acts = [broken, broken, stall, answer(chat_answer())]
    rules = RULES.replace("600", "0")
    async with provider(*acts) as up, provider(answer(chat_answer())) as second:
        config = one(up.url, name="first", priority=1) + one(second.url, name="second", priority=2)
        async with gateway(config + rules, folder=tmp_path) as gw:
            for _ in range(2):
                assert (await gw.chat()).headers["x-modelplex-provider"] == "second"
            probe = asyncio.create_task(gw.chat())
            async with asyncio.timeout(WAIT_S):
                while len(up.seen) < 3:
                    await asyncio.sleep(0.005)
            assert (await gw.chat()).headers["x-modelplex-provider"] == "second"  # its slot is taken
            probe.cancel()
            await asyncio.wait_for(up.hung_up.wait(), WAIT_S)
            await gw.record(4)
            assert (await gw.chat()).headers["x-modelplex-provider"] == "first"


async def test_disconnects_and_client_errors_are_no_health_signal(tmp_path: Path) -> None:
    def decide(seen: Seen) -> Act:
        if is_poisoned(seen):
            return answer({"error": {"message": "Not so.", "code": "content_policy"}}, status=400)
        return stall if b"slow" in seen.body else answer(chat_answer())

    async with two_agents(decide, tmp_path) as two:
        for number in range(3):
            assert (await two.ask("evil", POISON)).status == 400
            request = asyncio.create_task(two.ask("evil", "slow"))
            async with asyncio.timeout(WAIT_S):
                while len(two.first.seen) < 2 * number + 2:
                    await asyncio.sleep(0.005)
            request.cancel()
            await two.gw.record(2 * number + 2)
        assert await two.breakers() == []
        assert await two.served("evil") == "first"


QUOTA_RESETS: dict[str, tuple[str, dict[str, Any], int, dict[str, str]]] = {
    "a body of ChatGPT's": ("openai", {"error": {"type": "usage_limit_reached", "message": "The usage limit has been reached", "resets_in_seconds": 3600}}, 429, {}),
    "a header": ("openai", {"error": {"type": "insufficient_quota", "code": "insufficient_quota", "message": "You exceeded your current quota"}}, 429, {"retry_after": "3600"}),
    "a sentence of Anthropic's": ("anthropic", {"type": "error", "error": {"type": "invalid_request_error", "message": "You have reached your specified API usage limits. You will regain access on 2026-12-02 at 01:00 UTC."}}, 400, {"date": "Wed, 02 Dec 2026 00:00:00 GMT"}),
    "a header of Anthropic's": ("anthropic", {"type": "error", "error": {"type": "rate_limit_error", "message": "You have reached your specified API usage limits."}}, 429, {"date": "Wed, 02 Dec 2026 00:00:00 GMT", "anthropic_ratelimit_unified_reset": "1796173200"}),
}  # fmt: skip
"""How a provider tells that its quota is back in an hour: its type, its answer, the status and
headers.
"""


class LaterClock:
    """The clock of the gateway's calls, which a test sets forward."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.later = 0.0
        for module in (attempt_module, gateway_module):
            monkeypatch.setattr(module, "perf_counter", lambda: perf_counter() + self.later)


@pytest.mark.parametrize("told", QUOTA_RESETS)
async def test_a_used_up_quota_closes_the_provider_until_its_reset(
    told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, body, status, headers = QUOTA_RESETS[told]
    clock = LaterClock(monkeypatch)
    good = answer(chat_answer("back") if kind == "openai" else MESSAGE)
    async with (
        provider(answer(body, status=status, **headers), good) as first,
        provider(answer(chat_answer("second"))) as second,
    ):
        config = one(
            first.url.removesuffix("/v1") if kind == "anthropic" else first.url, type=kind, api_key="k"
        )
        config += one(second.url, name="second", priority=2)
        async with gateway(config, folder=tmp_path) as gw:
            told_so = await gw.chat()
            assert (told_so.status, told_so.headers["x-modelplex-exhausted"]) == (200, "up")
            clock.later = 3500.0
            for _ in range(2):
                got = await gw.chat()
                assert (got.status, got.headers["x-modelplex-provider"]) == (200, "second")
                assert "x-modelplex-exhausted" not in got.headers
            assert len(first.seen) == 1
            clock.later = 3700.0
            for _ in range(2):
                assert (await gw.chat()).headers["x-modelplex-provider"] == "up"
            assert (len(first.seen), len(second.seen)) == (3, 3)


async def test_a_quota_still_used_up_at_its_reset_closes_the_provider_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, body, status, headers = QUOTA_RESETS["a header"]
    clock = LaterClock(monkeypatch)
    used_up = answer(body, status=status, **headers)
    async with provider(used_up, used_up, answer(chat_answer("back"))) as up:
        async with gateway(one(up.url, type=kind, api_key="k"), folder=tmp_path) as gw:
            first = await gw.chat()
            assert (first.status, first.error["code"]) == (429, "insufficient_quota")
            clock.later = 3000.0
            closed = await gw.chat()
            assert (closed.status, len(up.seen)) == (429, 1)
            assert 500 <= int(closed.headers["retry-after"]) <= 600
            clock.later = 3700.0
            assert ((await gw.chat()).status, len(up.seen)) == (429, 2)
            clock.later = 7200.0
            assert ((await gw.chat()).status, len(up.seen)) == (429, 2)
            clock.later = 7400.0
            assert ((await gw.chat()).status, len(up.seen)) == (200, 3)


async def test_a_used_up_quota_closes_one_key_until_its_reset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, body, status, headers = QUOTA_RESETS["a header"]
    clock = LaterClock(monkeypatch)

    def decide(seen: Seen) -> Act:
        used_up = "one" if clock.later == 0.0 else "two"
        is_used_up = seen.headers["authorization"] == f"Bearer {used_up}"
        return answer(body, status=status, **headers) if is_used_up else answer(chat_answer())

    async with provider() as up:
        up.scripts.append(responding(decide)(up))
        async with gateway(one(up.url, api_key=["one", "two"]), folder=tmp_path) as gw:
            for _ in range(3):
                assert (await gw.chat()).status == 200
            clock.later = 3700.0
            for _ in range(2):
                assert (await gw.chat()).status == 200
        keys = [each.headers["authorization"].removeprefix("Bearer ") for each in up.seen]
        assert keys == ["one", "two", "two", "two", "two", "one", "one"]
