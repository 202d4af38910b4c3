"""What a reused decision depends on changes: the very next request sees it. No decision of one
caller is another's (docs/decisions/0024-calls-within-callbacks.md).
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.gateways import Running, gateway, one
from tests.processes import until
from tests.reuse import JSON, Kept, Response, count_planned, get, post
from tests.sealed import NO_RETRIES
from tests.upstreams import Scripted, answer, chat_answer, hang_up, provider

TOKEN, OTHER_TOKEN = "a-token-of-reader", "a-token-of-writer"
BODY: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def chat(*headers: str, **members: Any) -> bytes:
    body = json.dumps(BODY | members, separators=(",", ":")).encode()
    return post("/v1/chat/completions", body, headers=(JSON, *headers))


def reader(rows: str = "", *, token: str = TOKEN) -> str:
    return f'[[agents]]\nname = "reader"\ntoken = "{token}"\n{rows}\n'


AS_READER = f"authorization: Bearer {TOKEN}"


@dataclass
class Warm:
    """A gateway before two providers. `keep` has one connection for TCP and one for the socket."""

    gw: Running
    up: Scripted
    other: Scripted
    tcp: Kept
    socket: Kept

    async def reload(self, config: str) -> None:
        file = Path(self.gw.socket).with_name("config.toml")
        server, _, _ = file.read_text().partition("\n#--\n")
        file.write_text(f"{server}\n#--\n{config}")
        await self.gw.process.reload()

    async def twice(self, data: bytes, *, over: Kept | None = None) -> Response:
        """Served twice alike, on one connection."""
        client = over or self.tcp
        first, second = await client.send(data), await client.send(data)
        assert (first.status, client.opened) == (second.status, 1), second
        return second


@asynccontextmanager
async def warm(folder: Path, config: str, *, server: str = "") -> AsyncGenerator[Warm]:
    """`{up}` and `{other}` in the config stand for the addresses of the providers."""
    async with provider(answer(chat_answer())) as up, provider(answer(chat_answer("Other"))) as other:
        text = f'[server]\n{server}\n[log]\nfile = "{folder / "log"}"\n#--\n{filled(config, up, other)}'
        async with gateway(text, folder=folder) as gw:
            host, _, port = gw.base.removeprefix("http://").partition(":")
            async with Kept((host, int(port))) as tcp, Kept(gw.socket) as socket:
                yield Warm(gw, up, other, tcp, socket)


def filled(config: str, up: Scripted, other: Scripted) -> str:
    return config.replace("{up}", up.url).replace("{other}", other.url)


BASE = one("{up}", api_key="sk-first-key") + NO_RETRIES
EXTRA = '[providers.headers]\nx-team = "one"\n'


@pytest.mark.parametrize(
    ("before", "after", "data", "status", "seen"),
    [
        (BASE, BASE.replace("{up}", "{other}"), chat(), 200, "bearer sk-first-key at other"),
        (BASE, BASE.replace("first", "second"), chat(), 200, "bearer sk-second-key at up"),
        (BASE + EXTRA, BASE + EXTRA.replace('"one"', '"two"'), chat(), 200, "x-team two"),
        (BASE, BASE.replace('["m"]', '["n"]'), chat(), 404, ""),
        (BASE + '[aliases]\nfast = "up/m"\n', BASE, chat(model="fast"), 404, ""),
        (
            BASE + '[aliases]\nfast = "up/m"\n',
            BASE.replace('["m"]', '["m", "n"]') + '[aliases]\nfast = "up/n"\n',
            chat(model="fast"),
            200,
            'model "n"',
        ),
        (BASE + reader('models = ["m"]'), BASE + reader('models = ["n*"]'), chat(AS_READER), 404, ""),
        (BASE + reader('policy = "sealed"'), BASE + reader('policy = "open"'), chat(AS_READER, user="u"), 200, '"user"'),
        (BASE + reader('policy = "open"'), BASE + reader('policy = "sealed"'), chat(AS_READER, user="u"), 200, 'no "user"'),
        (BASE + reader("rate = { requests = 9 }"), BASE + reader("rate = { requests = 2 }"), chat(AS_READER), 429, ""),
        (BASE + reader('budget = { tokens = 99, per = "total" }'), BASE + reader('budget = { tokens = 9, per = "total" }'), chat(AS_READER), 402, ""),
        (BASE, BASE + '[policy]\nhttp = "sealed"\n', chat(user="u"), 200, 'no "user"'),
    ],
)  # fmt: skip
async def test_a_reload_counts_for_the_next_request(
    before: str, after: str, data: bytes, status: int, seen: str, tmp_path: Path
) -> None:
    async with warm(tmp_path, before) as gw:
        assert (await gw.twice(data)).status == 200
        await gw.reload(filled(after, gw.up, gw.other))
        gw.up.seen.clear()
        got = await gw.tcp.send(data)
        assert (got.status, gw.tcp.opened) == (status, 1), got
        sent = [(name, each) for name, up in (("up", gw.up), ("other", gw.other)) for each in up.seen]
        assert len(sent) == (1 if seen else 0)
        for name, each in sent:
            told = f"{each.headers['authorization'].lower()} at {name} x-team {each.headers.get('x-team')}"
            told += f' model {json.dumps(each.json["model"])} {"" if "user" in each.json else "no "}"user"'
            assert seen in told


async def test_a_changed_token_and_a_removed_agent_count_for_the_next_request(tmp_path: Path) -> None:
    async with warm(tmp_path, BASE + reader()) as gw:

        async def agent() -> str:
            """Of the next request with the first token."""
            assert (await gw.tcp.send(chat(AS_READER))).status == 200
            return gw.gw.records[-1].agent

        assert [await agent(), await agent()] == ["reader", "reader"]
        await gw.reload(filled(BASE + reader(token=OTHER_TOKEN), gw.up, gw.other))
        assert await agent() == ""
        await gw.reload(filled(BASE + reader(), gw.up, gw.other))
        assert await agent() == "reader"
        await gw.reload(filled(BASE, gw.up, gw.other))
        assert await agent() == ""
        assert gw.tcp.opened == 1


@pytest.mark.parametrize(
    ("more", "data", "status"),
    [
        ("max_request_size = 1024", chat(user="u" * 2000), 413),
        ('internal_token = "a-long-secret-token"', get("/_internal/agents"), 401),
    ],
)
async def test_settings_of_the_server_count_for_the_next_request(
    more: str, data: bytes, status: int, tmp_path: Path
) -> None:
    async with warm(tmp_path, BASE) as gw:
        assert (await gw.twice(data)).status == 200
        file = tmp_path / "config.toml"
        file.write_text(file.read_text().replace("[server]", f"[server]\n{more}", 1))
        await gw.gw.process.reload()
        assert (await gw.tcp.send(data)).status == status


async def test_allowed_hosts_count_for_the_next_request(tmp_path: Path) -> None:
    data = chat().replace(b"host: localhost", b"host: models.example")
    async with warm(tmp_path, BASE, server='allowed_hosts = ["models.example"]') as gw:
        assert (await gw.twice(data)).status == 200
        file = tmp_path / "config.toml"
        file.write_text(file.read_text().replace("models.example", "other.example", 1))
        await gw.gw.process.reload()
        assert (await gw.tcp.send(data)).status in {403, 421}


async def test_a_replaced_list_of_models_counts_for_the_next_request(tmp_path: Path) -> None:
    """The list of the second provider gains the model, which the first has too, then loses it."""
    listed: list[str] = ["other"]

    async def listing(reader: Any, writer: Any) -> None:
        is_list = gw.other.seen[-1].target.endswith("/models")
        body = {"object": "list", "data": [{"id": each, "object": "model"} for each in listed]}
        await answer(body if is_list else chat_answer("Other"))(reader, writer)

    config = one("{up}", models='["m"]', priority=5) + one("{other}", name="other", models="[]").replace(
        "models = []\n", ""
    )
    async with warm(tmp_path, config + NO_RETRIES) as gw:
        gw.other.scripts[:] = [listing]
        catalog = gw.gw.process.app.gateway.catalog

        async def refresh(*names: str) -> str:
            """Who serves the next request once these are listed."""
            listed[:] = names
            await catalog._fetch(catalog._listed[0])
            return (await gw.twice(chat())).header("x-modelplex-provider")

        assert [await refresh("x"), await refresh("m"), await refresh("x")] == ["up", "other", "up"]


async def test_a_circuit_counts_for_the_next_request(tmp_path: Path) -> None:
    rules = "[failover]\nretries = 0\nbreaker_failures = 1\n"
    config = one("{up}") + one("{other}", name="other") + rules
    async with warm(tmp_path, config) as gw:
        assert (await gw.twice(chat())).header("x-modelplex-provider") == "up"
        gw.up.scripts[:] = [hang_up]
        for attempts in ("2", "1", "1"):
            got = await gw.tcp.send(chat())
            assert got.header("x-modelplex-provider") == "other"
            assert got.header("x-modelplex-attempts") == attempts


@pytest.mark.parametrize("status", [401, 429])
async def test_a_refused_key_counts_for_the_next_request(status: int, tmp_path: Path) -> None:
    config = one("{up}", api_key=["sk-first-key", "sk-second-key"]) + NO_RETRIES
    async with warm(tmp_path, config) as gw:
        await gw.twice(chat())
        refused = answer({"error": {"message": "No", "code": "c"}}, status=status)
        gw.up.scripts[:] = [*([answer(chat_answer())] * 2), refused, answer(chat_answer())]
        for _ in range(2):
            assert (await gw.tcp.send(chat())).status == 200
        used = [each.headers["authorization"].removeprefix("Bearer ") for each in gw.up.seen]
        first, second = "sk-first-key", "sk-second-key"
        assert used == [first, first, first, second, second]


async def test_a_preferred_key_counts_for_the_next_request(tmp_path: Path) -> None:
    """Also where no circuit is open any more."""
    config = one("{up}", api_key=["sk-first-key", "sk-second-key"]) + NO_RETRIES
    async with warm(tmp_path, config) as gw:
        await gw.twice(chat())
        gateway, record = gw.gw.process.app.gateway, gw.gw.records[-1]
        attempt = gateway.upstreams["up"].attempts("m", "chat/completions")[0]
        gateway.keys.advance(attempt, caller=record.listener, keys=2)
        await gw.twice(chat())
        used = [each.headers["authorization"].removeprefix("Bearer ") for each in gw.up.seen]
        assert used == ["sk-first-key"] * 2 + ["sk-second-key"] * 2


async def test_a_refused_parameter_counts_for_the_next_request(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    planned = count_planned(monkeypatch)
    said = "Unsupported parameter: 'top_k' is not supported with this model."
    refusal = {"error": {"message": said, "param": "top_k", "code": "unsupported_parameter"}}
    async with warm(tmp_path, BASE) as gw:
        await gw.twice(chat(top_k=1))
        assert len(planned) == 1
        gw.up.scripts[:] = [
            *([answer(chat_answer())] * 2),
            answer(refusal, status=400),
            answer(chat_answer()),
        ]
        for _ in range(3):
            assert (await gw.tcp.send(chat(top_k=1))).status == 200
        assert ["top_k" in each.json for each in gw.up.seen] == [True, True, True, False, False, False]
        assert len(planned) == 1


async def test_a_missing_endpoint_counts_for_the_next_request(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    planned = count_planned(monkeypatch)
    body = json.dumps({"model": "m", "prompt": "Hi"}, separators=(",", ":")).encode()
    data = post("/v1/completions", body)
    said: dict[str, Any] = {"choices": [{"index": 0, "text": "x", "finish_reason": "stop"}], "model": "m"}
    said |= {"usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}
    async with warm(tmp_path, BASE) as gw:
        gw.up.scripts[:] = [answer(said), answer(said), answer(b"Not Found", status=404), answer(said)]
        await gw.twice(data)
        assert len(planned) == 1
        for _ in range(2):
            assert (await gw.tcp.send(data)).status != 200
        assert len(gw.up.seen) == 3
        assert len(planned) == 1


async def test_state_of_another_provider_counts_for_the_next_request(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Once another origin has made opaque state, a body that has some may be the other's."""
    planned = count_planned(monkeypatch)
    async with warm(tmp_path, BASE) as gw:
        data = chat(messages=[{"role": "assistant", "content": "", "reasoning_details": [{"data": "S"}]}])
        await gw.twice(data)
        assert len(planned) == 1
        origins = gw.gw.process.app.gateway.origins
        origins.learn((hash("S"),), ("elsewhere", "account"))
        await gw.tcp.send(data)
        assert len(planned) == 1
        assert (await gw.twice(chat())).status == 200
        assert len(planned) == 2


