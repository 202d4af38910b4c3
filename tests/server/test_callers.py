"""Agents of a whole gateway: how they are identified, their models and their budgets."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from modelplex.config import parse, provider_types
from modelplex.config.summary import policies
from modelplex.http_client import Timeouts, parse_origin
from tests.gateways import WAIT_S, Answer, Running, gateway, one
from tests.upstreams import answer, chat_answer, chat_stream, provider, stall, stream

TOKEN = "token-of-reader"
BODY = json.dumps(chat_answer()).encode()
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def config(folder: Path, url: str, *, agents: str, server: str = "", models: str = '["m", "n"]') -> str:
    state = f'state_folder = "{folder / "state"}"\n'
    return f"[server]\n{state}{server}\n{one(url, models=models, api_key='k' * 12)}\n{agents}"


def coder(folder: Path, more: str = "") -> str:
    return f'[[agents]]\nname = "coder"\nsocket = "{folder / "coder.sock"}"\n{more}\n'


def reader(more: str = "") -> str:
    return f'[[agents]]\nname = "reader"\ntoken = "{TOKEN}"\n{more}\n'


async def ask(
    running: Running,
    socket: Path,
    target: str = "/models/v1/chat/completions",
    body: Any = CHAT,
    *,
    method: str = "POST",
) -> Answer:
    """Send a request over the socket of an agent."""
    origin, path = parse_origin(f"unix:{socket}")
    reply = await running.client.send(
        origin,
        method=method.encode(),
        target=(path + target).encode(),
        headers=[(b"content-type", b"application/json"), (b"authorization", b"Bearer unused")],
        body=json.dumps(body).encode() if method == "POST" else b"",
        timeouts=Timeouts(connect=WAIT_S, first_byte=WAIT_S, idle=WAIT_S),
    )
    content = await reply.body(limit=10_000_000)
    return Answer(reply.status, {n.decode(): v.decode() for n, v in reply.headers}, content)


def bearer(token: str) -> list[tuple[bytes, bytes]]:
    return [(b"content-type", b"application/json"), (b"authorization", f"Bearer {token}".encode())]


def agents_view(answer: Answer) -> dict[str, Any]:
    return {one["agent"]: one for one in answer.json["agents"]}


async def test_a_caller_on_an_agents_socket_is_that_agent_in_record_metric_and_log(
    tmp_path: Path,
) -> None:
    async with provider(answer(BODY)) as up:
        text = config(tmp_path, up.url, agents=coder(tmp_path, 'socket_mode = "0600"'))
        async with gateway(text, folder=tmp_path) as running:
            socket = tmp_path / "coder.sock"
            assert socket.stat().st_mode & 0o777 == 0o600
            assert (await ask(running, socket)).status == 200
            record = await running.record()
            assert (record.agent, record.listener) == ("coder", f"unix:{socket}")
            assert record.peer is not None
            metrics = (await running.ask("GET", "/_internal/metrics")).body.decode()
            assert 'agent="coder"' in metrics
            assert 'modelplex_agent_tokens_total{agent="coder",gen_ai_token_type="input"}' in metrics
    (line,) = [
        row
        for row in map(json.loads, (tmp_path / "log.json").read_text().splitlines())
        if row["event"] == "call"
    ]
    assert line["agent"] == "coder"
    assert line["peer"]["uid"] == record.peer.uid


@pytest.mark.parametrize("header", [b"authorization", b"x-api-key", b"x-goog-api-key"])
async def test_a_token_in_any_key_header_identifies_its_agent(tmp_path: Path, header: bytes) -> None:
    async with provider(answer(BODY), answer(BODY)) as up:
        async with gateway(config(tmp_path, up.url, agents=reader()), folder=tmp_path) as running:
            for value in (TOKEN, "unused"):
                sent = f"Bearer {value}" if header == b"authorization" else value
                reply = await running.ask(
                    "POST", "/v1/chat/completions", CHAT, headers=[(header, sent.encode())]
                )
                assert reply.status == 200
            assert [(await running.record(n)).agent for n in (1, 2)] == ["reader", ""]
    assert not any(TOKEN.encode() in seen.head + seen.body for seen in up.seen)
    assert TOKEN not in (tmp_path / "log.json").read_text()


async def test_a_token_is_ignored_on_another_agents_socket(tmp_path: Path) -> None:
    async with provider(answer(BODY)) as up:
        text = config(tmp_path, up.url, agents=coder(tmp_path) + reader())
        async with gateway(text, folder=tmp_path) as running:
            origin, _ = parse_origin(f"unix:{tmp_path / 'coder.sock'}")
            reply = await running.client.send(
                origin,
                method=b"POST",
                target=b"/v1/chat/completions",
                headers=bearer(TOKEN),
                body=json.dumps(CHAT).encode(),
                timeouts=Timeouts(connect=WAIT_S, first_byte=WAIT_S, idle=WAIT_S),
            )
            await reply.body(limit=1_000_000)
            assert (await running.record()).agent == "coder"


async def test_an_agent_has_only_its_own_models(tmp_path: Path) -> None:
    async with provider(answer(BODY)) as up:
        agents = coder(tmp_path, 'models = ["m*"]')
        text = config(tmp_path, up.url, agents=agents, models='["m", "m-large", "n"]')
        async with gateway(text, folder=tmp_path) as running:
            socket = tmp_path / "coder.sock"
            listed = await ask(running, socket, "/v1/models", method="GET")
            assert [model["id"] for model in listed.json["data"]] == ["m", "m-large"]
            tags = await ask(running, socket, "/api/tags", method="GET")
            assert [model["name"] for model in tags.json["models"]] == ["m", "m-large"]
            gemini = await ask(running, socket, "/v1beta/models", method="GET")
            assert [model["name"] for model in gemini.json["models"]] == ["models/m", "models/m-large"]
            for refused in (
                await ask(running, socket, body={**CHAT, "model": "n"}),
                await ask(running, socket, body={**CHAT, "model": "up/n"}),
                await ask(running, socket, "/v1/models/n", method="GET"),
            ):
                assert (refused.status, refused.error["code"]) == (404, "model_not_found")
                assert "m, m-large" in refused.error["message"]
            show = await ask(running, socket, "/api/show", body={"model": "n"})
            assert show.status == 404
            assert not up.seen
            assert (await ask(running, socket)).status == 200
            everybody = await running.ask("GET", "/v1/models")
            assert [model["id"] for model in everybody.json["data"]] == ["m", "m-large", "n"]


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/v1/chat/completions", CHAT, '"code":"agent_rate_limited"'),
        ("/v1/messages", {**CHAT, "max_tokens": 5}, '"type":"rate_limit_error"'),
        (
            "/v1beta/models/m:generateContent",
            {"contents": [{"parts": [{"text": "a"}]}]},
            '"RESOURCE_EXHAUSTED"',
        ),
        ("/api/chat", CHAT, '"error":"The agent'),
    ],
)
async def test_above_the_rate_the_response_is_a_429_with_the_wait_in_the_clients_dialect(
    tmp_path: Path, path: str, body: dict[str, Any], words: str
) -> None:
    async with provider(answer(BODY)) as up:
        agents = coder(tmp_path, "rate = { requests = 1 }")
        async with gateway(config(tmp_path, up.url, agents=agents), folder=tmp_path) as running:
            socket = tmp_path / "coder.sock"
            assert (await ask(running, socket)).status == 200
            refused = await ask(running, socket, path, body)
            assert refused.status == 429
            assert 0 < int(refused.headers["retry-after"]) <= 60
            assert words in refused.body.decode()
            assert len(up.seen) == 1
            record = await running.record(2)
            assert (record.outcome, record.blame, record.agent) == ("error", "policy", "coder")


async def test_a_budget_survives_a_restart(tmp_path: Path) -> None:
    async with provider(answer(BODY), answer(BODY)) as up:
        tokens = BODY_TOKENS
        agents = coder(tmp_path, f'budget = {{ tokens = {tokens + 1}, per = "total" }}')
        text = config(tmp_path, up.url, agents=agents)
        async with gateway(text, folder=tmp_path) as running:
            assert (await ask(running, tmp_path / "coder.sock")).status == 200
            view = agents_view(await running.ask("GET", "/_internal/agents"))["coder"]
            assert view["spent"]["tokens"] == tokens
        async with gateway(text, folder=tmp_path) as running:
            assert (await ask(running, tmp_path / "coder.sock")).status == 200
            refused = await ask(running, tmp_path / "coder.sock")
            assert (refused.status, refused.error["code"]) == (402, "agent_budget_exceeded")
            assert refused.headers["x-should-retry"] == "false"
            assert len(up.seen) == 2


BODY_TOKENS = sum(chat_answer()["usage"][key] for key in ("prompt_tokens", "completion_tokens"))


async def test_without_budgets_no_file_is_created(tmp_path: Path) -> None:
    async with provider(answer(BODY)) as up:
        agents = coder(tmp_path, "rate = { requests = 5 }")
        async with gateway(config(tmp_path, up.url, agents=agents), folder=tmp_path) as running:
            assert (await ask(running, tmp_path / "coder.sock")).status == 200
    assert [file.name for file in (tmp_path / "state").iterdir()] == ["page-token"]


async def test_an_unreadable_budget_file_prevents_the_start(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "agents.sqlite").write_bytes(b"none of ours " * 100)
    agents = coder(tmp_path, "budget = { tokens = 5 }")
    with pytest.raises(Exception, match=r"agents\.sqlite") as fault:
        async with gateway(config(tmp_path, "http://127.0.0.1:1", agents=agents), folder=tmp_path):
            pass
    assert hasattr(fault.value, "sentence")
    assert not (tmp_path / "coder.sock").exists()


async def test_a_stream_that_the_agent_closes_early_is_charged(tmp_path: Path) -> None:
    pieces = chat_stream("one two three four five six", usage=False)
    async with provider(stream(*pieces[:-1], end=False, then=stall)) as up:
        agents = coder(tmp_path, "budget = { tokens = 1000 }")
        async with gateway(config(tmp_path, up.url, agents=agents), folder=tmp_path) as running:
            _, writer = await _begin(tmp_path / "coder.sock", {**CHAT, "stream": True})
            writer.close()
            record = await running.record()
            assert record.outcome == "client_closed"
            view = agents_view(await running.ask("GET", "/_internal/agents"))["coder"]
            assert view["spent"]["tokens"] > 0
            assert view["running"] == 0


async def _begin(socket: Path, body: dict[str, Any]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Send a request, and read until there is output."""
    reader, writer = await asyncio.open_unix_connection(str(socket))
    data = json.dumps(body).encode()
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n")
    writer.write(b"content-length: %d\r\n\r\n%b" % (len(data), data))
    async with asyncio.timeout(WAIT_S):
        await reader.readuntil(b"one two")
    return reader, writer