async def test_a_drain_ends_the_connection_with_the_next_response(tmp_path: Path) -> None:
    async with warm(tmp_path, BASE) as gw:
        await gw.twice(chat())

        async def stopping(reader: Any, writer: Any) -> None:
            gw.gw.process.stop()
            await until(lambda: not Path(gw.gw.socket).exists(), what="the drain")
            await answer(chat_answer())(reader, writer)

        gw.up.scripts[:] = [stopping]
        got = await gw.tcp.send(chat())
        assert (got.status, got.header("connection")) == (200, "close")


# --- no decision of another caller ----------------------------------------------------------------


async def test_agents_with_equal_heads_have_their_own_models_and_policies(tmp_path: Path) -> None:
    agents = "".join(
        f'[[agents]]\nname = "{name}"\nsocket = "{tmp_path / name}.sock"\n{rows}\n'
        for name, rows in (
            ("open", 'policy = "open"'),
            ("sealed", ""),
            ("none", 'models = ["x"]'),
        )
    )
    async with warm(tmp_path, BASE + agents) as gw:
        async with (
            Kept(str(tmp_path / "open.sock")) as opened,
            Kept(str(tmp_path / "sealed.sock")) as sealed,
            Kept(str(tmp_path / "none.sock")) as none,
        ):
            for _ in range(3):
                for client, status, users in ((opened, 200, [True]), (sealed, 200, [False]), (none, 404, [])):
                    gw.up.seen.clear()
                    assert (await client.send(chat(user="u"))).status == status
                    assert ["user" in each.json for each in gw.up.seen] == users
        assert [each.agent for each in gw.gw.records] == ["open", "sealed", "none"] * 3