async def test_a_request_above_the_concurrency_is_a_429_until_one_disconnects(
    tmp_path: Path,
) -> None:
    pieces = chat_stream("one two three")
    async with provider(stream(*pieces[:-1], end=False, then=stall), answer(BODY)) as up:
        agents = coder(tmp_path, "concurrent = 1")
        async with gateway(config(tmp_path, up.url, agents=agents), folder=tmp_path) as running:
            socket = tmp_path / "coder.sock"
            _, writer = await _begin(socket, {**CHAT, "stream": True})
            refused = await ask(running, socket)
            assert (refused.status, refused.error["code"]) == (429, "agent_concurrency_limited")
            writer.close()
            await running.record(2)
            assert (await ask(running, socket)).status == 200
            assert len(up.seen) == 2


async def test_a_reload_applies_to_open_connections(tmp_path: Path) -> None:
    async with provider(answer(BODY), answer(BODY)) as up:
        text = config(tmp_path, up.url, agents=coder(tmp_path))
        async with gateway(text, folder=tmp_path) as running:
            socket = tmp_path / "coder.sock"
            assert (await ask(running, socket)).status == 200
            file = tmp_path / "config.toml"
            file.write_text(file.read_text().replace('name = "coder"', 'name = "coder"\nmodels = ["n"]'))
            await running.process.reload()
            assert (await ask(running, socket)).status == 404
            file.write_text(file.read_text().replace('name = "coder"', 'name = "renamed"'))
            await running.process.reload()
            renamed = await ask(running, socket)
            assert (renamed.status, "'renamed' has no model" in renamed.error["message"]) == (404, True)