async def test_the_tokens_of_one_connection_are_two_callers(tmp_path: Path) -> None:
    agents = reader('models = ["m"]') + reader('models = ["n"]', token=OTHER_TOKEN).replace(
        '"reader"', '"writer"'
    )
    async with warm(tmp_path, BASE.replace('["m"]', '["m", "n"]') + agents) as gw:
        for _ in range(3):
            for token, model, status in ((TOKEN, "m", 200), (TOKEN, "n", 404), (OTHER_TOKEN, "n", 200), (OTHER_TOKEN, "m", 404)):  # fmt: skip
                got = await gw.tcp.send(chat(f"authorization: Bearer {token}", model=model))
                assert got.status == status
            assert (await gw.tcp.send(chat("authorization: Bearer another", model="n"))).status == 200
        assert gw.tcp.opened == 1
        assert [each.agent for each in gw.gw.records] == ["reader", "reader", "writer", "writer", ""] * 3
        assert not any(token.encode() in each.head for each in gw.up.seen for token in (TOKEN, OTHER_TOKEN))


async def test_forwarded_headers_are_those_of_the_request(tmp_path: Path) -> None:
    config = one("{up}", type="anthropic", api_key="sk-ours") + NO_RETRIES
    body = json.dumps(BODY | {"max_tokens": 9}).encode()
    async with warm(tmp_path, config) as gw:
        for _ in range(3):
            for betas in ("a-2025-01-01", "b-2025-01-01", ""):
                more = [f"anthropic-beta: {betas}"] if betas else []
                await gw.tcp.send(post("/v1/messages", body, headers=(JSON, *more)))
                assert gw.up.seen[-1].headers.get("anthropic-beta", "") == betas