async def test_a_reload_of_allow_uid_applies_to_open_connections(tmp_path: Path) -> None:
    text = '[[providers]]\ntype = "demo"\n' + coder(tmp_path)
    async with gateway(text, folder=tmp_path) as running:
        socket, view = tmp_path / "coder.sock", "/v1/models"
        assert (await ask(running, socket, view, method="GET")).status == 200
        opened = list(running.process.traffic.open)
        file = tmp_path / "config.toml"
        file.write_text(file.read_text().replace('name = "coder"', 'name = "coder"\nallow_uid = [123456]'))
        await running.process.reload()
        refused = await ask(running, socket, view, method="GET")
        assert (refused.status, refused.error["code"]) == (403, "uid_not_allowed")
        assert opened
        assert opened[0] in running.process.traffic.open


async def test_agents_without_tokens_disable_http_and_the_summary_names_open_rules(tmp_path: Path) -> None:
    text = coder(tmp_path, 'allow = ["web-search"]') + '[[providers]]\ntype = "demo"\n'
    read = parse(text.encode(), file="c.toml", environ={}, types=provider_types())
    assert read.server.http == ()
    assert "open rule web-search: agent coder" in policies(read)


async def test_an_agents_model_globs_with_a_provider_match_that_provider_only(
    tmp_path: Path,
) -> None:
    async with provider(answer(BODY)) as up, provider(answer(BODY)) as router:
        text = config(tmp_path, up.url, agents=coder(tmp_path, 'models = ["up/*"]'))
        text += one(router.url, name="router", priority=0, models='["up/m", "up/big"]', api_key="k" * 12)
        async with gateway(text, folder=tmp_path) as running:
            socket = tmp_path / "coder.sock"
            got = await ask(running, socket, body={**CHAT, "model": "up/m"})
            assert (got.status, got.headers["x-modelplex-provider"]) == (200, "up")
            for name in ("up/big", "router/up/m", "m"):
                assert (await ask(running, socket, body={**CHAT, "model": name})).status == 404
            assert not router.seen
            listed = (await ask(running, socket, "/models/v1/models", method="GET")).json["data"]
            assert {one["id"]: one["owned_by"] for one in listed} == {"up/m": "up", "up/n": "up"}
            # Callers that are no agent reach both.
            got = await running.chat(model="router/up/m")
            assert got.headers["x-modelplex-provider"] == "router"
            got = await running.chat(model="up/big")
            assert got.headers["x-modelplex-provider"] == "router"
